//! Realms that are made, opened again, torn off, mixed up and put back.

use super::{Owner, Realm, RealmError, RealmKind, RealmPaths, migrate_database};
use crate::{catalogue_refusal, newest_catalogue};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use tapfer_hsm::{PaymentHsm as _, SoftwareHsm, Unlock};
use tapfer_payment_types::{CatalogueMark, RealmId, Timestamp};
use tapfer_storage::StorageError;
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

fn unlock() -> Unlock {
    let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
    Unlock::key_from_hex(key).unwrap()
}

#[test]
fn is_made_once_and_opened_again() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("realm");
    let now = Timestamp::from_unix_millis(1);
    assert!(matches!(Realm::open(&home, &unlock()), Err(RealmError::Missing(_))));
    drop(Realm::create(&home, RealmKind::Demo, &unlock(), now).unwrap());
    let again = Realm::create(&home, RealmKind::Demo, &unlock(), now);
    assert!(matches!(again, Err(RealmError::Exists(_))));
    assert_eq!(Realm::open(&home, &unlock()).unwrap().kind(), RealmKind::Demo);
}

#[test]
fn a_demo_realm_cannot_be_relabelled() {
    let home = tempfile::tempdir().unwrap();
    let now = Timestamp::from_unix_millis(1);
    drop(Realm::create(home.path(), RealmKind::Demo, &unlock(), now).unwrap());
    let file = RealmPaths::new(home.path()).description();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("demo", "production")).unwrap();
    assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Mixed(_))));
    let other = RealmId::new(now, [7; 10]).to_string();
    let own = text.split('"').find(|word| word.starts_with("realm_")).unwrap();
    fs::write(&file, text.replace(own, &other)).unwrap();
    assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Mixed(_))));
    fs::write(&file, "{}").unwrap();
    assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Unreadable(_))));
}

fn new_realm(kind: RealmKind) -> (tempfile::TempDir, RealmPaths) {
    let home = tempfile::tempdir().unwrap();
    drop(Realm::create(home.path(), kind, &unlock(), Timestamp::from_unix_millis(1)).unwrap());
    let paths = RealmPaths::new(home.path());
    (home, paths)
}

