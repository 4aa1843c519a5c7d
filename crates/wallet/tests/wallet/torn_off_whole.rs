//! The longest tap there is, torn off at every command: merchant proof, relay check, envelopes read and
//! written, and the PIN at the terminal. The real terminal on the other side keeps its arming until the card's
//! cryptogram was checked, and what it decided after that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tapfer_emv::{tags, tlv};
use tapfer_payment_types::data_storage::DataStorageRules;
use tapfer_payment_types::policy::Requirement;
use tapfer_payment_types::{Currency, Money, PaymentIntentId};
use tapfer_terminal::kernel8::{ErrorLevel1, MessageIdentifier, Status};
use tapfer_terminal::profile::TerminalProfile;
use tapfer_terminal::{
    Armed, Arming, MerchantCredential, PaymentState, PinEntry, TapAction, TapEnd, Terminal,
    TerminalConfiguration, WithoutProof,
};
use tapfer_wallet::{Notification, Wallet};

use crate::issuer::{AID, Issuer, now, seal};
use crate::phone::{Phone, counter};
use crate::proving_terminal::{ProvingTerminal, SHOP, trusting_issuer};
use crate::random::TestRng;

const PIN_PAD: &str = include_str!("../../../../profiles/terminal/pin-pad.toml");
const AMOUNT: Money = Money::new(3_000, Currency::EUR);
const GENERATE_AC: u8 = 0xAE;
const WRITE_DATA: u8 = 0x34;
/// As long as every answer takes: within the relay check's window.
const ELAPSED: Duration = Duration::from_millis(10);

/// A phone whose issuer wants the card's PIN for this amount, and opens two envelopes.
fn phone(issuer: &Issuer) -> Phone {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, |policy| {
        policy.above_limit = Requirement::TerminalPin;
        policy.data_storage = DataStorageRules { readable: vec![1], writable: vec![1, 10] };
    });
    let sealed = seal(&wallet, issuer.token, &payload);
    let _snapshot = wallet.accept(issuer.token, &sealed, now()).unwrap();
    Phone::with(wallet)
}

/// A till with a PIN pad and a certificate, which reads an envelope and writes two.
fn configuration(issuer: &Issuer) -> TerminalConfiguration {
    let profile = PIN_PAD
        .replace("tags_to_read = \"\"", "tags_to_read = \"9F8111\"")
        .replace("_to_write = \"\"", "_to_write = \"9F811104000000019F811A0400000002\"");
    let profile: TerminalProfile = toml::from_str(&profile).unwrap();
    profile.check().unwrap();
    let mut configuration = profile.configuration(&[AID.to_vec()], vec![issuer.ca]).unwrap();
    let ProvingTerminal { certificate, key } = ProvingTerminal::new();
    let without_proof = WithoutProof::EndTap;
    configuration.merchant =
        Some(MerchantCredential { certificate, signer: Arc::new(key), without_proof });
    configuration
}

fn armed(issuer: &Issuer) -> Terminal<Armed> {
    let intent = PaymentIntentId::new(now(), [1; 10]);
    let arming = Arming::new(intent, AMOUNT, now().plus_seconds(60)).unwrap();
    Terminal::new(configuration(issuer)).arm(arming).unwrap()
}

/// How a command gets lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    /// The phone is gone before it hears it.
    Command,
    /// The phone has carried it out, and its answer does not arrive.
    Answer,
    /// One byte of the answer arrives.
    Rest,
}

/// Holds the phone to the terminal; the command of this number is lost. Gives the end and the commands sent.
fn tap(
    terminal: Terminal<Armed>,
    phone: &mut Phone,
    seed: u64,
    lost: Option<(usize, Loss)>,
) -> (TapEnd, Vec<u8>) {
    let mut tap = terminal.tap(phone.now).unwrap();
    let (mut rng, mut sent) = (TestRng(seed), Vec::new());
    while let TapAction::Transmit(command) = tap.poll() {
        let command = command.encode().unwrap();
        let loss = lost.filter(|(number, _)| *number == sent.len()).map(|(_, loss)| loss);
        sent.push(command[1]);
        let answer = match loss {
            Some(Loss::Command) => None,
            _ => phone.transmit(&command),
        };
        tap = match (loss, answer) {
            (None, Some(answer)) => tap.handle_response(&answer, ELAPSED, &mut rng),
            (Some(Loss::Rest), Some(answer)) => {
                tap.handle_response(&answer[..1], ELAPSED, &mut rng)
            }
            _ => tap.handle_no_answer(ErrorLevel1::Timeout),
        };
    }
    phone.card.deselect();
    (tap.finish(), sent)
}

