//! Backups of realms that are in use, and what is wrong with them.

use super::{Backup, BackupError, Restored, back_up, restore, verify};
use crate::realm::{Realm, RealmKind};
use std::fs;
use std::path::{Path, PathBuf};
use tapfer_hsm::Unlock;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::Restoration;
use tapfer_storage::DatabaseReader;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);
const LATER: Timestamp = NOW.plus_seconds(3_600);

fn unlock() -> Unlock {
    let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
    Unlock::key_from_hex(key).unwrap()
}

/// A realm that is open, and its backup.
fn backed_up() -> (TempDir, Realm, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    let realm = Realm::create(&home, RealmKind::Demo, &unlock(), NOW).unwrap();
    fs::create_dir(home.join("tls")).unwrap();
    fs::write(home.join("tls/ca.pem"), "certificate").unwrap();
    let backup = directory.path().join("backup");
    back_up(&home, &backup, NOW).unwrap();
    (directory, realm, backup)
}

#[test]
fn a_backup_of_a_realm_in_use_opens_elsewhere() {
    let (directory, realm, backup) = backed_up();
    let elsewhere = directory.path().join("elsewhere");
    let Restored { backup: list, restoration } = restore(&backup, &elsewhere, LATER).unwrap();
    assert_eq!(list.realm, realm.hsm().describe().realm_id);
    assert_eq!(restoration, Some(Restoration::at(LATER)));
    assert_eq!(fs::read(elsewhere.join("tls/ca.pem")).unwrap(), b"certificate");
    let restored = Realm::open(&elsewhere, &unlock()).unwrap();
    assert_eq!(restored.hsm().describe().realm_id, list.realm);
}

#[test]
fn nothing_is_overwritten() {
    let (directory, realm, backup) = backed_up();
    let home = realm.paths().home();
    for occupied in [home, &backup] {
        assert!(matches!(restore(&backup, occupied, LATER), Err(BackupError::Occupied(_))));
        assert!(matches!(back_up(home, occupied, NOW), Err(BackupError::Occupied(_))));
    }
    let nothing = directory.path().join("nothing");
    let refused = back_up(&nothing, &directory.path().join("new"), NOW);
    assert!(matches!(refused, Err(BackupError::NoRealm(_))));
}