#[cfg(unix)]
fn close(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn one_process_serves_a_realm() {
    let (home, paths) = new_realm(RealmKind::Demo);
    let open = || Realm::open(home.path(), &unlock());
    let realm = open().unwrap();
    assert!(matches!(open(), Err(RealmError::InUse(_))));
    // Its keys can be used and changed beside it.
    let hsm = SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap();
    let now = Timestamp::from_unix_millis(1);
    let key = hsm.create_certification_authority([1; 5], 1, now).unwrap();
    assert_eq!(realm.hsm().ca_public_key([1; 5], 1).unwrap(), key);
    drop(realm);
    open().unwrap();
}

#[test]
fn a_realm_without_its_database_does_not_open() {
    for kind in [RealmKind::Demo, RealmKind::Production] {
        let (home, paths) = new_realm(kind);
        let (_other_home, other) = new_realm(kind);
        let open = || Realm::open(home.path(), &unlock()).map(drop).unwrap_err().to_string();
        let whole = fs::read(paths.embedded_database().unwrap()).unwrap();

        fs::remove_file(paths.embedded_database().unwrap()).unwrap();
        assert!(open().contains("restore the database from a backup"), "{}", open());
        assert!(!paths.embedded_database().unwrap().exists(), "none is made");
        fs::write(paths.embedded_database().unwrap(), b"").unwrap();
        assert!(open().contains("restore the database from a backup"), "{}", open());
        fs::copy(other.embedded_database().unwrap(), paths.embedded_database().unwrap()).unwrap();
        assert!(open().contains("restore both from one backup"), "{}", open());
        fs::write(paths.embedded_database().unwrap(), whole).unwrap();
        Realm::open(home.path(), &unlock()).unwrap();

        let whole = fs::read(paths.catalogue()).unwrap();
        fs::copy(other.catalogue(), paths.catalogue()).unwrap();
        assert!(open().contains("made under other root keys"), "{}", open());
        fs::remove_file(paths.catalogue()).unwrap();
        assert!(open().contains("Put the newest keys.json there"), "{}", open());
        assert!(!paths.catalogue().exists(), "none is made");
        fs::write(paths.catalogue(), whole).unwrap();
        #[cfg(unix)]
        close(&paths.catalogue());
        Realm::open(home.path(), &unlock()).unwrap();

        fs::copy(other.keystore(), paths.keystore()).unwrap();
        assert!(open().contains("made under other root keys"), "{}", open());
        fs::copy(other.catalogue(), paths.catalogue()).unwrap();
        assert!(open().contains("restore both from one backup"), "{}", open());
    }
}

/// An old copy of the catalogue, with keys that were destroyed since, does not open; nor does one that
/// somebody went on with, nor one under another key of its MAC.
#[cfg(unix)]
#[test]
fn attack_old_catalogue_put_back() {
    let now = Timestamp::from_unix_millis(1);
    let (home, paths) = new_realm(RealmKind::Production);
    let open = || Realm::open(home.path(), &unlock());
    let old = fs::read(paths.catalogue()).unwrap();
    let realm = open().unwrap();
    realm.hsm().create_merchant_authority(now).unwrap();
    drop(realm);
    let newest = fs::read(paths.catalogue()).unwrap();
    drop(open().unwrap());
    fs::write(paths.catalogue(), old).unwrap();
    let error = || open().map(drop).unwrap_err().to_string();
    assert!(error().contains("version 1, and version 2 was used already"), "{}", error());
    let ways =
        ["newest keys.json", "accept-catalogue", "tapfer restore", "payments since are forgotten"];
    let places = ways.map(|way| error().find(way));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{}", error());
    // Whoever has no key sees it as well.
    let refusal = catalogue_refusal(home.path()).unwrap();
    assert!(error().ends_with(&refusal), "{refusal}");

    // Beside the platform, by whoever opens the keystore.
    let beside = || SoftwareHsm::open(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap();
    beside().create_document_keys(now).unwrap();
    assert!(error().contains("was not made from version 2"), "{}", error());
    beside().create_merchant_authority(now).unwrap();
    assert!(error().contains("is version 3, and was not made from version 2"), "{}", error());

    fs::remove_file(paths.catalogue()).unwrap();
    drop(SoftwareHsm::finish(&paths.keystore(), &paths.catalogue(), &unlock()).unwrap());
    for index in 1..=3 {
        assert!(error().contains("tampered with"), "{}", error());
        beside().create_certification_authority([1; 5], index, now).unwrap();
    }

    fs::write(paths.catalogue(), newest).unwrap();
    let realm = open().unwrap();
    for index in 1..=3 {
        realm.hsm().create_certification_authority([1; 5], index, now).unwrap();
    }
    drop(realm);
    open().unwrap();
}

/// Whoever looks at a platform that runs may see file and database of different moments, but no old copy.
#[cfg(unix)]
#[test]
fn a_catalogue_that_changes_meanwhile_is_no_old_copy() {
    let (home, paths) = new_realm(RealmKind::Production);
    let realm = Realm::open(home.path(), &unlock()).unwrap();
    let before = fs::read(paths.catalogue()).unwrap();
    // The file is a pipe: whoever opens it gets the version of before, and the database hears of the next one first.
    fs::remove_file(paths.catalogue()).unwrap();
    let made = Command::new("mkfifo").arg(paths.catalogue()).status().unwrap();
    assert!(made.success());
    let refusal = std::thread::scope(|scope| {
        let looking = scope.spawn(|| catalogue_refusal(home.path()));
        let mut pipe = fs::OpenOptions::new().write(true).open(paths.catalogue()).unwrap();
        let known = realm.storage.newest_catalogue().unwrap().unwrap();
        let next = CatalogueMark { version: known.version + 1, ..known };
        assert!(realm.storage.note_catalogue(Some(known), next).unwrap());
        pipe.write_all(&before).unwrap();
        drop(pipe);
        looking.join().unwrap()
    });
    assert_eq!(refusal, None);
    fs::remove_file(paths.catalogue()).unwrap();
    fs::write(paths.catalogue(), before).unwrap();
    let refusal = catalogue_refusal(home.path()).unwrap();
    assert!(refusal.contains("an old copy"), "{refusal}");
}

/// What a crash leaves at each point of the first start can be started again.
#[test]
fn a_first_start_that_was_torn_off_is_finished() {
    let now = Timestamp::from_unix_millis(1);
    for remaining in
        [&["keystore"][..], &["keystore", "keys.json"], &["keystore", "keys.json", "tapfer.db"]]
    {
        let (home, paths) = new_realm(RealmKind::Demo);
        for file in fs::read_dir(home.path()).unwrap().map(Result::unwrap) {
            if !remaining.iter().any(|name| file.file_name() == *name) {
                fs::remove_file(file.path()).unwrap();
            }
        }
        let (kind, unlock) = (RealmKind::Production, unlock());
        let other_kind = Realm::create(paths.home(), kind, &unlock, now);
        assert!(matches!(other_kind, Err(RealmError::Undescribed(_))));
        drop(Realm::create(paths.home(), RealmKind::Demo, &unlock, now).unwrap());
        Realm::open(paths.home(), &unlock).unwrap();
    }
    let (home, paths) = new_realm(RealmKind::Demo);
    fs::write(paths.embedded_database().unwrap(), b"").unwrap();
    fs::remove_file(paths.description()).unwrap();
    drop(Realm::create(home.path(), RealmKind::Demo, &unlock(), now).unwrap());
}

#[test]
fn a_realm_in_use_is_not_taken_for_a_new_one() {
    let now = Timestamp::from_unix_millis(1);
    let (home, paths) = new_realm(RealmKind::Demo);
    let realm = Realm::open(home.path(), &unlock()).unwrap();
    realm.hsm().create_certification_authority([1; 5], 1, Timestamp::from_unix_millis(1)).unwrap();
    drop(realm);
    fs::remove_file(paths.description()).unwrap();
    let again = || Realm::create(home.path(), RealmKind::Demo, &unlock(), now);
    assert!(matches!(again(), Err(RealmError::Undescribed(_))), "there are keys");
    for file in [paths.keystore(), paths.catalogue()] {
        fs::remove_file(file).unwrap();
        assert!(matches!(again(), Err(RealmError::Undescribed(_))), "there is a database");
    }
    assert!(!paths.keystore().exists());
}

#[cfg(unix)]
#[test]
fn the_directory_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let now = Timestamp::from_unix_millis(1);
    let set = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for writable in [0o777, 0o770, 0o702] {
        set(home, writable);
        let refused = Realm::create(home, RealmKind::Demo, &unlock(), now);
        assert!(matches!(refused, Err(RealmError::Writable { mode, .. }) if mode == writable));
        assert_eq!(fs::read_dir(home).unwrap().count(), 0, "nothing was written");
    }
    set(home, 0o755);
    drop(Realm::create(home, RealmKind::Demo, &unlock(), now).unwrap());
    assert_eq!(mode(home), 0o700);
    set(home, 0o750);
    drop(Realm::open(home, &unlock()).unwrap());
    assert_eq!(mode(home), 0o700);
    set(home, 0o730);
    let refused = Realm::open(home, &unlock());
    assert!(matches!(refused, Err(RealmError::Writable { mode: 0o730, .. })));
}

const fn owner() -> Owner<'static> {
    Owner { name: OWNER, password_file: None, partition: 0 }
}

