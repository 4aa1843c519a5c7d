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

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_hsm::catalogue::{
    CatalogueFault, KeyName, KeyOwner, KeyPurpose, KeyState, UnverifiedCatalogue,
};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::vault::{Custody, KeyAlgorithm, Vault as _};
use tapfer_hsm::{CatalogueError, HsmError, PaymentHsm, Realm, SoftwareHsm, VaultedHsm};
use tapfer_payment_types::{CatalogueMark, IssuerId, RealmId, Secret, Timestamp};
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
    assert!(rolled_back(hsm.follow_catalogue(None).map(drop)));
    assert!(rolled_back(hsm.create_issuer(issuer(3), NOW).map(drop)));
    assert!(rolled_back(hsm.issuer_keys(issuer(3)).map(drop)), "nothing unknown is found in it");
    hsm.issuer_keys(issuer(2)).unwrap();
    assert_eq!(place.bytes(), old, "nor is it written over");

    // Somebody went on from the old copy: two catalogues of one version.
    place.open().unwrap().create_issuer(issuer(9), NOW).unwrap();
    assert!(matches!(
        of_the_catalogue(hsm.health().unwrap_err()),
        CatalogueError::Forked { version: 3, known: 3, .. }
    ));
    place.overwrite(&newest);
    hsm.health().unwrap();
}

/// Whoever is told what others have used, as the database tells, uses no key of anything older: not of what
/// lies on the disk, nor of what is in memory already.
#[test]
fn attack_old_catalogue_put_back_before_others_looked() {
    let place = Place::new();
    let (hsm, beside) = (place.create(), place.open().unwrap());
    let first = hsm.follow_catalogue(None).unwrap();
    hsm.create_issuer(issuer(1), NOW).unwrap();
    beside.health().unwrap();
    let old = place.bytes();
    hsm.create_issuer(issuer(2), NOW).unwrap();
    let (known, newest) = (hsm.follow_catalogue(None).unwrap(), place.bytes());
    assert_eq!(known.version, 3);

    place.overwrite(&old);
    for late in [beside, place.open().unwrap()] {
        late.issuer_keys(issuer(1)).unwrap();
        let rolled_back = |answer: Result<(), HsmError>| {
            let error = of_the_catalogue(answer.unwrap_err());
            assert!(matches!(error, CatalogueError::RolledBack { version: 2, known: 3, .. }));
        };
        rolled_back(late.follow_catalogue(Some(&known)).map(drop));
        // From here on nothing is done with older keys.
        rolled_back(late.issuer_keys(issuer(1)).map(drop));
        rolled_back(late.create_issuer(issuer(3), NOW).map(drop));
        rolled_back(late.follow_catalogue(None).map(drop));
        rolled_back(late.health());
        assert_eq!(place.bytes(), old);
        // What is known does not become less by whom asks.
        rolled_back(late.follow_catalogue(Some(&first)).map(drop));
        let invented = CatalogueMark { mac: [9; 32], ..first };
        late.follow_catalogue(Some(&invented)).unwrap_err();
        rolled_back(late.health());
        // The right one is back, and work goes on by itself.
        place.overwrite(&newest);
        late.issuer_keys(issuer(2)).unwrap();
        assert_eq!(late.follow_catalogue(Some(&known)).unwrap(), known);
        place.overwrite(&old);
    }
}

