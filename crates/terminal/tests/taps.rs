//! Whole taps, from the directory to the end, of a card that computes every answer itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod independent;
mod scripted;

use std::time::Duration;

use independent::oracle::TerminalSide;
use independent::{AID, Behaviour, Card, authority_key};
use rand_core::{Infallible, TryCryptoRng, TryRng};
use scripted::Script;
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tvr;
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::kernel8::{ErrorLevel1, KernelConfiguration, MessageIdentifier};
use tapfer_terminal::profile::TerminalProfile;
use tapfer_terminal::{
    Arming, PaymentState, Tap, TapAction, TapEnd, TapError, Terminal, TerminalConfiguration,
};

const SELECT: u8 = 0xA4;
const WRITE_DATA: u8 = 0x34;

struct Numbers(independent::seeded::Seeded);

impl TryRng for Numbers {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.iter_mut().for_each(|byte| *byte = self.0.next() as u8);
        Ok(())
    }
}

impl TryCryptoRng for Numbers {}

fn script() -> Script {
    Script::named("cvd_03_below_limit")
}

fn done(mut data: Vec<u8>) -> Vec<u8> {
    data.extend([0x90, 0x00]);
    data
}

fn directory() -> Vec<u8> {
    let entry = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &AID);
    let entry = tlv::encode(tags::DIRECTORY_ENTRY, &entry);
    let entries = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entry);
    let proprietary = tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &entries);
    done(tlv::encode(tags::FCI_TEMPLATE, &proprietary))
}

/// A tap for 12.34 EUR.
fn begin(configuration: TerminalConfiguration) -> Tap {
    let now = script().now();
    let amount = Money::new(1_234, Currency::EUR);
    let intent = PaymentIntentId::new(now, [7; 10]);
    let arming = Arming::new(intent, amount, now.plus_seconds(60)).unwrap();
    Terminal::new(configuration).arm(arming).unwrap().tap(now).unwrap()
}

/// Lets the card answer until the tap is over, or before the command for which `stops` says so.
fn present(tap: Tap, card: &mut Card, stops: impl Fn(&CommandApdu) -> bool) -> Tap {
    present_slowly(tap, card, Duration::from_millis(5), stops)
}

/// As [`present`], with every answer `delay` after its command.
fn present_slowly(
    mut tap: Tap,
    card: &mut Card,
    delay: Duration,
    stops: impl Fn(&CommandApdu) -> bool,
) -> Tap {
    let mut rng = Numbers(independent::seeded::Seeded::new(1));
    while let TapAction::Transmit(command) = tap.poll() {
        if stops(command) {
            break;
        }
        let answer = match (command.instruction, command.data.as_slice()) {
            (SELECT, name) if name == AID => done(card.fci()),
            (SELECT, _) => directory(),
            _ => card.answer(command),
        };
        tap = tap.handle_response(&answer, delay, &mut rng);
    }
    tap
}

const ATTENDED: &str = include_str!("../../../profiles/terminal/attended.toml");
/// What is shipped, and whether it checks for a relay.
const RELAY_CHECKS: [(&str, &str, bool); 4] = [
    ("attended", ATTENDED, false),
    ("pin-pad", include_str!("../../../profiles/terminal/pin-pad.toml"), true),
    ("transit", include_str!("../../../profiles/terminal/transit.toml"), true),
    ("vectors", include_str!("../../../profiles/terminal/vectors.toml"), false),
];

/// A terminal that is set up by the text of a profile, for the card here.
fn by_profile(text: &str) -> TerminalConfiguration {
    let profile: TerminalProfile = toml::from_str(text).unwrap();
    profile.check().unwrap();
    profile.configuration(&[AID.to_vec()], vec![authority_key()]).unwrap()
}

/// A terminal that writes two envelopes after GENERATE AC.
fn writing() -> TerminalConfiguration {
    let side = TerminalSide::with_everything(&script());
    let mut objects = side.config.clone();
    objects.insert(0xBF_8104, side.session[&0xBF_8104].clone());
    let objects = objects.iter().map(|(tag, value)| (Tag::new(*tag), value.as_slice()));
    let kernel = KernelConfiguration::from_data_objects(objects).unwrap();
    TerminalConfiguration::new([kernel], Currency::EUR, vec![authority_key()])
}

/// A tap at [`writing`], up to the command before which it is interrupted.
fn interrupted(behaviour: Behaviour, before: u8) -> Tap {
    let mut card = Card::new(&script(), behaviour);
    let tap = present(begin(writing()), &mut card, |command| command.instruction == before);
    assert!(matches!(tap.poll(), TapAction::Transmit(_)), "the tap was over before");
    tap
}

type Ending = fn(Tap) -> Tap;

