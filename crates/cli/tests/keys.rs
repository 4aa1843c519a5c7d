//! Keys and the people who keep them, through the real command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod custodians;
mod platform;

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use custodians::{
    CUSTODIANS, Table, as_str, audit, done, error, issuer, masters, refused, run, text,
};
use platform::{Platform, tapfer, until};
use serde_json::Value;

fn is_group(word: &str) -> bool {
    word.len() == 5 && !word.bytes().any(|byte| byte.is_ascii_lowercase() || byte == b':')
}

/// Everything that stands on a part's paper in groups.
fn groups(part: &str) -> Vec<String> {
    let paper = fs::read_to_string(part).unwrap();
    paper.split_whitespace().filter(|word| is_group(word)).map(str::to_owned).collect()
}

#[test]
fn root_keys_come_from_a_ceremony_and_every_two_custodians_can_rebuild_them() {
    let table = Table::new();
    let home = table.home();
    let made = done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
    assert_eq!((made["threshold"].as_u64(), made["parts"].as_u64()), (Some(2), Some(3)));

    let transcript = fs::read_to_string(table.file("new.txt")).unwrap();
    for name in CUSTODIANS.iter().chain(&["Tony", "Barbara"]) {
        assert!(transcript.contains(name), "{name} signs");
    }
    assert!(transcript.contains(made["transcript_sha256"].as_str().unwrap()));
    let json = fs::read_to_string(table.file("new.txt.json")).unwrap();
    for number in 1..=3 {
        for group in groups(&table.part("new", number)) {
            assert!(!transcript.contains(&group) && !json.contains(&group), "a secret: {group}");
        }
    }
    let platform = Platform::on(&home);
    platform.tapfer(&["init"]);
    let pay = platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    assert_eq!(pay["outcome"], "approved");

    for (one, other) in [(1, 2), (3, 1), (2, 3)] {
        let transcript = table.file(&format!("verified-{one}-{other}.txt"));
        let (one, other) = (table.part("new", one), table.part("new", other));
        let mut verify = vec!["keys", "ceremony", "verify", "--officer", "Tony"];
        verify.extend(["--transcript", text(&transcript), "--part", &one, "--part", &other]);
        verify.extend(["--agreed", "verify"]);
        let verified = done(&home, &verify);
        assert_eq!(verified["check_values"], made["check_values"]);
        assert_eq!(verified["realm"], made["realm"]);
    }
}

#[test]
fn wrong_mixed_up_double_and_too_few_parts_are_refused() {
    let table = Table::new();
    let home = table.home();
    done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
    let first = table.part("new", 1);
    drop(Platform::on(&home));
    let third = table.part("new", 3);
    let two = ["--part", &first, "--part", &third, "--agreed", "reshare"];
    let again = done(&home, &as_str(&table.hand_out("reshare", &two)));
    let tried = Cell::new(0);
    let verify = |parts: &[&str]| {
        tried.set(tried.get() + 1);
        let transcript = table.file(&format!("refused-{}.txt", tried.get()));
        let mut arguments = vec!["keys", "ceremony", "verify", "--officer", "Tony"];
        arguments.extend(["--transcript", text(&transcript), "--agreed", "verify"]);
        arguments.extend(parts.iter().flat_map(|part| ["--part", part]));
        let said = refused(&home, &arguments);
        let written = fs::read_to_string(&transcript).unwrap();
        assert!(written.contains("outcome       STOPPED: "), "{written}");
        said
    };
    assert!(verify(&[&first]).contains("parts given: 1; parts needed: 2"));
    assert!(verify(&[&first, &first]).contains("part 1 was given already"));
    // Another part, on a paper that names the same person.
    let second = fs::read_to_string(table.part("new", 2)).unwrap();
    let of_ada = table.file("of-ada.txt");
    fs::write(&of_ada, second.replace("custodian: Grace", "custodian:  ADA ")).unwrap();
    let said = verify(&[&first, text(&of_ada)]);
    assert!(said.contains("ADA has given a part of root keys already"), "{said}");
    let mixed = verify(&[&first, &table.part("reshare", 2)]);
    assert!(mixed.contains("parts of two ceremonies do not go together"), "{mixed}");

    let paper = fs::read_to_string(table.part("new", 2)).unwrap();
    let typed = groups(&table.part("new", 2));
    let seventh = &typed[6];
    let letter = if seventh.starts_with('7') { "8" } else { "7" };
    let wrong = table.file("mistyped.txt");
    fs::write(&wrong, paper.replace(seventh, &format!("{letter}{}", &seventh[1..]))).unwrap();
    let said = verify(&[&first, text(&wrong)]);
    assert!(said.contains("group 7 is mistyped"), "{said}");

    // The new parts are of the same keys.
    let transcript = table.file("verified.txt");
    let (one, other) = (table.part("reshare", 2), table.part("reshare", 1));
    let mut arguments = vec!["keys", "ceremony", "verify", "--officer", "Tony"];
    arguments.extend(["--transcript", text(&transcript), "--part", &one, "--part", &other]);
    arguments.extend(["--agreed", "verify"]);
    assert_eq!(done(&home, &arguments)["check_values"], again["check_values"]);
    let strangers = Table::new();
    done(&strangers.home(), &as_str(&strangers.hand_out("new", &["--realm", "demo"])));
    let said = verify(&[&strangers.part("new", 1), &strangers.part("new", 2)]);
    assert!(said.contains("was made under other root keys"), "{said}");
}

