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
mod asked;
mod breaking_disk;
mod configuration;
mod data_storage;
mod enrolment;
mod issuer;
mod kernel;
mod life;
mod merchant_proof;
mod persons;
mod phone;
mod pin_thief;
mod policies;
mod power_loss;
mod promises;
mod proving_terminal;
mod random;
mod real_terminal;
mod relay;
mod sealed_store;
mod sealed_store_properties;
mod sequences;
mod status_words;
mod taps;
mod torn_off;
mod torn_off_whole;
