//! The terminal above entry point and kernel: armed or not, which application, and what becomes of the
//! arming. A whole payment with a phone that really signs is in the wallet's tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use std::time::Duration;

use proptest::prelude::*;
use rand_core::{Infallible, TryCryptoRng, TryRng};
use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_payment_types::{Currency, Money, PaymentIntentId, Timestamp};
use tapfer_terminal::kernel8::{ErrorLevel1, KernelConfiguration, MessageIdentifier};
use tapfer_terminal::{
    Armed, Arming, ArmingError, NotTappedError, Tap, TapAction, TapEnd, TapError, Terminal,
    TerminalConfiguration, Unarmed,
};

const NOT_FOUND: [u8; 2] = [0x6A, 0x82];
const FIRST: [u8; 7] = [0xF0, 0, 0, 0, 1, 1, 1];
const SECOND: [u8; 7] = [0xF0, 0, 0, 0, 1, 1, 2];

/// Counts, so that every draw differs.
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

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn euros(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn terminal(limit: Option<Money>) -> Terminal<Unarmed> {
    let application = KernelConfiguration::attended(&FIRST[..6], 276, euros(5_000)).unwrap();
    let mut configuration = TerminalConfiguration::new([application], Currency::EUR, Vec::new());
    configuration.applications[0].contactless_transaction_limit = limit;
    Terminal::new(configuration)
}

fn arming(amount: Money) -> Arming {
    let intent = PaymentIntentId::new(now(), [7; 10]);
    Arming::new(intent, amount, now().plus_seconds(60)).unwrap()
}

fn armed(minor: i64) -> Terminal<Armed> {
    terminal(None).arm(arming(euros(minor))).unwrap()
}

fn ok(mut data: Vec<u8>) -> Vec<u8> {
    data.extend([0x90, 0x00]);
    data
}

fn directory(entries: &[(&[u8], u8)]) -> Vec<u8> {
    let entry = |(aid, priority): &(&[u8], u8)| {
        let mut value = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, aid);
        tlv::write(&mut value, tags::APPLICATION_PRIORITY_INDICATOR, &[*priority]);
        tlv::write(&mut value, tags::KERNEL_IDENTIFIER, &[0x08]);
        tlv::encode(tags::DIRECTORY_ENTRY, &value)
    };
    let entries: Vec<u8> = entries.iter().flat_map(entry).collect();
    let discretionary = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entries);
    let proprietary = tlv::encode(tags::FCI_PROPRIETARY_TEMPLATE, &discretionary);
    ok(tlv::encode(tags::FCI_TEMPLATE, &proprietary))
}

/// An application that Kernel 8 takes, as far as SELECT goes.
fn application(aid: &[u8]) -> Vec<u8> {
    let mut fci = tlv::encode(tags::DF_NAME, aid);
    tlv::write(&mut fci, tags::CARD_QUALIFIER, &[2, 0, 0xFF, 0xFF, 0, 0, 0]);
    tlv::write(&mut fci, tags::PDOL, &[0x9F, 0x2B, 0x08, 0x9E, 0x40]);
    ok(tlv::encode(tags::FCI_TEMPLATE, &fci))
}

/// Answers until the tap is over, and gives the commands that were sent.
fn play(terminal: Terminal<Armed>, answers: &[Vec<u8>]) -> (Vec<CommandApdu>, TapEnd) {
    let mut tap: Tap = terminal.tap(now()).unwrap();
    let mut sent = Vec::new();
    let mut rng = Counter(1);
    for answer in answers {
        let TapAction::Transmit(command) = tap.poll() else { break };
        sent.push(command.clone());
        tap = tap.handle_response(answer, Duration::from_millis(5), &mut rng);
    }
    (sent, tap.finish())
}

