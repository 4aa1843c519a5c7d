//! Key blocks against the Python package `psec`, in the virtual environment that `./test` sets up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod python;

use data_encoding::HEXLOWER;
use getrandom::SysRng;
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rand_core::UnwrapErr;
use serde_json::{Value, json};
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose};
use tapfer_hsm::exchange::BINDING;
use tapfer_hsm::key_block::{
    Algorithm, Exportability, Header, KeyUsage, KeyVersion, ModeOfUse, OptionalBlock,
    ProtectionKey, Version, open, seal,
};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{PaymentHsm, Realm, SoftwareHsm};
use tapfer_payment_types::{IssuerId, RealmId, Secret, Timestamp};

const CASES: usize = 400;

/// A key, what protects it, and what is said of it; letters as the standard has them.
#[derive(Debug)]
struct Case {
    version: Version,
    protection: Vec<u8>,
    key: Vec<u8>,
    usage: String,
    algorithm: (char, Algorithm),
    mode: (char, ModeOfUse),
    key_version: String,
    exportability: (char, Exportability),
    blocks: Vec<(String, String)>,
}

impl Case {
    fn header(&self) -> Header {
        let block = |(name, text): &(String, String)| OptionalBlock::new(name, text).unwrap();
        Header {
            version: self.version,
            usage: KeyUsage::new(&self.usage).unwrap(),
            algorithm: self.algorithm.1,
            mode: self.mode.1,
            key_version: KeyVersion::new(&self.key_version).unwrap(),
            exportability: self.exportability.1,
            optional_blocks: self.blocks.iter().map(block).collect(),
        }
    }

    fn header_as_psec_says_it(&self) -> Value {
        json!({
            "version": self.version.letter().to_string(),
            "usage": self.usage,
            "algorithm": self.algorithm.0.to_string(),
            "mode": self.mode.0.to_string(),
            "key_version": self.key_version,
            "exportability": self.exportability.0.to_string(),
            "blocks": self.blocks,
        })
    }

    fn protection(&self) -> ProtectionKey {
        ProtectionKey::new(self.version, Secret::new(self.protection.clone())).unwrap()
    }

    fn question(&self) -> Value {
        let mut question = json!({
            "protection": HEXLOWER.encode(&self.protection),
            "key": HEXLOWER.encode(&self.key),
            "header": self.header_as_psec_says_it(),
        });
        if self.version == Version::D {
            let key = Secret::new(self.key.clone());
            let block = seal(&self.protection(), &self.header(), &key, &mut UnwrapErr(SysRng));
            question["block"] = block.unwrap().into();
        }
        question
    }

    fn check(&self, answer: &Value) {
        let opened = open(&self.protection(), answer["sealed"].as_str().unwrap()).unwrap();
        assert_eq!(opened.header, self.header());
        assert_eq!(*opened.key.expose(), self.key);
        if self.version == Version::D {
            assert_eq!(answer["opened"], HEXLOWER.encode(&self.key));
            assert_eq!(answer["header"], self.header_as_psec_says_it());
        }
    }
}

/// Protection key, algorithm, and a key of it.
type Keys = (Vec<u8>, (char, Algorithm), Vec<u8>);

fn any_keys(version: Version) -> BoxedStrategy<Keys> {
    let (lengths, algorithm) = match version {
        Version::D => (vec![16, 24, 32], ('A', Algorithm::Aes)),
        Version::B => (vec![16, 24], ('T', Algorithm::TripleDes)),
    };
    let symmetric = select(lengths.clone()).prop_flat_map(move |length| {
        let shorter: Vec<usize> = lengths.iter().copied().filter(|key| *key <= length).collect();
        let key = select(shorter).prop_flat_map(|length| vec(any::<u8>(), length));
        (vec(any::<u8>(), length), Just(algorithm), key)
    });
    // What is no cipher key has any length.
    let other = select(vec![
        ('H', Algorithm::Hmac),
        ('E', Algorithm::EllipticCurve),
        ('R', Algorithm::Rsa),
        ('S', Algorithm::Dsa),
    ]);
    let other = (vec(any::<u8>(), 16), other, vec(any::<u8>(), 1..300));
    prop_oneof![3 => symmetric, 1 => other].boxed()
}

