//! The key that signs configurations is followed by another one, and phones and tills follow it. With the real binary
//! on every side.

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
use std::process::Command;
use std::time::Duration;

use platform::{Platform, tapfer, until};
use serde_json::Value;
use tapfer_emv::document::DocumentPurpose;
use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
use tapfer_payment_types::messages::HexBytes;

const WHY: [&str; 4] = ["--reason", "three years are over", "--by", "Ada"];

fn pay(platform: &Platform) -> Result<Value, String> {
    let output = platform.run(&["terminal", "pay", "--amount", "1.00", "--wallet"]);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// What new phones and tills are set up with.
fn pinned(platform: &Platform) -> String {
    fs::read_to_string(platform.home().join("configuration.key")).unwrap()
}

/// The file of the only till.
fn remembered(platform: &Platform) -> PathBuf {
    let terminals = fs::read_dir(platform.home().join("terminals")).unwrap();
    let files = terminals.map(|entry| entry.unwrap().path().join("configuration.json"));
    files.filter(|file| file.exists()).last().unwrap()
}

fn known_key(platform: &Platform) -> String {
    let file: Value = serde_json::from_slice(&fs::read(remembered(platform)).unwrap()).unwrap();
    file["known"]["key"].as_str().unwrap().to_owned()
}

/// Rotates the key while the platform runs, and waits until it speaks with the new one.
fn rotate(platform: &Platform) -> String {
    let before = pinned(platform);
    let rotated =
        platform.tapfer(&[&["keys", "rotate", "platform", "configuration"], &WHY[..]].concat());
    assert_eq!(rotated["state"], "active");
    let followed = || (pinned(platform) != before).then(|| pinned(platform));
    until("the platform follows", Duration::from_secs(60), followed)
}

/// Destroys the first key, with two of three custodians.
fn destroy_first(platform: &Platform) {
    let table = tempfile::tempdir().unwrap();
    let file = |name: &str| table.path().join(name).to_str().unwrap().to_owned();
    let share = ["keys", "ceremony", "share", "--threshold", "2", "--officer", "Tony"];
    let custodians = ["Ada", "Grace", "Edsger"].map(|name| ["--custodian", name]).concat();
    let (transcript, parts) = (file("share.txt"), file("parts"));
    let into = ["--transcript", &transcript, "--parts-into", &parts];
    platform.tapfer(&[&share[..], &custodians, &into].concat());
    let destroy = ["keys", "destroy", "platform", "configuration", "1"];
    let name = ["--confirm", "platform configuration 1"];
    let transcript = file("destroyed.txt");
    let (first, third) = (file("parts/part-1-of-3.txt"), file("parts/part-3-of-3.txt"));
    let held =
        ["--officer", "Tony", "--transcript", &transcript, "--part", &first, "--part", &third];
    let agreed = ["--agreed", "destroy"];
    platform.tapfer(&[&destroy[..], &name, &held, &agreed, &WHY].concat());
}

#[test]
fn phones_and_tills_follow_the_key_of_configurations() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    pay(&platform).unwrap();
    let first = pinned(&platform);
    assert!(first.contains(&known_key(&platform)));
    let second = rotate(&platform);
    pay(&platform).unwrap();
    assert!(second.contains(&known_key(&platform)), "the till has followed");
    platform.tapfer(&["wallet", "replenish"]);
    let shown = platform.tapfer(&["keys", "show", "platform", "configuration"]);
    let states: Vec<&Value> =
        shown["data"].as_array().unwrap().iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["retired", "active"]);

    // The old one may go: what it has signed stays.
    destroy_first(&platform);
    let third = rotate(&platform);
    // Who was away all the time, and knows the first: the phone, and a till that was set up with it.
    fs::remove_file(remembered(&platform)).unwrap();
    fs::write(platform.home().join("configuration.key"), &first).unwrap();
    pay(&platform).unwrap();
    assert!(third.contains(&known_key(&platform)), "the till has followed twice");
    platform.tapfer(&["wallet", "replenish"]);
    pay(&platform).unwrap();
    let elsewhere = platform.home().join("second-phone");
    let enrol = ["wallet", "enrol", "--wallet", elsewhere.to_str().unwrap()];
    let enrolled = platform.run(&enrol);
    assert!(enrolled.status.success(), "a phone that is set up with the first key: {enrolled:?}");
}

/// The till's and the phones' side, beside a platform that is another one now.
fn take_devices(from: &Path, home: &Path) {
    for kept in ["client.json", "wallet", "away", "terminals"] {
        let mut copy = Command::new("cp");
        assert!(copy.arg("-a").arg(from.join(kept)).arg(home).status().unwrap().success());
    }
}

