//! Issuer and ICC certificates.

use proptest::prelude::*;
use tapfer_emv::certificate::{
    CaPublicKey, CertificateDate, CertificateError, IccCertificate, IssuerCertificate, sda_hash,
};
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::ecsdsa;
use tapfer_payment_types::Timestamp;

use super::seeded_random::{SeededRandom, three_keys};

const RID: [u8; 5] = [0xF0, 0x54, 0x41, 0x50, 0x46];
const NOW: &str = "2026-11-21T12:00:30Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn issuer_certificate(ca: &PrivateKey, issuer: &PrivateKey, seed: u64) -> IssuerCertificate {
    let mut certificate = IssuerCertificate {
        issuer_identifier: [0x99, 0x90, 0x12, 0xFF, 0xFF],
        expiry: CertificateDate { year: 2026, month: 11, day: 21 },
        serial: [1, 2, 3],
        rid: RID,
        ca_index: 1,
        public_key: issuer.public_x(),
        signature: [0; 64],
    };
    let message = certificate.message();
    certificate.signature = ecsdsa::sign(ca, &message, &mut SeededRandom::new(seed));
    certificate
}

fn icc_certificate(issuer: &PrivateKey, card: &PrivateKey, seed: u64) -> IccCertificate {
    let mut certificate = IccCertificate {
        expiry: CertificateDate { year: 2026, month: 11, day: 21 },
        hour: 12,
        minute: 0,
        serial: [1, 2, 3, 4, 5, 6],
        sda_hash: sda_hash(&[b"record"], b"", [1, 4]),
        public_key: card.public_x(),
        signature: [0; 64],
    };
    let message = certificate.message();
    certificate.signature = ecsdsa::sign(issuer, &message, &mut SeededRandom::new(seed));
    certificate
}

#[test]
fn certificates_are_good_through_their_last_day_and_minute() {
    let (ca, issuer, card) = three_keys(2);
    let authority = CaPublicKey { rid: RID, index: 1, key: ca.public_x() };
    let issued = issuer_certificate(&ca, &issuer, 3);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    assert_eq!(issued.verify(&authority, at("2026-11-21T23:59:59.999Z")), Ok(()));
    let next_day = issued.verify(&authority, at("2026-11-22T00:00:00Z"));
    assert_eq!(next_day, Err(CertificateError::Expired));

    let icc = icc_certificate(&issuer, &card, 4);
    let verify = |time| icc.verify(&issuer.public_x(), &icc.sda_hash, at(time));
    assert_eq!(verify("2026-11-21T12:00:59.999Z"), Ok(()));
    assert_eq!(verify("2026-11-21T12:01:00Z"), Err(CertificateError::Expired));
    assert_eq!(icc.expires_at(), at("2026-11-21T12:01:00Z"));
}

#[test]
fn each_check_of_a_certificate_has_its_own_error() {
    let (ca, issuer, card) = three_keys(5);
    let issued = issuer_certificate(&ca, &issuer, 6);
    let authority = CaPublicKey { rid: RID, index: 1, key: ca.public_x() };
    let other_rid = CaPublicKey { rid: [0; 5], ..authority };
    assert_eq!(issued.verify(&other_rid, now()), Err(CertificateError::Rid));
    let other_index = CaPublicKey { index: 2, ..authority };
    assert_eq!(issued.verify(&other_index, now()), Err(CertificateError::CaIndex));
    let other_key = CaPublicKey { key: card.public_x(), ..authority };
    assert_eq!(issued.verify(&other_key, now()), Err(CertificateError::Signature));
    let icc = icc_certificate(&issuer, &card, 7);
    let other_data = icc.verify(&issuer.public_x(), &[0; 32], now());
    assert_eq!(other_data, Err(CertificateError::SdaHash));
    let other_issuer = icc.verify(&ca.public_x(), &icc.sda_hash, now());
    assert_eq!(other_issuer, Err(CertificateError::Signature));
}

