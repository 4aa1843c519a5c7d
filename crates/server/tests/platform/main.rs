//! The whole server over real TLS: what callers see, from the first issuer to the last refund.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    missing_docs
)]

mod access;
mod added_rows;
mod api_keys;
mod attacks;
mod card_data;
mod client_certificates;
mod configurations;
mod connections;
mod edges;
mod floods;
mod idempotency;
mod integrity;
mod liar;
mod limits;
#[path = "../../../integrity/tests/maker/mod.rs"]
mod maker;
mod merchants;
mod oauth;
mod partitions;
mod payments;
mod phone;
mod pins;
mod policies;
mod provisioning;
mod retention;
mod running;
mod same_bytes;
mod shop;
mod slow_clients;
mod stand_in;
mod stand_in_attacks;
mod stores;
mod tokens;
