//! Golden vectors: what others computed, value by value.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod kernel8;
mod published;
mod vector_file;
