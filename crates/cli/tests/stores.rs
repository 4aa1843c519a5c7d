//! The wallet's folder, copied, locked and cut off, with the real binary on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use platform::Platform;

/// A thief copies the whole folder: store, secret and API key.
fn copied(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to
}

/// What a command says that is refused.
fn refused(platform: &Platform, arguments: &[&str]) -> String {
    let output = platform.run(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn a_copied_wallet_is_worth_nothing_after_the_next_start() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = copied(&platform.home().join("wallet"), elsewhere.path().join("copy"));
    let copy = copy.to_str().unwrap();
    let before = platform.tapfer(&["device", "show"])["store"]["epoch"].as_u64().unwrap();
    platform.tapfer(&["wallet", "replenish"]);
    let after = platform.tapfer(&["device", "show"])["store"]["epoch"].as_u64().unwrap();
    assert_eq!(after, before + 2, "one move at the start and one with the keys, both confirmed");
    for command in ["show", "replenish"] {
        let text = refused(&platform, &["wallet", command, "--wallet", copy]);
        assert!(text.contains("are an old copy"), "{text}");
    }
    platform.tapfer(&["wallet", "show"]);
    platform.tapfer(&["wallet", "replenish"]);
}

/// The copy is used first: then the phone itself is refused, and says so.
#[test]
fn a_copied_wallet_that_is_faster_is_noticed_at_the_next_start() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = copied(&platform.home().join("wallet"), elsewhere.path().join("copy"));
    platform.tapfer(&["wallet", "show", "--wallet", copy.to_str().unwrap()]);
    let text = refused(&platform, &["wallet", "show"]);
    assert!(text.contains("are an old copy"), "{text}");
}

#[test]
fn a_locked_phone_stays_closed_until_it_is_unlocked() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let locked = platform.tapfer(&["device", "lock", "--reason", "reported lost"]);
    assert_eq!(locked["lock"]["by"], "operator");
    let text = refused(&platform, &["wallet", "show"]);
    assert!(text.contains("This phone is locked"), "{text}");
    let text = refused(&platform, &["wallet", "replenish", "--language", "de"]);
    assert!(text.contains("Dieses Telefon ist gesperrt"), "{text}");
    platform.tapfer(&["device", "unlock", "--reason", "found again"]);
    platform.tapfer(&["wallet", "replenish"]);
}

#[test]
fn without_the_platform_the_wallet_says_so() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    platform.kill();
    let text = refused(&platform, &["wallet", "show"]);
    assert!(text.contains("cannot be reached"), "{text}");
    platform.restart();
    platform.tapfer(&["wallet", "show"]);
}

/// The platform gives its share and breaks down: the phone goes on with the wallet that is open.
#[test]
fn a_platform_that_breaks_behind_its_share_keeps_no_wallet_closed() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let share = platform.tapfer(&["wallet", "share"]).to_string();
    for (status, is_shown) in [("503 Service Unavailable", true), ("403 Forbidden", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let share = share.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                answer(connection.unwrap(), &share, status);
            }
        });
        let shown = platform.run(&["wallet", "show", "--server", &server]);
        assert_eq!(shown.status.success(), is_shown, "{status}: {shown:?}");
    }
}

/// The share to whoever opens, and the status to whoever wants the next one. One request a connection.
fn answer(mut connection: TcpStream, share: &str, status: &str) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
    let (status, body) = match first.contains("/rotate ") {
        true => (status, r#"{"title":"as told"}"#),
        false => ("200 OK", share),
    };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json");
    write!(connection, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
}