#[test]
fn one_person_cannot_be_two_custodians() {
    let table = Table::new();
    let mut arguments = table.hand_out("new", &["--realm", "demo", "--custodian", " ada "]);
    let output = run(&table.home(), &as_str(&arguments));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    arguments.truncate(5);
    arguments.extend(["--custodian", "Ada", "--officer", "Tony"].map(str::to_owned));
    arguments.extend(["--transcript".to_owned(), text(&table.file("x")).to_owned()]);
    assert_eq!(run(&table.home(), &as_str(&arguments)).status.code(), Some(2));
    assert!(!table.home().exists());
}

fn pay(platform: &Platform) -> Output {
    platform.run(&["terminal", "pay", "--wallet", "--amount", "1.00"])
}

#[test]
fn a_running_platform_takes_a_new_generation_over_and_old_tokens_go_on() {
    let table = Table::new();
    let platform = Platform::on(&table.home());
    platform.tapfer(&["init"]);
    assert!(pay(&platform).status.success());
    let issuer = issuer(&platform);
    done(&table.home(), &as_str(&table.hand_out("share", &[])));
    let why = ["--reason", "the drill of this year", "--by", "Ada"];
    let rotate = [&["keys", "rotate", &issuer, "issuer-master"], &why[..]].concat();
    let made = platform.tapfer(&rotate);
    assert_eq!((made["generation"].as_u64(), made["state"].as_str()), (Some(2), Some("active")));
    assert!(pay(&platform).status.success(), "a key of the first generation");
    let renewed = || audit(&platform, "issuer.keys_renewed").first().map(|_| ());
    until("the platform follows", Duration::from_secs(30), renewed);
    let [ordered, ended] = audit(&platform, "key.rotated").try_into().unwrap();
    assert!(ordered.starts_with("ordered by Ada (user "), "{ordered}");
    assert!(ordered.ends_with(" of this machine): the drill of this year"), "{ordered}");
    assert!(ended.starts_with("done: generation 2 is active, check value "), "{ended}");
    platform.tapfer(&["wallet", "replenish"]);
    assert!(pay(&platform).status.success(), "a key of the second generation");

    let advance = |verb, generation, more: &[&str]| {
        let arguments = [&["keys", verb, &issuer, "issuer-master", generation], &why[..], more];
        platform.run(&arguments.concat())
    };
    let custodians = table.two_custodians("share");
    let destroy = |transcript: &str, more: &[&str]| {
        let transcript = table.file(transcript);
        let held = ["--officer", "Tony", "--transcript", text(&transcript), "--agreed", "destroy"];
        advance("destroy", "1", &[&held[..], &as_str(&custodians), more].concat())
    };
    assert_eq!(advance("retire", "2", &[]).status.code(), Some(1), "nothing would take its place");
    let name = format!("{issuer} issuer-master 1");
    let refused = destroy("active.txt", &["--confirm", &name]);
    assert!(error(&refused).contains("is not retired"), "{refused:?}");
    assert!(advance("retire", "1", &[]).status.success());
    assert!(pay(&platform).status.success());
    // What phones were given is counted until it expires, used up or replaced as it may be.
    let needed = error(&destroy("needed.txt", &["--confirm", &name]));
    assert!(needed.contains("keys on phones that can still pay"), "{needed}");
    let (_, lose) = needed.rsplit_once("--lose ").unwrap();
    let lose = ["--lose", lose];
    let destroy = |transcript, more: &[&str]| destroy(transcript, &[&lose[..], more].concat());
    assert_eq!(destroy("unsaid.txt", &[]).status.code(), Some(2), "nothing was confirmed");
    assert_eq!(destroy("another.txt", &["--confirm", "another"]).status.code(), Some(2));
    let destroyed = destroy("destroyed.txt", &["--confirm", &name]);
    assert!(destroyed.status.success(), "{destroyed:?}");
    let states = [(1, "destroyed".to_owned()), (2, "active".to_owned())];
    assert_eq!(masters(&platform, &issuer), states);
    assert!(pay(&platform).status.success());
}

