//! The command line as a program sees it: exit codes, JSON, and what goes where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::path::Path;

use platform::{Platform, tapfer};
use serde_json::Value;

fn vectors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/tests/data/kernel8.json")
}

#[test]
fn help_and_version_are_no_failure() {
    for arguments in [&["--help"][..], &["--version"], &["terminal", "pay", "--help"]] {
        let output = tapfer().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn wrong_usage_is_2_and_refusal_is_1() {
    let home = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str]| {
        let run = tapfer().args(arguments).arg("--home").arg(home.path()).output().unwrap();
        run.status.code()
    };
    assert_eq!(code(&["no-such-command"]), Some(2));
    assert_eq!(code(&["tlv", "XYZ"]), Some(2));
    assert_eq!(code(&["terminal", "pay", "--wallet", "--amount", "1,50"]), Some(2));
    assert_eq!(code(&["card", "show"]), Some(2), "no card is known, and none is given");
    assert_eq!(code(&["card", "show", "card_x"]), Some(1), "no key is there");
    assert_eq!(code(&["tlv", "6F05"]), Some(1), "the data ends too early");
    assert_eq!(code(&["vectors", "check", "/no/such/file"]), Some(1));
}

#[test]
fn a_tree_is_shown_and_card_numbers_are_masked() {
    let run = |arguments: &[&str]| {
        let output = tapfer().args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let data = "700A5A084111111111111111";
    assert!(!run(&["tlv", data]).contains("4111111111111111"));
    assert!(run(&["tlv", "--show-card-data", data]).contains("4111111111111111"));
    let json: Value = serde_json::from_str(&run(&["--json", "tlv", data])).unwrap();
    assert_eq!(json["objects"][1]["tag"], "5A");
    assert_eq!(json["objects"][1]["depth"], 1);
}

#[test]
fn one_corrupted_value_is_found() {
    let good = std::fs::read_to_string(vectors()).unwrap();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("vectors.json");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = tapfer().args(["vectors", "check", "--json"]).arg(&file).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = check(&good);
    assert_eq!(code, Some(0), "{report}");
    let mut altered: Value = serde_json::from_str(&good).unwrap();
    let value = &mut altered["application_cryptogram"][3]["aes_cmac_cryptogram"];
    *value = Value::from("0000000000000000");
    let (code, report) = check(&altered.to_string());
    assert_eq!(code, Some(1));
    let groups = report["groups"].as_array().unwrap();
    let wrong: usize =
        groups.iter().map(|group| group["differences"].as_array().unwrap().len()).sum();
    assert!(wrong >= 1, "{report}");
}

/// Enrol, pay, look, refund, suspend, pay again: a new user's first quarter of an hour.
#[test]
fn the_first_steps_of_a_new_user() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let receipt = platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "12.34"]);
    assert_eq!(receipt["outcome"], "approved", "{receipt}");
    let payment = receipt["payment_intent"].as_str().unwrap();
    let shown = platform.tapfer(&["payment", "show", payment]);
    assert_eq!(shown["status"], "succeeded");
    let refund = platform.tapfer(&["refund", "create", "--payment", payment, "--amount", "2.34"]);
    assert_eq!(refund["amount"], 234);
    assert_eq!(platform.tapfer(&["card", "show"])["balance"], 5000 - 1000);
    assert_eq!(platform.tapfer(&["card", "entries"])["data"].as_array().unwrap().len(), 4);

    platform.tapfer(&["token", "suspend", "--reason", "lost"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00"];
    let refused = platform.run(&pay);
    assert_eq!(refused.status.code(), Some(1));
    let receipt: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(receipt["reason"], "token_suspended", "{receipt}");
    platform.tapfer(&["token", "unsuspend", "--reason", "found"]);
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
}

#[test]
fn a_phone_with_cards_of_two_issuers_fetches_keys_for_both() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let issuer = ["issuer", "create", "--name", "Second", "--pan-prefix", "999910"];
    let more = ["--token-prefix", "999911", "--country", "276", "--currency", "EUR"];
    platform.tapfer(&[&issuer[..], &more].concat());
    platform.tapfer(&["card", "create"]);
    platform.tapfer(&["wallet", "enrol"]);
    let wallet = platform.tapfer(&["wallet", "replenish"]);
    let tokens = wallet["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    let first = tokens[1]["token"].as_str().unwrap();
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00", "--token", first];
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
    assert_eq!(platform.tapfer(&["wallet", "show"])["tokens"][0]["token"], first);
}

/// A merchant's key is changed without a moment in which nobody can be paid.
#[test]
fn an_api_key_is_changed_and_the_old_one_taken_back() {
    let platform = Platform::start();
    let made = platform.tapfer(&["init"]);
    let merchant = made["merchant"].as_str().unwrap();
    let list = || platform.tapfer(&["api-key", "list", "--owner", merchant]);
    let old = list()["data"][0]["id"].as_str().unwrap().to_owned();
    let new = platform.tapfer(&["api-key", "create", "--owner", merchant]);
    let file = platform.home().join("merchant.key");
    std::fs::write(&file, new["api_key"].as_str().unwrap()).unwrap();
    platform.tapfer(&["api-key", "revoke", &old, "--reason", "left in a log"]);

    let pay = ["payment", "create", "--amount", "1.00"];
    let refused = platform.run(&pay);
    assert_eq!(refused.status.code(), Some(1), "the command line remembers the old key");
    let with_new = [&pay[..], &["--key-file", file.to_str().unwrap()]].concat();
    assert_eq!(platform.tapfer(&with_new)["amount"], 100);
    let revoked = list();
    let revoked =
        revoked["data"].as_array().unwrap().iter().filter(|key| !key["revoked_at"].is_null());
    assert_eq!(revoked.count(), 1);
}

/// A phone that lost its card gets it back, and pays with what it got last.
#[test]
fn a_card_can_be_put_on_the_phone_again() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let refused = platform.run(&["wallet", "enrol"]);
    assert_eq!(refused.status.code(), Some(1), "it is there already");
    platform.tapfer(&["token", "delete"]);
    let enrolled = platform.tapfer(&["wallet", "enrol"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00"];
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
    let wallet = platform.tapfer(&["wallet", "replenish"]);
    let tokens = wallet["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 1, "the deleted token is forgotten");
    assert_eq!(tokens[0]["token"], enrolled["token"]);
}

/// "The latest if not given" is never another phone's token, or another merchant's terminal.
#[test]
fn what_is_not_named_is_what_one_would_think() {
    let platform = Platform::start();
    let first = platform.tapfer(&["init", "--balance", "50.00"]);
    let other = platform.home().join("other-phone");
    platform.tapfer(&["wallet", "enrol", "--wallet", other.to_str().unwrap()]);
    // What changes somebody's phone or card is not guessed at all.
    for ambiguous in [
        &["token", "suspend", "--reason", "phone lost"][..],
        &["token", "delete"],
        &["token", "pin-reset"],
        &["device", "lock", "--reason", "reported lost"],
        &["device", "unlock"],
    ] {
        let refused = platform.run(ambiguous);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("more than one"), "{said}");
    }
    let wallet = platform.tapfer(&["wallet", "show"]);
    let token = wallet["tokens"][0]["token"].as_str().unwrap();
    platform.tapfer(&["token", "suspend", token, "--reason", "phone lost"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00"];
    assert_eq!(platform.run(&pay).status.code(), Some(1), "the phone at home is suspended");
    platform.tapfer(&["token", "unsuspend", token, "--reason", "found"]);
    platform.tapfer(&["card", "create"]);
    let top_up = ["card", "top-up", "--amount", "1.00"];
    assert_eq!(platform.run(&top_up).status.code(), Some(2), "which of two cards?");

    platform.tapfer(&["merchant", "create", "--name", "Second"]);
    let refused = platform.run(&pay);
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no terminal known here"));
    let second = platform.tapfer(&["init"]);
    assert_ne!(second["terminal"], first["terminal"]);
    assert_eq!(platform.tapfer(&pay)["outcome"], "approved");
}

/// Whoever did not see how a command ended repeats it with its key.
#[test]
fn a_repeated_command_books_once() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let top_up = ["card", "top-up", "--amount", "5.00", "--idempotency-key", "till-7"];
    let first = platform.tapfer(&top_up);
    assert_eq!(platform.tapfer(&top_up)["id"], first["id"]);
    assert_eq!(platform.tapfer(&["card", "show"])["balance"], 5_500);
}

#[test]
fn a_large_amount_wants_the_phone_unlocked_and_a_dark_screen_pays_nothing() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "200.00"]);
    let pay = |more: &[&str]| {
        let arguments = [&["terminal", "pay", "--wallet", "--amount"][..], more].concat();
        platform.run(&arguments).status.code()
    };
    assert_eq!(pay(&["60.00"]), Some(1));
    let advice = "the phone needs its owner: see what it asks for, then tap again";
    let told = tapfer()
        .args(["terminal", "pay", "--wallet", "--amount", "60.00", "--home"])
        .arg(platform.home())
        .output()
        .unwrap();
    assert!(told.stdout.is_empty(), "nothing was decided, so there is no receipt");
    let told = String::from_utf8(told.stderr).unwrap();
    let german = tapfer()
        .args(["terminal", "pay", "--wallet", "--amount", "1.00", "--language", "de", "--home"])
        .arg(platform.home())
        .output()
        .unwrap();
    assert!(String::from_utf8(german.stdout).unwrap().contains("GENEHMIGT"));
    assert!(told.contains(advice), "{told}");
    assert!(!told.contains("verification results"), "no more than the receipt: {told}");
    assert_eq!(pay(&["60.00", "--unlocked"]), Some(0));
    assert_eq!(pay(&["1.00", "--verification-limit", "0.50"]), Some(1), "the terminal's own limit");
    assert_eq!(pay(&["1.00", "--screen", "off"]), Some(1));
    assert_eq!(pay(&["1.00"]), Some(0));
    assert_eq!(platform.tapfer(&["card", "show"])["balance"], 20_000 - 6_200);
}

