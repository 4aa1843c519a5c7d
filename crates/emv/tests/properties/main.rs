//! What must hold for every key, message and byte string.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod certificates;
mod channel;
mod configuration;
mod cryptogram;
mod curve;
mod keys;
mod merchant;
mod seeded_random;