/// The backup is from before the succession, the keys are the newest that there are.
#[test]
fn an_older_backup_with_the_newest_keys_speaks_to_those_who_followed_and_to_those_who_were_away() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    pay(&platform).unwrap();
    let away = platform.home().join("away");
    platform.tapfer(&["wallet", "enrol", "--wallet", away.to_str().unwrap()]);
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    let first = known_key(&platform);
    let till_that_was_away = fs::read(remembered(&platform)).unwrap();
    rotate(&platform);
    let newest = rotate(&platform);
    pay(&platform).unwrap();
    platform.tapfer(&["wallet", "replenish"]);
    let told = platform.run(&[&["keys", "rotate", "platform", "configuration"], &WHY[..]].concat());
    assert!(String::from_utf8(told.stderr).unwrap().contains("MAKE A BACKUP NOW"));
    platform.kill();
    let before = platform.home().to_owned();
    let keys = before.join("keys.json");
    let restore = |name: &str| {
        let home = place.path().join(name);
        let mut command = tapfer();
        command.args(["restore", "--from"]).arg(&backup).arg("--home").arg(&home);
        assert!(command.arg("--json").output().unwrap().status.success());
        take_devices(&before, &home);
        home
    };
    let heals = |platform: &Platform| {
        // The phone's keys are from behind the backup: it pays with new ones.
        platform.tapfer(&["wallet", "replenish"]);
        pay(platform).unwrap();
        assert!(!newest.contains(&known_key(platform)), "there is a newer one");
        let newest = known_key(platform);
        fs::write(remembered(platform), &till_that_was_away).unwrap();
        assert_eq!(known_key(platform), first);
        pay(platform).unwrap();
        assert_eq!(known_key(platform), newest, "the till has followed three times");
        let away = platform.home().join("away");
        platform.tapfer(&["wallet", "replenish", "--wallet", away.to_str().unwrap()]);
    };

    // As it should be done: the keys are there before anybody is served.
    let home = restore("at-once");
    fs::copy(&keys, home.join("keys.json")).unwrap();
    heals(&Platform::on(&home));
    // And found out late: the backup alone speaks to nobody who has followed.
    let home = restore("late");
    let platform = Platform::on(&home);
    let refused = pay(&platform).unwrap_err();
    assert!(refused.contains("the configuration is signed with the key"), "{refused}");
    fs::copy(&keys, home.join("keys.json.new")).unwrap();
    fs::rename(home.join("keys.json.new"), home.join("keys.json")).unwrap();
    let followed = || platform.run(&["wallet", "replenish"]).status.success().then_some(());
    until("the platform follows", Duration::from_secs(60), followed);
    heals(&platform);
}

/// Attack: somebody names his own key as the one before the platform's newest, so that nobody finds the way there from
/// the right one: in the database, and in the file of keys.
#[test]
fn attack_succession_by_a_stranger() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    pay(&platform).unwrap();
    let first = known_key(&platform);
    let next = rotate(&platform);
    let path = platform.home().join("keys.json");
    let genuine = fs::read_to_string(&path).unwrap();
    let catalogue: Value = serde_json::from_str(&genuine).unwrap();
    let keys = catalogue["content"]["keys"].as_array().unwrap();
    let step = keys.iter().find_map(|key| key["succession"].as_object()).unwrap();
    let his = MerchantPrivateKey::from_bytes(&[7; 32]).unwrap();
    let hex = |bytes: &[u8]| String::from(HexBytes(bytes.to_vec()));
    let from = hex(&his.public_key().bytes());
    let document = step["document"].as_str().unwrap().replace(&first, &from);
    let message = DocumentPurpose::Configuration.message(document.as_bytes());
    let signature = his.sign(&message).unwrap();

    // Where such documents stood once: who writes there needs no MAC.
    let database = platform::database(platform.home());
    let table = "CREATE TABLE key_successions
        (sequence INTEGER PRIMARY KEY, document TEXT, key BLOB, signature BLOB)";
    database.execute_batch(table).unwrap();
    let insert = "INSERT INTO key_successions VALUES (-1, ?1, ?2, ?3)";
    let row = rusqlite::params![document, his.public_key().bytes(), signature];
    database.execute(insert, row).unwrap();
    pay(&platform).unwrap();
    assert!(next.contains(&known_key(&platform)), "it follows the platform all the same");
    // No platform starts with a table that it does not know.
    database.execute_batch("DROP TABLE key_successions").unwrap();

    // Where they stand now: no platform starts with a file whose MAC is not right.
    let till_that_was_away = {
        let file = fs::read_to_string(remembered(&platform)).unwrap();
        file.replace(&known_key(&platform), &first)
    };
    let forged = genuine
        .replace(&first, &from)
        .replace(step["signature"].as_str().unwrap(), &hex(&signature));
    platform.kill();
    fs::write(&path, forged).unwrap();
    let refused = platform.run(&["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("tampered with"), "{said}");
    fs::write(&path, &genuine).unwrap();
    platform.restart();
    fs::write(remembered(&platform), till_that_was_away).unwrap();
    pay(&platform).unwrap();
    assert!(next.contains(&known_key(&platform)), "it has followed from the first key");
}

#[test]
fn the_key_of_audit_heads_is_rotated_and_the_auditor_knows_both() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    pay(&platform).unwrap();
    let key = || platform.tapfer(&["audit", "head"])["head"]["key"].clone();
    let before = key();
    platform.tapfer(&[&["keys", "rotate", "platform", "audit-head"], &WHY[..]].concat());
    let followed = || (key() != before).then_some(());
    until("the platform follows", Duration::from_secs(60), followed);
    pay(&platform).unwrap();
    let verified = platform.tapfer(&["audit", "verify"]);
    assert_eq!(verified["audit_keys"].as_array().unwrap().len(), 2);
    assert_eq!(verified["audit_keys_from"], "catalogue");
    let refused = ["keys", "rotate", "platform", "merchant-authority"];
    let refused = platform.run(&[&refused[..], &WHY].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("phones hold on to it"));
}
