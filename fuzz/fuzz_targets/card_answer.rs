//! A hostile card: the answers of a genuine one, altered. The kernel comes to an end, and approves
//! nothing on its own.
#![no_main]

#[path = "../../crates/terminal/tests/scripted/mod.rs"]
mod scripted;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scripted::Script;
use tapfer_terminal::kernel8::Status;

/// A card in clear, and one that is asked for the relay check.
static SCRIPTS: LazyLock<[Script; 2]> =
    LazyLock::new(|| [Script::named("cvd_03_below_limit"), Script::named("relay_10ms")]);

/// One change of the answers: which answer, what to do, where, and with which byte.
fn alter(answers: &mut Vec<Vec<u8>>, change: &[u8]) {
    let [which, action, position, value] = change else { return };
    let count = answers.len();
    let Some(answer) = answers.get_mut(usize::from(*which) % count) else { return };
    let position = usize::from(*position).min(answer.len());
    match action % 6 {
        0 => answer.truncate(position),
        1 => answer.insert(position, *value),
        2 if position < answer.len() => drop(answer.remove(position)),
        3 => *answer = answer.iter().copied().chain([*value]).collect(),
        4 => {
            let again = answer.clone();
            answers.insert(usize::from(*value) % count, again);
        }
        _ => answer.iter_mut().skip(position).take(1).for_each(|byte| *byte = *value),
    }
}

fuzz_target!(|input: (bool, &[u8])| {
    let (with_relay, changes) = input;
    let script = &SCRIPTS[usize::from(with_relay)];
    let mut answers = script.responses();
    changes.chunks_exact(4).for_each(|change| alter(&mut answers, change));
    let (_, outcome) = script.play(&answers);
    assert_ne!(outcome.parameters.status, Status::NotAvailable);
    assert_ne!(outcome.parameters.status, Status::Approved, "these cards only ask online");
});