/// What cannot work is said once, about what was given, and to cashiers in their language.
#[test]
fn refusals_of_the_till_name_what_is_wrong() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let files = tempfile::tempdir().unwrap();
    let profile = files.path().join("own.toml");
    let with = |from: &str, to: &str| {
        let attended = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles/terminal");
        let text = std::fs::read_to_string(attended.join("attended.toml")).unwrap();
        assert!(text.contains(from));
        std::fs::write(&profile, text.replace(from, to)).unwrap();
    };
    let pay = |more: &[&str]| {
        let arguments = [&["terminal", "pay", "--wallet"][..], more].concat();
        String::from_utf8(platform.run(&arguments).stderr).unwrap()
    };
    let path = profile.to_str().unwrap();

    with("terminal_type = \"21\"", "terminal_type = \"99\"");
    let said = pay(&["--amount", "1.00", "--profile", path]);
    assert_eq!(said.matches("Book 4 annex A1").count(), 1, "{said}");
    assert!(!said.contains("prove"), "{said}");

    with("[limits]", "[limits]\ncontactless_transaction = 500");
    let arguments = ["--amount", "6.00", "--profile", path];
    assert!(pay(&arguments).contains("6.00 EUR is above 5.00 EUR"));
    let german = pay(&[&arguments[..], &["--language", "de"]].concat());
    assert!(german.contains("6.00 EUR sind mehr als 5.00 EUR"), "{german}");

    let yen = pay(&["--amount", "100", "--currency", "JPY"]);
    assert!(!yen.contains("--verification-limit"), "{yen}");
    let wrong = pay(&["--amount", "100", "--currency", "JPY", "--verification-limit", "5.00"]);
    assert!(wrong.contains("--verification-limit"), "{wrong}");
}