/// Who has the login of the vault, and nobody with him.
#[test]
fn attack_key_destroyed_by_one_person() {
    let table = Table::new();
    let platform = Platform::on(&table.home());
    platform.tapfer(&["init"]);
    let issuer = issuer(&platform);
    done(&table.home(), &as_str(&table.hand_out("share", &[])));
    let why = ["--reason", "spite"];
    for verb in [&["rotate"][..], &["retire", "1"]] {
        let (verb, generation) = verb.split_first().unwrap();
        let key = ["keys", verb, &issuer, "card-records"];
        platform.tapfer(&[&key[..], generation, &why].concat());
    }
    let name = format!("{issuer} card-records 1");
    let destroy = |transcript: &str, more: &[&str]| {
        let transcript = table.file(transcript);
        let key = ["keys", "destroy", &issuer, "card-records", "1", "--confirm", &name];
        let held = ["--officer", "Tony", "--transcript", text(&transcript)];
        platform.run(&[&key[..], &held, &why, more].concat())
    };
    let custodians = table.two_custodians("share");
    let with = |more: &[&str]| -> Vec<String> {
        let more = [more, &["--agreed", "destroy"]].concat();
        custodians.iter().cloned().chain(more.iter().map(ToString::to_string)).collect()
    };
    // The database still has numbers under it, with or without custodians.
    let refused = error(&destroy("needed.txt", &as_str(&with(&[]))));
    let needed = ["2 records", "1 card numbers, 1 token numbers", "--lose 2"];
    assert!(needed.iter().all(|part| refused.contains(part)), "{refused}");
    let fewer = error(&destroy("fewer.txt", &as_str(&with(&["--lose", "1"]))));
    assert!(fewer.contains("2 records"), "{fewer}");

    let alone = destroy("alone.txt", &["--lose", "2"]);
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    let one = destroy(
        "one.txt",
        &["--lose", "2", "--part", &table.part("share", 1), "--agreed", "destroy"],
    );
    assert!(error(&one).contains("parts given: 1; parts needed: 2"), "{one:?}");
    assert!(pay(&platform).status.success(), "nothing is destroyed");
    let told = audit(&platform, "key.destroyed");
    assert!(!told.iter().any(|line| line.starts_with("done")), "{told:?}");
    assert!(told.last().unwrap().contains("part 1 of Ada"), "{told:?}");

    assert!(destroy("agreed.txt", &as_str(&with(&["--lose", "2"]))).status.success());
    let told = audit(&platform, "key.destroyed").pop().unwrap();
    assert!(told.contains("part 1 of Ada and part 3 of Edsger"), "{told}");
    let transcript = fs::read_to_string(table.file("agreed.txt")).unwrap();
    assert!(transcript.contains("lost with it: 1 card numbers, 1 token numbers"), "{transcript}");
}

