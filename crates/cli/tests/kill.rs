//! The real server, killed with SIGKILL at random moments while payments run, and started again. What
//! was acknowledged is there afterwards, nothing was booked twice, and asking again under the same
//! idempotency key tells the same.

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

mod payer;
mod platform;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use payer::{Caller, Client, PRICE, Payment, Phone, pay};
use platform::Platform;

const OPENING_BALANCE: i64 = 100_000;
/// So often the server dies at least.
const KILLS: usize = 8;
/// So many payments are made at least, and at most: the phone's keys go no further.
const PAYMENTS: std::ops::RangeInclusive<usize> = 15..=190;

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_booked_twice() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "1000.00"]);
    let client = Client::new(&platform);
    let mut phone = Phone::open(&platform.home().join("wallet"), &client);
    let platform = Mutex::new(platform);
    let (kills, done) = (AtomicUsize::new(0), AtomicBool::new(false));

    let payments = std::thread::scope(|scope| {
        scope.spawn(|| kill_and_restart(&platform, &kills, &done));
        let mut payments = Vec::new();
        while payments.len() < *PAYMENTS.start()
            || (kills.load(Ordering::SeqCst) < KILLS && payments.len() < *PAYMENTS.end())
        {
            payments.push(pay(&client, &mut phone, payments.len()));
        }
        done.store(true, Ordering::SeqCst);
        payments
    });

    let kills = kills.load(Ordering::SeqCst);
    eprintln!("{} payments, the server killed {kills} times", payments.len());
    assert!(kills >= KILLS, "the server was killed {kills} times only");
    let counters: BTreeSet<Vec<u8>> = payments.iter().map(Payment::counter).collect();
    assert_eq!(counters.len(), payments.len(), "a counter was used twice");
    let platform = platform.into_inner().unwrap();
    for payment in &payments {
        let again =
            client.post("/v1/authorizations", &payment.question, &payment.key, Caller::Terminal);
        assert_eq!(again["id"], payment.answer["id"]);
        assert_eq!(payment.answer["outcome"], "approved", "{}", payment.answer);
        let id = payment.answer["id"].as_str().unwrap();
        let kept = platform.tapfer(&["authorization", "show", id]);
        assert_eq!(kept["outcome"], "approved");
    }
    let card = platform.tapfer(&["card", "show"]);
    let paid = i64::try_from(payments.len()).unwrap() * PRICE;
    assert_eq!(card["balance"], OPENING_BALANCE - paid);
    assert_eq!(card["available"], OPENING_BALANCE - paid, "no hold is left behind");
}

/// Kills the server after a random while, and starts it again, until the payments are made.
fn kill_and_restart(platform: &Mutex<Platform>, kills: &AtomicUsize, done: &AtomicBool) {
    while !done.load(Ordering::SeqCst) {
        let mut random = [0_u8; 1];
        getrandom::fill(&mut random).unwrap();
        // Not waiting for anything: this is the random moment.
        std::thread::park_timeout(Duration::from_millis(u64::from(random[0])));
        let mut platform = platform.lock().unwrap();
        platform.kill();
        platform.restart();
        kills.fetch_add(1, Ordering::SeqCst);
    }
}
