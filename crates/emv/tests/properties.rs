//! What must hold for every key, message and byte string.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::convert::Infallible;

use proptest::prelude::*;
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use tapfer_emv::certificate::{
    CaPublicKey, CertificateDate, CertificateError, IccCertificate, IssuerCertificate, sda_hash,
};
use tapfer_emv::channel::{ChannelError, SecureChannel};
use tapfer_emv::cryptogram::{CryptogramInput, application_cryptogram, verify};
use tapfer_emv::curve::{CurveError, PrivateKey, PublicPoint, PublicX};
use tapfer_emv::ecsdsa;
use tapfer_emv::iad::{
    IAD_MAC_OFFSET, IadError, IssuerApplicationData, VerificationMethod, VerificationResults,
};
use tapfer_emv::keys::{CardDigits, IssuerMasterKey, KeyClass, KeyIndex, TokenKey};
use tapfer_emv::mac;
use tapfer_payment_types::{PanSequenceNumber, Timestamp, TokenPan};

/// SHA-256 in counter mode over a seed: repeatable, and as good as random for these tests.
struct SeededRandom {
    seed: u64,
    blocks: u64,
}

impl SeededRandom {
    fn new(seed: u64) -> Self {
        Self { seed, blocks: 0 }
    }
}

impl TryRng for SeededRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            self.blocks += 1;
            let counter = [self.seed.to_be_bytes(), self.blocks.to_be_bytes()].concat();
            chunk.copy_from_slice(&Sha256::digest(counter)[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRandom {}

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

/// Certification authority, issuer and card.
fn three_keys(seed: u64) -> (PrivateKey, PrivateKey, PrivateKey) {
    let mut rng = SeededRandom::new(seed);
    (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng))
}

#[test]
fn numbers_outside_the_group_are_no_keys() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: [u8; 32] =
        data_encoding::HEXLOWER.decode(order.as_bytes()).unwrap().try_into().unwrap();
    for bytes in [[0; 32], order, [0xFF; 32]] {
        assert_eq!(PrivateKey::from_bytes(&bytes).err(), Some(CurveError::Scalar));
    }
    assert_eq!(PublicX::from_bytes(&[0xFF; 32]), Err(CurveError::XCoordinate));
    assert_eq!(PublicPoint::from_bytes(&[1; 64]), Err(CurveError::Point));
}

#[test]
fn a_blinding_factor_that_blinds_nothing_is_refused() {
    let (_, kernel, card) = three_keys(1);
    let kernel_point = PublicPoint::from_bytes(&kernel.public_point()).unwrap();
    let mut one = [0; 32];
    one[31] = 1;
    let order_less_one = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550";
    let order_less_one = data_encoding::HEXLOWER.decode(order_less_one.as_bytes()).unwrap();
    for factor in [[0; 32], one, order_less_one.try_into().unwrap(), [0xFF; 32]] {
        let opened = SecureChannel::card_with_blinding_factor(&card, &kernel_point, &factor);
        assert_eq!(opened.err(), Some(ChannelError::BlindingFactor));
    }
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
    certificate.issuer_identifier = [0x99, 0x90, 0x12, 0x34, 0x56];
    assert!(certificate.matches_pan("9990123456789012"));
    assert!(!certificate.matches_pan("9990123457789012"));
}

#[test]
fn a_used_up_counter_ends_the_session() {
    let mut channel = SecureChannel::from_session_keys([1; 16], [2; 16], 0xFFFE, 0xFFFE);
    channel.encrypt_record(b"the last one").unwrap();
    assert_eq!(channel.encrypt_record(b"over"), Err(ChannelError::CounterExhausted));
    assert_eq!(channel.decrypt_record(b"over"), Err(ChannelError::CounterExhausted));
    assert_eq!(channel.seal_read_data(b"over"), Err(ChannelError::CounterExhausted));
    let exhausted = channel.open_read_data(b"not over before the MAC");
    assert_eq!(exhausted, Err(ChannelError::CounterExhausted));
    assert_eq!(channel.open_read_data(b"short"), Err(ChannelError::TooShort));
    assert_eq!(channel.encrypt_write_data(b"over"), Err(ChannelError::CounterExhausted));
}

