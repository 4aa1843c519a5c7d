//! Stories of many seeds, and what the auditor says to them.
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

use tapfer_simulation::{Go, Length, Prepared, run, run_many};

/// What has to have happened somewhere, so that there was something to object to.
const SEEN: [&str; 27] = [
    ": approved",
    ": insufficient_funds",
    ": card_blocked",
    ": token_suspended",
    ": counter_stale",
    ": replay",
    ": cryptogram_invalid",
    ": amount_mismatch",
    ": terminal_not_armed",
    "approved, as before",
    "500 internal",
    "503 hsm_down",
    "idempotency_in_progress",
    "worked on letters",
    "before a transaction",
    "in a transaction, before it was written",
    "behind a transaction, before anybody was told",
    "before its tables caught up with its journal",
    "while its tables caught up with its journal",
    "when its tables had caught up with its journal",
    "the end of the log is missing",
    "sectors of the log are missing",
    "while it started",
    "the disk is full",
    "asks about the tap of sale",
    "Torn",
    "the platform's clock",
];

#[test]
fn two_hundred_seeds_leave_the_auditor_nothing_to_object_to() {
    let prepared = Prepared::new().unwrap();
    let (mut told, mut seen, mut approved) = (0, [false; SEEN.len()], 0);
    let threads = available_parallelism().map_or(2, usize::from);
    run_many(&prepared, 1..=200, Length { steps: 150, nodes: 1 }, threads, |story| {
        let words = story.story.join("\n");
        assert_eq!(story.objection, None, "seed {}:\n{words}", story.seed);
        SEEN.iter().zip(&mut seen).for_each(|(what, seen)| *seen |= words.contains(what));
        told += 1;
        approved += story.approved;
        Go::On
    })
    .unwrap();
    let unseen: Vec<_> = SEEN.iter().zip(seen).filter(|(_, seen)| !seen).collect();
    assert!(unseen.is_empty(), "in {told} stories nothing was seen of {unseen:?}");
    assert_eq!(told, 200);
    assert!(approved > 300, "{approved}");
}

/// What has to have happened somewhere at two nodes.
const SEEN_AT_TWO: [&str; 29] = [
    ": approved",
    ": counter_stale",
    ": card_blocked",
    "approved, as before",
    "503 database_down",
    "503 unavailable",
    "idempotency_in_progress",
    "in the middle of it node",
    "is sent again, to node",
    "does not reach the database",
    "does not start without its database",
    "who come often stay away",
    "503 database_down, unknown_token",
    "the database fails over",
    "on another machine",
    "node 1 dies",
    "node 2 dies",
    "in a transaction, before it was written",
    "behind a transaction, before anybody was told",
    "node 1, alone, answers letter",
    "node 2, alone, answers letter",
    "has booked what it decided alone",
    "before it noted what it decides alone",
    "while it noted what it decides alone",
    "when it had noted what it decides alone",
    "when all was booked, with its notes still there",
    "when all was booked, and its notes were taken away",
    "beside its work: in a transaction, before it was written",
    "does not start: its database went meanwhile",
];

#[test]
fn two_hundred_seeds_of_two_nodes_at_one_database() {
    let prepared = Prepared::new().unwrap();
    let (mut told, mut seen, mut approved, mut alone) = (0, [false; SEEN_AT_TWO.len()], 0, 0);
    let threads = available_parallelism().map_or(2, usize::from);
    run_many(&prepared, 1..=200, Length { steps: 150, nodes: 2 }, threads, |story| {
        let words = story.story.join("\n");
        assert_eq!(story.objection, None, "seed {}:\n{words}", story.seed);
        SEEN_AT_TWO.iter().zip(&mut seen).for_each(|(what, seen)| *seen |= words.contains(what));
        told += 1;
        approved += story.approved;
        alone += story.alone;
        Go::On
    })
    .unwrap();
    let unseen: Vec<_> = SEEN_AT_TWO.iter().zip(seen).filter(|(_, seen)| !seen).collect();
    assert!(unseen.is_empty(), "in {told} stories nothing was seen of {unseen:?}");
    assert_eq!(told, 200);
    println!("approved: {approved}, by nodes alone: {alone}");
    assert!(approved > 200 && alone > 25, "{approved}, {alone} alone");
}

/// Two worlds whose keys have nothing in common.
#[test]
fn a_seed_tells_its_story_again_word_for_word() {
    let (one, other) = (Prepared::new().unwrap(), Prepared::new().unwrap());
    for seed in 1..=4 {
        for nodes in [1, 2] {
            let again = |prepared| run(prepared, seed, Length { steps: 250, nodes }).unwrap().story;
            assert_eq!(again(&one), again(&other), "seed {seed} at {nodes}");
        }
    }
}

/// These found something once.
#[test]
fn seeds_that_the_auditor_objected_to() {
    let prepared = Prepared::new().unwrap();
    for seed in [648, 1003] {
        let told = run(&prepared, seed, Length { steps: 250, nodes: 1 }).unwrap();
        assert_eq!(told.objection, None, "seed {seed}:\n{}", told.story.join("\n"));
    }
}