#[test]
fn a_till_of_its_own_puts_the_question_itself() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let tap = ["terminal", "pay", "--wallet", "--request-only", "--amount"];
    let question = platform.tapfer(&[&tap[..], &["12.34"]].concat());
    let chip_data = question["chip_data"].as_str().unwrap();
    let tree = platform.tapfer(&["tlv", chip_data]);
    let amount = tree["objects"].as_array().unwrap().iter().find(|object| object["tag"] == "9F02");
    assert_eq!(amount.unwrap()["value"], "000000001234");
    let payments = platform.tapfer(&["payment", "list"]);
    assert_eq!(payments["data"].as_array().unwrap().len(), 0, "nothing was armed");

    let created = platform.tapfer(&["payment", "create", "--amount", "7.50"]);
    let intent = created["id"].as_str().unwrap();
    let tap_for = ["terminal", "pay", "--wallet", "--request-only", "--payment-intent", intent];
    assert_eq!(platform.run(&tap_for).status.code(), Some(1), "it is not armed yet");
    platform.tapfer(&["payment", "arm", intent]);
    let question = platform.tapfer(&tap_for);
    assert!(question["chip_data"].as_str().unwrap().contains("9f0206000000000750"));

    let refused = platform.run(&[&tap[..], &["60.00"]].concat());
    assert_eq!(refused.status.code(), Some(1), "the card wants its person first");
    assert!(refused.stdout.is_empty());
    let both = platform.run(&[&tap[..], &["1.00", "--kernel-only"]].concat());
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn authorising_now_and_capturing_a_part_later() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "50.00"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "20.00", "--manual-capture"];
    let receipt = platform.tapfer(&pay);
    let card = platform.tapfer(&["card", "show"]);
    assert_eq!((&card["balance"], &card["available"]), (&Value::from(5000), &Value::from(3000)));
    let payment = receipt["payment_intent"].as_str().unwrap();
    platform.tapfer(&["payment", "capture", payment, "--amount", "15.00"]);
    let card = platform.tapfer(&["card", "show"]);
    assert_eq!((&card["balance"], &card["available"]), (&Value::from(3500), &Value::from(3500)));
}

