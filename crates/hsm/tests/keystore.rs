//! The keystore file, which holds the root keys: what it refuses, and how clearly it says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use aws_lc_rs::digest;
use proptest::prelude::*;
use tapfer_hsm::{
    CatalogueError, DetokenizationGrant, HsmError, KeystoreError, OperatorGrant, PaymentHsm, Realm,
    RecordOwner, SoftwareHsm, Unlock,
};
use tapfer_payment_types::{CardId, IssuerId, RealmId, Timestamp};
use tempfile::TempDir;

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keystore")
    }

    fn catalogue(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    fn create(&self) -> SoftwareHsm {
        self.create_with(&key(), Realm::Demo).unwrap()
    }

    fn create_with(&self, unlock: &Unlock, realm: Realm) -> Result<SoftwareHsm, HsmError> {
        SoftwareHsm::create(&self.path(), &self.catalogue(), unlock, realm, realm_id())
    }

    fn open(&self) -> Result<SoftwareHsm, KeystoreError> {
        self.open_with(&key())
    }

    fn open_with(&self, unlock: &Unlock) -> Result<SoftwareHsm, KeystoreError> {
        SoftwareHsm::open(&self.path(), &self.catalogue(), unlock).map_err(|error| match error {
            HsmError::Keystore(error) => error,
            other => panic!("{other}"),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn overwrite(&self, bytes: &[u8]) {
        fs::write(self.path(), bytes).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Changes text in the header and makes its digest right again, as an attacker would.
    fn forge_header(&self, from: &str, to: &str) {
        let bytes = self.bytes();
        let length =
            usize::try_from(u32::from_be_bytes(bytes[10..14].try_into().unwrap())).unwrap();
        let header = std::str::from_utf8(&bytes[14..14 + length]).unwrap();
        assert!(header.contains(from), "{header}");
        let header = header.replace(from, to);
        let length = u32::try_from(header.len()).unwrap().to_be_bytes();
        let mut forged = [&bytes[..10], &length, header.as_bytes()].concat();
        let digest = digest::digest(&digest::SHA256, &forged);
        forged.extend_from_slice(digest.as_ref());
        forged.extend_from_slice(&bytes[bytes.len() - content_length(&bytes)..]);
        self.overwrite(&forged);
    }
}

fn content_length(bytes: &[u8]) -> usize {
    let length = usize::try_from(u32::from_be_bytes(bytes[10..14].try_into().unwrap())).unwrap();
    bytes.len() - 14 - length - 32
}

const KEY: &str = "0f1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";

fn realm_id() -> RealmId {
    RealmId::new(Timestamp::from_unix_millis(1), [9; 10])
}

fn key() -> Unlock {
    Unlock::key_from_hex(KEY).unwrap()
}

fn issuer(number: u8) -> IssuerId {
    IssuerId::new(Timestamp::from_unix_millis(1), [number; 10])
}

fn card() -> RecordOwner {
    RecordOwner::Card(CardId::new(Timestamp::from_unix_millis(1), [1; 10]))
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn keys_survive_closing() {
    let place = Place::new();
    let hsm = place.create();
    assert!(!hsm.holds_keys().unwrap());
    let ca = hsm.create_certification_authority([1; 5], 7, Timestamp::from_unix_millis(1)).unwrap();
    let merchant_ca = hsm.create_merchant_authority(Timestamp::from_unix_millis(1)).unwrap();
    let keys = hsm.create_issuer(issuer(1), Timestamp::from_unix_millis(1)).unwrap();
    let master_key = *hsm.demo_keys(issuer(1), 1).unwrap().issuer_master_key.expose();
    let pan = "4111111111111111".parse().unwrap();
    let lookup = hsm.pan_lookup(issuer(1), &pan).unwrap();
    let record = hsm.seal_card_record(issuer(1), card(), b"record").unwrap();
    drop(hsm);

    let hsm = place.open().unwrap();
    assert_eq!(hsm.describe().realm, Realm::Demo);
    assert!(hsm.holds_keys().unwrap());
    assert_eq!(hsm.ca_public_key([1; 5], 7).unwrap(), ca);
    assert_eq!(hsm.merchant_ca_key().unwrap(), merchant_ca);
    assert_eq!(hsm.issuer_keys(issuer(1)).unwrap(), keys);
    assert_eq!(*hsm.demo_keys(issuer(1), 1).unwrap().issuer_master_key.expose(), master_key);
    assert_eq!(hsm.pan_lookup(issuer(1), &pan).unwrap(), lookup);
    let grant = DetokenizationGrant::Operator(OperatorGrant::new("ada", "test").unwrap());
    let opened = hsm.open_card_record(issuer(1), card(), &record, &grant).unwrap();
    assert_eq!(opened.expose(), b"record");
}

#[test]
fn every_cut_is_noticed() {
    let place = Place::new();
    place.create().create_issuer(issuer(1), Timestamp::from_unix_millis(1)).unwrap();
    let whole = place.bytes();
    for length in 0..whole.len() {
        place.overwrite(&whole[..length]);
        let error = place.open().unwrap_err();
        assert!(matches!(error, KeystoreError::Truncated(_)), "{length}: {error}");
    }
    place.overwrite(&whole);
    place.open().unwrap();
}

#[test]
fn every_changed_byte_is_noticed_and_named() {
    let place = Place::new();
    place.create().create_issuer(issuer(1), Timestamp::from_unix_millis(1)).unwrap();
    let whole = place.bytes();
    let content = whole.len() - content_length(&whole);
    for position in 0..whole.len() {
        let mut changed = whole.clone();
        changed[position] ^= 1;
        place.overwrite(&changed);
        let error = place.open().unwrap_err();
        let named = match position {
            0..8 => matches!(error, KeystoreError::NotAKeystore(_)),
            8..10 => matches!(error, KeystoreError::Version { supported: 4, .. }),
            10..14 => {
                matches!(error, KeystoreError::HeaderDamaged(_) | KeystoreError::Truncated(_))
            }
            _ if position < content => matches!(error, KeystoreError::HeaderDamaged(_)),
            _ => matches!(error, KeystoreError::ContentDamaged(_)),
        };
        assert!(named, "{position}: {error}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    place.overwrite(&longer);
    assert!(matches!(place.open(), Err(KeystoreError::ContentDamaged(_))));
}

#[test]
fn a_forged_header_is_refused() {
    let place = Place::new();
    drop(place.create_with(&key(), Realm::Production).unwrap());
    place.forge_header("production", "demo");
    assert!(matches!(place.open(), Err(KeystoreError::ContentDamaged(_))));
    place.forge_header("demo", "production");
    place.open().unwrap();
    let (own, other) = (realm_id(), RealmId::new(Timestamp::from_unix_millis(1), [8; 10]));
    assert_eq!(place.open().unwrap().describe().realm_id, own);
    place.forge_header(&own.to_string(), &other.to_string());
    assert!(matches!(place.open(), Err(KeystoreError::ContentDamaged(_))));
    place.forge_header(&other.to_string(), &own.to_string());
    place.forge_header("\"realm\"", "\"extra\":1,\"realm\"");
    assert!(matches!(place.open(), Err(KeystoreError::HeaderDamaged(_))));
}

#[test]
fn a_passphrase_opens_and_is_not_weakened() {
    let passphrase = |text: &str| Unlock::passphrase(text.to_owned());
    let place = Place::new();
    let short = place.create_with(&passphrase("elevenchars"), Realm::Demo);
    let expected = KeystoreError::PassphraseTooShort { minimum: 12 };
    assert_eq!(short.unwrap_err().to_string(), expected.to_string());
    assert!(!place.path().exists());

    let good = passphrase("correct horse battery staple");
    drop(place.create_with(&good, Realm::Demo).unwrap());
    place
        .open_with(&good)
        .unwrap()
        .create_issuer(issuer(1), Timestamp::from_unix_millis(1))
        .unwrap();
    place.open_with(&good).unwrap().issuer_keys(issuer(1)).unwrap();
    let wrong = place.open_with(&passphrase("correct horse battery stable"));
    assert!(matches!(wrong, Err(KeystoreError::WrongSecret { given: "passphrase", .. })));
    let other_kind = place.open();
    assert!(matches!(other_kind, Err(KeystoreError::UnlockKind { expected: "a passphrase", .. })));

    place.forge_header("\"memory_kib\":65536", "\"memory_kib\":8");
    let weakened = place.open_with(&good);
    assert!(matches!(weakened, Err(KeystoreError::Parameters { what: "Argon2id memory", .. })));
    place.forge_header("\"memory_kib\":8", "\"memory_kib\":4294967295");
    let exhausting = place.open_with(&good);
    assert!(matches!(exhausting, Err(KeystoreError::Parameters { what: "Argon2id memory", .. })));
}

#[test]
fn a_wrong_key_is_told_from_damage() {
    let place = Place::new();
    drop(place.create());
    let wrong = place.open_with(&Unlock::key_from_hex(&"0e".repeat(32)).unwrap());
    assert!(matches!(wrong, Err(KeystoreError::WrongSecret { given: "key", .. })));
    let other_kind = place.open_with(&Unlock::passphrase("correct horse battery".to_owned()));
    assert!(matches!(other_kind, Err(KeystoreError::UnlockKind { expected: "a key", .. })));
}

#[test]
fn only_the_owner_may_read() {
    let place = Place::new();
    let hsm = place.create();
    assert_eq!(mode(place.path()), 0o600);
    assert_eq!(mode(place.catalogue()), 0o600);
    hsm.create_issuer(issuer(1), Timestamp::from_unix_millis(1)).unwrap();
    assert_eq!(mode(place.catalogue()), 0o600, "also after a change");
    drop(hsm);
    for mode in [0o640, 0o604, 0o620, 0o602, 0o666] {
        fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = place.open().unwrap_err();
        assert!(matches!(error, KeystoreError::Permissions { mode: found, .. } if found == mode));
        let mends = format!("chmod 600 {:?}", place.path());
        assert!(error.to_string().ends_with(&mends), "{error}");
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    place.open().unwrap();
}

#[test]
fn says_what_is_or_is_not_there() {
    let place = Place::new();
    assert!(matches!(place.open(), Err(KeystoreError::NotFound(_))));
    drop(place.create());
    let before = place.bytes();
    let again = || place.create_with(&key(), Realm::Demo);
    assert!(matches!(again(), Err(HsmError::Catalogue(CatalogueError::Exists(_)))));
    fs::remove_file(place.catalogue()).unwrap();
    assert!(matches!(again(), Err(HsmError::Keystore(KeystoreError::Exists(_)))));
    assert_eq!(place.bytes(), before, "a keystore is written once");
    SoftwareHsm::finish(&place.path(), &place.catalogue(), &key()).unwrap();
    place.open().unwrap();
    let nowhere = place.directory.path().join("no/such/keystore");
    let failed = SoftwareHsm::create(
        &nowhere,
        &place.catalogue().join("x"),
        &key(),
        Realm::Demo,
        realm_id(),
    );
    assert!(matches!(failed, Err(HsmError::Keystore(KeystoreError::Io { .. }))));
}

/// Formats 1 to 3 held all keys in the keystore.
#[test]
fn an_old_keystore_is_refused_with_what_it_is() {
    let place = Place::new();
    drop(place.create());
    let mut old = place.bytes();
    old[9] = 3;
    place.overwrite(&old);
    let error = place.open().unwrap_err();
    assert!(matches!(error, KeystoreError::Version { version: 3, supported: 4, .. }));
    assert!(error.to_string().contains("use the tapfer that goes with it"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), start in 0..3) {
        let place = Place::new();
        let prefix: &[u8] = match start {
            0 => b"",
            1 => b"TAPFERKS",
            _ => b"TAPFERKS\x00\x04\x00\x00\x00\x40",
        };
        place.overwrite(&[prefix, &bytes].concat());
        prop_assert!(place.open().is_err());
    }
}
