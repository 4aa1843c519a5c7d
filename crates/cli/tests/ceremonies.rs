//! Ceremonies at two real tokens that do not go as planned, through the real command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod hsms;
mod platform;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hsms::{Hsms, MEMBERS, PATIENCE, hold_ceremony, until_all_serve};
use platform::{Platform, tapfer, until};
use serde_json::Value;
use tapfer_test_tokens::USER_PIN;

/// `tapfer keys ceremony VERB` over these HSMs, with a transcript of its own.
fn ceremony(hsms: &Hsms, verb: &str, transcript: &str, more: &[&str]) -> Command {
    let mut command = tapfer();
    command.args(["keys", "ceremony", verb, "--officer", "Tony", "--json", "--transcript"]);
    command.arg(hsms.file(transcript)).args(more).arg("--home").arg(hsms.home());
    command
}

fn new(hsms: &Hsms, transcript: &str) -> Command {
    let parts = hsms.parts();
    let custodians = ["--custodian", "Ada", "--custodian", "Grace", "--custodian", "Edsger"];
    let threshold = ["--realm", "demo", "--threshold", "2", "--parts-into"];
    let more = [&threshold[..], &[parts.to_str().unwrap()], &custodians].concat();
    ceremony(hsms, "new", transcript, &more)
}

fn install(hsms: &Hsms, transcript: &str, more: &[&str]) -> Output {
    let parts = [1, 3].map(|number| part(hsms, number));
    let parts = parts.iter().flat_map(|part| ["--part", part]).chain(["--agreed", "install"]);
    let more: Vec<&str> = parts.chain(more.iter().copied()).collect();
    ceremony(hsms, "install", transcript, &more).output().unwrap()
}

fn part(hsms: &Hsms, number: u8) -> String {
    hsms.parts().join(format!("part-{number}-of-3.txt")).to_str().unwrap().to_owned()
}

fn written(hsms: &Hsms, transcript: &str) -> String {
    fs::read_to_string(hsms.file(transcript)).unwrap()
}

fn objects(hsms: &Hsms) -> [usize; 2] {
    MEMBERS.map(|name| hsms.objects(name))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn pin(hsms: &Hsms) -> PathBuf {
    hsms.file("pin")
}

#[test]
fn wrong_pins_and_missing_tokens_are_found_before_the_first_part_is_shown() {
    let hsms = Hsms::without_realm();
    let toml = hsms.home().join("hsm.toml");
    let right = fs::read_to_string(&toml).unwrap();
    fs::write(pin(&hsms), "another-pin").unwrap();
    fs::write(&toml, right.replace("token = \"south\"", "token = \"elsewhere\"")).unwrap();
    let output = new(&hsms, "first.txt").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    for found in ["2 of 2 members", "north: ", "CKR_PIN_INCORRECT", "south: ", "elsewhere"] {
        assert!(said.contains(found), "{found}: {said}");
    }
    assert!(!hsms.parts().exists(), "nobody has seen a part");
    assert!(!hsms.home().join("keys.json").exists());
    assert!(written(&hsms, "first.txt").contains("STOPPED: 2 of 2 members"));

    fs::write(pin(&hsms), USER_PIN).unwrap();
    fs::write(&toml, right).unwrap();
    let output = new(&hsms, "second.txt").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(objects(&hsms), [2, 2]);
}

#[test]
fn a_ceremony_that_died_between_two_hsms_goes_on() {
    let hsms = Hsms::without_realm();
    hsms.set("south", "hang C_CreateObject");
    let mut held = new(&hsms, "died.txt").stderr(Stdio::null()).spawn().unwrap();
    let north = "root keys put on the token of north";
    until("north has the root keys", PATIENCE, || {
        fs::read_to_string(hsms.file("died.txt")).ok()?.contains(north).then_some(())
    });
    held.kill().unwrap();
    held.wait().unwrap();
    let transcript = written(&hsms, "died.txt");
    for found in ["ended         NOT YET", "realm_", "part 2 of 3 for Grace", "nobody signs"] {
        assert!(transcript.contains(found), "{found}: {transcript}");
    }
    hsms.set("south", "");
    assert_eq!(objects(&hsms), [2, 0]);

    // Not from the beginning: the custodians have their parts, and one HSM has the keys.
    let again = new(&hsms, "again.txt").output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("tapfer keys ceremony install"), "{again:?}");
    let output = install(&hsms, "installed.txt", &[]);
    assert!(output.status.success(), "{output:?}");
    let transcript = written(&hsms, "installed.txt");
    for found in ["the token of north has these root keys already", "put on the token of south"] {
        assert!(transcript.contains(found), "{found}: {transcript}");
    }
    assert_eq!(objects(&hsms), [2, 2]);
    let platform = Platform::on(&hsms.home());
    platform.tapfer(&["init"]);
    let pay = platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    assert_eq!(pay["outcome"], "approved");
}