#[test]
fn a_key_index_counts_hours_from_one() {
    let index = |time: &str, counter| KeyIndex::at(time.parse().unwrap(), counter);
    assert_eq!(index("2026-01-01T00:59:59Z", 0).unwrap().to_string(), "6000100");
    assert_eq!(index("2028-12-31T23:00:00Z", 99).unwrap().to_string(), "8878499");
    assert!(index("2026-01-01T00:00:00Z", 100).is_err());
    for text in ["", "600010", "60001000", "6000000", "6878500", "60001A0", "+600100"] {
        assert!(text.parse::<KeyIndex>().is_err(), "{text}");
    }
    for bytes in [[0x16, 0, 1, 0], [6, 0, 0, 0], [6, 0x87, 0x85, 0], [6, 0, 0x0A, 0]] {
        assert!(KeyIndex::from_bytes(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn issuer_application_data_of_others_is_refused() {
    let data = IssuerApplicationData {
        derivation_key_index: 1,
        results: VerificationResults {
            method: VerificationMethod::DeviceUnlock,
            screen_on: true,
            unlocked: true,
            key_class: KeyClass::Unverified,
            merchant_proven: false,
            relay_checked: false,
            integrity_verdict: 0,
        },
        key_index: "6000100".parse().unwrap(),
        policy_version: 1,
        iad_mac: [0xAA; 8],
    };
    let bytes = data.encode();
    assert_eq!(bytes[usize::from(IAD_MAC_OFFSET)..], [0xAA; 8]);
    assert_eq!(IssuerApplicationData::parse(&bytes[..31]), Err(IadError::Length));
    for (position, value, expected) in [
        (0, 0x20, IadError::Length),
        (2, 0x12, IadError::CryptogramVersion),
        (3, 0x03, IadError::VerificationResults),
        (4, 0x01, IadError::VerificationResults),
        (5, 0x00, IadError::VerificationResults),
        (6, 0x02, IadError::VerificationResults),
        (7, 0x80, IadError::VerificationResults),
        (9, 0x16, IadError::KeyIndex),
        (16, 0x01, IadError::Reserved),
        (23, 0x01, IadError::Reserved),
    ] {
        let mut changed = bytes;
        changed[position] = value;
        assert_eq!(IssuerApplicationData::parse(&changed), Err(expected), "byte {position}");
    }
}

#[test]
fn key_stages_depend_on_everything_that_names_them() {
    let token_key = TokenKey::new([7; 16]);
    let index: KeyIndex = "6000100".parse().unwrap();
    let key = |class, index| *token_key.limited_use_key(class, index).session_key(1).expose();
    let first = key(KeyClass::Unverified, index);
    assert_ne!(first, key(KeyClass::Verified, index));
    assert_ne!(first, key(KeyClass::Unverified, "6000101".parse().unwrap()));
    let limited_use_key = token_key.limited_use_key(KeyClass::Unverified, index);
    assert_ne!(limited_use_key.session_key(1).expose(), limited_use_key.session_key(2).expose());

    let token: TokenPan = "4111111111111111".parse().unwrap();
    let master = IssuerMasterKey::new([9; 16]);
    let sequence = PanSequenceNumber::new(1).unwrap();
    let digits = CardDigits::new(token.expose(), sequence).unwrap();
    assert_eq!(master.token_key(&token, sequence).expose(), master.card_key(&digits).expose());
    let other = master.token_key(&token, PanSequenceNumber::ZERO);
    assert_ne!(other.expose(), master.card_key(&digits).expose());
    for text in ["", "1234567", "12345678901234567890", "12345678A"] {
        assert!(CardDigits::new(text, sequence).is_err(), "{text}");
    }
}

#[test]
fn a_mac_over_parts_is_the_mac_over_the_whole() {
    // NIST SP 800-38B, AES-128 example 3.
    let key = [
        0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f,
        0x3c,
    ];
    let message =
        data_encoding::HEXLOWER.decode(b"6bc1bee22e409f96e93d7e117393172aae2d8a57").unwrap();
    let expected = data_encoding::HEXLOWER.decode(b"7d85449ea6ea19c823a7bf78837dfade").unwrap();
    let (left, right) = message.split_at(5);
    assert_eq!(mac::aes_cmac(&key, &[left, b"", right]).as_slice(), expected);
    assert_eq!(mac::aes_cmac_8(&key, &[&message]).as_slice(), &expected[..8]);
}

fn any_index() -> impl Strategy<Value = KeyIndex> {
    (0_u8..10, 1_u16..=8784, 0_u8..100)
        .prop_map(|(year, hour, counter)| format!("{year}{hour:04}{counter:02}").parse().unwrap())
}

fn any_results() -> impl Strategy<Value = VerificationResults> {
    let method = prop_oneof![
        Just(VerificationMethod::None),
        Just(VerificationMethod::DeviceUnlock),
        Just(VerificationMethod::Pin)
    ];
    (method, any::<[bool; 5]>(), any::<u8>()).prop_map(|(method, flags, integrity_verdict)| {
        let [screen_on, unlocked, verified, merchant_proven, relay_checked] = flags;
        let key_class = if verified { KeyClass::Verified } else { KeyClass::Unverified };
        VerificationResults {
            method,
            screen_on,
            unlocked,
            key_class,
            merchant_proven,
            relay_checked,
            integrity_verdict,
        }
    })
}

fn any_issuer_application_data() -> impl Strategy<Value = IssuerApplicationData> {
    (any::<u8>(), any_results(), any_index(), 0_u32..0x0100_0000, any::<[u8; 8]>()).prop_map(
        |(derivation_key_index, results, key_index, policy_version, iad_mac)| {
            IssuerApplicationData {
                derivation_key_index,
                results,
                key_index,
                policy_version,
                iad_mac,
            }
        },
    )
}

fn input_with(issuer_application_data: Vec<u8>, counter: u16) -> CryptogramInput {
    CryptogramInput {
        amount_authorized: [0, 0, 0, 0, 0x10, 0],
        amount_other: [0; 6],
        terminal_country: [2, 0x76],
        tvr: [0; 5],
        currency: [9, 0x78],
        date: [0x26, 0x11, 0x21],
        transaction_type: 0,
        unpredictable_number: [1, 2, 3, 4],
        aip: [1, 4],
        application_transaction_counter: counter,
        issuer_application_data,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn generated_keys_have_the_smaller_y(seed in any::<u64>()) {
        let key = PrivateKey::generate(&mut SeededRandom::new(seed));
        let point = key.public_point();
        // (p+1)/2, Book E 8.8.
        let half = "7fffffff80000000800000000000000000000000800000000000000000000000";
        let half = data_encoding::HEXLOWER.decode(half.as_bytes()).unwrap();
        prop_assert!(point[32..] < half[..]);
        let x = key.public_x();
        prop_assert_eq!(&point[..32], x.bytes());
        let again = PrivateKey::from_bytes(key.to_bytes().expose()).unwrap();
        prop_assert_eq!(again.public_point(), point);
        prop_assert_eq!(PublicPoint::from_bytes(&point).unwrap().bytes(), point);
    }

    #[test]
    fn signatures_of_any_key_verify(key in any::<[u8; 32]>(), message in any::<Vec<u8>>(), seed in any::<u64>()) {
        // Not generated: y of half of these keys is the larger one.
        prop_assume!(PrivateKey::from_bytes(&key).is_ok());
        let key = PrivateKey::from_bytes(&key).unwrap();
        let signature = ecsdsa::sign(&key, &message, &mut SeededRandom::new(seed));
        prop_assert_eq!(ecsdsa::verify(&key.public_x(), &message, &signature), Ok(()));
    }

    #[test]
    fn a_changed_signature_message_or_key_fails(
        seed in any::<u64>(), message in prop::collection::vec(any::<u8>(), 1..80),
        position in any::<prop::sample::Index>(), change in 1_u8..
    ) {
        let (key, other, _) = three_keys(seed);
        let signature = ecsdsa::sign(&key, &message, &mut SeededRandom::new(!seed));
        let mut changed = signature;
        changed[position.index(64)] ^= change;
        prop_assert!(ecsdsa::verify(&key.public_x(), &message, &changed).is_err());
        let mut changed = message.clone();
        changed[position.index(message.len())] ^= change;
        prop_assert!(ecsdsa::verify(&key.public_x(), &changed, &signature).is_err());
        prop_assert!(ecsdsa::verify(&other.public_x(), &message, &signature).is_err());
    }

    #[test]
    fn any_bytes_as_a_signature_are_answered(x in any::<[u8; 32]>(), left in any::<[u8; 32]>(), right in any::<[u8; 32]>()) {
        if let Ok(key) = PublicX::from_bytes(&x) {
            for signature in [[left, right], [left, [0; 32]], [[0; 32], right], [left, [0xFF; 32]]] {
                let signature = signature.concat().try_into().unwrap();
                prop_assert!(ecsdsa::verify(&key, b"message", &signature).is_err());
            }
        }
    }

    #[test]
    fn both_ends_of_a_channel_agree(seed in any::<u64>(), records in prop::collection::vec(any::<Vec<u8>>(), 0..5)) {
        let (_, kernel_key, card_key) = three_keys(seed);
        let kernel_point = PublicPoint::from_bytes(&kernel_key.public_point()).unwrap();
        let rng = &mut SeededRandom::new(!seed);
        let (mut card, sent) = SecureChannel::card(&card_key, &kernel_point, rng).unwrap();
        let (mut kernel, factor) = SecureChannel::kernel(&kernel_key, &sent).unwrap();
        prop_assert_eq!(factor.check(&card_key.public_x()), Ok(()));
        prop_assert_eq!(factor.check(&kernel_key.public_x()), Err(ChannelError::BlindingFactor));
        for record in records {
            let encrypted = card.encrypt_record(&record).unwrap();
            prop_assert_eq!(kernel.decrypt_record(&encrypted).unwrap(), record.clone());
            let answer = card.seal_read_data(&record).unwrap();
            prop_assert_eq!(kernel.open_read_data(&answer).unwrap(), record.clone());
            let (command, expected) = kernel.encrypt_write_data(&record).unwrap();
            prop_assert_eq!(card.decrypt_write_data(&command).unwrap(), (record, expected));
        }
        prop_assert_eq!(card.eda_mac(&[1; 8], &[2; 8]), kernel.eda_mac(&[1; 8], &[2; 8]));
    }

    #[test]
    fn changed_card_key_data_never_passes(seed in any::<u64>(), position in 0_usize..64, change in 1_u8..) {
        let (_, kernel_key, card_key) = three_keys(seed);
        let kernel_point = PublicPoint::from_bytes(&kernel_key.public_point()).unwrap();
        let rng = &mut SeededRandom::new(!seed);
        let (_, mut sent) = SecureChannel::card(&card_key, &kernel_point, rng).unwrap();
        sent[position] ^= change;
        match SecureChannel::kernel(&kernel_key, &sent) {
            Ok((_, factor)) => prop_assert!(factor.check(&card_key.public_x()).is_err()),
            Err(error) => prop_assert_eq!(error, ChannelError::BlindedKey),
        }
    }

    #[test]
    fn changed_read_data_is_refused(plain in any::<Vec<u8>>(), position in any::<prop::sample::Index>(), change in 1_u8..) {
        let channel = || SecureChannel::from_session_keys([1; 16], [2; 16], 0x8003, 0);
        let mut answer = channel().seal_read_data(&plain).unwrap();
        let length = answer.len();
        answer[position.index(length)] ^= change;
        prop_assert_eq!(channel().open_read_data(&answer), Err(ChannelError::Mac));
    }

    #[test]
    fn messages_never_reuse_a_key_stream(message in prop::collection::vec(any::<u8>(), 16..64)) {
        let mut channel = SecureChannel::from_session_keys([1; 16], [2; 16], 0x8000, 0);
        let first = channel.encrypt_record(&message).unwrap();
        prop_assert_ne!(channel.encrypt_record(&message).unwrap(), first);
    }

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

    #[test]
    fn a_key_index_is_read_back(index in any_index()) {
        prop_assert_eq!(KeyIndex::from_bytes(index.to_bytes()), Ok(index));
        prop_assert_eq!(index.to_string().parse(), Ok(index));
        prop_assert_eq!(index.to_bytes()[0] >> 4, 0);
    }

    #[test]
    fn any_bytes_as_a_key_index_are_answered(bytes in any::<[u8; 4]>()) {
        if let Ok(index) = KeyIndex::from_bytes(bytes) {
            prop_assert_eq!(index.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_time_has_a_key_index(millis in any::<i64>(), counter in 0_u8..100) {
        prop_assert!(KeyIndex::at(Timestamp::from_unix_millis(millis), counter).is_ok());
    }

    #[test]
    fn issuer_application_data_is_read_back(data in any_issuer_application_data()) {
        prop_assert_eq!(IssuerApplicationData::parse(&data.encode()), Ok(data));
    }

    #[test]
    fn any_change_of_issuer_application_data_shows(
        data in any_issuer_application_data(), position in 0_usize..32, change in 1_u8..
    ) {
        let mut bytes = data.encode();
        bytes[position] ^= change;
        match IssuerApplicationData::parse(&bytes) {
            Ok(parsed) => {
                prop_assert_eq!(parsed.encode(), bytes);
                prop_assert_ne!(parsed, data);
            }
            Err(_) => prop_assert!(position != 1, "any derivation key index is one"),
        }
    }

    #[test]
    fn any_bytes_as_issuer_application_data_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = IssuerApplicationData::parse(&bytes);
    }

    #[test]
    fn only_the_cards_own_cryptogram_is_proof(
        key in any::<[u8; 16]>(), counter in any::<u16>(), data in any_issuer_application_data(),
        position in 0_usize..8, change in 1_u8..
    ) {
        let session_key = TokenKey::new(key).session_key(counter);
        let input = input_with(data.encode().to_vec(), counter);
        let received = application_cryptogram(&session_key, &input.encode());
        let oracle = |bytes: &[u8]| application_cryptogram(&session_key, bytes);
        let proof = verify(&input, &received, oracle).unwrap();
        prop_assert_eq!(proof.application_transaction_counter(), counter);

        let mut changed = received;
        changed[position] ^= change;
        prop_assert!(verify(&input, &changed, oracle).is_err());
        let mut other = input;
        other.amount_authorized[5] ^= change;
        prop_assert!(verify(&other, &received, oracle).is_err());
    }
}
