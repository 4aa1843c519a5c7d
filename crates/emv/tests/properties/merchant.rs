//! Merchant certificates and proofs.

use proptest::prelude::*;
use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::merchant::{
    MerchantCaKey, MerchantCertificate, MerchantCertificateError, MerchantNameError,
    MerchantPrivateKey, MerchantProofError, MerchantProofInput, MerchantSigner,
};
use tapfer_payment_types::Timestamp;

use super::seeded_random::SeededRandom;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-21T12:00:30Z")
}

fn key(seed: u64) -> MerchantPrivateKey {
    MerchantPrivateKey::generate(&mut SeededRandom::new(seed))
}

fn ca() -> (MerchantPrivateKey, MerchantCaKey) {
    let private = key(1);
    let public = MerchantCaKey::from(private.public_key());
    (private, public)
}

fn certificate(name: &str) -> MerchantCertificate {
    let mut certificate = MerchantCertificate {
        acquirer: [0x00, 0x00, 0x00, 0x12, 0x34, 0x56],
        merchant: *b"M0000000000042 ",
        terminal: *b"T0000001",
        expiry: CertificateDate { year: 2026, month: 11, day: 21 },
        hour: 12,
        minute: 0,
        serial: [1, 2, 3, 4, 5, 6],
        name: name.parse().unwrap(),
        public_key: key(2).public_key(),
        signature: [0; 64],
    };
    certificate.signature = ca().0.sign(&certificate.message()).unwrap();
    certificate
}

fn input() -> MerchantProofInput {
    MerchantProofInput {
        nonce: [1; 8],
        kernel_key_data: [2; 64],
        amount_authorized: [0, 0, 0, 0, 0x12, 0x34],
        amount_other: [0; 6],
        currency: [0x09, 0x78],
        country: [0x02, 0x76],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [3; 4],
        terminal: *b"T0000001",
    }
}

/// RFC 6979 A.2.5, P-256 with SHA-256, message "sample": another implementation's signature.
#[test]
fn signatures_are_those_of_rfc_6979() {
    let hex = |text: &str| data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap();
    let number = hex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
    let signer = MerchantPrivateKey::from_bytes(&number.clone().try_into().unwrap()).unwrap();
    assert_eq!(signer.to_bytes().expose().to_vec(), number);
    let point = hex(concat!(
        "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6",
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    ));
    assert_eq!(signer.public_key().bytes().to_vec(), point);
    let signature = hex(concat!(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    ));
    assert_eq!(signer.sign(b"sample").unwrap().to_vec(), signature);
}

#[test]
fn a_certificate_is_laid_out_as_the_table_says() {
    let bytes = certificate("Café").encode();
    let name = "Café".as_bytes();
    assert_eq!(bytes[..2], [0xA2, 0x00]);
    assert_eq!(bytes[2..8], [0x00, 0x00, 0x00, 0x12, 0x34, 0x56]);
    assert_eq!(bytes[8..23], *b"M0000000000042 ");
    assert_eq!(bytes[23..31], *b"T0000001");
    assert_eq!(bytes[31], 0x20);
    assert_eq!(bytes[32..38], [0x20, 0x26, 0x11, 0x21, 0x12, 0x00]);
    assert_eq!(bytes[38..44], [1, 2, 3, 4, 5, 6]);
    assert_eq!(bytes[44], 5);
    assert_eq!(&bytes[45..50], name);
    assert_eq!(bytes[50..114], key(2).public_key().bytes());
    assert_eq!(bytes.len(), 50 + 64 + 64);
    let longest = certificate(&"x".repeat(40)).encode();
    assert_eq!(longest.len(), MerchantCertificate::MAXIMUM_LENGTH);
}

#[test]
fn a_proof_message_is_laid_out_as_the_design_says() {
    let message = input().message();
    let (label, rest) = message.split_at(23);
    assert_eq!(label, b"tapfer-merchant-proof-1");
    let expected = [
        &[1; 8][..],
        &[2; 64],
        &[0, 0, 0, 0, 0x12, 0x34],
        &[0; 6],
        &[0x09, 0x78],
        &[0x02, 0x76],
        &[0x26, 0x11, 0x21],
        &[0],
        &[3; 4],
        b"T0000001",
    ];
    assert_eq!(rest, expected.concat());
}

#[test]
fn a_certificate_is_good_through_its_minute() {
    let (_, authority) = ca();
    let certificate = certificate("Shop");
    let verify = |time| certificate.verify(&authority, at(time)).map(|_| ());
    assert_eq!(verify("2026-11-21T12:00:59.999Z"), Ok(()));
    assert_eq!(verify("2026-11-21T12:01:00Z"), Err(MerchantCertificateError::Expired));
    assert_eq!(certificate.expires_at(), at("2026-11-21T12:01:00Z"));
}

/// The card answers an expired certificate otherwise than one of a stranger: a stranger's must not
/// count as expired.
#[test]
fn a_strangers_certificate_is_a_strangers_whenever_it_expires() {
    let stranger = MerchantCaKey::from(key(3).public_key());
    for time in ["2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z"] {
        let refused = certificate("Shop").verify(&stranger, at(time));
        assert_eq!(refused, Err(MerchantCertificateError::Signature));
    }
}

