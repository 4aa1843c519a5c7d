use tapfer_emv::certificate::{
    CertificateDate, CertificateError, IccCertificate, IssuerCertificate,
};
use tapfer_emv::curve::PublicX;
use tapfer_hsm::{
    HsmError, IccCertificateRequest, IssuerCertificateRequest,
    MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS, MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS, PaymentHsm,
};
use tapfer_payment_types::Timestamp;

use crate::{RID, issuer, now};

const CA_INDEX: u8 = 0xA1;

fn issuer_request(expiry: CertificateDate) -> IssuerCertificateRequest {
    IssuerCertificateRequest {
        issuer: issuer(1),
        rid: RID,
        ca_index: CA_INDEX,
        issuer_identifier: [0x99, 0x90, 0x77, 0xFF, 0xFF],
        expiry,
        serial: [0, 0, 1],
        now: now(),
    }
}

/// The phone's key is any point on the curve: here an issuer's.
fn icc_request(public_key: PublicX, expires_at: Timestamp) -> IccCertificateRequest {
    IccCertificateRequest {
        issuer: issuer(1),
        public_key,
        sda_hash: [0x5D; 32],
        serial: [0, 0, 0, 0, 0, 9],
        expires_at,
        now: now(),
    }
}

fn next_year() -> CertificateDate {
    CertificateDate { year: 2027, month: 12, day: 31 }
}

pub fn authority_is_made_once(hsm: &impl PaymentHsm) {
    let made = hsm.create_certification_authority(RID, CA_INDEX, now()).unwrap();
    assert_eq!((made.rid, made.index), (RID, CA_INDEX));
    assert_eq!(hsm.ca_public_key(RID, CA_INDEX).unwrap(), made);
    let again = hsm.create_certification_authority(RID, CA_INDEX, now());
    assert!(matches!(again, Err(HsmError::AuthorityExists { index: CA_INDEX })));
    assert_ne!(hsm.create_certification_authority(RID, 0xA2, now()).unwrap().key, made.key);
    assert_ne!(hsm.create_certification_authority([1; 5], CA_INDEX, now()).unwrap().key, made.key);
    assert_eq!(hsm.ca_public_key(RID, CA_INDEX).unwrap(), made);
}

pub fn issuer_is_made_once(hsm: &impl PaymentHsm) {
    let made = hsm.create_issuer(issuer(1), now()).unwrap();
    assert_eq!((made.issuer, made.derivation_key_index), (issuer(1), 1));
    assert_eq!(hsm.issuer_keys(issuer(1)).unwrap(), made);
    let again = hsm.create_issuer(issuer(1), now());
    assert!(matches!(again, Err(HsmError::IssuerExists(id)) if id == issuer(1)));
    assert_ne!(hsm.create_issuer(issuer(2), now()).unwrap().public_key, made.public_key);
    assert_eq!(hsm.issuer_keys(issuer(1)).unwrap(), made);
}

pub fn chain_verifies(hsm: &impl PaymentHsm) {
    let ca = hsm.create_certification_authority(RID, CA_INDEX, now()).unwrap();
    let keys = hsm.create_issuer(issuer(1), now()).unwrap();
    let certificate = hsm.issue_issuer_certificate(&issuer_request(next_year())).unwrap();
    let certificate = IssuerCertificate::parse(&certificate.encode()).unwrap();
    certificate.verify(&ca, now()).unwrap();
    assert_eq!(certificate.public_key, keys.public_key);
    assert_eq!((certificate.expiry, certificate.serial), (next_year(), [0, 0, 1]));
    assert!(certificate.matches_pan("9990770996775434"));

    let phone = hsm.create_issuer(issuer(2), now()).unwrap().public_key;
    let expires_at = now().plus_seconds(86_400);
    let certificate = hsm.sign_icc_certificate(&icc_request(phone, expires_at)).unwrap();
    let certificate = IccCertificate::parse(&certificate.encode()).unwrap();
    certificate.verify(&keys.public_key, &[0x5D; 32], now()).unwrap();
    assert_eq!((certificate.public_key, certificate.serial), (phone, [0, 0, 0, 0, 0, 9]));
    assert_eq!(certificate.expires_at().to_string(), "2026-11-22T12:35:00.000Z");

    let other = hsm.ca_public_key(RID, CA_INDEX).unwrap().key;
    let refused = certificate.verify(&other, &[0x5D; 32], now());
    assert_eq!(refused, Err(CertificateError::Signature));
}

pub fn issuer_certificate_ends_in_bounds(hsm: &impl PaymentHsm) {
    hsm.create_certification_authority(RID, CA_INDEX, now()).unwrap();
    hsm.create_issuer(issuer(1), now()).unwrap();
    let after = |seconds| CertificateDate::of(now().plus_seconds(seconds));
    let last = MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS;
    for good in [after(0), after(last)] {
        hsm.issue_issuer_certificate(&issuer_request(good)).unwrap();
    }
    for bad in [after(-86_400), after(last + 86_400)] {
        let refused = hsm.issue_issuer_certificate(&issuer_request(bad));
        assert!(matches!(refused, Err(HsmError::CertificateLife { maximum_days: 3660 })));
    }
    let no_date = CertificateDate { year: 2027, month: 2, day: 30 };
    let refused = hsm.issue_issuer_certificate(&issuer_request(no_date));
    assert!(matches!(refused, Err(HsmError::Certificate(CertificateError::Date))), "{refused:?}");
}

pub fn icc_certificate_ends_in_bounds(hsm: &impl PaymentHsm) {
    let phone = hsm.create_issuer(issuer(1), now()).unwrap().public_key;
    let last = now().plus_seconds(MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS);
    for good in [now().plus_millis(1), last] {
        hsm.sign_icc_certificate(&icc_request(phone, good)).unwrap();
    }
    for bad in [now(), now().plus_millis(-1), last.plus_millis(1)] {
        let refused = hsm.sign_icc_certificate(&icc_request(phone, bad));
        assert!(matches!(refused, Err(HsmError::CertificateLife { maximum_days: 7 })));
    }
}

pub fn malformed_issuer_identifier_is_refused(hsm: &impl PaymentHsm) {
    hsm.create_certification_authority(RID, CA_INDEX, now()).unwrap();
    hsm.create_issuer(issuer(1), now()).unwrap();
    for issuer_identifier in [[0xFF; 5], [0x99, 0xF9, 0xFF, 0xFF, 0xFF], [0xAA; 5]] {
        let request = IssuerCertificateRequest { issuer_identifier, ..issuer_request(next_year()) };
        let refused = hsm.issue_issuer_certificate(&request);
        let expected = CertificateError::IssuerIdentifier;
        assert!(matches!(refused, Err(HsmError::Certificate(error)) if error == expected));
    }
}

pub fn unknown_keys_are_named(hsm: &impl PaymentHsm) {
    let request = issuer_request(next_year());
    let unknown = hsm.issue_issuer_certificate(&request);
    assert!(matches!(unknown, Err(HsmError::UnknownIssuer(id)) if id == issuer(1)));
    hsm.create_issuer(issuer(1), now()).unwrap();
    let unknown = hsm.issue_issuer_certificate(&request);
    assert!(matches!(unknown, Err(HsmError::UnknownAuthority { index: CA_INDEX })));
    let unknown = hsm.ca_public_key(RID, CA_INDEX);
    assert!(matches!(unknown, Err(HsmError::UnknownAuthority { index: CA_INDEX })));
}