#[test]
fn two_platforms_of_a_realm_share_a_database() {
    let server = TestPostgres::start();
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let named = format!("address = \"{}\"\n", server.address(PLATFORM));
    let now = Timestamp::from_unix_millis(1);
    let create = || Realm::create(here.path(), RealmKind::Demo, &unlock(), now);
    fs::write(here.path().join("database.toml"), &named).unwrap();
    // The keys come first, then their database, which only its owner can make.
    server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
    assert!(matches!(create(), Err(RealmError::Storage(StorageError::Empty(_)))));
    let (before, after) = migrate_database(here.path(), owner()).unwrap();
    assert!(before == 0 && after > 0);
    server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
    let first = create().unwrap();
    assert!(!first.paths().home().join("tapfer.db").exists());
    for file in ["realm.json", "keystore", "keys.json", "database.toml"] {
        fs::copy(here.path().join(file), there.path().join(file)).unwrap();
    }
    let second = Realm::open(there.path(), &unlock()).unwrap();
    let known = second.storage.newest_catalogue().unwrap();
    assert_eq!(first.storage.newest_catalogue().unwrap(), known);
    drop((first, second));
    // A realm that had a database does not begin anew with an empty one.
    server.say("DROP SCHEMA tapfer CASCADE");
    let refused = Realm::open(there.path(), &unlock());
    assert!(matches!(refused, Err(RealmError::Storage(StorageError::Empty(_)))));
    let refused = migrate_database(there.path(), owner());
    assert!(matches!(refused, Err(RealmError::Storage(StorageError::Empty(_)))));
}

