//! The wallet as a card in a virtual reader, without a smart-card service: this test is the reader.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use platform::{Platform, tapfer};

/// Power on, as the virtual reader says it: a frame of one byte.
const POWER_ON: [u8; 3] = [0, 1, 1];
const PATIENCE: Duration = Duration::from_secs(60);

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[test]
fn keys_that_run_low_are_fetched_between_taps() {
    let platform = Platform::start();
    // One key for one payment is low from the beginning.
    platform.tapfer(&[
        "issuer",
        "create",
        "--name",
        "Few",
        "--keys",
        "1",
        "--payments-per-key",
        "1",
    ]);
    platform.tapfer(&["card", "create"]);
    platform.tapfer(&["wallet", "enrol"]);

    let reader = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut card = tapfer();
    card.args(["card", "serve", "--vpcd", &reader.local_addr().unwrap().to_string(), "--home"])
        .arg(platform.home())
        .stderr(Stdio::piped());
    let mut card = Killed(card.spawn().unwrap());
    let (mut field, _) = reader.accept().unwrap();
    let (said, hear) = mpsc::channel();
    let voice = BufReader::new(card.0.stderr.take().unwrap());
    std::thread::spawn(move || {
        voice.lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    let news = platform::until("fresh keys come", PATIENCE, || {
        field.write_all(&POWER_ON).unwrap();
        hear.try_iter().find(|line| line.contains("keys"))
    });
    assert!(news.contains("fresh keys for tok_"), "{news}");

    let refused = platform.run(&["wallet", "replenish"]);
    let advice = String::from_utf8(refused.stderr).unwrap();
    assert!(advice.contains("fetches keys by itself"), "{advice}");
}
