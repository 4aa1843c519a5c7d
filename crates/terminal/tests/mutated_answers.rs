//! A card whose answers are changed on their way: each change ends as Book C-8 says, in a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod independent;
mod scripted;

use independent::oracle::{TerminalSide, expect};
use independent::seeded::Seeded;
use independent::{Behaviour, Card, Fault, meet, untouched};
use scripted::Script;
use tapfer_emv::tvr::LOCAL_AUTHENTICATION_FAILED;
use tapfer_terminal::kernel8::{ErrorLevel1, ErrorLevel2, Outcome, Start, Status};

const SCRIPT: &str = "cvd_03_below_limit";
/// Instructions in the order of the dialogue: GET PROCESSING OPTIONS, the relay check, three records,
/// two envelopes read, GENERATE AC, two envelopes written.
const DIALOGUE: [u8; 10] = [0xA8, 0xEA, 0xB2, 0xB2, 0xB2, 0x32, 0x32, 0xAE, 0x34, 0x34];

/// What a change of an answer must end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// End Application, error of level 2.
    Error(ErrorLevel2),
    /// Not a card for this kernel after all.
    SelectNext,
    /// Start B.
    TryAgain,
    /// The payment goes on; what was read or written is reported as not complete.
    Unread,
    Unwritten,
}

fn check(outcome: &Outcome, end: End, context: &str) {
    let parameters = &outcome.parameters;
    match end {
        End::Error(level2) => {
            assert_eq!(outcome.error.level2, Some(level2), "{context}");
            assert_eq!(parameters.status, Status::EndApplication, "{context}");
            assert_eq!(parameters.start, Start::NotAvailable, "{context}");
            assert!(outcome.data_record.is_none(), "{context}");
        }
        End::SelectNext => assert_eq!(parameters.status, Status::SelectNext, "{context}"),
        End::TryAgain => {
            assert_eq!(outcome.error.level1, Some(ErrorLevel1::Transmission), "{context}");
            assert_eq!(parameters.start, Start::B, "{context}");
        }
        End::Unread | End::Unwritten => {
            assert_eq!(parameters.status, Status::OnlineRequest, "{context}");
            assert_eq!(outcome.has_read_data(), end != End::Unread, "{context}");
            // The card's counter has moved on without the terminal's: its confirmations do not fit.
            assert!(!outcome.has_written_data(), "{context}");
        }
    }
}