/// Attack: who writes into the database puts a catalogue there in which a key lives that was retired, under the newest mark.
#[test]
fn attack_forged_catalogue_in_the_database() {
    let server = TestPostgres::start();
    let [here, there] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let named = format!("address = \"{}\"\n", server.address(PLATFORM));
    let now = Timestamp::from_unix_millis(1);
    fs::write(here.path().join("database.toml"), &named).unwrap();
    server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
    Realm::create(here.path(), RealmKind::Demo, &unlock(), now).map(drop).unwrap_err();
    migrate_database(here.path(), owner()).unwrap();
    server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
    let first = Realm::create(here.path(), RealmKind::Demo, &unlock(), now).unwrap();
    for file in ["realm.json", "keystore", "keys.json", "database.toml"] {
        fs::copy(here.path().join(file), there.path().join(file)).unwrap();
    }
    let older = fs::read(there.path().join("keys.json")).unwrap();
    first.hsm().create_certification_authority([1; 5], 1, now).unwrap();
    let follow = |known: Option<&CatalogueMark>| Ok(first.hsm.follow_catalogue(known)?);
    newest_catalogue::follow::<RealmError>(&*first.storage, first.paths(), follow).unwrap();
    let genuine = first.storage.catalogue_copy().unwrap().unwrap();
    assert_eq!(genuine, fs::read(here.path().join("keys.json")).unwrap());

    let put = |copy: &[u8]| {
        let copy = data_encoding::HEXLOWER.encode(copy);
        server.say(&format!("UPDATE key_catalogue_copy SET file = decode('{copy}', 'hex')"));
    };
    let forged = String::from_utf8(genuine.clone()).unwrap();
    put(forged.replace(r#""state":"active""#, r#""state":"retired""#).as_bytes());
    let refused = Realm::open(there.path(), &unlock()).map(drop).unwrap_err();
    assert!(matches!(refused, RealmError::Hsm(_)), "{refused}");
    assert_eq!(fs::read(there.path().join("keys.json")).unwrap(), older, "nothing of it stays");
    put(&genuine);
    let second = Realm::open(there.path(), &unlock()).unwrap();
    second.hsm().ca_public_key([1; 5], 1).unwrap();
    assert_eq!(fs::read(there.path().join("keys.json")).unwrap(), genuine);
}

#[test]
fn a_database_is_named_without_its_password() {
    let (home, paths) = new_realm(RealmKind::Demo);
    let configuration = paths.database_configuration();
    for (text, why) in [
        ("address = \"postgres://tapfer:geheim@localhost/tapfer\"", "holds a password"),
        ("address = \"postgres://tapfer@db.example/tapfer\"", "no certificate says which it is"),
        ("adress = \"postgres://tapfer@localhost/tapfer\"", "unknown field"),
    ] {
        fs::write(&configuration, text).unwrap();
        let refused = Realm::open(home.path(), &unlock()).map(drop).unwrap_err().to_string();
        assert!(refused.contains(why) && !refused.contains("geheim"), "{refused}");
    }
}
