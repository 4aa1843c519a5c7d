//! Backups of a platform that runs, through the real command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod platform;

use platform::{Platform, tapfer};
use serde_json::Value;
use std::fs;

#[test]
fn a_backup_is_made_of_a_running_platform_and_restored_elsewhere() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    let backup = backup.to_str().unwrap();
    let made = platform.tapfer(&["backup", "make", "--to", backup]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "2.00"]);
    assert_eq!(platform.tapfer(&["backup", "check", backup]), made);
    let again = platform.run(&["backup", "make", "--to", backup]);
    assert_eq!(again.status.code(), Some(1), "nothing is overwritten");

    let card = platform.tapfer(&["card", "show"])["balance"].as_i64().unwrap();
    platform.kill();
    let elsewhere = place.path().join("elsewhere");
    let restored = tapfer()
        .args(["backup", "restore", backup, "--json", "--home"])
        .arg(&elsewhere)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{restored:?}");
    fs::copy(platform.home().join("client.json"), elsewhere.join("client.json")).unwrap();
    let platform = Platform::on(&elsewhere);
    let then = platform.tapfer(&["card", "show"])["balance"].as_i64().unwrap();
    assert_eq!(then - card, 200, "the payment after the backup is not in it");
}

#[test]
fn a_damaged_backup_is_refused_and_the_file_named() {
    let platform = Platform::start();
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    platform.tapfer(&["backup", "make", "--to", backup.to_str().unwrap()]);
    let mut database = fs::read(backup.join("tapfer.db")).unwrap();
    let middle = database.len() / 2;
    database[middle] ^= 0x40;
    fs::write(backup.join("tapfer.db"), database).unwrap();
    let home = place.path().join("home");
    let refused = tapfer()
        .args(["backup", "restore", backup.to_str().unwrap(), "--json", "--home"])
        .arg(&home)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert!(said["error"].as_str().unwrap().contains("tapfer.db was changed"), "{said}");
    assert!(!home.exists());
}