#[test]
fn an_hsm_that_fails_in_a_ceremony_is_named_and_gets_its_keys_later() {
    let hsms = Hsms::without_realm();
    hsms.set("south", "CKR_DEVICE_ERROR C_CreateObject");
    let output = new(&hsms, "failed.txt").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("member south did not take the root keys"), "{said}");
    assert!(written(&hsms, "failed.txt").contains("STOPPED: member south did not take"));
    hsms.set("south", "");
    let output = install(&hsms, "south.txt", &["--member", "south"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!written(&hsms, "south.txt").contains("north"), "nobody else was asked");
    assert_eq!(objects(&hsms), [2, 2]);
}

/// Nobody at the table waits for ever, and no worker that would log in to the same token.
#[test]
fn an_hsm_that_hangs_in_a_ceremony_is_given_up_and_gets_its_keys_later() {
    let hsms = Hsms::without_realm();
    let toml = hsms.home().join("hsm.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let soon = "[pool]\nstart_ms = 8000\nmaking_deadline_ms = 1000\n";
    fs::write(&toml, text.replace("[pool]\n", soon)).unwrap();
    let in_vain = "did not answer within 9 seconds";
    hsms.set("south", "hang C_Login");
    let said = stderr(&new(&hsms, "login.txt").output().unwrap());
    assert!(said.contains("1 of 2 members") && said.contains(in_vain), "{said}");
    assert!(!hsms.parts().exists(), "nobody has seen a part");
    hsms.set("south", "hang C_CreateObject");
    let said = stderr(&new(&hsms, "object.txt").output().unwrap());
    assert!(said.contains("member south did not take the root keys"), "{said}");
    assert!(said.contains(in_vain), "{said}");
    assert!(written(&hsms, "object.txt").contains("root keys put on the token of north"));
    hsms.set("south", "");
    let output = install(&hsms, "installed.txt", &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(objects(&hsms), [2, 2]);
}

#[test]
fn a_replaced_hsm_gets_the_root_keys_and_the_others_keep_theirs() {
    let hsms = Hsms::with_realm("demo");
    hsms.make_site(&["west"], &hsms.file("west.toml"));
    let west = fs::read_to_string(hsms.file("west.toml")).unwrap();
    let (_, west) = west.split_once("[[member]]").unwrap();
    let toml = hsms.home().join("hsm.toml");
    let before = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, format!("{before}[[member]]{west}")).unwrap();

    // Parts of another realm are of no use here.
    let other = tempfile::tempdir().unwrap();
    hold_ceremony(&other.path().join("home"), "demo", other.path());
    let parts = [1, 2].map(|number| other.path().join(format!("parts/part-{number}-of-3.txt")));
    let parts = parts.iter().flat_map(|part| ["--part", part.to_str().unwrap()]);
    let parts: Vec<&str> = parts.chain(["--agreed", "install"]).collect();
    let output = ceremony(&hsms, "install", "stranger.txt", &parts).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(hsms.objects("west"), 0);

    let output = install(&hsms, "west.txt", &[]);
    assert!(output.status.success(), "{output:?}");
    let transcript = written(&hsms, "west.txt");
    for found in ["of north has these", "of south has these", "put on the token of west"] {
        assert!(transcript.contains(found), "{found}: {transcript}");
    }
    assert_eq!(hsms.objects("west"), 2);
    let unknown = install(&hsms, "east.txt", &["--member", "east"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("east"), "{unknown:?}");
}

/// Roots of a time when the module of south did not know what guards roots: the ceremony that finds them, the platform
/// that works with them and `doctor` say so. On a token that was initialised anew they have it.
#[test]
fn roots_without_their_guard_are_told_by_whoever_meets_them() {
    let hsms = Hsms::without_realm();
    hsms.set("south", "unknown CKA_UNWRAP_TEMPLATE CKA_ALLOWED_MECHANISMS CKA_DESTROYABLE");
    let output = new(&hsms, "before.txt").output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("CAUTION"), "{output:?}");
    hsms.set("south", "");

    let output = install(&hsms, "met.txt", &[]);
    assert!(output.status.success(), "{output:?}");
    for told in [stderr(&output), written(&hsms, "met.txt")] {
        for lack in ["CKA_UNWRAP_TEMPLATE", "CKA_ALLOWED_MECHANISMS", "CKA_DESTROYABLE"] {
            let is_told = |line: &str| line.contains("CAUTION") && line.contains(lack);
            assert_eq!(told.lines().filter(|line| is_told(line)).count(), 1, "{lack}: {told}");
        }
        assert!(
            told.contains("ceremony install --member south") && !told.contains("--member north")
        );
    }
    let guard = |platform: &Platform| {
        let doctor = platform.run(&["doctor"]);
        let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["what"] == "guard of the roots")
    };
    let mut platform = Platform::on(&hsms.home());
    let found = guard(&platform).unwrap()["found"].as_str().unwrap().to_owned();
    assert!(found.contains("south: whoever has PIN and catalogue"), "{found}");
    assert!(!found.contains("north"), "{found}");
    platform.kill();

    fs::remove_dir_all(hsms.file("south")).unwrap();
    hsms.make_site(&["south"], &hsms.file("south.toml"));
    let output = install(&hsms, "anew.txt", &["--member", "south"]);
    assert!(output.status.success() && !stderr(&output).contains("CAUTION"), "{output:?}");
    let platform = Platform::on(&hsms.home());
    until_all_serve(&platform);
    assert_eq!(guard(&platform), None);
}

