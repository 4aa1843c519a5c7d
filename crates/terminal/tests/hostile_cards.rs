//! Whatever a card answers: the kernel comes to an end, its outcome makes sense, and nothing that was
//! changed on the way is ever taken for what the card signed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod scripted;

use proptest::prelude::*;
use scripted::Script;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tvr::{LOCAL_AUTHENTICATION_FAILED, LOCAL_AUTHENTICATION_NOT_PERFORMED};
use tapfer_terminal::kernel8::{Outcome, Start, Status};

/// Rules that hold for every outcome, whatever happened.
fn check_sense(outcome: &Outcome) {
    let parameters = &outcome.parameters;
    let bytes = parameters.bytes();
    assert_ne!(parameters.status, Status::NotAvailable);
    assert_eq!(bytes[4] & 0x20 != 0, outcome.data_record.is_some());
    // The second request is there only if there are two (Book C-8 A.1.143).
    assert_eq!(bytes[4] & 0xC0 != 0, outcome.ui_request.is_some());
    assert_eq!(bytes[4] & 0xC0 == 0xC0, outcome.ui_request_on_restart.is_some());
    assert_eq!(parameters.start == Start::C, parameters.status == Status::SelectNext);
    let decides =
        matches!(parameters.status, Status::Approved | Status::Declined | Status::OnlineRequest);
    if decides {
        assert!(outcome.error.level2.is_none() && outcome.data_record.is_some());
    }
    if outcome.error.level2.is_some() {
        assert!(outcome.data_record.is_none());
    }
}

/// The data record but for the label, which the card shows before there is a channel to protect it.
fn signed_part(record: &[u8]) -> Vec<(Tag, Vec<u8>)> {
    let objects = tlv::parse(record).unwrap();
    objects
        .iter()
        .filter(|object| object.tag != tags::APPLICATION_LABEL)
        .map(|object| (object.tag, object.value.to_vec()))
        .collect()
}

/// A payment may go on only with exactly what the card signed, or with the terminal saying that the
/// card could not be authenticated (certificates travel unsigned, and fail on their own).
fn check_unchanged(script: &Script, outcome: &Outcome) {
    check_sense(outcome);
    assert_ne!(outcome.parameters.status, Status::Approved);
    if outcome.parameters.status != Status::OnlineRequest {
        return;
    }
    let tvr = outcome.tvr.unwrap();
    let is_unauthenticated = tvr.contains(LOCAL_AUTHENTICATION_FAILED)
        || tvr.contains(LOCAL_AUTHENTICATION_NOT_PERFORMED);
    let record = outcome.data_record.as_ref().unwrap().expose();
    let mut expected = signed_part(&script.data_record());
    if is_unauthenticated {
        for (tag, value) in &mut expected {
            if *tag == tags::TERMINAL_VERIFICATION_RESULTS {
                *value = tvr.bytes().to_vec();
            }
        }
    }
    assert_eq!(signed_part(record), expected);
}

#[test]
fn every_bit_of_every_answer_counts() {
    let script = Script::named("cvd_03_below_limit");
    let genuine = script.responses();
    assert_eq!(script.play(&genuine).1.parameters.status, Status::OnlineRequest);
    for number in 0..genuine.len() {
        for position in 0..genuine[number].len() {
            for bit in [0x01, 0x10, 0x80] {
                let mut changed = genuine.clone();
                changed[number][position] ^= bit;
                check_unchanged(&script, &script.play(&changed).1);
            }
        }
    }
}

#[test]
fn answers_cut_short_or_left_out() {
    let script = Script::named("relay_10ms");
    let genuine = script.responses();
    for number in 0..genuine.len() {
        for length in 0..genuine[number].len() {
            let mut cut = genuine.clone();
            cut[number].truncate(length);
            check_unchanged(&script, &script.play(&cut).1);
        }
        let mut missing = genuine.clone();
        missing.remove(number);
        check_sense(&script.play(&missing).1);
        let mut repeated = genuine.clone();
        repeated.insert(number, genuine[number].clone());
        check_sense(&script.play(&repeated).1);
    }
}

#[test]
fn answers_swapped() {
    let script = Script::named("cvd_03_below_limit");
    let genuine = script.responses();
    for first in 0..genuine.len() {
        for second in 0..first {
            let mut swapped = genuine.clone();
            swapped.swap(first, second);
            check_unchanged(&script, &script.play(&swapped).1);
        }
    }
}

/// Data objects that the kernel knows, in any template, with values of any length.
fn template() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Tag> = tags::DICTIONARY.iter().map(|row| row.tag).collect();
    let object = (prop::sample::select(known), prop::collection::vec(any::<u8>(), 0..70));
    let outer = prop::sample::select(vec![0x6F, 0x70, 0x77, 0x80, 0xDA, 0x61]);
    (outer, prop::collection::vec(object, 0..6)).prop_map(|(outer, objects)| {
        let mut value = Vec::new();
        objects.iter().for_each(|(tag, object)| tlv::write(&mut value, *tag, object));
        let mut answer = tlv::encode(Tag::new(outer), &value);
        answer.extend([0x90, 0x00]);
        answer
    })
}

/// What a card may answer at one step: bytes, data objects, or the real answer with data objects
/// added to it.
fn any_answer(genuine: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let appended = (Just(genuine.clone()), template()).prop_map(|(genuine, template)| {
        let inner = tlv::parse_one(genuine.strip_suffix(&[0x90, 0x00]).unwrap()).unwrap();
        let more = tlv::parse_one(&template[..template.len() - 2]).unwrap();
        let mut answer = tlv::encode(inner.tag, &[inner.value, more.value].concat());
        answer.extend([0x90, 0x00]);
        answer
    });
    prop_oneof![
        4 => Just(genuine),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => template(),
        1 => appended,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_answers_at_any_step(
        answers in Script::named("relay_10ms").responses().into_iter().map(any_answer).collect::<Vec<_>>()
    ) {
        let script = Script::named("relay_10ms");
        check_sense(&script.play(&answers).1);
    }

    #[test]
    fn any_bytes_after_any_prefix(
        prefix in 1_usize..7,
        rest in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let script = Script::named("cvd_03_below_limit");
        let mut answers = script.responses();
        answers.truncate(prefix);
        answers.extend(rest);
        check_sense(&script.play(&answers).1);
    }
}