#[test]
fn an_overdue_key_is_shown_and_is_an_exit_code() {
    let platform = Platform::start();
    platform.tapfer(&["init"]);
    assert!(platform.run(&["keys", "list"]).status.success());
    fs::write(
        platform.home().join("keys.toml"),
        "warn_days = 0\n[cryptoperiod_days]\nissuer-master = 0\n",
    )
    .unwrap();
    let issuer = issuer(&platform);
    let output = platform.run(&["keys", "list", "--owner", &issuer]);
    assert_eq!(output.status.code(), Some(1));
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let overdue =
        |key: &&Value| key["remark"].as_str().is_some_and(|text| text.starts_with("OVERDUE"));
    let overdue: Vec<&Value> = listed["data"].as_array().unwrap().iter().filter(overdue).collect();
    let [overdue] = overdue.try_into().unwrap();
    assert_eq!(overdue["purpose"], "issuer-master");
    fs::write(platform.home().join("keys.toml"), "cryptoperiod_days = 5").unwrap();
    let said = platform.run(&["keys", "list"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stderr).unwrap().contains("keys.toml"));
}

/// What a ceremony shows at a screen before parts are typed, and what it answers to `typed`.
fn screen(home: &Path, arguments: &[&str], typed: &str) -> String {
    let quoted = |argument: &&str| format!("'{argument}'");
    let arguments: Vec<String> = arguments.iter().map(quoted).collect();
    let program = tapfer().get_program().to_str().unwrap().to_owned();
    let command = format!("'{program}' {} --home '{}'", arguments.join(" "), text(home));
    let mut script = Command::new("script");
    let script = script.args(["-qec", &command, "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    script.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    String::from_utf8(script.wait_with_output().unwrap().stdout).unwrap()
}

/// The officer lets custodians come for the yearly check of their papers, and types another command.
#[test]
fn attack_new_parts_in_place_of_a_check() {
    let table = Table::new();
    let home = table.home();
    done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
    let (one, other) = (table.part("new", 1), table.part("new", 2));
    let parts = ["--part", &one, "--part", &other];
    let mine = Table::new();
    let reshare = |more: &[&str]| mine.hand_out("reshare", &[&parts[..], more].concat());
    // Where nothing compares the keys, and nothing keeps that it was done.
    for home in [&mine.file("nothing"), &home] {
        let said = refused(home, &as_str(&reshare(&["--agreed", "reshare"])));
        assert!(
            said.contains("there is no realm with a catalogue of keys and an audit log"),
            "{said}"
        );
    }
    let platform = Platform::on(&home);
    // What they agreed to is another act.
    let said = refused(&home, &as_str(&reshare(&["--agreed", "verify"])));
    assert!(
        said.contains("the custodians agreed to \"verify\", and this is \"reshare\""),
        "{said}"
    );
    fs::remove_file(mine.file("reshare.txt")).unwrap();
    fs::remove_file(mine.file("reshare.txt.json")).unwrap();
    let unsaid = run(&home, &as_str(&reshare(&[])));
    assert_eq!(unsaid.status.code(), Some(2), "{unsaid:?}");
    assert!(!mine.file("reshare-parts").exists());
    drop(platform);

    // At the keyboard every act says what it is, and takes its own word only.
    fs::rename(home.join("keystore"), table.file("keystore")).unwrap();
    let transcript = |verb: &str| table.file(&format!("screen-{verb}.txt"));
    let shown = |verb: &str, more: &[&str]| {
        let transcript = transcript(verb);
        let fixed = ["keys", "ceremony", verb, "--officer", "Tony", "--transcript"];
        let arguments = [&fixed[..], &[text(&transcript)], more].concat();
        screen(&home, &arguments, "Ada\nyes\n")
    };
    let tony = ["--threshold", "2", "--custodian", "Tony", "--custodian", "Tina"];
    for (verb, more, says) in [
        ("verify", &[][..], "nobody gets anything"),
        ("install", &[], "SOFTWARE KEYSTORE"),
        ("reshare", &tony, "about to be given to: Tony, Tina. Any 2 of these 2 people"),
    ] {
        let shown = shown(verb, more);
        let heading = format!("ROOT KEYS ARE WANTED FOR: {}", verb.to_uppercase());
        let prompt = format!("Ada, to agree type {verb}: ");
        for part in [&heading, says, &prompt, "Ada did not agree; nothing was changed"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("from group 1"), "{shown}");
    }
}

#[test]
fn a_passphrase_that_is_none_is_refused_before_the_first_part_is_shown() {
    let table = Table::new();
    let file = table.file("passphrase");
    fs::write(&file, "short").unwrap();
    let with = ["--realm", "production", "--passphrase-file", text(&file)];
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refused(&table.home(), &as_str(&table.hand_out("new", &with)));
    assert!(said.contains(&format!("chmod 600 {}", text(&file))), "{said}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let said = refused(&table.home(), &as_str(&table.hand_out("new", &with)));
    assert!(said.contains("the passphrase is too short"), "{said}");
    assert!(!table.file("new-parts").exists() && !table.file("new.txt").exists());
}

#[test]
fn a_drill_restores_from_the_custodians_parts_and_pays() {
    let table = Table::new();
    let home = table.home();
    done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
    let mut platform = Platform::on(&home);
    platform.tapfer(&["init"]);
    platform.tapfer(&["terminal", "pay", "--wallet", "--amount", "1.00"]);
    let backup = table.file("backup");
    platform.tapfer(&["backup", "--to", text(&backup)]);
    // It has keys now that the backup does not know, and no others that pay.
    platform.tapfer(&["wallet", "replenish"]);
    platform.kill();
    let balance = fs::metadata(home.join("tapfer.db")).unwrap().len();
    let report = table.file("drill.txt");
    let (one, other) = (table.part("new", 3), table.part("new", 1));
    let mut drill = vec!["dr", "drill", "--from", text(&backup), "--agreed", "drill"];
    drill.extend(["--part", &one, "--part", &other]);
    let passed = done(&home, &[&drill[..], &["--report", text(&report)]].concat());
    assert_eq!(passed["passed"], true, "{passed}");
    assert!(fs::read_to_string(&report).unwrap().contains("DISASTER RECOVERY DRILL: PASSED"));
    assert_eq!(fs::metadata(home.join("tapfer.db")).unwrap().len(), balance);
    platform.restart();
    assert!(
        pay(&platform).status.success(),
        "the phone and its platform know nothing of the drill"
    );

    // A realm whose roots are in modules: the drill needs the parts only, and asks no module.
    let text_of_list = fs::read(backup.join("backup.json")).unwrap();
    let mut list: Value = serde_json::from_slice(&text_of_list).unwrap();
    let modules = b"# no module that a drill may touch\n";
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, modules);
    for file in list["files"].as_array_mut().unwrap() {
        if file["name"] == "keystore" {
            *file = serde_json::json!({
                "name": "hsm.toml", "length": modules.len(),
                "sha256": data_encoding::HEXLOWER.encode(digest.as_ref()),
            });
        }
    }
    fs::write(backup.join("hsm.toml"), modules).unwrap();
    fs::write(backup.join("backup.json"), list.to_string()).unwrap();
    assert_eq!(done(&home, &drill)["passed"], true);
    fs::write(backup.join("backup.json"), text_of_list).unwrap();

    let catalogue = fs::read_to_string(backup.join("keys.json")).unwrap();
    fs::write(backup.join("keys.json"), catalogue.replacen("active", "retire", 1)).unwrap();
    let output = run(&home, &drill);
    assert_eq!(output.status.code(), Some(1));
    let failed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = failed["steps"][0]["found"].as_str().unwrap();
    assert!(found.contains("keys.json was changed"), "{found}");
}
