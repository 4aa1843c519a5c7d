//! Certificates from a card, and a merchant's from a terminal: what is accepted is exactly what is written again, and no signature that
//! nobody made verifies.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_emv::tags;
use tapfer_payment_types::Timestamp;

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::from_bytes(&[0x42; 32]).unwrap());

/// Puts the fixed bytes of a certificate in front, which chance would take long to find.
fn completed(bytes: &[u8], fixed: &[u8], length: usize) -> Vec<u8> {
    let mut whole = [fixed, bytes].concat();
    whole.resize(length, 0x01);
    whole
}

fn issuer(bytes: &[u8]) {
    let _ = tapfer_emv::meaning::of(tags::ISSUER_CERTIFICATE, bytes, None);
    let Ok(certificate) = IssuerCertificate::parse(bytes) else { return };
    assert_eq!(certificate.encode(), bytes);
    let ca = CaPublicKey { rid: certificate.rid, index: certificate.ca_index, key: KEY.public_x() };
    assert!(certificate.verify(&ca, Timestamp::from_unix_millis(0)).is_err());
    let _ = certificate.matches_pan("6726599999999990124");
}

fn card(bytes: &[u8]) {
    let _ = tapfer_emv::meaning::of(tags::ICC_CERTIFICATE, bytes, None);
    let Ok(certificate) = IccCertificate::parse(bytes) else { return };
    assert_eq!(certificate.encode(), bytes);
    let _ = certificate.expires_at();
    let now = Timestamp::from_unix_millis(0);
    assert!(certificate.verify(&KEY.public_x(), &certificate.sda_hash, now).is_err());
}

fn merchant(bytes: &[u8]) {
    let Ok(certificate) = MerchantCertificate::parse(bytes) else { return };
    assert_eq!(certificate.encode(), bytes);
    assert!(bytes.len() <= MerchantCertificate::MAXIMUM_LENGTH);
    let ca = MerchantCaKey::from_bytes(&KEY.public_point()).unwrap();
    assert!(certificate.verify(&ca, Timestamp::from_unix_millis(0)).is_err());
}

/// A merchant certificate with the bytes as name, key and signature: identifiers, suite, expiry and a
/// length that fits stand in front.
fn merchant_completed(bytes: &[u8]) -> Vec<u8> {
    let Some(name_length) = bytes.len().checked_sub(64).filter(|length| *length <= 40) else {
        return bytes.to_vec();
    };
    let (name, signature) = bytes.split_at(name_length);
    let front = b"\xA2\x00\x00\x00\x00\x12\x34\x56M0000000000042 T0000001\x20";
    let rest = [0x20, 0x30, 0x12, 0x31, 0x23, 0x59, 1, 2, 3, 4, 5, 6];
    let length = [u8::try_from(name_length).unwrap()];
    [front.as_slice(), &rest, &length, name, &KEY.public_point(), signature].concat()
}

fuzz_target!(|bytes: &[u8]| {
    issuer(bytes);
    card(bytes);
    merchant(bytes);
    merchant(&merchant_completed(bytes));
    issuer(&completed(bytes, &[0x12, 0x00], 117));
    card(&completed(bytes, &[0x14, 0x00, 0x00], 145));
});
