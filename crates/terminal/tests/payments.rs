//! Whole payments at an armed terminal, with the cards of the golden transactions: what the platform
//! is asked, and what is left of the arming and for the merchant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod scripted;

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::{Infallible, TryCryptoRng, TryRng};
use scripted::Script;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::{AuthorizationId, Currency, Money, PaymentIntentId};
use tapfer_terminal::kernel8::{KernelConfiguration, MessageIdentifier};
use tapfer_terminal::{
    Arming, HostDecision, OnlinePayment, PaymentState, TapAction, TapEnd, Terminal,
    TerminalConfiguration,
};

/// Gives the bytes it was given, so that the terminal draws the file's key and number.
struct Scripted(VecDeque<u8>);

impl TryRng for Scripted {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("keys are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.0.pop_front().unwrap());
        Ok(())
    }
}

impl TryCryptoRng for Scripted {}

fn rng(script: &Script) -> Scripted {
    let key = script.of_terminal("kernel_private");
    Scripted(key.into_iter().chain(script.of_terminal("unpredictable_number")).collect())
}

/// A terminal makes keys whose point has the smaller y; the file's have either.
fn can_be_drawn(script: &Script) -> bool {
    let Ok(scalar) = script.of_terminal("kernel_private").try_into() else { return false };
    let drawn = PrivateKey::generate(&mut rng(script)).public_point();
    drawn == PrivateKey::from_bytes(&scalar).unwrap().public_point()
}

/// At least one transaction that is as wanted.
fn usable(wanted: impl Fn(&Script) -> bool) -> Vec<Script> {
    let found: Vec<Script> = Script::all().into_iter().filter(|one| wanted(one)).collect();
    assert!(!found.is_empty(), "the file has no such transaction");
    found
}

fn scripts(name: &str, status: u8) -> Script {
    let wanted =
        |one: &Script| one.name().contains(name) && one.status() == status && can_be_drawn(one);
    usable(wanted).pop().unwrap()
}

fn intent(script: &Script) -> PaymentIntentId {
    PaymentIntentId::new(script.now(), [3; 10])
}

fn authorization(script: &Script) -> AuthorizationId {
    AuthorizationId::new(script.now(), [4; 10])
}

/// PPSE with the one application of the file's cards.
fn directory(script: &Script) -> Vec<u8> {
    let aid = script.configuration().application_identifier;
    let entry = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &aid);
    let entry = tlv::encode(tags::DIRECTORY_ENTRY, &entry);
    let discretionary = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entry);
    let proprietary = tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &discretionary);
    let mut answer = tlv::encode(tags::FCI_TEMPLATE, &proprietary);
    answer.extend([0x90, 0x00]);
    answer
}

fn arming(script: &Script) -> Arming {
    Arming::new(intent(script), script.amount(), script.now().plus_seconds(60)).unwrap()
}

fn pay(script: &Script) -> TapEnd {
    let (sent, end) = pay_at(script.configuration(), script);
    assert_eq!(sent[1..], script.commands());
    end
}

/// Taps at a terminal that is set up like this; the commands that were sent, and the end.
fn pay_at(application: KernelConfiguration, script: &Script) -> (Vec<Vec<u8>>, TapEnd) {
    let terminal = Terminal::new(TerminalConfiguration::new(
        [application],
        Currency::EUR,
        vec![script.ca_public_key()],
    ));
    let armed = terminal.arm(arming(script)).unwrap();
    let mut tap = armed.tap(script.now()).unwrap();
    let mut answers = std::iter::once(directory(script)).chain(script.responses());
    let mut sent = Vec::new();
    let mut rng = rng(script);
    while let TapAction::Transmit(command) = tap.poll() {
        sent.push(command.encode().unwrap());
        let answer = answers.next().unwrap();
        tap = tap.handle_response(&answer, Duration::from_millis(5), &mut rng);
    }
    (sent, tap.finish())
}

fn online(script: &Script) -> Box<OnlinePayment> {
    match pay(script) {
        TapEnd::Online(payment) => payment,
        other => panic!("{}: {other:?}", script.name()),
    }
}

