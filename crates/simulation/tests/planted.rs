//! Takes away one control after the other, and sees that the auditor objects within two hundred seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

use std::sync::Mutex;
use std::thread::available_parallelism;

use tapfer_payment_types::planted::{Control, skip};
use tapfer_simulation::{Go, Length, Prepared, run_many};

/// Those of a node that stands in for its database, which one with a database of its own does not.
const OF_STAND_IN: [Control; 5] = [
    Control::StandInLimits,
    Control::StandInKnown,
    Control::StandInBlocks,
    Control::StandInNotes,
    Control::StandInBookedOnce,
];

#[test]
fn every_control_that_is_taken_away_is_missed() {
    let controls = Control::ALL.iter().filter(|control| !OF_STAND_IN.contains(control));
    let controls: Vec<_> = controls.copied().collect();
    assert!(controls.len() >= 10);
    are_missed(1, &controls);
}

/// Those that are not of the embedded store's own: facts looked at again when they are written down, between two nodes; one effect for
/// an idempotency key, whichever node is asked. And those of a node alone.
#[test]
fn at_two_nodes_every_control_of_the_platform_is_missed() {
    let of_file = [Control::AnswerAfterCommit, Control::LostCommitTold];
    let others = Control::ALL.iter().filter(|control| !of_file.contains(control));
    are_missed(2, &others.copied().collect::<Vec<_>>());
}

fn are_missed(nodes: u8, controls: &[Control]) {
    // One switch for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap();
    let prepared = Prepared::new().unwrap();
    let threads = available_parallelism().map_or(2, usize::from);
    let mut missed = Vec::new();
    for control in controls {
        skip(Some(*control));
        let mut found = None;
        run_many(&prepared, 1..=200, Length { steps: 150, nodes }, threads, |told| {
            match told.objection {
                Some(objection) => {
                    found = Some(format!("seed {}: {objection}", told.seed));
                    Go::Stop
                }
                None => Go::On,
            }
        })
        .unwrap();
        let found_at = found.as_deref().unwrap_or("nobody noticed");
        println!("{} at {nodes}: {found_at}", control.name());
        if found.is_none() {
            missed.push(control.name());
        }
    }
    skip(None);
    assert!(missed.is_empty(), "the auditor did not notice that nobody looked after {missed:?}");
}
