//! A whole dialogue with relay check and data storage, and somebody between card and terminal who
//! changes, repeats, cuts or keeps back answers. Whatever is done: the kernel comes to an end, approves
//! nothing on its own, and takes no changed answer for what the card said.
#![no_main]

#[path = "../../crates/terminal/tests/independent/mod.rs"]
mod independent;
#[path = "../../crates/terminal/tests/scripted/mod.rs"]
mod scripted;

use std::sync::LazyLock;

use independent::oracle::TerminalSide;
use independent::{Behaviour, Card, meet};
use libfuzzer_sys::fuzz_target;
use scripted::Script;
use tapfer_emv::tvr::LOCAL_AUTHENTICATION_FAILED;
use tapfer_terminal::kernel8::Status;

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::named("cvd_03_below_limit"));

/// One answer, changed by three bytes of the input.
fn alter(mut answer: Vec<u8>, heard: &[Vec<u8>], change: [u8; 3]) -> Option<Vec<u8>> {
    let [action, place, value] = change;
    let position = usize::from(place) % answer.len().max(1);
    match action % 8 {
        1 => answer.truncate(position),
        2 => answer.insert(position, value),
        3 => drop(answer.remove(position)),
        4 => answer[position] = value,
        5 => answer = heard.get(usize::from(value) % heard.len().max(1))?.clone(),
        6 => answer = vec![0x90 | (value & 0x0F), place],
        7 => return None,
        _ => {}
    }
    Some(answer)
}

/// What an answer says: zeros in front of its data objects, and behind them, say nothing (ISO/IEC 7816-4,
/// 5.2.2, as EMV takes it over in Book 3, annex B).
fn without_padding(answer: &[u8]) -> (&[u8], &[u8]) {
    let (data, status) = answer.split_at(answer.len().saturating_sub(2));
    let begin = data.iter().position(|byte| *byte != 0).unwrap_or(data.len());
    let end = data.iter().rposition(|byte| *byte != 0).map_or(begin, |last| last + 1);
    (&data[begin..end], status)
}

fuzz_target!(|changes: Vec<[u8; 3]>| {
    let mut card = Card::new(&SCRIPT, Behaviour::with_everything());
    let terminal = TerminalSide::with_everything(&SCRIPT);
    let (mut heard, mut is_changed) = (Vec::new(), false);
    let outcome = meet(&SCRIPT, &terminal, &mut card, |number, _, answer| {
        heard.push(answer.clone());
        let change = changes.get(number).copied().unwrap_or_default();
        let altered = alter(answer, &heard, change);
        let (sent, arrived) = (heard.last(), altered.as_ref());
        is_changed |=
            arrived.map(|one| without_padding(one)) != sent.map(|one| without_padding(one));
        altered
    });
    assert_ne!(outcome.parameters.status, Status::NotAvailable);
    assert_ne!(outcome.parameters.status, Status::Approved);
    let is_clean = outcome.has_read_data()
        && outcome.has_written_data()
        && outcome.tvr.is_some_and(|tvr| !tvr.contains(LOCAL_AUTHENTICATION_FAILED));
    let goes_on = outcome.parameters.status == Status::OnlineRequest;
    assert!(!(is_changed && goes_on && is_clean), "something was changed and nobody noticed");
});