fn play(change: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> (Card, Outcome) {
    let script = Script::named(SCRIPT);
    let terminal = TerminalSide::with_everything(&script);
    let mut card = Card::new(&script, Behaviour::with_everything());
    let outcome =
        meet(&script, &terminal, &mut card, |number, _, answer| Some(change(number, answer)));
    (card, outcome)
}

/// The genuine answers, with their status words.
fn genuine() -> Vec<Vec<u8>> {
    let answers = std::cell::RefCell::new(Vec::new());
    let (card, outcome) = play(|_, answer| {
        answers.borrow_mut().push(answer.clone());
        answer
    });
    let heard: Vec<u8> = card.heard.iter().map(|[instruction, ..]| *instruction).collect();
    assert_eq!(heard, DIALOGUE);
    assert!(outcome.has_read_data() && outcome.has_written_data());
    answers.into_inner()
}

/// An answer that is no longer what it was, but ends with `9000`.
const MALFORMED: [(u8, End); 6] = [
    (0xA8, End::Error(ErrorLevel2::Parsing)),
    (0xEA, End::Error(ErrorLevel2::Parsing)),
    (0xB2, End::Error(ErrorLevel2::Parsing)),
    (0xAE, End::Error(ErrorLevel2::Parsing)),
    (0x32, End::Unread),
    (0x34, End::Unwritten),
];

fn malformed(instruction: u8) -> End {
    MALFORMED.iter().find(|(of, _)| *of == instruction).unwrap().1
}

#[test]
fn truncated_at_every_byte() {
    for (number, answer) in genuine().iter().enumerate() {
        for length in 0..answer.len() - 2 {
            let (_, outcome) = play(|at, genuine| {
                let mut answer = genuine;
                if at == number {
                    answer.truncate(length);
                    answer.extend([0x90, 0x00]);
                }
                answer
            });
            let context = format!("answer {number} cut to {length}");
            check(&outcome, malformed(DIALOGUE[number]), &context);
        }
        // The status word is cut off too: what is left ends in bytes that are none, or in nothing.
        let (_, outcome) = play(|at, genuine| if at == number { vec![0x77] } else { genuine });
        let end = if DIALOGUE[number] == 0x34 { End::Unwritten } else { End::TryAgain };
        check(&outcome, end, &format!("answer {number} garbled"));
    }
}

#[test]
fn too_long_and_lengths_that_lie() {
    for (number, answer) in genuine().iter().enumerate() {
        let has_length = ![0x32, 0x34].contains(&DIALOGUE[number]);
        let place = if answer[1] & 0x80 == 0 { 1 } else { 2 };
        for change in [1, -1_i8, 0x40] {
            let (_, outcome) = play(|at, genuine| {
                let mut answer = genuine;
                if at == number && has_length {
                    answer[place] = answer[place].wrapping_add_signed(change);
                } else if at == number {
                    let status = answer.split_off(answer.len() - 2);
                    answer.extend([0xEE; 3]);
                    answer.extend(status);
                }
                answer
            });
            check(&outcome, malformed(DIALOGUE[number]), &format!("answer {number} by {change}"));
        }
    }
}

#[test]
fn refused_at_any_command() {
    for (number, instruction) in DIALOGUE.iter().enumerate() {
        let end = match instruction {
            0xA8 => End::SelectNext,
            0x32 => End::Unread,
            0x34 => End::Unwritten,
            _ => End::Error(ErrorLevel2::StatusBytes),
        };
        for status in [[0x69, 0x85], [0x6A, 0x82], [0x62, 0x83], [0x61, 0x10], [0x90, 0x01]] {
            let (_, outcome) =
                play(|at, answer| if at == number { status.to_vec() } else { answer });
            check(&outcome, end, &format!("{instruction:02X} {status:02X?}"));
            if matches!(end, End::SelectNext | End::Error(_)) {
                assert_eq!(outcome.error.status_word, status);
            }
        }
    }
}

/// An answer of another dialogue of the same card: keys and counters have moved on.
#[test]
fn replayed_answers() {
    let old = {
        let script = Script::named("relay_10ms");
        let terminal = TerminalSide::with_everything(&script);
        let mut card = Card::new(&script, Behaviour::with_everything());
        let mut answers = Vec::new();
        meet(&script, &terminal, &mut card, |_, _, answer| {
            answers.push(answer.clone());
            Some(answer)
        });
        answers
    };
    // Decrypted with other keys an encrypted record is noise: no TLVs, in these dialogues.
    let table = [
        (0, End::Error(ErrorLevel2::Parsing)),
        (1, End::Unread),
        (3, End::Error(ErrorLevel2::Parsing)),
        (4, End::Error(ErrorLevel2::Parsing)),
        (5, End::Unread),
        (6, End::Unread),
        (7, End::Error(ErrorLevel2::EdaMacFailed)),
        (8, End::Unwritten),
        (9, End::Unwritten),
    ];
    for (number, end) in table {
        let (_, outcome) =
            play(|at, genuine| if at == number { old[number].clone() } else { genuine });
        if number == 1 {
            // Every card of the file answers the relay check alike: a replay is no change.
            assert!(outcome.has_read_data());
            continue;
        }
        check(&outcome, end, &format!("answer {number} of another dialogue"));
    }
}

#[test]
fn reordered_answers() {
    let genuine = genuine();
    for first in 0..genuine.len() {
        for second in first + 1..genuine.len() {
            let (_, outcome) = play(|at, answer| match at {
                at if at == first => genuine[second].clone(),
                at if at == second => genuine[first].clone(),
                _ => answer,
            });
            let end = match (DIALOGUE[first], DIALOGUE[second]) {
                (0x34, 0x34) => End::Unwritten,
                (0x32, 0x32) => End::Unread,
                // An envelope in another command's place is found out there at the latest.
                (0x32, 0x34) => {
                    assert!(!outcome.has_read_data() && !outcome.has_written_data());
                    continue;
                }
                (0x32, _) | (_, 0x34 | 0x32) => {
                    let refused = outcome.error.level2.is_some() || !outcome.has_read_data();
                    assert!(refused, "{first} and {second}");
                    continue;
                }
                // Both are templates `77`; the one that comes first lacks what GET PROCESSING OPTIONS needs.
                (0xA8, 0xAE) => End::Error(ErrorLevel2::CardDataMissing),
                // The encrypted record is still the first one, and the wrong one is signed.
                (0xB2, 0xB2) if (first, second) == (2, 3) => End::Error(ErrorLevel2::EdaMacFailed),
                _ => End::Error(ErrorLevel2::Parsing),
            };
            check(&outcome, end, &format!("{first} and {second}"));
        }
    }
}

/// Every byte of both certificates, changed and not signed again: the card is not authentic, and the
/// terminal says so. (Changed and signed again: `certificate_fields_signed_again`.)
#[test]
fn every_byte_of_the_certificates() {
    let script = Script::named(SCRIPT);
    let terminal = TerminalSide::of(&script);
    for (record, header, length) in [(1, 7, 117), (3, 7, 145)] {
        for position in (0..length).step_by(3) {
            let mut card = Card::new(&script, Behaviour::genuine());
            let outcome = meet(&script, &terminal, &mut card, |number, _, mut answer| {
                if number == record {
                    // Encryption is a key stream: a bit that is changed under it is changed.
                    answer[header + position] ^= 0x04;
                }
                Some(answer)
            });
            let context = format!("record {record}, byte {position}");
            assert_eq!(outcome.parameters.status, Status::OnlineRequest, "{context}");
            assert!(outcome.tvr.unwrap().contains(LOCAL_AUTHENTICATION_FAILED), "{context}");
        }
    }
}

/// Each field wrong, the certificate signed by the right key all the same.
#[test]
fn certificate_fields_signed_again() {
    let fields = [
        Fault::IssuerFormat,
        Fault::IssuerSuite,
        Fault::IssuerIdentifier,
        Fault::IssuerExpired,
        Fault::IssuerRid,
        Fault::IssuerCaIndex,
        Fault::IssuerKey,
        Fault::IssuerLength,
        Fault::IccFormat,
        Fault::IccSuite,
        Fault::IccExpired,
        Fault::IccHashFormat,
        Fault::IccHash,
        Fault::IccKey,
        Fault::IccLength,
    ];
    let script = Script::named(SCRIPT);
    let terminal = TerminalSide::of(&script);
    for field in fields {
        let behaviour = Behaviour::with(field);
        let mut card = Card::new(&script, behaviour.clone());
        let outcome = meet(&script, &terminal, &mut card, untouched);
        assert_eq!(outcome.parameters.status, Status::OnlineRequest, "{field:?}");
        assert!(outcome.tvr.unwrap().contains(LOCAL_AUTHENTICATION_FAILED), "{field:?}");
        assert_eq!(outcome.error.bytes().to_vec(), expect(&terminal, &behaviour).error);
    }
}

/// Anything at all, in any order and of any length. `MUTATION_SEED` replays one case.
#[test]
fn anything_comes_to_an_end_that_makes_sense() {
    let genuine = genuine();
    let seed = std::env::var("MUTATION_SEED").ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = seed.map_or(0..400, |seed| seed..seed + 1);
    for seed in seeds {
        let draw = std::cell::RefCell::new(Seeded::new(seed));
        let changed = std::cell::Cell::new(false);
        let (_, outcome) = play(|_, answer| {
            let draw = &mut *draw.borrow_mut();
            let mutated = match draw.below(12) {
                0 => draw.pick(&genuine).clone(),
                1 => (0..draw.below(300)).map(|_| draw.next().to_le_bytes()[0]).collect(),
                2 => answer[..draw.below(answer.len())].to_vec(),
                3 => {
                    let mut answer = answer.clone();
                    let place = draw.below(answer.len());
                    answer[place] ^= 1 << draw.below(8);
                    answer
                }
                _ => answer.clone(),
            };
            changed.set(changed.get() || mutated != answer);
            mutated
        });
        let is_clean = outcome.has_read_data()
            && outcome.has_written_data()
            && outcome.error.level2.is_none()
            && outcome.tvr.is_some_and(|tvr| !tvr.contains(LOCAL_AUTHENTICATION_FAILED));
        assert_ne!(outcome.parameters.status, Status::NotAvailable, "seed {seed}");
        assert_ne!(outcome.parameters.status, Status::Approved, "seed {seed}");
        if changed.get() && outcome.parameters.status == Status::OnlineRequest && is_clean {
            panic!("seed {seed}: something was changed and nobody noticed");
        }
    }
}
