use tapfer_emv::curve::PublicPoint;
use tapfer_emv::merchant::{
    MerchantCertificate, MerchantCertificateError, MerchantPrivateKey, MerchantProofInput,
    MerchantSigner as _,
};
use tapfer_hsm::{
    HsmError, MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS, MerchantCertificateRequest, PaymentHsm,
};
use tapfer_payment_types::Timestamp;

use crate::now;

fn terminal_key() -> MerchantPrivateKey {
    MerchantPrivateKey::from_bytes(&[0x37; 32]).unwrap()
}

fn request(public_key: PublicPoint, expires_at: Timestamp) -> MerchantCertificateRequest {
    MerchantCertificateRequest {
        acquirer: [0, 0, 0, 0x12, 0x34, 0x56],
        merchant: *b"M00000000000042",
        terminal: *b"TILL0001",
        name: "Bäckerei Müller".parse().unwrap(),
        public_key,
        serial: [1, 2, 3, 4, 5, 6],
        expires_at,
        now: now(),
    }
}

fn in_a_day() -> MerchantCertificateRequest {
    request(terminal_key().public_key(), now().plus_seconds(86_400))
}

pub fn merchant_authority_is_made_once(hsm: &impl PaymentHsm) {
    assert!(matches!(hsm.merchant_ca_key(), Err(HsmError::UnknownMerchantAuthority)));
    let signed = hsm.sign_merchant_certificate(&in_a_day());
    assert!(matches!(signed, Err(HsmError::UnknownMerchantAuthority)));
    let made = hsm.create_merchant_authority(now()).unwrap();
    assert_eq!(hsm.merchant_ca_key().unwrap(), made);
    let again = hsm.create_merchant_authority(now());
    assert!(matches!(again, Err(HsmError::MerchantAuthorityExists)));
    assert_eq!(hsm.merchant_ca_key().unwrap(), made);
}

/// A phone that trusts the module's key believes the terminal, and nobody else's.
pub fn certified_terminal_proves_itself(hsm: &impl PaymentHsm) {
    let ca = hsm.create_merchant_authority(now()).unwrap();
    let certificate = hsm.sign_merchant_certificate(&in_a_day()).unwrap();
    let certificate = MerchantCertificate::parse(&certificate.encode()).unwrap();
    assert_eq!(certificate.name.as_str(), "Bäckerei Müller");
    assert_eq!((certificate.serial, certificate.terminal), ([1, 2, 3, 4, 5, 6], *b"TILL0001"));
    assert_eq!(certificate.expires_at().to_string(), "2026-11-22T12:35:00.000Z");
    let trusted = certificate.verify(&ca, now()).unwrap();
    let input = MerchantProofInput {
        nonce: [9; 8],
        kernel_key_data: [8; 64],
        amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
        amount_other: [0; 6],
        currency: [0x09, 0x78],
        country: [0x02, 0x76],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        terminal: *b"TILL0001",
    };
    let proof = terminal_key().sign(&input.message()).unwrap();
    assert!(trusted.verify_proof(&input, &proof).is_ok());
    let stranger = MerchantPrivateKey::from_bytes(&[0x38; 32]).unwrap();
    let expected = Err(MerchantCertificateError::Signature);
    assert_eq!(certificate.verify(&stranger.public_key().into(), now()).map(|_| ()), expected);
}

pub fn merchant_certificate_ends_in_bounds(hsm: &impl PaymentHsm) {
    hsm.create_merchant_authority(now()).unwrap();
    let key = terminal_key().public_key();
    let last = now().plus_seconds(MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS);
    for good in [now().plus_millis(1), last] {
        hsm.sign_merchant_certificate(&request(key, good)).unwrap();
    }
    for bad in [now(), now().plus_millis(-1), last.plus_millis(1)] {
        let refused = hsm.sign_merchant_certificate(&request(key, bad));
        assert!(matches!(refused, Err(HsmError::CertificateLife { maximum_days: 7 })));
    }
}

pub fn unreadable_identifier_is_refused(hsm: &impl PaymentHsm) {
    hsm.create_merchant_authority(now()).unwrap();
    let hexadecimal = MerchantCertificateRequest { acquirer: [0xAA; 6], ..in_a_day() };
    let control = MerchantCertificateRequest { terminal: [7; 8], ..in_a_day() };
    for bad in [hexadecimal, control] {
        let refused = hsm.sign_merchant_certificate(&bad);
        let expected = MerchantCertificateError::Identifier;
        assert!(matches!(refused, Err(HsmError::MerchantCertificate(error)) if error == expected));
    }
}
