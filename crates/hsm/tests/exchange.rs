//! Keys that leave and come as key blocks: whose they are stays with them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord};
use tapfer_hsm::exchange::{BINDING, ExchangeError, Origin};
use tapfer_hsm::key_block::{
    Algorithm, Exportability, Header, KeyUsage, KeyVersion, ModeOfUse, OptionalBlock,
    ProtectionKey, Version, open, seal,
};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{PaymentHsm, Realm, SoftwareHsm};
use tapfer_payment_types::{IssuerId, RealmId, Secret, Timestamp};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);

struct Place {
    keys: SoftwareHsm,
    _directory: TempDir,
}

fn issuer(number: u8) -> KeyOwner {
    KeyOwner::Issuer(IssuerId::new(NOW, [number; 10]))
}

fn protection() -> ProtectionKey {
    ProtectionKey::new(Version::D, Secret::new(vec![9; 32])).unwrap()
}

impl Place {
    /// A realm with two issuers.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let roots = RootKeys::new(Secret::new([1; 32]), Secret::new([2; 32]));
        let (vault, realm) = (SoftwareVault::new(roots), RealmId::new(NOW, [3; 10]));
        let catalogue = directory.path().join("keys.json");
        let keys = SoftwareHsm::with_new_catalogue(vault, &catalogue, Realm::Demo, realm).unwrap();
        for number in [1, 2] {
            keys.create_issuer(IssuerId::new(NOW, [number; 10]), NOW).unwrap();
        }
        Self { keys, _directory: directory }
    }

    fn export(&self, purpose: KeyPurpose, generation: u8) -> Result<String, ExchangeError> {
        let name = KeyName { owner: issuer(1), purpose, generation };
        self.keys.export_key_block(name, &protection(), &mut UnwrapErr(SysRng))
    }

    fn import(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        block: (&str, Origin),
    ) -> Result<KeyRecord, ExchangeError> {
        self.keys.import_key_block(owner, purpose, &protection(), block, NOW)
    }
}

/// A key for HMAC in a block as another system writes it.
fn foreign(exportability: Exportability, blocks: &[(&str, &str)]) -> String {
    let block = |(name, text): &(&str, &str)| OptionalBlock::new(name, text).unwrap();
    let header = Header {
        version: Version::D,
        usage: KeyUsage::HMAC,
        algorithm: Algorithm::Hmac,
        mode: ModeOfUse::GenerateAndVerify,
        key_version: KeyVersion::NONE,
        exportability,
        optional_blocks: blocks.iter().map(block).collect(),
    };
    seal(&protection(), &header, &Secret::new(vec![4; 32]), &mut UnwrapErr(SysRng)).unwrap()
}

/// Keys for three purposes have the same header: usage `M7`, algorithm `H`, mode `C`.
#[test]
fn attack_key_block_of_one_key_taken_for_another() {
    let place = Place::new();
    let block = place.export(KeyPurpose::CardPins, 1).unwrap();
    for origin in [Origin::Tapfer, Origin::Foreign] {
        for (owner, purpose) in
            [(issuer(2), KeyPurpose::CardPins), (issuer(2), KeyPurpose::IssuerMaster)]
        {
            let refused = place.import(owner, purpose, (&block, origin)).unwrap_err();
            assert!(matches!(refused, ExchangeError::OtherKey { .. }), "{refused}");
        }
    }
    // Whose it is stands under the block's MAC.
    let forged = block.replace("card-pins", "card-pin2");
    assert_ne!(forged, block);
    assert!(open(&protection(), &forged).is_err());
    let taken = place.import(issuer(1), KeyPurpose::CardPins, (&block, Origin::Tapfer)).unwrap();
    assert_eq!(taken.name.generation, 2);

    let records = place.export(KeyPurpose::CardRecords, 1).unwrap();
    let refused = place.import(issuer(2), KeyPurpose::CardRecords, (&records, Origin::Foreign));
    assert!(refused.unwrap_err().to_string().contains("card-records 1"));
}

#[test]
fn a_block_that_does_not_say_whose_it_is_has_to_be_named_as_foreign() {
    let place = Place::new();
    // Somebody else may use the same identifier for something else.
    let others: [&[(&str, &str)]; 3] = [&[], &[("HM", "21")], &[(BINDING, "something else")]];
    for blocks in others {
        let block = foreign(Exportability::UnderTrustedKey, blocks);
        let import = |origin| place.import(issuer(1), KeyPurpose::CardPins, (&block, origin));
        let refused = import(Origin::Tapfer).unwrap_err();
        assert!(matches!(refused, ExchangeError::Unbound { .. }), "{refused}");
        import(Origin::Foreign).unwrap();
    }
    for text in
        ["TAPFER1", "TAPFER1 platform card-pins one", "TAPFER1 nobody card-pins 1", "TAPFER2"]
    {
        let block = foreign(Exportability::UnderTrustedKey, &[(BINDING, text)]);
        let taken = place.import(issuer(1), KeyPurpose::CardPins, (&block, Origin::Tapfer));
        assert!(taken.is_err(), "{text}");
    }
}

#[test]
fn a_key_that_must_not_leave_again_does_not() {
    let place = Place::new();
    let take = |exportability| {
        let block = foreign(exportability, &[]);
        let record =
            place.import(issuer(1), KeyPurpose::CardPins, (&block, Origin::Foreign)).unwrap();
        record.name.generation
    };
    let (kept, free) = (take(Exportability::No), take(Exportability::Sensitive));
    let refused = place.export(KeyPurpose::CardPins, kept).unwrap_err();
    assert!(matches!(refused, ExchangeError::NotExportable(_)), "{refused}");
    place.export(KeyPurpose::CardPins, free).unwrap();
    place.export(KeyPurpose::CardPins, 1).unwrap();
    // The file remembers.
    place.keys.follow_catalogue(None).unwrap();
    let records = place.keys.key_records().unwrap();
    let kept =
        records.iter().filter(|record| !record.exportable).map(|record| record.name.generation);
    assert_eq!(kept.collect::<Vec<_>>(), [2]);
}
