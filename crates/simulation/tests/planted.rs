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

use std::thread::available_parallelism;

use tapfer_payment_types::planted::{Control, skip};
use tapfer_simulation::{Go, Length, Prepared, run_many};

#[test]
fn every_control_that_is_taken_away_is_missed() {
    let prepared = Prepared::new().unwrap();
    let threads = available_parallelism().map_or(2, usize::from);
    let mut missed = Vec::new();
    for control in Control::ALL {
        skip(Some(*control));
        let mut found = None;
        run_many(&prepared, 1..=200, Length { steps: 150 }, threads, |told| match told.objection {
            Some(objection) => {
                found = Some(format!("seed {}: {objection}", told.seed));
                Go::Stop
            }
            None => Go::On,
        })
        .unwrap();
        println!("{}: {}", control.name(), found.as_deref().unwrap_or("nobody noticed"));
        if found.is_none() {
            missed.push(control.name());
        }
    }
    skip(None);
    assert!(Control::ALL.len() >= 10);
    assert!(missed.is_empty(), "the auditor did not notice that nobody looked after {missed:?}");
}
