//! The real server, killed with SIGKILL at random moments while phones pay, and started again. What was acknowledged is there
//! afterwards, nothing was booked twice, and asking again under the same idempotency key tells the same.
//!
//! `TAPFER_KILLS=200` kills it as often as the night does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs
)]

mod load;
mod platform;

use load::{Load, kills, random_moment, summary_of, uptime};
use platform::Platform;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_booked_twice() {
    let mut platform = Platform::start();
    let load = Load::start(&[&platform], 4);
    let mut seconds = Vec::new();
    for _ in 0..kills(8) {
        random_moment();
        let killed = uptime();
        platform.kill();
        platform.restart();
        seconds.push(load.seconds_to_a_payment_behind(killed));
    }
    let found = load.end();
    let (median, worst) = summary_of(&seconds);
    let kills = seconds.len();
    eprintln!("killed {kills} times, payments went on after {median:.2} s, at worst {worst:.2} s");
    eprintln!("{found}");
}