fn damages(backup: &Path) -> Vec<String> {
    match verify(backup) {
        Err(BackupError::Damaged { damages, .. }) => damages,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_damaged_file_is_named() {
    let (directory, _realm, backup) = backed_up();
    let database = fs::read(backup.join("tapfer.db")).unwrap();
    let mut changed = database.clone();
    changed[5_000] ^= 1;
    fs::write(backup.join("tapfer.db"), &changed).unwrap();
    fs::write(backup.join("keystore"), "short").unwrap();
    fs::remove_file(backup.join("tls/ca.pem")).unwrap();
    let found = damages(&backup);
    let expected = ["tapfer.db was changed", "keystore has 5 bytes", "tls/ca.pem is missing"];
    assert!(expected.iter().all(|what| found.iter().any(|said| said.starts_with(what))));
    assert_eq!(found.len(), 3, "{found:?}");
    let home = directory.path().join("home-of-damage");
    assert!(restore(&backup, &home, LATER).is_err());
    assert!(!home.exists(), "nothing is restored of a damaged backup");
}

#[test]
fn a_backup_that_was_not_finished_is_none() {
    let (_directory, _realm, backup) = backed_up();
    fs::remove_file(backup.join("backup.json")).unwrap();
    assert!(matches!(verify(&backup), Err(BackupError::NotABackup(_))));
}

#[test]
fn a_list_cannot_name_files_elsewhere() {
    let (_directory, _realm, backup) = backed_up();
    let list = fs::read_to_string(backup.join("backup.json")).unwrap();
    for name in ["../evil", "tls/../../evil", "tls/", "/etc/passwd", "client.json"] {
        fs::write(backup.join("backup.json"), list.replace("keystore", name)).unwrap();
        assert!(matches!(verify(&backup), Err(BackupError::Foreign(_))), "{name}");
    }
}

/// Every part of a backup that is lost, cut short or changed by one bit is named, and nothing is restored.
#[test]
fn every_part_is_missed_when_it_is_not_as_it_was() {
    let (directory, _realm, backup) = backed_up();
    let list: Backup =
        serde_json::from_slice(&fs::read(backup.join("backup.json")).unwrap()).unwrap();
    assert!(list.files.len() >= 5, "{list:?}");
    let home = directory.path().join("home-of-damage");
    for file in &list.files {
        let path = backup.join(&file.name);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let cut = whole[..whole.len() - 1].to_vec();
        for (what, content) in
            [("is missing", None), ("was changed", Some(flipped)), ("bytes and had", Some(cut))]
        {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let found = damages(&backup);
            assert!(found[0].starts_with(&file.name) && found[0].contains(what), "{found:?}");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(restore(&backup, &home, LATER).is_err());
            assert!(!home.exists(), "nothing is restored of a damaged backup");
        }
        fs::write(&path, whole).unwrap();
    }
    verify(&backup).unwrap();
}

/// A part of another realm, put in with a list that fits.
#[test]
fn a_part_of_another_realm_is_named() {
    let (directory, _realm, backup) = backed_up();
    let (_other_directory, _other_realm, other) = backed_up();
    let foreign = verify(&other).unwrap();
    for name in ["tapfer.db", "realm.json", "keys.json"] {
        let mut list = verify(&backup).unwrap();
        let (kept_list, kept) =
            (fs::read(backup.join("backup.json")).unwrap(), fs::read(backup.join(name)).unwrap());
        let theirs = foreign.files.iter().find(|file| file.name == name).unwrap().clone();
        fs::copy(other.join(name), backup.join(name)).unwrap();
        *list.files.iter_mut().find(|file| file.name == name).unwrap() = theirs;
        fs::write(backup.join("backup.json"), serde_json::to_vec(&list).unwrap()).unwrap();
        let found = damages(&backup);
        assert!(found[0].contains(name), "{found:?}");
        assert!(restore(&backup, &directory.path().join("elsewhere"), LATER).is_err());
        fs::write(backup.join(name), kept).unwrap();
        fs::write(backup.join("backup.json"), kept_list).unwrap();
    }
}

/// What no realm can be without is missed, also by a list that does not know of it.
#[test]
fn a_list_without_a_part_is_no_list() {
    let (_directory, _realm, backup) = backed_up();
    let whole = verify(&backup).unwrap();
    for name in ["tapfer.db", "realm.json", "keys.json", "keystore"] {
        let mut list = whole.clone();
        list.files.retain(|file| file.name != name);
        fs::write(backup.join("backup.json"), serde_json::to_vec(&list).unwrap()).unwrap();
        let found = damages(&backup);
        assert!(found[0].contains(name), "{found:?}");
    }
}

#[test]
fn what_a_torn_backup_left_is_named() {
    let (directory, realm, backup) = backed_up();
    let torn = directory.path().join("next.unfinished");
    fs::create_dir(&torn).unwrap();
    fs::copy(backup.join("tapfer.db"), torn.join("tapfer.db")).unwrap();
    let refused = back_up(realm.paths().home(), &directory.path().join("next/"), NOW);
    assert!(matches!(refused, Err(BackupError::Torn(path)) if path == torn));
    assert!(matches!(verify(&torn), Err(BackupError::NotABackup(_))));
}

/// Also of one backup: neither of the two that come of it knows of the other, and devices tell them apart.
#[test]
fn each_restoration_is_another_one_and_audited() {
    let (directory, _realm, backup) = backed_up();
    let home = directory.path().join("first");
    let first = restore(&backup, &home, LATER).unwrap().restoration;
    assert_eq!(first, Some(Restoration::at(LATER)));
    let again = restore(&backup, &directory.path().join("again"), LATER.plus_millis(1)).unwrap();
    assert!(again.restoration > first);
    let second = directory.path().join("second-backup");
    back_up(&home, &second, LATER).unwrap();
    let home = directory.path().join("second");
    assert!(restore(&second, &home, LATER).unwrap().restoration > first);
    let report = DatabaseReader::file(&home.join("tapfer.db")).unwrap().verify_audit().unwrap();
    assert_eq!((report.fault, report.restorations.len()), (None, 2));
}