#[test]
fn the_demo_meets_its_expectations() {
    let output = tapfer().arg("demo").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for word in ["replay", "unarmed", "suspended", "forged", "keys left", "receipt"] {
        assert!(text.to_lowercase().contains(word), "{word} is told:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where nobody watches");
}

#[test]
fn the_demo_can_be_read_by_a_program() {
    let output = tapfer().args(["demo", "--json"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect();
    let tap = lines.iter().find_map(|line| line["tap"].as_array()).expect("the tap is told");
    assert!(tap.len() <= 10, "{} commands", tap.len());
    let reasons: Vec<&str> = lines.iter().filter_map(|line| line["found"].as_str()).collect();
    for reason in ["replay", "cryptogram_invalid", "terminal_not_armed", "token_suspended"] {
        assert!(reasons.contains(&reason), "{reason} in {reasons:?}");
    }
    assert!(lines.iter().all(|line| line["met"] != false));
}

#[test]
fn what_is_missing_is_said_with_its_cure() {
    let home = tempfile::tempdir().unwrap();
    let output = tapfer()
        .args(["doctor", "--json", "--listen", "127.0.0.1:0", "--home"])
        .arg(home.path().join("none"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    for check in checks.iter().filter(|check| check["state"] != "good") {
        assert!(check["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{check}");
    }
    assert!(checks.iter().any(|check| check["state"] == "missing"));
}

#[test]
fn policy_files_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let check = |file: &Path| {
        let output = tapfer().args(["--json", "policy", "check"]).arg(file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let mut files = 0;
    for file in std::fs::read_dir(shipped).unwrap() {
        let (code, out) = check(&file.unwrap().path());
        let policy: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &policy["currency"]), (Some(0), &Value::from("EUR")));
        files += 1;
    }
    assert_eq!(files, 6);
    let own = directory.path().join("own.toml");
    let good = "name = \"own\"\ncurrency = \"CHF\"\nlimit = 4000\nup_to_limit = \"screen_on\"\n";
    for (above, code) in [("unlocked", 0), ("anything", 1), ("nobody", 1)] {
        std::fs::write(&own, format!("{good}above_limit = \"{above}\"\n")).unwrap();
        assert_eq!(check(&own).0, Some(code), "{above}");
    }
    let behind = directory.path().join("behind.toml");
    std::fs::write(&behind, format!("{good}above_limit = \"unlocked\"\n")).unwrap();
    let both = tapfer().args(["policy", "check"]).args([&own, &behind]).output().unwrap();
    let [said, complained] =
        [both.stdout, both.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(both.status.code(), Some(1));
    assert!(complained.contains("own.toml") && said.contains("behind.toml"), "{said}{complained}");
}

/// Policy, PIN and payment through the same doors that an issuer, a person and a till have.
#[test]
fn a_pin_is_set_mistyped_and_changed() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "200.00"]);
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = file(
        "policy.toml",
        "name = \"own\"\ncurrency = \"EUR\"\nlimit = 2500\nup_to_limit = \"screen_on\"\n\
         above_limit = \"app_pin\"\n[pin]\nlength = 4\ntries = 3\n",
    );
    let (first, wrong, second) =
        (file("first", "7391\n"), file("wrong", "7392\n"), file("second", "2846\n"));
    let set = platform.tapfer(&["issuer", "policy", "set", &policy]);
    assert_eq!(set, platform.tapfer(&["issuer", "policy", "show"]));
    assert_eq!(
        (&set["policy"]["version"], &set["policy"]["above_limit"]),
        (&2.into(), &"app_pin".into())
    );
    platform.tapfer(&["wallet", "replenish"]);

    let pay = |amount: &str, pin: &[&str]| {
        let arguments = [&["terminal", "pay", "--wallet", "--amount", amount][..], pin].concat();
        let output = platform.run(&arguments);
        let receipt: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), receipt["reason"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        platform
            .run(&["terminal", "pay", "--wallet", "--amount", "30.00", "--pin-file", &first])
            .status
            .code(),
        Some(1),
        "no PIN yet"
    );
    let status = platform.tapfer(&["wallet", "pin", "set", "--pin-file", &first]);
    assert_eq!((&status["generation"], &status["tries_left"]), (&1.into(), &3.into()));
    let again = platform.run(&["wallet", "pin", "set", "--pin-file", &second]);
    assert_eq!(again.status.code(), Some(1), "there is one already");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("tapfer wallet pin change"), "{said}");

    assert_eq!(pay("30.00", &["--pin-file", &first]).0, Some(0));
    assert_eq!(pay("30.00", &[]).0, Some(1), "the phone asks for the PIN");
    assert_eq!(pay("30.00", &["--pin-file", &wrong]), (Some(1), "pin_wrong".to_owned()));
    assert_eq!(platform.tapfer(&["wallet", "pin", "status"])["tries_left"], 2);

    let change = |old: &str| {
        platform.run(&["wallet", "pin", "change", "--old-pin-file", old, "--pin-file", &second])
    };
    assert_eq!(change(&wrong).status.code(), Some(1));
    assert_eq!(platform.tapfer(&["wallet", "pin", "status"])["tries_left"], 1);
    let changed = change(&first);
    assert_eq!(changed.status.code(), Some(0), "{changed:?}");
    assert_eq!(pay("30.00", &["--pin-file", &second]).0, Some(0));
    assert_eq!(platform.tapfer(&["card", "show"])["balance"], 20_000 - 6_000);

    for _ in 0..3 {
        assert_eq!(pay("30.00", &["--pin-file", &wrong]), (Some(1), "pin_wrong".to_owned()));
    }
    let pay = ["terminal", "pay", "--wallet", "--amount", "30.00", "--pin-file", &second];
    let blocked = platform.run(&[&pay[..], &["--language", "de"]].concat());
    let said = String::from_utf8_lossy(&blocked.stderr).into_owned();
    assert!(blocked.status.code() == Some(1) && said.contains("Die PIN ist gesperrt"), "{said}");
}

/// The PIN is taken while the token gets no keys, as its card is blocked: both are said, and the phone asks for the lock,
/// because a PIN without keys verifies nobody.
#[test]
fn a_pin_that_is_set_while_no_keys_can_be_had_is_set_all_the_same() {
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "200.00"]);
    let files = tempfile::tempdir().unwrap();
    let pin = files.path().join("pin");
    std::fs::write(&pin, "2580\n").unwrap();
    let pin = pin.to_str().unwrap();
    platform.tapfer(&["card", "block", "--reason", "lost"]);
    let set = platform.run(&["wallet", "pin", "set", "--pin-file", pin, "--language", "de"]);
    let said = String::from_utf8_lossy(&set.stderr).into_owned();
    assert!(set.status.code() == Some(1) && said.contains("Die PIN ist gesetzt"), "{said}");
    assert_eq!(platform.tapfer(&["wallet", "pin", "status"])["generation"], 1);
    let pay = ["terminal", "pay", "--wallet", "--amount", "30.00", "--pin-file", pin];
    let said = platform.run(&pay).stderr;
    assert!(String::from_utf8_lossy(&said).contains("unlock the phone"), "{said:?}");
}