fn undecided(end: TapEnd) -> (Terminal<Armed>, MessageIdentifier) {
    match end {
        TapEnd::Undecided { terminal, message, .. } => (terminal, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn amounts_that_cannot_be_asked_for_do_not_arm() {
    let intent = PaymentIntentId::new(now(), [7; 10]);
    for minor in [-1, 1_000_000_000_000] {
        let refused = Arming::new(intent, euros(minor), now().plus_seconds(60));
        assert_eq!(refused.unwrap_err(), ArmingError::Amount(euros(minor)));
    }
    assert_eq!(terminal(None).arm(arming(euros(0))).unwrap_err().error, ArmingError::ZeroAmount);
    let empty = Terminal::new(TerminalConfiguration::new([], Currency::EUR, Vec::new()));
    let refused = empty.arm(arming(euros(100))).unwrap_err().error;
    assert_eq!(refused, ArmingError::NoApplication);
    let refused = |limit, amount| terminal(Some(limit)).arm(arming(amount)).unwrap_err().error;
    let (amount, limit) = (euros(2_501), euros(2_500));
    assert_eq!(refused(limit, amount), ArmingError::AboveContactlessLimit { amount, limit });
    assert!(terminal(Some(limit)).arm(arming(limit)).is_ok());
}

/// 4999 of anything is below "5000", and would need nobody: the limits count in their currency alone,
/// also where there is no contactless limit to compare with.
#[test]
fn attack_no_verification_limit_bypass_by_currency_at_the_terminal() {
    for code in ["JPY", "KWD", "USD"] {
        let amount = Money::new(4_999, code.parse().unwrap());
        for limit in [None, Some(euros(2_500))] {
            let refused = terminal(limit).arm(arming(amount)).unwrap_err().error;
            assert_eq!(refused, ArmingError::Currency { amount, limits: Currency::EUR });
            assert!(
                refused
                    .to_string()
                    .contains(&format!("limits are in EUR and say nothing about {amount}"))
            );
        }
    }
    assert!(terminal(None).arm(arming(euros(4_999))).is_ok());
}

#[test]
fn a_cancelled_terminal_is_unarmed() {
    let unarmed: Terminal<Unarmed> = armed(100).cancel();
    assert_eq!(unarmed.arm(arming(euros(200))).unwrap().amount(), euros(200));
}

#[test]
fn an_arming_ends_with_its_time() {
    let last = now().plus_seconds(60).plus_millis(-1);
    assert!(armed(100).tap(last).is_ok());
    let late = armed(100).tap(now().plus_seconds(60)).err().expect("nobody came in time");
    assert_eq!(late.error, NotTappedError::Expired(now().plus_seconds(60)));
    assert_eq!(late.payment_intent, PaymentIntentId::new(now(), [7; 10]));
    let unarmed: Terminal<Unarmed> = late.terminal;
    assert!(unarmed.arm(arming(euros(100))).is_ok());
}

/// Whenever the reader sees a second card: nothing more is sent, nothing is decided, the till waits on.
#[test]
fn one_card_only() {
    let (terminal, message) = undecided(armed(100).several_cards());
    assert_eq!(message, MessageIdentifier::PRESENT_ONE_CARD);
    assert_eq!(terminal.amount(), euros(100));
    let answers = [directory(&[(&FIRST, 1)]), application(&FIRST)];
    for given in 0..=answers.len() {
        let mut tap = armed(100).tap(now()).unwrap();
        for answer in &answers[..given] {
            tap = tap.handle_response(answer, Duration::ZERO, &mut Counter(2));
        }
        let tap = tap.handle_several_cards();
        assert!(matches!(tap.poll(), TapAction::Finished));
        let TapEnd::Undecided { terminal, message, error, .. } = tap.finish() else { panic!() };
        assert_eq!(message, MessageIdentifier::PRESENT_ONE_CARD);
        assert_eq!(error, Some(TapError::SeveralCards));
        assert_eq!(terminal.amount(), euros(100));
    }
}

#[test]
fn the_first_application_is_tried_and_then_the_next() {
    let answers = [
        directory(&[(&SECOND, 2), (&FIRST, 1)]),
        NOT_FOUND.to_vec(),
        application(&SECOND),
        NOT_FOUND.to_vec(),
    ];
    let (sent, end) = play(armed(100), &answers);
    let selected: Vec<_> = sent.iter().filter(|one| one.instruction == 0xA4).collect();
    assert_eq!(selected[1].data, FIRST);
    assert_eq!(selected[2].data, SECOND);
    assert_eq!(sent[3].instruction, 0xA8);
    let (terminal, message) = undecided(end);
    assert_eq!(message, MessageIdentifier::ERROR_OTHER_CARD);
    assert_eq!(terminal.amount(), euros(100));
}

#[test]
fn select_next_of_the_kernel_passes_the_card_on_with_a_fresh_key() {
    let options_refused = vec![0x69, 0x85];
    let answers = [
        directory(&[(&FIRST, 1), (&SECOND, 2)]),
        application(&FIRST),
        options_refused.clone(),
        application(&SECOND),
        options_refused,
    ];
    let (sent, end) = play(armed(100), &answers);
    assert_eq!(sent.len(), 5);
    assert_ne!(sent[2].data, sent[4].data, "a kernel key was used twice");
    let (_, message) = undecided(end);
    assert_eq!(message, MessageIdentifier::ERROR_OTHER_CARD);
}

#[test]
fn cards_without_anything_in_common_leave_the_terminal_armed() {
    for answer in [NOT_FOUND.to_vec(), directory(&[]), ok(vec![0x6F]), ok(Vec::new())] {
        let (sent, end) = play(armed(100), std::slice::from_ref(&answer));
        assert_eq!(sent.len(), 1);
        assert_eq!(undecided(end).1, MessageIdentifier::ERROR_OTHER_CARD);
    }
}

#[test]
fn a_card_that_leaves_may_come_back() {
    let answers = [directory(&[(&FIRST, 1)]), application(&FIRST)];
    for given in 0..=answers.len() {
        let mut tap = armed(100).tap(now()).unwrap();
        let mut rng = Counter(2);
        for answer in &answers[..given] {
            tap = tap.handle_response(answer, Duration::ZERO, &mut rng);
        }
        let tap = tap.handle_no_answer(ErrorLevel1::Transmission);
        assert!(matches!(tap.poll(), TapAction::Finished));
        let (terminal, message) = undecided(tap.finish());
        assert_eq!(message, MessageIdentifier::TRY_AGAIN);
        assert_eq!(terminal.payment_intent(), PaymentIntentId::new(now(), [7; 10]));
    }
}

#[test]
fn a_tap_that_is_given_up_leaves_the_terminal_armed() {
    let (sent, end) = play(armed(100), &[directory(&[(&FIRST, 1)])]);
    assert_eq!(sent.len(), 1);
    assert_eq!(undecided(end).1, MessageIdentifier::TRY_AGAIN);
}

/// What an application may answer after it was selected, or instead of being selected.
fn any_answer() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..60),
        2 => prop::sample::select(vec![
            NOT_FOUND.to_vec(),
            directory(&[(&FIRST, 1), (&SECOND, 2), (&FIRST, 3)]),
            application(&FIRST),
            ok(Vec::new()),
        ]),
        1 => prop::collection::vec(any::<u8>(), 0..60)
            .prop_map(|bytes| ok(tlv::encode(tags::RESPONSE_TEMPLATE_FORMAT_2, &bytes))),
    ]
}

proptest! {
    /// No bytes make the terminal panic, ask for ever, or forget what it is armed for.
    #[test]
    fn any_card_leaves_the_terminal_armed(
        entries in prop::collection::vec((prop::sample::select(vec![FIRST, SECOND]), any::<u8>()), 0..6),
        answers in prop::collection::vec(any_answer(), 0..40),
    ) {
        let entries: Vec<(&[u8], u8)> =
            entries.iter().map(|(aid, priority)| (aid.as_slice(), *priority)).collect();
        let mut all = vec![directory(&entries)];
        all.extend(answers);
        let (sent, end) = play(armed(100), &all);
        prop_assert!(sent.len() <= 1 + 2 * 6);
        prop_assert_eq!(undecided(end).0.amount(), euros(100));
    }

    #[test]
    fn any_directory_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let (sent, _) = play(armed(100), &[ok(bytes)]);
        prop_assert_eq!(sent.len(), 1);
    }
}