/// One HSM is enough for the keys' keepers as well, and none may keep them waiting for ever.
#[test]
fn keys_are_rotated_at_whichever_hsm_answers() {
    let hsms = Hsms::with_realm("demo");
    let mut platform = Platform::on(&hsms.home());
    platform.tapfer(&["init"]);
    platform.kill();
    let toml = hsms.home().join("hsm.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let impatient = "[pool]\nstart_ms = 3000\nmaking_deadline_ms = 1000\n";
    fs::write(&toml, text.replace("[pool]\n", impatient)).unwrap();
    let issuers = platform_issuer(&hsms);
    let rotate = || {
        let mut command = tapfer();
        command.args(["keys", "rotate", &issuers, "card-records", "--reason", "test", "--json"]);
        command.arg("--home").arg(hsms.home()).output().unwrap()
    };
    for (fault, generation) in [("CKR_DEVICE_ERROR", 2), ("hang", 3)] {
        hsms.set("north", fault);
        let output = rotate();
        assert!(output.status.success(), "{fault}: {output:?}");
        let made: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(made["generation"], generation);
        let said = stderr(&output);
        let expected = ["It is done, by south. north was asked before", "repeated for north"];
        assert!(expected.iter().all(|part| said.contains(part)), "{fault}: {said}");
    }
    hsms.set("south", "CKR_DEVICE_ERROR");
    let output = rotate();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected =
        ["nothing was changed", "north: did not answer within 4 seconds", "CKR_DEVICE_ERROR"];
    assert!(expected.iter().all(|part| said.contains(part)), "{said}");
}

/// Owner of the keys for card records, as the catalogue says.
fn platform_issuer(hsms: &Hsms) -> String {
    let mut list = tapfer();
    list.args(["keys", "list", "--json", "--home"]).arg(hsms.home());
    let listed: Value = serde_json::from_slice(&list.output().unwrap().stdout).unwrap();
    let mut keys = listed["data"].as_array().unwrap().iter();
    let key = keys.find(|key| key["purpose"] == "card-records").unwrap();
    key["owner"].as_str().unwrap().to_owned()
}