/// The status list of attestation certificates is taken as its maker publishes it.
#[test]
fn an_integrity_policy_takes_the_published_list_of_revoked_certificates() {
    let platform = Platform::start();
    platform.tapfer(&["init"]);
    let files = tempfile::tempdir().unwrap();
    let list = files.path().join("status.json");
    let list = list.to_str().unwrap();
    let policy =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles/integrity/lower-limit.toml");
    let policy = policy.to_str().unwrap();

    std::fs::write(list, "<html>").unwrap();
    let set = ["issuer", "integrity", "set", policy, "--status-list", list];
    let refused = platform.run(&set);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("status.json is not the list as it is published"), "{said}");

    std::fs::write(list, r#"{"entries": {"00ABCD": {"status": "REVOKED"}}}"#).unwrap();
    platform.tapfer(&set);
    let shown = platform.tapfer(&["issuer", "integrity", "show"]);
    assert_eq!(shown["below"]["lower_limit"], 2500, "{shown}");
    assert_eq!(shown["key_attestation"]["revoked_serials"][0], "abcd", "{shown}");
}

/// A revoked terminal is done: the first set-up run again makes another one, which takes payments.
#[test]
fn a_set_up_after_a_revocation_has_a_terminal_that_works() {
    let platform = Platform::start();
    let first = platform.tapfer(&["init"])["terminal"].clone();
    let revoke = ["terminal", "revoke", first.as_str().unwrap(), "--reason", "stolen"];
    platform.tapfer(&revoke);
    let second = platform.tapfer(&["init"])["terminal"].clone();
    assert_ne!(first, second);
    let paid = platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    assert_eq!(paid["outcome"], "approved", "{paid}");
}

