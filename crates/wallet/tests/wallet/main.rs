//! The phone from outside: enrolled by an issuer, tapped by a kernel, torn from the reader, restarted,
//! and fed with nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs,
    unreachable_pub
)]

mod any_order;
mod enrolment;
mod issuer;
mod kernel;
mod persons;
mod phone;
mod pin_thief;
mod policies;
mod power_loss;
mod random;
mod real_terminal;
mod sealed_store;
mod sealed_store_properties;
mod status_words;
mod taps;
mod torn_off;
