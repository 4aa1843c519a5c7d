//! The catalogue's file: what it survives, what it refuses, and how clearly it says so. What it says of
//! keys is in the contract.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::catalogue::{CatalogueFault, KeyOwner, KeyPurpose, UnverifiedCatalogue};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, PaymentHsm, Realm, SoftwareHsm, VaultedHsm};
use tapfer_payment_types::{IssuerId, RealmId, Secret, Timestamp};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);

fn issuer(number: u8) -> IssuerId {
    IssuerId::new(NOW, [number; 10])
}

fn vault(sealing: u8) -> SoftwareVault {
    SoftwareVault::new(RootKeys::new(Secret::new([sealing; 32]), Secret::new([2; 32])))
}

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    /// Where the next version is written first.
    fn unfinished(&self) -> PathBuf {
        self.directory.path().join("keys.json.new")
    }

    fn create(&self) -> SoftwareHsm {
        let realm_id = RealmId::new(NOW, [9; 10]);
        VaultedHsm::with_new_catalogue(vault(1), &self.path(), Realm::Demo, realm_id).unwrap()
    }

    fn open(&self) -> Result<SoftwareHsm, CatalogueError> {
        self.open_with(vault(1))
    }

    fn open_with(&self, vault: SoftwareVault) -> Result<SoftwareHsm, CatalogueError> {
        VaultedHsm::over_catalogue(vault, &self.path()).map_err(of_the_catalogue)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    /// As somebody does who puts another file in its place.
    fn overwrite(&self, bytes: &[u8]) {
        fs::remove_file(self.path()).unwrap();
        fs::write(self.path(), bytes).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn of_the_catalogue(error: HsmError) -> CatalogueError {
    match error {
        HsmError::Catalogue(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn attack_catalogue_changed_without_the_roots() {
    let place = Place::new();
    place.create().create_certification_authority([1; 5], 1, NOW).unwrap();
    let whole = place.bytes();
    let mut readable = 0;
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 1;
        if UnverifiedCatalogue::parse(&changed).is_err() {
            continue;
        }
        readable += 1;
        place.overwrite(&changed);
        let error = place.open().unwrap_err();
        let named = matches!(error, CatalogueError::Tampered(_) | CatalogueError::OtherRoots(_));
        assert!(named, "{position}: {error}");
    }
    assert!(readable > 100, "most that reads as a catalogue is somebody else's");
    for length in 0..whole.len() - 1 {
        let cut = UnverifiedCatalogue::parse(&whole[..length]);
        assert_eq!(cut.unwrap_err(), CatalogueFault::NotACatalogue, "{length}");
    }
    place.overwrite(&whole);
    place.open().unwrap();
}

#[test]
fn other_roots_and_other_files_are_told_apart() {
    let place = Place::new();
    assert!(matches!(place.open(), Err(CatalogueError::NotFound(_))));
    drop(place.create());
    assert!(matches!(place.open_with(vault(7)), Err(CatalogueError::OtherRoots(_))));
    let realm_id = RealmId::new(NOW, [9; 10]);
    let again = VaultedHsm::with_new_catalogue(vault(1), &place.path(), Realm::Demo, realm_id);
    assert!(matches!(again.map_err(of_the_catalogue), Err(CatalogueError::Exists(_))));
    place.open().unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602] {
        fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = place.open().unwrap_err();
        assert!(matches!(error, CatalogueError::Permissions { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

/// An older copy in the place of a newer one is noticed by whoever has seen the newer one.
#[test]
fn attack_old_catalogue_put_back_under_a_running_platform() {
    let place = Place::new();
    let hsm = place.create();
    hsm.create_issuer(issuer(1), NOW).unwrap();
    let old = place.bytes();
    hsm.create_issuer(issuer(2), NOW).unwrap();
    let newest = place.bytes();
    place.overwrite(&old);
    let rolled_back = |answer: Result<(), HsmError>| {
        let error = of_the_catalogue(answer.unwrap_err());
        matches!(error, CatalogueError::RolledBack { version: 2, known: 3, .. })
    };
    assert!(rolled_back(hsm.health()));
    assert!(rolled_back(hsm.reload().map(drop)));
    assert!(rolled_back(hsm.create_issuer(issuer(3), NOW).map(drop)));
    assert!(rolled_back(hsm.issuer_keys(issuer(3)).map(drop)), "nothing unknown is found in it");
    hsm.issuer_keys(issuer(2)).unwrap();
    assert_eq!(place.bytes(), old, "nor is it written over");

    // Somebody went on from the old copy: two catalogues of one version.
    place.open().unwrap().create_issuer(issuer(9), NOW).unwrap();
    assert!(matches!(
        of_the_catalogue(hsm.health().unwrap_err()),
        CatalogueError::RolledBack { version: 3, known: 3, .. }
    ));
    place.overwrite(&newest);
    hsm.health().unwrap();
    // Who opens it anew cannot know: the database does.
    assert_eq!(place.open().unwrap().catalogue_version().unwrap(), 3);
}

#[test]
fn what_the_disk_does_not_have_is_not_used() {
    let place = Place::new();
    let hsm = place.create();
    let before = place.bytes();
    // A directory where the new file would be written.
    fs::create_dir(place.unfinished()).unwrap();
    let failed = hsm.create_issuer(issuer(1), NOW);
    assert!(matches!(failed.map_err(of_the_catalogue), Err(CatalogueError::Io { .. })));
    assert!(matches!(hsm.issuer_keys(issuer(1)), Err(HsmError::UnknownIssuer(_))));
    assert_eq!(place.bytes(), before);
    fs::remove_dir(place.unfinished()).unwrap();
    hsm.create_issuer(issuer(1), NOW).unwrap();
}

/// What a loss of power can leave behind at each step of a change: the new file not begun, of any length,
/// whole but not yet in its place, in its place.
#[test]
fn a_change_that_stops_at_any_step_leaves_the_old_keys_or_the_new() {
    let place = Place::new();
    let hsm = place.create();
    let old = place.bytes();
    hsm.create_certification_authority([1; 5], 1, NOW).unwrap();
    let new = place.bytes();
    drop(hsm);
    let has_new_key = || place.open().unwrap().ca_public_key([1; 5], 1).is_ok();
    place.overwrite(&old);
    for length in 0..=new.len() {
        fs::write(place.unfinished(), &new[..length]).unwrap();
        fs::set_permissions(place.unfinished(), fs::Permissions::from_mode(0o644)).unwrap();
        if length % 256 == 0 || length == new.len() {
            assert!(!has_new_key(), "{length}");
        }
    }
    fs::rename(place.unfinished(), place.path()).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(has_new_key());
    // What is left over is in nobody's way, whoever could read it.
    fs::write(place.unfinished(), &new[..20]).unwrap();
    place.open().unwrap().create_issuer(issuer(1), NOW).unwrap();
    assert!(!place.unfinished().exists());
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(has_new_key());
}

#[test]
fn no_key_stands_in_the_file() {
    let place = Place::new();
    let hsm = place.create();
    let secret = [0xA7; 16];
    hsm.import_demo_issuer(issuer(1), IssuerMasterKey::new(secret), NOW).unwrap();
    let bytes = place.bytes();
    assert!(!bytes.windows(16).any(|window| window == secret));
    let hex = "a7".repeat(16);
    assert!(!bytes.windows(32).any(|window| window == hex.as_bytes()));
}

#[test]
fn generations_come_to_an_end() {
    let place = Place::new();
    let hsm = place.create();
    hsm.create_issuer(issuer(1), NOW).unwrap();
    let rotate = || hsm.add_generation(KeyOwner::Issuer(issuer(1)), KeyPurpose::CardPins, NOW);
    for generation in 2..=u8::MAX {
        assert_eq!(rotate().unwrap().name.generation, generation);
    }
    assert!(matches!(rotate(), Err(HsmError::GenerationsExhausted { .. })));
}

/// Makes issuers and says so until it is killed. Does nothing unless its parent says where.
#[test]
#[ignore = "runs as a child of killed_at_any_moment_it_opens_with_all_it_promised"]
fn makes_issuers_until_killed() {
    let Some(path) = std::env::var_os(CATALOGUE_OF_CHILD) else { return };
    let hsm = VaultedHsm::over_catalogue(vault(1), path.as_ref()).unwrap();
    for number in 0..=u8::MAX {
        hsm.create_issuer(issuer(number), NOW).unwrap();
        println!("\nmade {number}");
    }
}

const CATALOGUE_OF_CHILD: &str = "TAPFER_TEST_CATALOGUE_OF_CHILD";

#[test]
fn killed_at_any_moment_it_opens_with_all_it_promised() {
    for lines_until_death in 1..=8 {
        let place = Place::new();
        // Open all the while, and never in the way.
        let beside = place.create();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "makes_issuers_until_killed", "--ignored", "--nocapture"])
            .env(CATALOGUE_OF_CHILD, place.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let promised = lines.filter(|line| line.starts_with("made ")).take(lines_until_death);
        assert_eq!(promised.count(), lines_until_death);
        child.kill().unwrap();
        child.wait().unwrap();

        let opened = place.open().unwrap();
        for number in 0..u8::try_from(lines_until_death).unwrap() {
            let keys = opened.issuer_keys(issuer(number)).unwrap();
            assert_eq!(beside.issuer_keys(issuer(number)).unwrap(), keys);
        }
        beside.create_issuer(issuer(u8::MAX), NOW).unwrap();
    }
}