/// A platform that is away is named as that, and not as a merchant's missing proof.
#[test]
fn a_payment_without_a_platform_says_that_there_is_none() {
    let mut platform = Platform::start();
    platform.tapfer(&["init"]);
    let pay = ["terminal", "pay", "--wallet", "--amount", "1.00", "--patience", "1"];
    platform.tapfer(&pay);
    platform.kill();
    let refused = platform.run(&pay);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("no answer from") && said.contains("nobody listens there"), "{said}");
    assert!(!said.contains("cannot prove"), "{said}");
    let refused = platform.run(&[&pay[..], &["--language", "de"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("keine Antwort von") && said.contains("dort nimmt niemand ab"), "{said}");
}

/// A wrong key, and then a pause: in the words of whoever reads them, and with the time to wait.
#[test]
fn refusals_are_told_in_german_too() {
    let platform = Platform::start();
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    let guess = |number: u8| {
        std::fs::write(&key, format!("tapfer_operator_{number:043}")).unwrap();
        let list = ["--key-file", key.to_str().unwrap(), "--language", "de", "card", "list"];
        String::from_utf8_lossy(&platform.run(&list).stderr).into_owned()
    };
    assert!(guess(0).contains("die Plattform kennt diesen API-Schlüssel nicht"));
    let paused = (1..100).map(guess).find(|said| said.contains("zu oft falsche Schlüssel"));
    let paused = paused.unwrap();
    assert!(paused.contains(" s noch einmal (Anfrage "), "{paused}");
}

#[test]
fn closing_a_card_says_what_was_paid_out() {
    let platform = Platform::start();
    let made = platform.tapfer(&["init", "--balance", "50.00"]);
    let card = made["card"].as_str().unwrap();
    assert_eq!(platform.run(&["card", "close", "--pay-out"]).status.code(), Some(2), "which?");
    let refused = platform.run(&["card", "close", card]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("50.00 EUR") && said.contains("--pay-out"), "{said}");
    let closed = platform.tapfer(&["card", "close", card, "--pay-out"]);
    assert_eq!((&closed["balance"], &closed["paid_out"]), (&0.into(), &5_000.into()), "{closed}");
    // Of a pay-out that was before nothing is said again.
    let again = platform.run(&["card", "close", card, "--pay-out"]);
    assert_eq!((again.status.code(), again.stdout.as_slice()), (Some(1), &b""[..]));
}
