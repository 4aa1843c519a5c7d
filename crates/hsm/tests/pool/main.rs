//! A pool under load while its modules fail, with real processes. What fails is told to a worker through a file:
//! [`faulty::Faulty`] stands between it and the software module.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs
)]

mod failover;
mod faulty;
mod following;
mod house;
mod load;
mod making;
mod modules;
mod pins;
