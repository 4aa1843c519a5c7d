//! The card leaves at any command: nothing is decided that the card has not signed, and what it has
//! signed stands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod independent;
mod scripted;

use independent::oracle::TerminalSide;
use independent::{Behaviour, Card, meet, untouched};
use scripted::Script;
use tapfer_terminal::kernel8::{
    Action, ErrorLevel1, ErrorLevel3, Kernel, KernelConfiguration, MessageIdentifier, Outcome,
    ReaderStatus, Session, Start, Status,
};

const SCRIPT: &str = "cvd_03_below_limit";
const WRITE_DATA: u8 = 0x34;

/// Every kind of payment a terminal and a card of this kind can have.
fn kinds() -> Vec<(TerminalSide, Behaviour, Status)> {
    let script = Script::named(SCRIPT);
    let plain = TerminalSide::of(&script);
    let whole = TerminalSide::with_everything(&script);
    let everything = Behaviour::with_everything();
    let offline = Behaviour { aip: [0x01, 0x0D], ..everything.clone() };
    let declined = Behaviour { cid: Some(0x00), ..everything.clone() };
    let again = Behaviour { restart: Some(vec![0x20, 0x20]), ..everything.clone() };
    let mut approving = whole.clone();
    approving.config.insert(0x9F_820D, vec![0x00, 0x99, 0, 0, 0, 0]);
    vec![
        (plain, Behaviour::genuine(), Status::OnlineRequest),
        (whole.clone(), everything, Status::OnlineRequest),
        (approving, offline, Status::Approved),
        (whole.clone(), declined, Status::Declined),
        (whole, again, Status::EndApplication),
    ]
}

fn check_try_again(outcome: &Outcome, error: ErrorLevel1) {
    assert_eq!(outcome.parameters.status, Status::EndApplication);
    assert_eq!(outcome.parameters.start, Start::B);
    assert_eq!(outcome.parameters.bytes()[4] & 0xE0, 0x40, "only the restart has a message");
    assert_eq!(outcome.error.level1, Some(error));
    assert_eq!((outcome.error.level2, outcome.error.level3), (None, None));
    assert_eq!(outcome.error.message, MessageIdentifier::TRY_AGAIN);
    let request = outcome.ui_request.unwrap();
    assert_eq!(request.message, MessageIdentifier::TRY_AGAIN);
    assert_eq!((request.status, request.hold_time), (ReaderStatus::ReadyToRead, [0; 3]));
    assert!(outcome.ui_request_on_restart.is_none());
    // Nothing to book: no cryptogram leaves the kernel.
    assert!(outcome.data_record.is_none() && outcome.declined_by.is_none());
}

#[test]
fn a_card_that_leaves_before_its_cryptogram_is_asked_again() {
    let script = Script::named(SCRIPT);
    for (terminal, behaviour, status) in kinds() {
        let mut whole = Card::new(&script, behaviour.clone());
        let complete = meet(&script, &terminal, &mut whole, untouched);
        assert_eq!(complete.parameters.status, status);
        for (torn_at, [instruction, ..]) in whole.heard.iter().enumerate() {
            // Gone, or garbled: fewer bytes than a status word.
            for (answer, error) in [
                (None, ErrorLevel1::Timeout),
                (Some(vec![]), ErrorLevel1::Transmission),
                (Some(vec![0x90]), ErrorLevel1::Transmission),
            ] {
                let mut card = Card::new(&script, behaviour.clone());
                let outcome = meet(&script, &terminal, &mut card, |number, _, genuine| {
                    if number == torn_at { answer.clone() } else { Some(genuine) }
                });
                assert_eq!(card.heard.len(), torn_at + 1, "nothing is sent to a card that is gone");
                if *instruction == WRITE_DATA {
                    check_decided(&outcome, &complete);
                } else {
                    check_try_again(&outcome, error);
                }
            }
        }
    }
}

/// GENERATE AC was answered and checked: the payment is what it is without envelopes.
fn check_decided(outcome: &Outcome, complete: &Outcome) {
    assert_eq!(outcome.parameters, complete.parameters);
    assert_eq!(outcome.ui_request, complete.ui_request);
    assert_eq!(outcome.ui_request_on_restart, complete.ui_request_on_restart);
    assert_eq!(outcome.error, complete.error);
    assert_eq!(outcome.data_record, complete.data_record);
    assert!(complete.has_written_data() && !outcome.has_written_data());
}

/// The protocol broke, or the till gave up.
#[test]
fn other_ways_to_end_in_between() {
    let script = Script::named(SCRIPT);
    let card = Card::new(&script, Behaviour::genuine());
    let start = || {
        let objects = script.objects("session");
        let objects = objects.iter().map(|(tag, value)| (*tag, value.as_slice()));
        let session = Session::from_data_objects(objects).unwrap();
        let configuration: KernelConfiguration = script.configuration();
        Kernel::start(configuration, &session, Vec::new(), script.inputs(), &card.fci())
    };
    let broken = start().handle_no_answer(ErrorLevel1::Protocol).into_outcome().unwrap();
    check_try_again(&broken, ErrorLevel1::Protocol);
    assert_eq!(broken.error.bytes(), [0x03, 0, 0, 0, 0, 0x21]);

    let stopped = start().stop();
    assert!(matches!(stopped.poll(), Action::Finished(_)));
    let stopped = stopped.into_outcome().unwrap();
    assert_eq!(stopped.error.level3, Some(ErrorLevel3::Stop));
    assert_eq!(stopped.error.bytes(), [0, 0, 0x02, 0, 0, 0xFF]);
    assert_eq!(stopped.parameters.bytes(), [0x40, 0xF0, 0xF0, 0xF0, 0x10, 0xF0, 0xFF, 0x00]);
    assert!(stopped.ui_request.is_none() && stopped.data_record.is_none());
}
