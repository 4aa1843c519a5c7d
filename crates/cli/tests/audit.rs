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
use tapfer_payment_types::Timestamp;
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_server::RealmPaths;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{AuditStore as _, DatabaseReader, Storage as _};

const FILES: [&str; 4] = ["tapfer.db", "tapfer.db-wal", "tapfer.db-shm", "tapfer.db-open"];

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
    let said = platform.tapfer(&["audit", "head"])["restoration"].clone();
    assert_eq!(taken["known"]["newest"]["restoration"], said);
    assert!(said.as_u64().unwrap() > 1_790_000_000_000, "{said} is a time");
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

    assert_eq!(platform.tapfer(&["audit", "verify"])["audit_keys_from"], "catalogue");
}

/// Attack: the records are rewritten from before the first that a till has seen, and the platform says that it was
/// restored, so that nobody compares.
#[test]
fn attack_audit_chain_rewritten_behind_a_restoration() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    platform.kill();
    let older = copy(platform.home());
    platform.restart();
    for number in 1..4 {
        create_issuer(&platform, number);
        pay(&platform).unwrap();
    }
    platform.kill();
    put_back(platform.home(), &older);
    platform.restart();
    platform.tapfer(&["audit", "restored", "--reason", "a lie"]);
    let error = pay(&platform).expect_err("it was paid");
    assert!(error.contains("nothing is left in its audit log"), "{error}");
    let told = platform.tapfer(&["audit", "verify"]);
    assert_eq!(told["restorations"][0]["reason"], "a lie");
}

fn database(platform: &Platform) -> SqliteStorage {
    let home = RealmPaths::new(platform.home());
    let database = home.embedded_database().unwrap();
    let realm = DatabaseReader::file(&database).unwrap().realm();
    SqliteStorage::open(&database, realm, &SqliteOptions::default()).unwrap()
}

fn event(action: AuditAction, object: &str) -> AuditEvent {
    let now = Timestamp::from_unix_millis(1_790_000_000_000);
    AuditEvent::of_platform(action, object.to_owned(), None, now)
}

/// Attack: so many records are added to the rewritten chain that nobody asks for all that lies between.
#[test]
fn attack_rewritten_audit_chain_behind_ten_thousand_records() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    platform.kill();
    let older = copy(platform.home());
    platform.restart();
    pay(&platform).unwrap();
    create_issuer(&platform, 1);
    pay(&platform).unwrap();
    platform.kill();
    put_back(platform.home(), &older);
    let storage = database(&platform);
    std::thread::scope(|scope| {
        for _ in 0..128 {
            scope.spawn(|| {
                for _ in 0..90 {
                    storage.record_audit(event(AuditAction::HsmMemberUp, "north")).unwrap();
                }
            });
        }
    });
    storage.close();
    platform.restart();
    for number in 2..5 {
        create_issuer(&platform, number);
        platform.run(&["terminal", "pay", "--amount", "3.50", "--wallet"]);
    }
    let error = pay(&platform).expect_err("it was paid");
    assert!(error.contains("it was rewritten"), "{error}");
}

/// Attack: who writes to the database puts a head of his own behind the others, so that `audit verify` goes by his key
/// and passes the platform's over.
#[test]
fn attack_audit_head_of_a_stranger_in_the_database() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    let stranger = Platform::start().tapfer(&["audit", "head"])["head"].clone();
    platform.tapfer(&["audit", "verify"]);
    platform.kill();
    let storage = database(&platform);
    storage.record_audit(event(AuditAction::HsmMemberUp, "north")).unwrap();
    let end = storage.audit_end().unwrap();
    storage.put_audit_head(end, serde_json::from_value(stranger).unwrap()).unwrap();
    storage.close();
    let error = String::from_utf8(platform.run(&["audit", "verify"]).stderr).unwrap();
    assert!(error.contains("none of the platform's"), "{error}");
}

/// Attack: who writes to the database says in the operator's place that the platform was restored at a time which is to
/// come, so that phones and tills refuse it from then on, and every restoration that there will really be.
#[test]
fn attack_restoration_of_the_time_to_come_in_the_audit_log() {
    let mut platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    pay(&platform).unwrap();
    let file = remembered(&platform);
    let before = fs::read(&file).unwrap();
    platform.kill();
    let storage = database(&platform);
    storage.record_audit(event(AuditAction::PlatformRestored, "4294967295000")).unwrap();
    storage.close();
    platform.restart();
    let error = pay(&platform).expect_err("it was paid");
    assert!(error.contains("a time which is to come"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before, "the till has taken nothing");
    for _ in 0..2 {
        platform.tapfer(&["audit", "restored", "--reason", "after looking into the log"]);
        pay(&platform).unwrap();
    }
    assert_eq!(platform.tapfer(&["audit", "verify"])["restorations"].as_array().unwrap().len(), 3);
}

/// Attack: who may do anything in the database gives a link another hash, so that the platform goes on behind that, signs it, and
/// vouches for a chain of his.
#[test]
fn attack_head_signed_over_links_of_another_hand() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    let head = platform.tapfer(&["audit", "head"]);
    create_issuer(&platform, 1);
    platform.stop();
    let rule = "SELECT sql FROM sqlite_schema WHERE name = 'audit_links_are_final'";
    let database = platform::database(platform.home());
    let rule: String = database.query_row(rule, [], |row| row.get(0)).unwrap();
    let rewrite = "DROP TRIGGER audit_links_are_final; UPDATE audit_links SET hash = zeroblob(32)
                   WHERE sequence = (SELECT max(sequence) FROM audit_links)";
    database.execute_batch(&format!("{rewrite}; {rule}")).unwrap();
    drop(database);
    platform.restart();
    create_issuer(&platform, 2);
    let error = String::from_utf8(platform.run(&["audit", "head"]).stderr).unwrap();
    assert!(error.contains("do not follow from one another"), "{error}");
    // Once somebody has looked into it the platform goes on, and what was before stays named.
    platform.tapfer(&["audit", "restored", "--reason", "looked into it"]);
    let later = platform.tapfer(&["audit", "head"]);
    assert!(later["sequence"].as_u64() > head["sequence"].as_u64(), "{later}");
    let error = String::from_utf8(platform.run(&["audit", "verify"]).stderr).unwrap();
    assert!(error.contains("does not follow from the one before"), "{error}");
}
