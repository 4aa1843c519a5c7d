//! Signed configurations, audit heads and successions: whatever text is signed, a device takes it or leaves
//! it, and what it takes it will not go back behind.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tapfer_emv::configuration::KnownConfiguration;
use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{
    Audience, AuditHead, Configuration, KeySuccession, SignedConfiguration, SignedDocument,
};
use tapfer_payment_types::messages::HexBytes;

static KEY: LazyLock<MerchantPrivateKey> =
    LazyLock::new(|| MerchantPrivateKey::from_bytes(&[7; 32]).unwrap());

fn sign(purpose: DocumentPurpose, document: &str) -> SignedDocument {
    SignedDocument {
        document: document.to_owned(),
        key: HexBytes(KEY.public_key().bytes().to_vec()),
        signature: HexBytes(KEY.sign(&purpose.message(document.as_bytes())).unwrap().to_vec()),
    }
}

fn read_as_every_message(json: &str) {
    let _ = serde_json::from_str::<SignedConfiguration>(json);
    let _ = serde_json::from_str::<KnownConfiguration>(json);
    let _ = serde_json::from_str::<AuditHead>(json);
    let _ = serde_json::from_str::<KeySuccession>(json);
    if let Ok(audience) = json.parse::<Audience>() {
        assert_eq!(audience.to_string(), json);
    }
}

fuzz_target!(|input: (&str, &str, i64)| {
    let (text, succession, now) = input;
    read_as_every_message(text);
    let now = Timestamp::from_unix_millis(now);
    let mut offered = SignedConfiguration {
        configuration: sign(DocumentPurpose::Configuration, text),
        successions: vec![sign(DocumentPurpose::Configuration, succession)],
    };
    // What stands inside is signed too, so that the checks behind it are reached.
    if let Ok(mut inner) = serde_json::from_str::<Configuration>(text) {
        inner.audit_key = HexBytes(KEY.public_key().bytes().to_vec());
        inner.audit_head = sign(DocumentPurpose::AuditHead, &inner.audit_head.document);
        offered.configuration =
            sign(DocumentPurpose::Configuration, &serde_json::to_string(&inner).unwrap());
    }
    let Ok((known, configuration)) = KnownConfiguration::first(&offered, now) else { return };
    assert_eq!(known.key, DocumentKey::from_bytes(&KEY.public_key().bytes()).unwrap());
    assert!(configuration.is_well_formed() && !known.has_expired(now));
    // The same once more is taken, and the version before it is not.
    assert_eq!(known.accept(&offered, now).unwrap().0, known);
    let older = Configuration { version: configuration.version - 1, ..configuration };
    offered.configuration =
        sign(DocumentPurpose::Configuration, &serde_json::to_string(&older).unwrap());
    assert!(known.accept(&offered, now).is_err());
});
