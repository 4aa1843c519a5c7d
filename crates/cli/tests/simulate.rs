//! `tapfer simulate` as people and programs see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use platform::tapfer;
use serde_json::Value;

fn simulate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = tapfer().arg("simulate").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Two processes, whose keys have nothing in common.
#[test]
fn a_seed_tells_the_same_story_in_another_process() {
    let tell = || simulate(&["--seed", "3", "--steps", "120"]);
    let (code, story, _) = tell();
    assert_eq!(code, Some(0), "{story}");
    assert!(story.starts_with("seed 3\n"), "{story}");
    assert!(story.contains("the platform answers letter 0"), "{story}");
    assert!(story.contains("the auditor has nothing to object to"), "{story}");
    assert_eq!(tell().1, story);
}

#[test]
fn many_seeds_are_a_line_each_for_a_program() {
    let (code, lines, _) = simulate(&["--seeds", "5..8", "--steps", "60", "--json"]);
    assert_eq!(code, Some(0), "{lines}");
    let told: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut seeds: Vec<_> = told.iter().map(|told| told["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [5, 6, 7, 8]);
    assert!(
        told.iter().all(|told| told["objection"].is_null() && told["letters"].as_u64() > Some(0))
    );
}

#[test]
fn what_cannot_be_simulated_is_wrong_usage() {
    for arguments in
        [&["--seeds", "9..1"][..], &["--seed", "1", "--seeds", "1..2"], &["--steps", "-1"]]
    {
        assert_eq!(simulate(arguments).0, Some(2), "{arguments:?}");
    }
    #[cfg(not(feature = "planted-faults"))]
    {
        let (code, _, said) = simulate(&["--planted", "cryptogram"]);
        assert_eq!(code, Some(2));
        assert!(said.contains("cargo build --features planted-faults"), "{said}");
    }
}
