//! The phone against the platform's own terminal: whole payments in memory, on a virtual clock, torn
//! off at every command and by every loss of power.

use std::collections::BTreeSet;
use std::time::Duration;

use tapfer_emv::cryptogram::{self, CryptogramInput, application_cryptogram};
use tapfer_emv::iad::{IssuerApplicationData, VerificationMethod};
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::kernel8::{
    ErrorLevel1, KernelConfiguration, MessageIdentifier, Outcome, Start, Status,
};
use tapfer_terminal::{Arming, TapAction, TapEnd, Terminal, TerminalConfiguration, Unarmed};

use crate::issuer::{AID, Issuer, UNVERIFIED_LIMIT, now};
use crate::phone::{Phone, UNLOCKED};
use crate::random::TestRng;

/// PPSE, SELECT, GET PROCESSING OPTIONS, three records, GENERATE AC.
const COMMANDS: usize = 7;

fn euros(minor: i64) -> Money {
    Money::new(minor, Currency::EUR)
}

fn terminal(issuer: &Issuer, limit: Money) -> Terminal<Unarmed> {
    let application = KernelConfiguration::attended(&AID, 276, limit).unwrap();
    Terminal::new(TerminalConfiguration::new([application], limit.currency, vec![issuer.ca]))
}

/// Arms a new terminal and holds the phone to it. The phone leaves after `stays` commands.
fn tap(issuer: &Issuer, phone: &mut Phone, amount: Money, seed: u64, stays: usize) -> TapEnd {
    tap_at(terminal(issuer, euros(UNVERIFIED_LIMIT)), phone, amount, seed, stays)
}

fn tap_at(
    terminal: Terminal<Unarmed>,
    phone: &mut Phone,
    amount: Money,
    seed: u64,
    stays: usize,
) -> TapEnd {
    let intent = PaymentIntentId::new(now(), [seed as u8; 10]);
    let armed =
        terminal.arm(Arming::new(intent, amount, phone.now.plus_seconds(60)).unwrap()).unwrap();
    let mut tap = armed.tap(phone.now).unwrap();
    let mut rng = TestRng(seed);
    let mut commands = 0;
    while let TapAction::Transmit(command) = tap.poll() {
        let command = command.encode().unwrap();
        let answer = if commands < stays { phone.transmit(&command) } else { None };
        commands += 1;
        assert!(commands <= COMMANDS, "a tap takes {COMMANDS} commands");
        tap = match answer {
            Some(answer) => tap.handle_response(&answer, Duration::from_millis(5), &mut rng),
            None => tap.handle_no_answer(ErrorLevel1::Timeout),
        };
    }
    phone.card.deselect();
    tap.finish()
}

/// What the issuer reads out of the chip data, after it has recomputed the cryptogram.
fn verified(issuer: &Issuer, chip_data: &[u8]) -> (u16, IssuerApplicationData) {
    fn field<const N: usize>(chip_data: &[u8], tag: Tag) -> [u8; N] {
        tlv::find(chip_data, tag).unwrap().unwrap().try_into().unwrap()
    }
    let data: [u8; 32] = field(chip_data, tags::ISSUER_APPLICATION_DATA);
    let counter = u16::from_be_bytes(field(chip_data, tags::APPLICATION_TRANSACTION_COUNTER));
    let input = CryptogramInput {
        amount_authorized: field(chip_data, tags::AMOUNT_AUTHORIZED),
        amount_other: field(chip_data, tags::AMOUNT_OTHER),
        terminal_country: field(chip_data, tags::TERMINAL_COUNTRY_CODE),
        tvr: field(chip_data, tags::TERMINAL_VERIFICATION_RESULTS),
        currency: field(chip_data, tags::TRANSACTION_CURRENCY_CODE),
        date: field(chip_data, tags::TRANSACTION_DATE),
        transaction_type: field::<1>(chip_data, tags::TRANSACTION_TYPE)[0],
        unpredictable_number: field(chip_data, tags::UNPREDICTABLE_NUMBER),
        aip: field(chip_data, tags::APPLICATION_INTERCHANGE_PROFILE),
        application_transaction_counter: counter,
        issuer_application_data: data.to_vec(),
    };
    let data = IssuerApplicationData::parse(&data).unwrap();
    let key = issuer.limited_use_key(data.key_index).session_key(counter);
    let received = field(chip_data, tags::APPLICATION_CRYPTOGRAM);
    cryptogram::verify(issuer.token, &input, &received, |bytes| {
        application_cryptogram(&key, bytes)
    })
    .expect("the issuer recomputes the cryptogram");
    (counter, data)
}

