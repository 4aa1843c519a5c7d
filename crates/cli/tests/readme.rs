//! The samples of README and HSM page are run as they stand, so that what a newcomer copies works.
//!
//! Blocks behind `<!-- tested -->` run in order, against a platform of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod platform;

use std::env;
use std::path::Path;
use std::process::Command;

use platform::Platform;

const README: &str = include_str!("../../../README.md");
const HSM_PAGE: &str = include_str!("../../../docs/hsm.md");
const MARK: &str = "<!-- tested -->\n```sh\n";
/// Where the README's platform listens.
const ADDRESS: &str = "https://127.0.0.1:8443";

fn samples(page: &'static str) -> Vec<&'static str> {
    let behind_marks = page.split(MARK).skip(1);
    behind_marks.map(|text| text.split_once("\n```").expect("a block ends").0).collect()
}

fn path_with_the_binary() -> String {
    let directory = Path::new(env!("CARGO_BIN_EXE_tapfer")).parent().unwrap();
    format!("{}:{}", directory.display(), env::var("PATH").unwrap())
}

/// What a script says and complains about, which has to succeed.
fn run(script: &str, home: &Path) -> (String, String) {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", path_with_the_binary())
        .env("TAPFER_HOME", home)
        .env_remove("TAPFER_SERVER")
        .env_remove("TAPFER_KEY")
        .output()
        .expect("bash runs");
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}\n{complained}");
    (said, complained)
}

#[test]
fn what_the_readme_says_works() {
    let samples = samples(README);
    assert_eq!(
        samples.len(),
        4,
        "first steps, refund and suspension, a policy, the same over HTTP"
    );
    let platform = Platform::start();
    let files = tempfile::tempdir().unwrap();
    // The part over HTTP may be run again: it says so.
    let again = samples.last().copied();
    let script = samples
        .iter()
        .copied()
        .chain(again)
        .collect::<Vec<_>>()
        .join("\n")
        .replace(ADDRESS, platform.address())
        .replace("/tmp/", &format!("{}/", files.path().display()));

    let (said, complained) = run(&script, platform.home());
    assert_eq!(said.matches("APPROVED").count(), 4, "12.34, 60.00, 1.00 and 15.00: {said}");
    assert_eq!(said.matches("The PIN was wrong").count(), 1, "{said}");
    assert!(said.contains("tries_left     2"), "{said}");
    assert!(complained.contains("phone: wrong PIN: 2 tries are left"), "{complained}");
    assert!(said.contains("declined, as it should be"), "{said}");
    assert_eq!(said.matches("\"outcome\":\"approved\"").count(), 4, "lunch and tea: {said}");
    assert_eq!(said.matches("\"reason\":\"token_suspended\"").count(), 2, "coffee: {said}");
    assert_eq!(said.matches("\"amount\":250").count(), 4, "each refund told twice: {said}");
    let refunds = platform.tapfer(&["refund", "list"]);
    assert_eq!(refunds["data"].as_array().unwrap().len(), 3, "5.00 and twice 2.50: {refunds}");
}

#[test]
fn what_the_hsm_page_says_works() {
    let samples = samples(HSM_PAGE);
    assert_eq!(samples.len(), 2, "tokens with a ceremony, payments");
    let files = tempfile::tempdir().unwrap();
    let there = |sample: &str| sample.replace("/tmp/", &format!("{}/", files.path().display()));
    let home = files.path().join("campus");
    let (held, _) = run(&there(samples[0]), &home);
    let platform = Platform::on(&home);
    let (said, complained) = run(&there(samples[1]), platform.home());

    assert_eq!(said.matches("APPROVED").count(), 2, "{said}\n{complained}");
    let values = held.lines().find_map(|line| line.strip_prefix("check_values")).unwrap().trim();
    let shown = values.replace("sealing root", "sealing").replace("releasing root", "releasing");
    assert_eq!(said.matches(&shown).count(), 2, "each member shows {shown}: {said}");
}