#[test]
fn the_platform_is_asked_for_exactly_what_the_card_signed() {
    let script = scripts("cvd_0", 0x30);
    let payment = online(&script);
    let request = payment.request();
    assert_eq!(request.payment_intent(), intent(&script));
    assert_eq!(request.amount(), script.amount());
    let tags_of = |bytes: &[u8]| -> Vec<Tag> {
        tlv::parse_unique(bytes).unwrap().iter().map(|object| object.tag).collect()
    };
    let wanted = [
        0x9F02, 0x9F03, 0x9F1A, 0x95, 0x5F2A, 0x9A, 0x9C, 0x9F37, 0x82, 0x9F36, 0x9F10, 0x9F26,
        0x9F27, 0x9F34, 0x9F33, 0x9F35, 0x5A, 0x5F34, 0x5F24, 0x84,
    ];
    assert_eq!(tags_of(request.chip_data()), wanted.map(Tag::new));
    let record = script.data_record();
    for object in tlv::parse(request.chip_data()).unwrap() {
        assert_eq!(tlv::find(&record, object.tag).unwrap(), Some(object.value));
    }
    let pan = tlv::find(&record, tags::APPLICATION_PAN).unwrap().unwrap();
    let digits: String = pan.iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(!format!("{payment:?}").contains(&digits[..12]), "card data in Debug");
}

#[test]
fn the_host_decides_and_the_terminal_is_unarmed() {
    let script = scripts("cvd_0", 0x30);
    let authorization = authorization(&script);
    let declined =
        HostDecision::Declined { authorization: Some(authorization), reason: "no funds".into() };
    let table = [
        (HostDecision::Approved { authorization }, PaymentState::Approved(authorization)),
        (
            declined,
            PaymentState::Declined {
                authorization: Some(authorization),
                reason: "no funds".into(),
            },
        ),
        (HostDecision::NoAnswer, PaymentState::Unknown),
    ];
    for (decision, state) in table {
        let (terminal, receipt) = online(&script).complete(decision);
        assert_eq!(receipt.state, state);
        assert_eq!((receipt.payment_intent, receipt.amount), (intent(&script), script.amount()));
        assert_eq!(receipt.application.as_deref(), Some("TEST"));
        assert_eq!(receipt.last_four.as_deref(), Some("0124"));
        // The next payment needs an arming of its own.
        assert!(terminal.arm(arming(&script)).is_ok());
    }
}

#[test]
fn a_decline_is_decided_on_the_spot() {
    let declined = |one: &Script| one.status() == 0x20 && can_be_drawn(one);
    for script in usable(declined) {
        let TapEnd::Decided { receipt, .. } = pay(&script) else { panic!("{}", script.name()) };
        let PaymentState::Declined { authorization: None, reason } = receipt.state else {
            panic!("{}", script.name());
        };
        let by_terminal = script.name().starts_with("tac_denial");
        let by_person = script.name() == "tac_denial_on_cvm_failed";
        let expected = match (by_terminal, by_person) {
            (_, true) => "the phone's owner must be verified",
            (true, false) => "the terminal declined: ",
            (false, false) => "the card declined",
        };
        assert!(reason.starts_with(expected), "{}: {reason}", script.name());
    }
}

/// That a card which answers with a TC all the same is refused is in the golden transactions.
#[test]
fn an_attended_terminal_never_offers_to_approve_alone() {
    for script in usable(|one| one.name().contains("offline_capable") || one.name() == "aip_010C") {
        let aid = script.configuration().application_identifier;
        let limit = Money::new(5_000, Currency::EUR);
        let attended = KernelConfiguration::attended(&aid, 276, limit).unwrap();
        let (sent, _) = pay_at(attended, &script);
        let generate = sent.last().unwrap();
        assert_eq!(generate[..3], [0x80, 0xAE, 0x80], "{}: P1 asks for an ARQC", script.name());
    }
}

#[test]
fn who_must_look_at_the_phone_may_tap_again() {
    let script = scripts("restart_2", 0x40);
    let TapEnd::Undecided { terminal, message, outcome, .. } = pay(&script) else {
        panic!("{}", script.name());
    };
    assert!([MessageIdentifier::SEE_PHONE, MessageIdentifier::TRY_AGAIN].contains(&message));
    assert!(outcome.is_some());
    assert_eq!(terminal.payment_intent(), intent(&script));
}