#[track_caller]
fn asks_for_pin(end: TapEnd) -> Box<PinEntry> {
    let TapEnd::AskPin(entry) = end else { panic!("{end:?}") };
    assert_eq!(entry.outcome().parameters.status, Status::OnlineRequest);
    assert_eq!(entry.amount(), AMOUNT);
    entry
}

/// The counter of the payment, in what would be sent to the platform.
fn counter_of(entry: PinEntry) -> u16 {
    let payment = entry.without_pin();
    let chip_data = payment.request().chip_data();
    let counter = tlv::find(chip_data, tags::APPLICATION_TRANSACTION_COUNTER).unwrap().unwrap();
    u16::from_be_bytes(counter.try_into().unwrap())
}

/// Payments that the phone has signed, as it told its owner.
fn signed(phone: &Phone) -> usize {
    let sent = |news: &&Notification| matches!(news, Notification::PaymentSent { .. });
    phone.notifications.iter().filter(sent).count()
}

#[test]
fn the_whole_tap_is_torn_at_every_command() {
    let issuer = trusting_issuer();
    let mut whole = phone(&issuer);
    let (end, sent) = tap(armed(&issuer), &mut whole, 1, None);
    let entry = asks_for_pin(end);
    assert!(entry.outcome().has_written_data());
    assert_eq!(sent.iter().filter(|command| **command == WRITE_DATA).count(), 2);
    // PPSE, SELECT, credential, options, relay, three records, envelope, cryptogram, two envelopes.
    assert_eq!(sent.len(), 12);
    for (number, command) in sent.iter().enumerate() {
        for loss in [Loss::Command, Loss::Answer, Loss::Rest] {
            let mut phone = phone(&issuer);
            let (end, heard) = tap(armed(&issuer), &mut phone, 1, Some((number, loss)));
            assert_eq!(heard.len(), number + 1, "{number} {loss:?}: said to a card that is gone");
            let before = counter(&phone.stored());
            if *command == WRITE_DATA {
                // Decided: the payment waits for its PIN, and only the envelopes are in doubt.
                let entry = asks_for_pin(end);
                assert!(!entry.outcome().has_written_data());
                assert_eq!((counter_of(*entry), before, signed(&phone)), (1, 1, 1));
                continue;
            }
            let TapEnd::Undecided { terminal, message, .. } = end else { panic!("{end:?}") };
            assert_eq!(message, MessageIdentifier::TRY_AGAIN, "{number} {loss:?}");
            assert_eq!(terminal.amount(), AMOUNT);
            // A cryptogram may have been made and lost; nobody can book it.
            let is_signed = *command == GENERATE_AC && loss != Loss::Command;
            assert_eq!(signed(&phone), usize::from(is_signed), "{number} {loss:?}");
            // The same arming, the next counter.
            let (end, _) = tap(terminal, &mut phone, 2, None);
            assert_eq!(counter_of(*asks_for_pin(end)), before + 1, "{number} {loss:?}");
        }
    }
}

/// The tap is over, and nobody enters the PIN: the terminal is disarmed, nothing is asked, and the card's next
/// payment has another counter.
#[test]
fn a_pin_that_nobody_enters_ends_the_payment() {
    let issuer = trusting_issuer();
    let mut phone = phone(&issuer);
    let entry = asks_for_pin(tap(armed(&issuer), &mut phone, 1, None).0);
    let (terminal, receipt) = entry.cancel();
    assert_eq!(receipt.state, PaymentState::PinCancelled);
    assert_eq!((receipt.amount, receipt.merchant.as_deref()), (AMOUNT, Some(SHOP)));
    let intent = PaymentIntentId::new(now(), [2; 10]);
    let arming = Arming::new(intent, AMOUNT, now().plus_seconds(60)).unwrap();
    let entry = asks_for_pin(tap(terminal.arm(arming).unwrap(), &mut phone, 2, None).0);
    assert_eq!(counter_of(*entry), 2);
}

/// The phone's power goes after every effect, and it starts from its disk: no counter is seen twice.
#[test]
fn the_whole_tap_loses_its_power_anywhere() {
    let issuer = trusting_issuer();
    for lost_after in 0..=20 {
        let mut phone = phone(&issuer);
        let mut seen = BTreeSet::new();
        for seed in 1..=3 {
            phone.power = (seed < 3).then_some(lost_after);
            if let (TapEnd::AskPin(entry), _) = tap(armed(&issuer), &mut phone, seed, None) {
                let counter = counter_of(*entry);
                assert!(seen.last().is_none_or(|last| *last < counter), "{lost_after}");
                seen.insert(counter);
            }
            phone.restart();
        }
        assert!(!seen.is_empty(), "{lost_after}: with its power on, the phone pays");
    }
}
