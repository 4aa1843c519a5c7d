//! The terminal proves who it is, between final selection and GET PROCESSING OPTIONS. The card here goes
//! no further than that; a phone that checks the proof is in the wallet's tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use rand_core::{Infallible, TryCryptoRng, TryRng};
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::{
    MerchantCaKey, MerchantCertificate, MerchantPrivateKey, MerchantProofInput, MerchantSignature,
    MerchantSigner, MerchantSigningError, refused_credential,
};
use tapfer_emv::profile::PDOL;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::{Currency, Money, PaymentIntentId, Timestamp};
use tapfer_terminal::kernel8::{ErrorLevel1, KernelConfiguration, MessageIdentifier};
use tapfer_terminal::{
    Arming, MerchantCredential, TapAction, TapEnd, TapError, Terminal, TerminalConfiguration,
    WithoutProof,
};

const AID: [u8; 7] = [0xF0, 0, 0, 0, 1, 1, 1];
const NONCE: [u8; 8] = [9, 8, 7, 6, 5, 4, 3, 2];
/// A PDOL of a card that knows nothing of merchants.
const STANDARD_PDOL: [u8; 8] = [0x9F, 0x2B, 0x08, 0x9E, 0x40, 0x9F, 0x37, 0x04];

struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.try_next_u64()? as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.try_next_u64()?.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

/// A keystore that is locked.
#[derive(Debug)]
struct Locked;

impl MerchantSigner for Locked {
    fn sign(&self, _: &[u8]) -> Result<MerchantSignature, MerchantSigningError> {
        Err(MerchantSigningError("the keystore is locked".into()))
    }
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn ca() -> MerchantPrivateKey {
    MerchantPrivateKey::from_bytes(&[0x42; 32]).unwrap()
}

fn credential() -> MerchantCredential {
    let key = MerchantPrivateKey::from_bytes(&[0x43; 32]).unwrap();
    let mut certificate = MerchantCertificate {
        acquirer: [0, 0, 0, 0x12, 0x34, 0x56],
        merchant: *b"M0000000000042 ",
        terminal: *b"T0000001",
        expiry: CertificateDate { year: 2026, month: 11, day: 22 },
        hour: 0,
        minute: 0,
        serial: [1; 6],
        name: "Café Tapfer".parse().unwrap(),
        public_key: key.public_key(),
        signature: [0; 64],
    };
    certificate.signature = ca().sign(&certificate.message()).unwrap();
    MerchantCredential { certificate, signer: Arc::new(key), without_proof: WithoutProof::EndTap }
}

fn configuration(merchant: Option<MerchantCredential>) -> TerminalConfiguration {
    let limit = Money::new(5_000, Currency::EUR);
    let kernel = KernelConfiguration::attended(&AID, 276, limit).unwrap();
    TerminalConfiguration {
        merchant,
        ..TerminalConfiguration::new([kernel], Currency::EUR, Vec::new())
    }
}

fn ok(mut data: Vec<u8>) -> Vec<u8> {
    data.extend([0x90, 0x00]);
    data
}

fn directory() -> Vec<u8> {
    let entry = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &AID);
    let entry = tlv::encode(tags::DIRECTORY_ENTRY, &entry);
    let entries = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entry);
    let proprietary = tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &entries);
    ok(tlv::encode(tags::FCI_TEMPLATE, &proprietary))
}

fn application(pdol: &[u8]) -> Vec<u8> {
    let qualifier = tlv::encode(tags::CARD_QUALIFIER, &[2, 0, 0xFF, 0xFF, 0, 0, 0]);
    let mut proprietary = tlv::encode(tags::PDOL, pdol);
    tlv::write(&mut proprietary, tags::FCI_ISSUER_DISCRETIONARY_DATA, &qualifier);
    let mut fci = tlv::encode(tags::DF_NAME, &AID);
    tlv::write(&mut fci, tags::FCI_PROPRIETARY_TEMPLATE, &proprietary);
    ok(tlv::encode(tags::FCI_TEMPLATE, &fci))
}

/// A tap with these answers, after which the card leaves: what was sent, and the end.
fn tap(configuration: TerminalConfiguration, answers: &[Vec<u8>]) -> (Vec<CommandApdu>, TapEnd) {
    let intent = PaymentIntentId::new(now(), [7; 10]);
    let amount = Money::new(1_234, Currency::EUR);
    let arming = Arming::new(intent, amount, now().plus_seconds(60)).unwrap();
    let mut tap = Terminal::new(configuration).arm(arming).unwrap().tap(now()).unwrap();
    let mut answers = answers.iter();
    let (mut sent, mut rng) = (Vec::new(), Counter(1));
    while let TapAction::Transmit(command) = tap.poll() {
        sent.push(command.clone());
        tap = match answers.next() {
            Some(answer) => tap.handle_response(answer, Duration::from_millis(5), &mut rng),
            None => tap.handle_no_answer(ErrorLevel1::Transmission),
        };
    }
    (sent, tap.finish())
}

fn instructions(sent: &[CommandApdu]) -> Vec<u8> {
    sent.iter().map(|command| command.instruction).collect()
}

/// A value of the PDOL as GET PROCESSING OPTIONS carried it.
fn option(pdol: &[u8], sent: &CommandApdu, wanted: Tag) -> Vec<u8> {
    let values = tlv::parse_one(&sent.data).unwrap().value;
    let pieces = DataObjectList::parse(pdol).unwrap();
    let pieces = pieces.split(values).unwrap();
    pieces.iter().find(|(tag, _)| *tag == wanted).unwrap().1.to_vec()
}

