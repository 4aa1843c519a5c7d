//! A till and an auditor as witnesses of the platform: what they have seen signed cannot be taken back. With the
//! real binary on every side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::fs;
use std::path::{Path, PathBuf};

use platform::Platform;
use serde_json::Value;

const FILES: [&str; 3] = ["tapfer.db", "tapfer.db-wal", "tapfer.db-shm"];

/// The database as it is, of a platform that was killed.
fn copy(home: &Path) -> Vec<Option<Vec<u8>>> {
    FILES.iter().map(|name| fs::read(home.join(name)).ok()).collect()
}

fn put_back(home: &Path, files: &[Option<Vec<u8>>]) {
    for (name, content) in FILES.iter().zip(files) {
        let file = home.join(name);
        match content {
            Some(content) => fs::write(file, content).unwrap(),
            None => drop(fs::remove_file(file)),
        }
    }
}

fn pay(platform: &Platform) -> Result<Value, String> {
    let pay = ["terminal", "pay", "--amount", "3.50", "--wallet"];
    let output = platform.run(&pay);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The only file of a till in the home directory.
fn remembered(platform: &Platform) -> PathBuf {
    let terminals = fs::read_dir(platform.home().join("terminals")).unwrap();
    let mut files = terminals
        .map(|entry| entry.unwrap().path().join("configuration.json"))
        .filter(|file| file.exists());
    files.next().expect("the till remembers a configuration")
}

/// Something that tills are told.
fn create_issuer(platform: &Platform, number: u8) {
    let (cards, tokens) = (format!("9998{number}1"), format!("9998{number}2"));
    let create = ["issuer", "create", "--name", "Another"];
    let prefixes = ["--pan-prefix", &cards, "--token-prefix", &tokens];
    platform.tapfer(&[&create[..], &prefixes].concat());
}

fn refused(platform: &Platform, why: &str) {
    let error = pay(platform).expect_err("it was paid");
    assert!(error.contains("configuration for terminals is refused"), "{error}");
    assert!(error.contains(why), "{error}");
}

/// Attack: the platform is put back to before a change, so that tills trust what was taken out of use.
#[test]
fn attack_old_configuration_played_back_to_a_till() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    pay(&platform).unwrap();
    platform.kill();
    let older = copy(platform.home());
    platform.restart();
    create_issuer(&platform, 1);
    pay(&platform).unwrap();
    let file = remembered(&platform);
    let newest: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(newest["known"]["newest"]["version"], 2);

    platform.kill();
    put_back(platform.home(), &older);
    platform.restart();
    refused(&platform, "version 1, and version 2 was in force here already");
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(kept == newest, "what is remembered changed");

    // Somebody else's platform under the same name: another key.
    let mut other = newest.clone();
    other["known"]["newest"] = Value::Null;
    let elsewhere = Platform::start();
    let own = fs::read_to_string(elsewhere.home().join("configuration.key")).unwrap();
    let (_, key) = own.trim().split_once(' ').unwrap();
    other["known"]["key"] = key.into();
    fs::write(&file, other.to_string()).unwrap();
    refused(&platform, "signed with the key");
    fs::write(&file, b"{").unwrap();
    let error = pay(&platform).unwrap_err();
    assert!(error.contains("is damaged"), "{error}");

    // The operator says that the platform was restored, and the till goes on with what it knows.
    fs::write(&file, newest.to_string()).unwrap();
    platform.tapfer(&["audit", "restored", "--reason", "a test"]);
    // How the phone stands, which was ahead of the platform too, is another matter: the till takes its news.
    drop(pay(&platform));
    let taken: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(taken["known"]["newest"]["restoration"], 1);
}

/// Attack: records are rewritten, and so many added that the chain is longer than it was.
#[test]
fn attack_audit_chain_rewritten_and_longer() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    pay(&platform).unwrap();
    platform.kill();
    let older = copy(platform.home());
    platform.restart();
    create_issuer(&platform, 1);
    pay(&platform).unwrap();
    let head = platform.tapfer(&["audit", "head"]);
    let kept = platform.home().join("head.json");
    fs::write(&kept, head.to_string()).unwrap();
    let kept = kept.to_str().unwrap().to_owned();
    let key = head["head"]["key"].as_str().unwrap().to_owned();
    let verify = ["audit", "verify", "--head", &kept, "--audit-key", &key];
    let verified = platform.tapfer(&verify);
    assert_eq!(verified["records"], head["sequence"]);

    platform.kill();
    put_back(platform.home(), &older);
    platform.restart();
    let error = String::from_utf8(platform.run(&verify).stderr).unwrap();
    assert!(error.contains("ends before record"), "{error}");
    for number in 2..7 {
        create_issuer(&platform, number);
        platform.run(&["terminal", "pay", "--amount", "3.50", "--wallet"]);
    }
    // The till, too, has asked for what lies between the end that it knew and this one.
    let error = pay(&platform).expect_err("it was paid");
    assert!(error.contains("it was rewritten"), "{error}");
    let error = String::from_utf8(platform.run(&verify).stderr).unwrap();
    assert!(error.contains("was rewritten"), "{error}");
    // The chain by itself is whole: only the witness knows.
    platform.tapfer(&["audit", "verify"]);
    let wrong = ["audit", "verify", "--audit-key", &"11".repeat(64)];
    assert!(!platform.run(&wrong).status.success());
}