#[test]
fn payments_below_and_above_the_limit_go_online() {
    let issuer = Issuer::new();
    let mut phone = Phone { device: UNLOCKED, ..Phone::enrolled(&issuer) };
    let cases =
        [(100, VerificationMethod::None), (UNVERIFIED_LIMIT + 1, VerificationMethod::DeviceUnlock)];
    for (number, (minor, method)) in (1_u16..).zip(cases) {
        let end = tap(&issuer, &mut phone, euros(minor), number.into(), COMMANDS);
        let TapEnd::Online(payment) = end else { panic!("{minor}: {end:?}") };
        assert_eq!(payment.outcome().parameters.status, Status::OnlineRequest);
        let (counter, data) = verified(&issuer, payment.request().chip_data());
        assert_eq!((counter, data.results.method), (number, method));
    }
}

#[test]
fn a_locked_phone_asks_above_the_limit() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let end = tap(&issuer, &mut phone, euros(UNVERIFIED_LIMIT + 1), 1, COMMANDS);
    let outcome = sent_to_the_phone(end);
    assert_eq!(
        (outcome.parameters.status, outcome.parameters.start),
        (Status::EndApplication, Start::B)
    );
}

/// The card has declined for now: nothing is decided, the terminal stays armed and waits for the tap
/// behind the person's answer.
fn sent_to_the_phone(end: TapEnd) -> Outcome {
    let TapEnd::Undecided { message, outcome, .. } = end else { panic!("{end:?}") };
    assert_eq!(message, MessageIdentifier::SEE_PHONE);
    outcome.unwrap()
}

/// The terminal's own limit is below the issuer's: it wants the person, and gets her or nothing.
#[test]
fn a_terminal_that_demands_the_person_gets_the_person() {
    let issuer = Issuer::new();
    let strict = || terminal(&issuer, euros(50));
    let mut phone = Phone::enrolled(&issuer);
    let locked = tap_at(strict(), &mut phone, euros(100), 1, COMMANDS);
    let _ = sent_to_the_phone(locked);
    phone.device = UNLOCKED;
    let TapEnd::Online(payment) = tap_at(strict(), &mut phone, euros(100), 2, COMMANDS) else {
        panic!("an unlocked phone pays")
    };
    let (_, data) = verified(&issuer, payment.request().chip_data());
    assert_eq!(data.results.method, VerificationMethod::DeviceUnlock);
}

/// A terminal that trusts another CA sends nothing online.
#[test]
fn a_card_of_an_unknown_scheme_is_not_paid_with() {
    let issuer = Issuer::new();
    let mut stranger = Issuer::new();
    stranger.ca.key = stranger.key.public_x();
    let mut phone = Phone::enrolled(&issuer);
    let end = tap(&stranger, &mut phone, euros(100), 1, COMMANDS);
    assert!(!matches!(end, TapEnd::Online(_)), "{end:?}");
}

/// The phone leaves the field after any number of commands, comes back, and pays.
#[test]
fn a_phone_that_leaves_and_comes_back_pays_once() {
    let issuer = Issuer::new();
    for stays in 0..COMMANDS {
        let mut phone = Phone::enrolled(&issuer);
        let end = tap(&issuer, &mut phone, euros(100), 1, stays);
        assert!(matches!(end, TapEnd::Undecided { .. }), "{stays}: {end:?}");
        let end = tap(&issuer, &mut phone, euros(100), 2, COMMANDS);
        let TapEnd::Online(payment) = end else { panic!("{stays}: {end:?}") };
        let (counter, _) = verified(&issuer, payment.request().chip_data());
        assert_eq!(counter, if stays > 2 { 2 } else { 1 }, "{stays}");
    }
}

/// The phone's power goes after any effect, and it starts again from what its disk holds.
#[test]
fn a_phone_that_dies_anywhere_uses_no_counter_twice() {
    let issuer = Issuer::new();
    // Every reply, the two snapshots in front of replies, and the notification behind the last.
    for lost_after in 0..=COMMANDS + 3 {
        let mut phone = Phone::enrolled(&issuer);
        let mut counters = BTreeSet::new();
        for seed in 1..=3 {
            phone.power = (seed < 3).then_some(lost_after);
            if let TapEnd::Online(payment) = tap(&issuer, &mut phone, euros(100), seed, COMMANDS) {
                let (counter, _) = verified(&issuer, payment.request().chip_data());
                assert!(counters.last().is_none_or(|last| *last < counter), "{lost_after}");
                counters.insert(counter);
            }
            phone.restart();
        }
        assert!(!counters.is_empty(), "{lost_after}: with its power on, the phone pays");
    }
}