fn error(end: TapEnd) -> (Option<TapError>, MessageIdentifier) {
    match end {
        TapEnd::Undecided { error, message, terminal, .. } => {
            assert_eq!(terminal.amount(), Money::new(1_234, Currency::EUR), "stays armed");
            (error, message)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_proof_is_about_exactly_what_the_card_is_asked() {
    let answers = [directory(), application(&PDOL), ok(NONCE.to_vec())];
    let (sent, _) = tap(configuration(Some(credential())), &answers);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52, 0xA8]);
    let presented = MerchantCertificate::parse(&sent[2].data).unwrap();
    let authority = MerchantCaKey::from(ca().public_key());
    let trusted = presented.verify(&authority, now()).unwrap();
    let value = |tag| option(&PDOL, &sent[3], tag);
    let input = MerchantProofInput {
        nonce: NONCE,
        kernel_key_data: value(tags::KERNEL_KEY_DATA).try_into().unwrap(),
        amount_authorized: value(tags::AMOUNT_AUTHORIZED).try_into().unwrap(),
        amount_other: value(tags::AMOUNT_OTHER).try_into().unwrap(),
        currency: value(tags::TRANSACTION_CURRENCY_CODE).try_into().unwrap(),
        country: value(tags::TERMINAL_COUNTRY_CODE).try_into().unwrap(),
        date: value(tags::TRANSACTION_DATE).try_into().unwrap(),
        transaction_type: value(tags::TRANSACTION_TYPE)[0],
        unpredictable_number: value(tags::UNPREDICTABLE_NUMBER).try_into().unwrap(),
        terminal: value(tags::TERMINAL_IDENTIFICATION).try_into().unwrap(),
    };
    assert_eq!(input.amount_authorized, [0, 0, 0, 0, 0x12, 0x34]);
    assert_eq!((input.currency, input.country), ([0x09, 0x78], [0x02, 0x76]));
    assert_eq!((input.date, input.terminal), ([0x26, 0x11, 0x21], *b"T0000001"));
    let proof = value(tags::MERCHANT_PROOF).try_into().unwrap();
    let proven = trusted.verify_proof(&input, &proof).unwrap();
    assert_eq!(proven.certificate().name.as_str(), "Café Tapfer");
}

#[test]
fn standard_cards_are_never_shown_a_certificate() {
    let answers = [directory(), application(&STANDARD_PDOL)];
    let (sent, _) = tap(configuration(Some(credential())), &answers);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0xA8]);
    let (sent, _) = tap(configuration(None), &[directory(), application(&PDOL)]);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0xA8]);
    assert_eq!(option(&PDOL, &sent[2], tags::MERCHANT_PROOF), [0; 64], "nothing is proven");
}

/// A phone that knows no such authority, or no such command, is asked without a proof, and told what was
/// presented: it compares that with what arrived.
#[test]
fn a_phone_that_does_not_know_the_authority_is_asked_unproven() {
    for status in [[0x6A, 0x88], [0x6D, 0x00], [0x69, 0x00]] {
        let answers = [directory(), application(&PDOL), status.to_vec()];
        let (sent, _) = tap(configuration(Some(credential())), &answers);
        assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52, 0xA8]);
        let said = option(&PDOL, &sent[3], tags::MERCHANT_PROOF);
        assert_eq!(said, refused_credential(&sent[2].data));
        assert_eq!(said[..32], [0; 32], "begins no signature");
        assert_eq!(option(&PDOL, &sent[3], tags::TERMINAL_IDENTIFICATION), b"T0000001");
    }
}

#[test]
fn a_phone_that_refuses_the_terminal_ends_the_tap() {
    let answers = [directory(), application(&PDOL), vec![0x69, 0x85]];
    let (sent, end) = tap(configuration(Some(credential())), &answers);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52]);
    let expected = (Some(TapError::TerminalRefused), MessageIdentifier::ERROR_OTHER_CARD);
    assert_eq!(error(end), expected);
}

#[test]
fn a_nonce_has_eight_bytes() {
    for length in [0, 7, 9, 64] {
        let answers = [directory(), application(&PDOL), ok(vec![1; length])];
        let (sent, end) = tap(configuration(Some(credential())), &answers);
        assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52], "{length}");
        assert_eq!(error(end).0, Some(TapError::Nonce));
    }
}

#[test]
fn a_key_that_cannot_be_used_ends_the_tap_or_leaves_it_unproven() {
    let locked = |without_proof| {
        let signer = Arc::new(Locked);
        configuration(Some(MerchantCredential { signer, without_proof, ..credential() }))
    };
    let answers = [directory(), application(&PDOL), ok(NONCE.to_vec()), application(&PDOL)];
    let (sent, end) = tap(locked(WithoutProof::EndTap), &answers);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52]);
    let (error, message) = error(end);
    assert_eq!(message, MessageIdentifier::PROCESSING_ERROR);
    assert!(error.unwrap().to_string().contains("the keystore is locked"));
    // The phone waits for a proof: the application is selected again, and not told of a merchant.
    let (sent, _) = tap(locked(WithoutProof::GoOn), &answers);
    assert_eq!(instructions(&sent), [0xA4, 0xA4, 0x52, 0xA4, 0xA8]);
    assert_eq!(option(&PDOL, &sent[4], tags::MERCHANT_PROOF), [0; 64]);
}

/// The card leaves after any answer: nothing is decided, the till stays armed, and says "again".
#[test]
fn a_card_that_leaves_on_the_way_may_come_back() {
    let answers = [directory(), application(&PDOL), ok(NONCE.to_vec())];
    for given in 0..=answers.len() {
        let (sent, end) = tap(configuration(Some(credential())), &answers[..given]);
        assert_eq!(sent.len(), given + 1);
        assert_eq!(error(end), (None, MessageIdentifier::TRY_AGAIN), "{given}");
    }
}