fn any_mode() -> impl Strategy<Value = (char, ModeOfUse)> {
    select(vec![
        ('B', ModeOfUse::EncryptAndDecrypt),
        ('C', ModeOfUse::GenerateAndVerify),
        ('D', ModeOfUse::Decrypt),
        ('E', ModeOfUse::Encrypt),
        ('G', ModeOfUse::Generate),
        ('N', ModeOfUse::Unrestricted),
        ('S', ModeOfUse::Sign),
        ('T', ModeOfUse::SignAndDecrypt),
        ('V', ModeOfUse::Verify),
        ('X', ModeOfUse::Derive),
        ('Y', ModeOfUse::Variants),
    ])
}

fn any_exportability() -> impl Strategy<Value = (char, Exportability)> {
    select(vec![
        ('E', Exportability::UnderTrustedKey),
        ('N', Exportability::No),
        ('S', Exportability::Sensitive),
    ])
}

/// Up to five blocks, some of them longer than the short form of their length can say.
fn any_blocks() -> impl Strategy<Value = Vec<(String, String)>> {
    let texts = vec(prop_oneof![3 => "[ -~]{0,40}", 1 => "[ -~]{240,700}"], 5);
    (hash_set("[A-OQ-Z][A-Z0-9]", 0..6), texts)
        .prop_map(|(names, texts)| names.into_iter().zip(texts).collect())
}

fn any_case() -> impl Strategy<Value = Case> {
    select(vec![Version::B, Version::D, Version::D]).prop_flat_map(|version| {
        let names = ("[A-Z][0-9]", "[0-9A-Z]{2}");
        (any_keys(version), names, any_mode(), any_exportability(), any_blocks()).prop_map(
            move |(keys, (usage, key_version), mode, exportability, blocks)| {
                let (protection, algorithm, key) = keys;
                Case {
                    version,
                    protection,
                    key,
                    usage,
                    algorithm,
                    mode,
                    key_version,
                    exportability,
                    blocks,
                }
            },
        )
    })
}

#[test]
fn key_blocks_as_psec_has_them_in_both_directions() {
    let mut runner = TestRunner::deterministic();
    let strategy = any_case();
    let cases: Vec<Case> =
        (0..CASES).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let answers = python::ask("psec_key_blocks.py", cases.iter().map(Case::question).collect());
    cases.iter().zip(&answers).for_each(|(case, answer)| case.check(answer));
}

/// What `tapfer keys export` writes: psec opens it, and finds whose key it is beside what it knows itself.
#[test]
fn a_key_of_ours_opens_in_psec_with_what_binds_it() {
    let directory = tempfile::tempdir().unwrap();
    let now = Timestamp::from_unix_millis(1_795_262_400_000);
    let roots = RootKeys::new(Secret::new([1; 32]), Secret::new([2; 32]));
    let (catalogue, realm) = (directory.path().join("keys.json"), RealmId::new(now, [3; 10]));
    let vault = SoftwareVault::new(roots);
    let keys = SoftwareHsm::with_new_catalogue(vault, &catalogue, Realm::Demo, realm).unwrap();
    let issuer = IssuerId::new(now, [4; 10]);
    keys.create_issuer(issuer, now).unwrap();
    let protection = vec![5; 32];
    let key = || ProtectionKey::new(Version::D, Secret::new(protection.clone())).unwrap();
    let purposes = [KeyPurpose::IssuerMaster, KeyPurpose::CardRecords, KeyPurpose::CardPins];
    let names =
        purposes.map(|purpose| KeyName { owner: KeyOwner::Issuer(issuer), purpose, generation: 1 });
    let blocks =
        names.map(|name| keys.export_key_block(name, &key(), &mut UnwrapErr(SysRng)).unwrap());
    let questions = blocks.iter().map(|block| {
        let header = json!({
            "version": "D", "usage": "K0", "algorithm": "A", "mode": "B", "key_version": "00",
            "exportability": "E", "blocks": [],
        });
        let (protection, key) = (HEXLOWER.encode(&protection), HEXLOWER.encode(&[6; 16]));
        json!({ "protection": protection, "key": key, "header": header, "block": block })
    });
    let answers = python::ask("psec_key_blocks.py", questions.collect());
    for ((name, block), answer) in names.iter().zip(&blocks).zip(&answers) {
        let opened = open(&key(), block).unwrap();
        assert_eq!(answer["opened"], HEXLOWER.encode(opened.key.expose()));
        let found = answer["header"]["blocks"].as_array().unwrap();
        assert!(found.contains(&json!([BINDING, format!("TAPFER1 {name}")])), "{answer}");
        assert_eq!(answer["header"]["key_version"], "01");
    }
}
