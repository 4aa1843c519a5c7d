//! A till at the counter: the card's PIN at the terminal, a phone that wants to be looked at between two taps,
//! and two cards in one field. With the real binary on every side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;

use platform::{Platform, tapfer};
use serde_json::Value;
use tempfile::TempDir;

const ATTENDED: &str = include_str!("../../../profiles/terminal/attended.toml");

/// A platform whose issuer wants this above 25.00, and a place for files.
struct Counter {
    platform: Platform,
    files: TempDir,
}

impl Counter {
    fn open(above_limit: &str) -> Self {
        let platform = Platform::start();
        platform.tapfer(&["init", "--balance", "300.00"]);
        let counter = Self { platform, files: tempfile::tempdir().unwrap() };
        let policy = counter.file(
            "policy.toml",
            &format!(
                "name = \"own\"\ncurrency = \"EUR\"\nlimit = 2500\nup_to_limit = \"screen_on\"\n\
                 above_limit = \"{above_limit}\"\n[pin]\nlength = 4\ntries = 3\n"
            ),
        );
        counter.platform.tapfer(&["issuer", "policy", "set", &policy]);
        counter.platform.tapfer(&["wallet", "replenish"]);
        counter
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn balance(&self) -> i64 {
        self.platform.tapfer(&["card", "show"])["balance"].as_i64().unwrap()
    }

    /// How the command ends, its receipt, and what it says beside it.
    fn pay(&self, more: &[&str]) -> (Option<i32>, Value, String) {
        let output = self.platform.run(&[&["terminal", "pay"][..], more].concat());
        let receipt = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), receipt, said)
    }
}