/// Every way in which a tap can end although a command is still to be sent.
fn endings() -> [(&'static str, Ending); 4] {
    [
        ("a second card", Tap::handle_several_cards),
        ("given up", |tap| tap),
        ("card gone", |tap| tap.handle_no_answer(ErrorLevel1::Timeout)),
        ("garbled", |tap| {
            let mut rng = Numbers(independent::seeded::Seeded::new(2));
            tap.handle_response(&[0x90], Duration::ZERO, &mut rng)
        }),
    ]
}

/// The cryptogram was checked: the card counts the payment as made, so the terminal must as well, or
/// the next card pays a second time.
#[test]
fn what_the_kernel_decided_stands_however_writing_ends() {
    for (how, end) in endings() {
        let tap = end(interrupted(Behaviour::with_everything(), WRITE_DATA));
        match tap.finish() {
            TapEnd::Online(payment) => assert!(!payment.outcome().has_written_data()),
            other => panic!("{how}: {other:?}"),
        }
        let declining = Behaviour { cid: Some(0x00), ..Behaviour::with_everything() };
        let tap = end(interrupted(declining, WRITE_DATA));
        let TapEnd::Decided { receipt, .. } = tap.finish() else { panic!("{how}") };
        assert!(matches!(receipt.state, PaymentState::Declined { .. }), "{how}");
    }
}

/// Before that nothing is decided, and the payment waits for another tap.
#[test]
fn before_the_cryptogram_nothing_is_decided() {
    const GENERATE_AC: u8 = 0xAE;
    for (how, end) in endings() {
        let tap = end(interrupted(Behaviour::with_everything(), GENERATE_AC));
        let TapEnd::Undecided { message, error, .. } = tap.finish() else { panic!("{how}") };
        let expected = match how {
            "a second card" => (MessageIdentifier::PRESENT_ONE_CARD, Some(TapError::SeveralCards)),
            _ => (MessageIdentifier::TRY_AGAIN, None),
        };
        assert_eq!((message, error), expected, "{how}");
    }
}

/// The card's issuer certificate is number 1 of the authority E0: only that entry declines it.
#[test]
fn a_profile_that_names_the_issuers_certificate_declines_its_cards() {
    let listed = |entry: &str| {
        let text = ATTENDED
            .replace("revoked_certificates = []", &format!("revoked_certificates = [{entry}]"));
        assert!(entry.is_empty() || text.contains(entry));
        let mut card = Card::new(&script(), Behaviour::genuine());
        present(begin(by_profile(&text)), &mut card, |_| false).finish()
    };
    for other in [
        "",
        r#"{ rid = "F000000001", ca_index = "E0", serial = "000002" }"#,
        r#"{ rid = "F000000001", ca_index = "E1", serial = "000001" }"#,
        r#"{ rid = "F000000002", ca_index = "E0", serial = "000001" }"#,
    ] {
        assert!(matches!(listed(other), TapEnd::Online(_)), "{other}");
    }
    let end = listed(r#"{ rid = "F000000001", ca_index = "E0", serial = "000001" }"#);
    let TapEnd::Decided { receipt, outcome, .. } = end else { panic!("{end:?}") };
    assert!(matches!(receipt.state, PaymentState::Declined { .. }));
    assert!(outcome.tvr.unwrap().contains(tvr::LOCAL_AUTHENTICATION_FAILED));
}

/// EXCHANGE RELAY RESISTANCE DATA (`80 EA`) at the terminals with readers of their own, and what the
/// platform is told of it there. A terminal that makes no check says that, too.
#[test]
fn the_profiles_of_terminals_with_their_own_readers_check_for_a_relay() {
    let tap = |profile: &str, delay: Duration| {
        let mut card = Card::new(&script(), Behaviour::with_everything());
        let tap = present_slowly(begin(by_profile(profile)), &mut card, delay, |_| false);
        let checks = card.heard.iter().filter(|[instruction, ..]| *instruction == 0xEA).count();
        let TapEnd::Online(payment) = tap.finish() else { panic!("not asked online") };
        (checks, payment.outcome().tvr.unwrap())
    };
    for (name, profile, is_checked) in RELAY_CHECKS {
        let (checks, results) = tap(profile, Duration::from_millis(5));
        assert_eq!(checks, usize::from(is_checked), "{name}");
        assert_eq!(results.contains(tvr::RELAY_RESISTANCE_PERFORMED), is_checked, "{name}");
        assert_eq!(results.contains(tvr::RELAY_RESISTANCE_NOT_PERFORMED), !is_checked, "{name}");
        assert!(!results.contains(tvr::RELAY_TIME_LIMITS_EXCEEDED), "{name}");
        let (checks, results) = tap(profile, Duration::from_millis(60));
        assert_eq!(checks, if is_checked { 3 } else { 0 }, "{name}");
        assert_eq!(results.contains(tvr::RELAY_TIME_LIMITS_EXCEEDED), is_checked, "{name}");
    }
}

#[test]
fn a_profile_reads_and_writes_envelopes() {
    let text = ATTENDED
        .replace("tags_to_read = \"\"", "tags_to_read = \"9F8111\"")
        .replace("to_write = \"\"", "to_write = \"9F811303AABBCC\"");
    for (text, reads, stamp) in [(ATTENDED, 0, None), (&text, 1, Some(vec![0xAA, 0xBB, 0xCC]))] {
        let mut card = Card::new(&script(), Behaviour::with_everything());
        let tap = present(begin(by_profile(text)), &mut card, |_| false);
        let TapEnd::Online(payment) = tap.finish() else { panic!("not asked online") };
        assert_eq!(payment.outcome().has_written_data(), stamp.is_some());
        assert_eq!(card.written.remove(&tags::DATA_ENVELOPE_3), stamp);
        let read = card.heard.iter().filter(|[instruction, ..]| *instruction == 0x32);
        assert_eq!(read.count(), reads);
    }
}
