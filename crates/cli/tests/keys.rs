//! Keys and the people who keep them, through the real command line.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod platform;

use platform::{Platform, tapfer, until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;

const CUSTODIANS: [&str; 3] = ["Ada", "Grace", "Edsger"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(home: &Path, arguments: &[&str]) -> Output {
    tapfer().args(arguments).arg("--json").arg("--home").arg(home).output().unwrap()
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The error of a command that was refused.
fn refused(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    let lines = String::from_utf8(output.stderr).unwrap();
    let last = lines.lines().last().unwrap();
    let said: Value = serde_json::from_str(last).unwrap();
    said["error"].as_str().unwrap().to_owned()
}

/// A place for parts and transcripts beside a realm's home.
struct Table(TempDir);

impl Table {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.file("home")
    }

    /// Arguments of a ceremony, with its transcript and the custodians.
    fn hand_out(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let transcript = self.file(&format!("{verb}.txt"));
        let parts = self.file(&format!("{verb}-parts"));
        let mut arguments: Vec<String> = ["keys", "ceremony", verb, "--threshold", "2"]
            .into_iter()
            .chain(CUSTODIANS.iter().flat_map(|name| ["--custodian", name]))
            .chain(["--officer", "Tony", "--witness", "Barbara"])
            .chain(["--transcript", text(&transcript), "--parts-into", text(&parts)])
            .map(str::to_owned)
            .collect();
        arguments.extend(more.iter().map(|more| (*more).to_owned()));
        arguments
    }

    fn part(&self, verb: &str, number: u8) -> String {
        text(&self.file(&format!("{verb}-parts/part-{number}-of-3.txt"))).to_owned()
    }
}

fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

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
    let reshare = table.hand_out("reshare", &["--part", &first, "--part", &table.part("new", 3)]);
    let again = done(&home, &as_str(&reshare));
    let verify = |parts: &[&str]| {
        let transcript = table.file("refused.txt");
        let mut arguments = vec!["keys", "ceremony", "verify", "--officer", "Tony"];
        arguments.extend(["--transcript", text(&transcript)]);
        arguments.extend(parts.iter().flat_map(|part| ["--part", part]));
        let said = refused(&home, &arguments);
        assert!(!transcript.exists());
        said
    };
    assert!(verify(&[&first]).contains("1 parts were given, 2 are needed"));
    assert!(verify(&[&first, &first]).contains("part 1 was given already"));
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

fn issuer(platform: &Platform) -> String {
    platform.tapfer(&["issuer", "list"])["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Keys of an issuer's master key: generation and state.
fn masters(platform: &Platform, issuer: &str) -> Vec<(u64, String)> {
    let shown = platform.tapfer(&["keys", "show", issuer, "issuer-master"]);
    let rows = shown["data"].as_array().unwrap();
    let state = |row: &Value| row["state"].as_str().unwrap().to_owned();
    rows.iter().map(|row| (row["generation"].as_u64().unwrap(), state(row))).collect()
}

/// What the audit log says beside each event of this kind, the oldest first.
fn audit(platform: &Platform, action: &str) -> Vec<String> {
    let file = platform.home().join("tapfer.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(file, flags).unwrap();
    let query = "SELECT detail FROM audit_events WHERE action = ?1 ORDER BY sequence";
    let mut statement = database.prepare(query).unwrap();
    let details = statement.query_map([action], |row| row.get(0)).unwrap();
    details.map(Result::unwrap).collect()
}

fn pay(platform: &Platform) -> Output {
    platform.run(&["terminal", "pay", "--wallet", "--amount", "1.00"])
}

#[test]
fn a_running_platform_takes_a_new_generation_over_and_old_tokens_go_on() {
    let platform = Platform::start();
    platform.tapfer(&["init"]);
    assert!(pay(&platform).status.success());
    let issuer = issuer(&platform);
    let why = ["--reason", "the drill of this year", "--by", "Ada"];
    let rotate = [&["keys", "rotate", &issuer, "issuer-master"], &why[..]].concat();
    let made = platform.tapfer(&rotate);
    assert_eq!((made["generation"].as_u64(), made["state"].as_str()), (Some(2), Some("active")));
    assert!(pay(&platform).status.success(), "a key of the first generation");
    let renewed = || audit(&platform, "issuer.keys_renewed").first().map(|_| ());
    until("the platform follows", Duration::from_secs(30), renewed);
    let [ordered, ended] = audit(&platform, "key.rotated").try_into().unwrap();
    assert_eq!(ordered, "ordered by Ada: the drill of this year");
    assert!(ended.starts_with("done: generation 2 is active, check value "), "{ended}");
    platform.tapfer(&["wallet", "replenish"]);
    assert!(pay(&platform).status.success(), "a key of the second generation");

    let advance = |verb, generation, more: &[&str]| {
        let arguments = [&["keys", verb, &issuer, "issuer-master", generation], &why[..], more];
        platform.run(&arguments.concat())
    };
    assert_eq!(advance("retire", "2", &[]).status.code(), Some(1), "nothing would take its place");
    assert_eq!(advance("destroy", "1", &[]).status.code(), Some(2), "nothing was confirmed");
    let name = format!("{issuer} issuer-master 1");
    let refused = advance("destroy", "1", &["--confirm", &name]);
    assert_eq!(refused.status.code(), Some(1), "it is active: {refused:?}");
    assert!(advance("retire", "1", &[]).status.success());
    assert!(pay(&platform).status.success());
    assert_eq!(advance("destroy", "1", &["--confirm", "another"]).status.code(), Some(2));
    assert!(advance("destroy", "1", &["--confirm", &name]).status.success());
    let states = [(1, "destroyed".to_owned()), (2, "active".to_owned())];
    assert_eq!(masters(&platform, &issuer), states);
    assert!(pay(&platform).status.success());
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
    let overdue = |key: &&Value| key["remark"].as_str().unwrap().starts_with("OVERDUE");
    let overdue: Vec<&Value> = listed["data"].as_array().unwrap().iter().filter(overdue).collect();
    let [overdue] = overdue.try_into().unwrap();
    assert_eq!(overdue["purpose"], "issuer-master");
    fs::write(platform.home().join("keys.toml"), "cryptoperiod_days = 5").unwrap();
    let said = platform.run(&["keys", "list"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stderr).unwrap().contains("keys.toml"));
}

#[test]
fn keys_travel_as_key_blocks_with_the_custodians_only() {
    let table = Table::new();
    let home = table.home();
    done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
    done(&home, &as_str(&table.hand_out("protection", &[])));
    let platform = Platform::on(&home);
    platform.tapfer(&["init"]);
    let issuer = issuer(&platform);
    let block = table.file("imk.tr31");
    let parts = |roots: [u8; 2], protection: [u8; 2]| -> Vec<String> {
        let roots = roots.map(|number| ["--part".to_owned(), table.part("new", number)]);
        let protection = protection
            .map(|number| ["--protection-part".to_owned(), table.part("protection", number)]);
        let why = ["--reason", "second site", "--by", "Ada"].map(str::to_owned);
        roots.concat().into_iter().chain(protection.concat()).chain(why).collect()
    };
    let export = |parts: &[String]| {
        let head = ["keys", "export", &issuer, "issuer-master", "1", "--to", text(&block)];
        run(&home, &[&head[..], &as_str(parts)].concat())
    };
    // A login alone: parts of the protection key in the place of the roots'.
    let swapped: Vec<String> = parts([1, 2], [1, 2])
        .iter()
        .map(|text| text.replace("new-parts", "protection-parts"))
        .collect();
    assert_eq!(export(&swapped).status.code(), Some(1));
    assert!(!block.exists());
    let exported = export(&parts([1, 3], [2, 3]));
    assert!(exported.status.success(), "{exported:?}");
    let text_of_block = fs::read_to_string(&block).unwrap();
    assert!(text_of_block.starts_with("D0144E0AX01E0000"), "{text_of_block}");

    let import = |purpose: &str| {
        let head = ["keys", "import", &issuer, purpose, "--from", text(&block)];
        run(&home, &[&head[..], &as_str(&parts([2, 3], [1, 2]))].concat())
    };
    assert_eq!(import("card-records").status.code(), Some(1), "it is for something else");
    let imported = import("issuer-master");
    assert!(imported.status.success(), "{imported:?}");
    let shown = platform.tapfer(&["keys", "show", &issuer, "issuer-master"]);
    let (first, second) = (&shown["data"][0], &shown["data"][1]);
    assert_eq!(second["generation"], 2);
    assert_eq!(first["check_value"], second["check_value"], "the same key came back");
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
    platform.kill();
    let balance = fs::metadata(home.join("tapfer.db")).unwrap().len();
    let report = table.file("drill.txt");
    let (one, other) = (table.part("new", 3), table.part("new", 1));
    let mut drill = vec!["dr", "drill", "--from", text(&backup), "--part", &one, "--part", &other];
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
    drill.truncate(4);
    drill.extend(["--part", &one, "--part", &other]);
    let output = run(&home, &drill);
    assert_eq!(output.status.code(), Some(1));
    let failed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = failed["steps"][0]["found"].as_str().unwrap();
    assert!(found.contains("keys.json was changed"), "{found}");
}