#[test]
fn fixed_fields_of_certificates_are_checked() {
    let (ca, issuer, card) = three_keys(8);
    let bytes = issuer_certificate(&ca, &issuer, 9).encode();
    for (position, value, expected) in [
        (0, 0x13, CertificateError::Format),
        (1, 0x01, CertificateError::Format),
        (2, 0xFF, CertificateError::IssuerIdentifier),
        (3, 0x9F, CertificateError::IssuerIdentifier),
        (5, 0xF1, CertificateError::IssuerIdentifier),
        (7, 0x11, CertificateError::Suite),
        (8, 0xFF, CertificateError::Date),
        (10, 0x13, CertificateError::Date),
        (11, 0x31, CertificateError::Date),
    ] {
        let mut changed = bytes.clone();
        changed[position] = value;
        assert_eq!(IssuerCertificate::parse(&changed), Err(expected), "byte {position}");
    }
    let bytes = icc_certificate(&issuer, &card, 10).encode();
    for (position, value, expected) in [
        (0, 0x12, CertificateError::Format),
        (2, 0x01, CertificateError::Suite),
        (5, 0x00, CertificateError::Date),
        (7, 0x24, CertificateError::Date),
        (8, 0x60, CertificateError::Date),
        (15, 0x00, CertificateError::Format),
        (16, 0x03, CertificateError::Format),
    ] {
        let mut changed = bytes.clone();
        changed[position] = value;
        assert_eq!(IccCertificate::parse(&changed), Err(expected), "byte {position}");
    }
}

#[test]
fn an_issuer_identifier_is_the_beginning_of_its_card_numbers() {
    let (ca, issuer, _) = three_keys(11);
    let mut certificate = issuer_certificate(&ca, &issuer, 12);
    assert!(certificate.matches_pan("9990123456789012"));
    assert!(!certificate.matches_pan("9990133456789012"));
    assert!(!certificate.matches_pan("99901"));
    certificate.issuer_identifier = [0x99, 0x9F, 0xFF, 0xFF, 0xFF];
    assert!(certificate.matches_pan("9990123456789012"));
    assert!(IssuerCertificate::parse(&certificate.encode()).is_ok(), "three digits are enough");
    certificate.issuer_identifier = [0x99, 0xFF, 0xFF, 0xFF, 0xFF];
    let two_digits = IssuerCertificate::parse(&certificate.encode());
    assert_eq!(two_digits, Err(CertificateError::IssuerIdentifier));
    certificate.issuer_identifier = [0x99, 0x90, 0x12, 0x34, 0x56];
    assert!(certificate.matches_pan("9990123456789012"));
    assert!(!certificate.matches_pan("9990123457789012"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_as_a_certificate_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(IssuerCertificate::parse(&bytes).is_err());
        prop_assert!(IccCertificate::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_issuer_certificate_fails(seed in any::<u64>(), position in 0_usize..117, change in 1_u8..) {
        let (ca, issuer, _) = three_keys(seed);
        let authority = CaPublicKey { rid: RID, index: 1, key: ca.public_x() };
        let certificate = issuer_certificate(&ca, &issuer, !seed);
        let mut bytes = certificate.encode();
        let parsed = IssuerCertificate::parse(&bytes).unwrap();
        prop_assert_eq!(parsed.verify(&authority, now()), Ok(()));
        prop_assert_eq!(parsed, certificate);
        bytes[position] ^= change;
        // What still parses is read back byte for byte, so nothing escapes the signature.
        if let Ok(parsed) = IssuerCertificate::parse(&bytes) {
            prop_assert_eq!(parsed.encode(), bytes);
            prop_assert!(parsed.verify(&authority, now()).is_err());
        }
    }

    #[test]
    fn a_changed_icc_certificate_fails(seed in any::<u64>(), position in 0_usize..145, change in 1_u8..) {
        let (_, issuer, card) = three_keys(seed);
        let certificate = icc_certificate(&issuer, &card, !seed);
        let mut bytes = certificate.encode();
        let parsed = IccCertificate::parse(&bytes).unwrap();
        prop_assert_eq!(parsed.verify(&issuer.public_x(), &certificate.sda_hash, now()), Ok(()));
        bytes[position] ^= change;
        if let Ok(parsed) = IccCertificate::parse(&bytes) {
            prop_assert_eq!(parsed.encode(), bytes);
            let verified = parsed.verify(&issuer.public_x(), &certificate.sda_hash, now());
            prop_assert!(verified.is_err());
        }
    }
}