#[test]
fn the_cards_pin_is_asked_for_at_the_terminal() {
    let counter = Counter::open("terminal_pin");
    let profile = counter.file(
        "pin-pad.toml",
        &ATTENDED
            .replace("cvm_capability_required = \"04\"", "cvm_capability_required = \"44\"")
            .replace(
                "cvm_capability_not_required = \"0C\"",
                "cvm_capability_not_required = \"4C\"",
            ),
    );
    let (right, wrong) = (counter.file("right", "4711\n"), counter.file("wrong", "4712\n"));
    let (nobody, no_pin) = (counter.file("nobody", "\n"), counter.file("no-pin", "47\n"));
    let set = || counter.platform.tapfer(&["card", "pin", "set", "--pin-file", &right]);
    let pay = |more: &[&str]| {
        let known = ["--wallet", "--amount", "30.00", "--profile", &profile];
        counter.pay(&[&known[..], more].concat())
    };
    let reason = |receipt: &Value| receipt["reason"].as_str().unwrap_or_default().to_owned();

    let (code, receipt, _) = pay(&["--terminal-pin-file", &right]);
    assert_eq!((code, reason(&receipt).as_str()), (Some(1), "verification_required"), "{receipt}");
    assert_eq!(set()["wrong_tries"], 0);
    let (code, receipt, said) = pay(&["--terminal-pin-file", &right]);
    assert_eq!((code, &receipt["outcome"]), (Some(0), &"approved".into()), "{receipt} {said}");
    assert_eq!(receipt["verification"], "PIN");
    assert_eq!(counter.balance(), 27_000);

    // Nobody enters it, or nobody can: the platform is not asked, and the terminal is free again.
    let (code, receipt, _) = pay(&["--terminal-pin-file", &nobody]);
    assert_eq!((code, &receipt["outcome"]), (Some(1), &"cancelled".into()), "{receipt}");
    let intent = receipt["payment_intent"].as_str().unwrap();
    let shown = counter.platform.tapfer(&["payment", "show", intent]);
    assert_eq!(shown["status"], "canceled", "{shown}");
    // A file that holds no PIN is found before anybody holds a card there.
    let (code, receipt, said) = pay(&["--terminal-pin-file", &no_pin]);
    assert_eq!((code, receipt), (Some(1), Value::Null));
    assert!(said.contains("holds no PIN") && !said.contains("phone:"), "{said}");
    let (code, _, said) = pay(&["--terminal-pin-file", "-", "--pin-file", "-"]);
    assert!(code == Some(2) && said.contains("both read standard input"), "{said}");
    for (more, advice) in
        [(&[][..], "nobody can enter one"), (&["--language", "de"], "niemand kann sie eingeben")]
    {
        let (code, receipt, said) = pay(more);
        assert_eq!((code, receipt), (Some(1), Value::Null));
        assert!(said.contains(advice), "{said}");
    }

    // A wrong one is declined in the customer's language; the third blocks; a new PIN gives the tries back.
    for words in
        [("en", "The PIN was wrong"), ("de", "Die PIN war falsch"), ("en", "The PIN was wrong")]
    {
        let (code, receipt, _) = pay(&["--terminal-pin-file", &wrong, "--language", words.0]);
        assert_eq!((code, reason(&receipt).as_str()), (Some(1), "pin_wrong"));
        assert!(receipt["reason_text"].as_str().unwrap().contains(words.1), "{receipt}");
    }
    let (code, receipt, _) = pay(&["--terminal-pin-file", &right, "--language", "de"]);
    assert_eq!((code, reason(&receipt).as_str()), (Some(1), "pin_blocked"));
    assert!(receipt["reason_text"].as_str().unwrap().contains("gesperrt"), "{receipt}");
    assert_eq!(counter.balance(), 27_000);
    set();
    assert_eq!(pay(&["--terminal-pin-file", &right]).0, Some(0));
    assert_eq!(counter.balance(), 24_000);

    // A terminal without a PIN pad sends its customer elsewhere, and signs nothing.
    let (code, _, said) = counter.pay(&["--wallet", "--amount", "30.00"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("insert or swipe card"), "{said}");
    assert_eq!(counter.balance(), 24_000);
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// The phone as a card that dials its reader, with an owner who will enter this PIN when she is asked.
fn served_phone(home: &Path, reader: &TcpListener, pin: &str) -> Killed {
    let mut card = tapfer();
    card.args(["card", "serve", "--pin-from-stdin", "--vpcd"])
        .arg(reader.local_addr().unwrap().to_string())
        .arg("--home")
        .arg(home)
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let mut card = Killed(card.spawn().unwrap());
    writeln!(card.0.stdin.as_mut().unwrap(), "{pin}").unwrap();
    card
}

/// One field: carries what terminal and card say, and tells each when the other is gone, tap after tap.
fn carry(field: &TcpListener, reader: &TcpListener) {
    fn one_way((mut from, mut to): (TcpStream, TcpStream)) {
        let _broken = std::io::copy(&mut from, &mut to);
        let _gone = to.shutdown(Shutdown::Both);
    }
    while let (Ok((card, _)), Ok((terminal, _))) = (reader.accept(), field.accept()) {
        for stream in [&card, &terminal] {
            stream.set_nodelay(true).unwrap();
        }
        let back = (card.try_clone().unwrap(), terminal.try_clone().unwrap());
        let answers = thread::spawn(|| one_way(back));
        one_way((terminal, card));
        answers.join().unwrap();
    }
}

/// One payment, two taps: the phone says that it needs its owner, she enters the PIN, and the terminal, still
/// armed, takes the second tap.
#[test]
fn see_phone_enter_the_pin_and_tap_again() {
    let counter = Counter::open("app_pin");
    let pin = counter.file("pin", "7391\n");
    counter.platform.tapfer(&["wallet", "pin", "set", "--pin-file", &pin]);
    counter.platform.tapfer(&["wallet", "replenish"]);
    let [field, reader] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let _phone = served_phone(counter.platform.home(), &reader, "7391");
    let address = field.local_addr().unwrap().to_string();
    thread::spawn(move || carry(&field, &reader));

    let pay = ["--card-at", &address, "--amount", "30.00", "--language", "de"];
    let (code, receipt, said) = counter.pay(&pay);
    assert_eq!((code, &receipt["outcome"]), (Some(0), &"approved".into()), "{receipt} {said}");
    assert_eq!(receipt["verification"], "on the phone");
    assert!(said.contains("Aufs Telefon schauen"), "{said}");
    assert_eq!(counter.balance(), 27_000);
    let payments = counter.platform.tapfer(&["payment", "list"]);
    let payments = payments["data"].as_array().unwrap();
    assert_eq!((payments.len(), &payments[0]["status"]), (1, &"succeeded".into()), "{payments:?}");

    // Told not to wait, the terminal gives the payment up with the first tap.
    let (code, _, said) = counter.pay(&[&pay[..], &["--one-tap"]].concat());
    assert_eq!(code, Some(1));
    assert!(said.contains("das Telefon braucht seinen Besitzer"), "{said}");
    assert_eq!(counter.balance(), 27_000);
}

/// The operator takes the issuer's certificate out of use: every till hears of it, with a profile of its own or
/// without, and declines the card by itself.
#[test]
fn a_revoked_issuer_certificate_is_declined_at_every_till() {
    let counter = Counter::open("unlocked");
    let pay = ["--wallet", "--amount", "1.00"];
    assert_eq!(counter.pay(&pay).0, Some(0));
    let issuer = counter.platform.tapfer(&["issuer", "list"])["data"][0]["id"].clone();
    let revoke = ["issuer", "revoke-certificate", issuer.as_str().unwrap(), "--reason", "copied"];
    let revoked = counter.platform.tapfer(&revoke);
    let listed = &counter.platform.tapfer(&["trust", "show"])["revoked_certificates"];
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]), (1, &revoked));
    let profile = counter.file("attended.toml", ATTENDED);
    for more in [&[][..], &["--profile", &profile]] {
        let (code, receipt, _) = counter.pay(&[&pay[..], more].concat());
        assert_eq!((code, &receipt["outcome"]), (Some(1), &"declined".into()), "{receipt}");
        let why = receipt["reason_text"].as_str().unwrap();
        assert!(why.contains("local authentication failed"), "{why}");
        let results = receipt["kernel"]["tvr"].as_str().unwrap();
        assert!(results.starts_with("04"), "{results}");
    }
    assert_eq!(counter.balance(), 29_900);
}

#[test]
fn two_cards_in_the_field_are_refused_and_nothing_is_booked() {
    let counter = Counter::open("unlocked");
    let cards = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, other] = cards.each_ref().map(|card| card.local_addr().unwrap().to_string());
    for (language, display) in
        [("en", "Please present one card only"), ("de", "Bitte nur eine Karte vorhalten")]
    {
        let both = ["--card-at", &one, "--card-at", &other, "--amount", "1.00", "--one-tap"];
        let (code, _, said) = counter.pay(&[&both[..], &["--language", language]].concat());
        assert_eq!(code, Some(1));
        assert!(said.contains(display), "{said}");
    }
    for card in &cards {
        // Switched on, and not asked for anything.
        card.set_nonblocking(true).unwrap();
        let (mut heard, mut frames) = (card.accept().unwrap().0, Vec::new());
        heard.set_nonblocking(false).unwrap();
        std::io::Read::read_to_end(&mut heard, &mut frames).unwrap();
        assert_eq!(frames, [0, 1, 1, 0, 1, 0]);
    }
    assert_eq!(counter.balance(), 30_000);
    // The terminal is free for the next customer.
    assert_eq!(counter.pay(&["--wallet", "--amount", "1.00"]).0, Some(0));
}