#[test]
fn fixed_fields_are_checked() {
    let bytes = certificate("Shop").encode();
    for (position, value, expected) in [
        (0, 0xA3, MerchantCertificateError::Format),
        (1, 0x01, MerchantCertificateError::Format),
        (2, 0x0A, MerchantCertificateError::Identifier),
        (8, 0x1F, MerchantCertificateError::Identifier),
        (30, 0x7F, MerchantCertificateError::Identifier),
        (31, 0x10, MerchantCertificateError::Suite),
        (34, 0x13, MerchantCertificateError::Date),
        (36, 0x24, MerchantCertificateError::Date),
        (37, 0x60, MerchantCertificateError::Date),
        (44, 0, MerchantCertificateError::Name(MerchantNameError::Length(0))),
        (44, 41, MerchantCertificateError::Name(MerchantNameError::Length(41))),
        (44, 255, MerchantCertificateError::Length(bytes.len())),
        (45, 0xFF, MerchantCertificateError::Name(MerchantNameError::Utf8)),
        (45, b'\n', MerchantCertificateError::Name(MerchantNameError::Unreadable)),
        (112, bytes[112] ^ 1, MerchantCertificateError::PublicKey),
    ] {
        let mut changed = bytes.clone();
        changed[position] = value;
        assert_eq!(MerchantCertificate::parse(&changed), Err(expected), "byte {position}");
    }
    for length in [0, 1, 30, 44, bytes.len() - 1] {
        let cut = MerchantCertificate::parse(&bytes[..length]);
        assert_eq!(cut, Err(MerchantCertificateError::Length(length)));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    let refused = MerchantCertificate::parse(&longer);
    assert_eq!(refused, Err(MerchantCertificateError::Length(longer.len())));
}

#[test]
fn every_field_of_a_proof_counts() {
    let trusted = certificate("Shop").verify(&ca().1, now()).unwrap();
    let proof = key(2).sign(&input().message()).unwrap();
    let proven = trusted.verify_proof(&input(), &proof).unwrap();
    assert_eq!(proven.certificate().name.as_str(), "Shop");
    assert_eq!(proven.identity(), certificate("Shop").identity());
    assert_eq!(proven.input(), &input());
    let changes: [fn(&mut MerchantProofInput); 9] = [
        |input| input.nonce[7] ^= 1,
        |input| input.kernel_key_data[63] ^= 1,
        |input| input.amount_authorized[5] ^= 1,
        |input| input.amount_other[5] ^= 1,
        |input| input.currency[1] ^= 1,
        |input| input.country[1] ^= 1,
        |input| input.date[2] ^= 1,
        |input| input.transaction_type ^= 1,
        |input| input.unpredictable_number[3] ^= 1,
    ];
    for change in changes {
        let mut changed = input();
        change(&mut changed);
        let refused = trusted.verify_proof(&changed, &proof);
        assert_eq!(refused, Err(MerchantProofError::Signature), "{changed:?}");
    }
}

#[test]
fn a_proof_under_another_name_or_key_is_refused() {
    let trusted = certificate("Shop").verify(&ca().1, now()).unwrap();
    let other_terminal = MerchantProofInput { terminal: *b"T0000002", ..input() };
    let proof = key(2).sign(&other_terminal.message()).unwrap();
    let refused = trusted.verify_proof(&other_terminal, &proof);
    assert_eq!(refused, Err(MerchantProofError::Terminal));
    let of_another_key = key(3).sign(&input().message()).unwrap();
    for proof in [of_another_key, [0; 64], [0xFF; 64]] {
        let refused = trusted.verify_proof(&input(), &proof);
        assert_eq!(refused, Err(MerchantProofError::Signature));
    }
}

/// Hardware gives s or n - s as it pleases; both are the same signer's.
#[test]
fn either_form_of_a_signature_is_taken() {
    let trusted = certificate("Shop").verify(&ca().1, now()).unwrap();
    let proof = key(2).sign(&input().message()).unwrap();
    let signature = p256::ecdsa::Signature::from_slice(&proof).unwrap();
    let other = p256::ecdsa::Signature::from_scalars(
        signature.r().to_bytes(),
        (-*signature.s()).to_bytes(),
    );
    assert!(trusted.verify_proof(&input(), &other.unwrap().to_bytes().into()).is_ok());
}

#[test]
fn a_key_prints_nothing() {
    assert_eq!(format!("{:?}", key(2)), "MerchantPrivateKey(..)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_certificate_is_read_back(name in "[A-Za-zäöü]{1,20}") {
        let certificate = certificate(&name);
        let parsed = MerchantCertificate::parse(&certificate.encode());
        prop_assert_eq!(parsed.as_ref(), Ok(&certificate));
        prop_assert!(parsed.unwrap().verify(&ca().1, now()).is_ok());
    }

    /// Whatever byte is changed, nobody is trusted.
    #[test]
    fn any_change_of_a_certificate_shows(position in any::<prop::sample::Index>(), change in 1_u8..) {
        let mut bytes = certificate("Shop").encode();
        let position = position.index(bytes.len());
        bytes[position] ^= change;
        if let Ok(parsed) = MerchantCertificate::parse(&bytes) {
            prop_assert_eq!(parsed.encode(), bytes);
            let refused = parsed.verify(&ca().1, now());
            prop_assert_eq!(refused, Err(MerchantCertificateError::Signature));
        }
    }

    #[test]
    fn any_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..260), honest in any::<bool>()
    ) {
        let mut bytes = bytes;
        if honest {
            let front = certificate("Shop").encode();
            for (to, from) in bytes.iter_mut().zip(&front[..45]) {
                *to = *from;
            }
        }
        if let Ok(parsed) = MerchantCertificate::parse(&bytes) {
            prop_assert_eq!(parsed.encode(), bytes);
        }
    }
}