/// An old copy that somebody goes on with gets the numbers of the newest, and not its past.
#[test]
fn attack_old_catalogue_gone_on_with() {
    let place = Place::new();
    let hsm = place.create();
    hsm.create_issuer(issuer(1), NOW).unwrap();
    let owner = KeyOwner::Issuer(issuer(1));
    hsm.add_generation(owner, KeyPurpose::IssuerMaster, NOW).unwrap();
    let old = place.bytes();
    let destroyed = KeyName { owner, purpose: KeyPurpose::IssuerMaster, generation: 1 };
    for state in [KeyState::Retired, KeyState::Destroyed] {
        hsm.set_key_state(destroyed, state).unwrap();
    }
    let (known, newest) = (hsm.follow_catalogue(None).unwrap(), place.bytes());
    place.overwrite(&old);
    for version in 4..=7 {
        let late = place.open().unwrap();
        late.add_generation(owner, KeyPurpose::CardPins, NOW).unwrap();
        let expected = |error: HsmError| match of_the_catalogue(error) {
            CatalogueError::RolledBack { known: 5, .. } => version < 5,
            CatalogueError::Forked { version: found, known: 5, .. } => found == version,
            other => panic!("{other}"),
        };
        assert!(expected(hsm.health().unwrap_err()), "who has seen the newest");
        assert!(expected(late.follow_catalogue(Some(&known)).unwrap_err()), "who was told of it");
    }
    // However many versions were made from the newest before one looks, it is found to come from there.
    place.overwrite(&newest);
    let other = place.open().unwrap();
    for _ in 0..9 {
        other.add_generation(owner, KeyPurpose::CardPins, NOW).unwrap();
    }
    assert_eq!(hsm.follow_catalogue(Some(&known)).unwrap().version, 14);
    assert_eq!(place.open().unwrap().follow_catalogue(Some(&known)).unwrap().version, 14);
}

/// Who could wrap one key of his own under the sealing root, once, has a key to make MACs with. It is not the
/// realm's.
#[test]
fn attack_catalogue_under_a_key_that_was_wrapped_once() {
    let place = Place::new();
    let hsm = place.create();
    hsm.create_issuer(issuer(1), NOW).unwrap();
    let (known, genuine) = (hsm.follow_catalogue(None).unwrap(), place.bytes());
    // With a stolen PIN. From here on he needs neither module nor roots.
    let own = [0x5A; 32];
    let (algorithm, custody) = (KeyAlgorithm::Authentication, Custody::Sealed);
    let wrapped = vault(1).import(algorithm, custody, &Secret::new(own.to_vec())).unwrap().wrapped;
    let text = String::from_utf8(genuine).unwrap();
    let content = text.strip_prefix("{\"content\":").unwrap();
    let content = &content[..content.rfind(",\"mac\":").unwrap()];
    let read: serde_json::Value = serde_json::from_str(content).unwrap();
    let (key, history) = (read["catalogue_key"].as_str().unwrap(), &read["history"]);
    let forge = |more: &str, version: u64| {
        let history = history.to_string();
        let longer = history.replace(']', &format!("{more}]"));
        let forged = content
            .replace(key, &HEXLOWER.encode(&wrapped))
            .replace(&history, &longer)
            .replace("\"version\":2", &format!("\"version\":{version}"));
        let covered = [b"tapfer-catalogue-2\0", forged.as_bytes()].concat();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &own), &covered);
        let mac = HEXLOWER.encode(mac.as_ref());
        place.overwrite(format!("{{\"content\":{forged},\"mac\":\"{mac}\"}}\n").as_bytes());
    };
    let tampered = |answer: Result<(), HsmError>| {
        let error = of_the_catalogue(answer.unwrap_err());
        assert!(matches!(error, CatalogueError::Tampered(_)), "{error}");
    };
    // The same version, and one that says that it was made from the genuine one.
    let genuine_mac = HEXLOWER.encode(&known.mac);
    for (more, version) in [("", 2), (&*format!(",\"{genuine_mac}\""), 3)] {
        forge(more, version);
        tampered(hsm.health());
        let unaware = place.open().unwrap();
        assert_eq!(unaware.follow_catalogue(None).unwrap().version, version, "the MAC is right");
        tampered(unaware.follow_catalogue(Some(&known)).map(drop));
        tampered(unaware.issuer_keys(issuer(1)).map(drop));
    }
}

/// Another releasing root would wrap keys that open nowhere else.
#[test]
fn a_vault_with_another_releasing_root_does_not_open() {
    let place = Place::new();
    drop(place.create());
    let roots = RootKeys::new(Secret::new([1; 32]), Secret::new([3; 32]));
    let error = place.open_with(SoftwareVault::new(roots)).unwrap_err();
    assert!(matches!(error, CatalogueError::OtherReleasingRoot(_)), "{error}");
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
