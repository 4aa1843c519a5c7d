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
use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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

    /// Arguments with the parts of two of them.
    fn two_custodians(&self, verb: &str) -> Vec<String> {
        [1, 3].map(|number| ["--part".to_owned(), self.part(verb, number)]).concat()
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

/// The database knows a version that nobody has: the newest keys.json is lost, or a row was written.
#[test]
fn a_catalogue_older_than_the_database_knows_is_accepted_by_the_custodians() {
    let table = Table::new();
    let home = table.home();
    let mut platform = Platform::on(&home);
    platform.tapfer(&["init"]);
    let issuer = issuer(&platform);
    done(&home, &as_str(&table.hand_out("share", &[])));
    let rotate = |platform: &Platform| {
        let key = ["keys", "rotate", &issuer, "card-pins"];
        platform.run(&[&key[..], &["--reason", "a test"]].concat())
    };
    let older = fs::read(home.join("keys.json")).unwrap();
    assert!(rotate(&platform).status.success());
    let accept = |transcript: &str, parts: &[String]| {
        let transcript = table.file(transcript);
        let version = serde_json::from_slice::<Value>(&fs::read(home.join("keys.json")).unwrap());
        let agreed = format!("accept catalogue {}", version.unwrap()["content"]["version"]);
        let held = ["--officer", "Tony", "--transcript", text(&transcript), "--agreed", &agreed];
        let verb = ["keys", "ceremony", "accept-catalogue"];
        run(&home, &[&verb[..], &held, &as_str(parts)].concat())
    };
    let custodians = table.two_custodians("share");
    let nothing = error(&accept("nothing.txt", &custodians));
    assert!(nothing.contains("nothing to accept"), "{nothing}");

    platform.kill();
    let database = home.join("tapfer.db");
    let known = || {
        let database = rusqlite::Connection::open(&database).unwrap();
        let newest = "SELECT version FROM key_catalogue";
        database.query_row(newest, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let lost = known();
    let backup = table.file("backup");
    let back_up = |to: &str| run(&home, &["backup", "--to", text(&table.file(to))]);
    assert!(back_up("whole").status.success());
    fs::write(home.join("keys.json"), &older).unwrap();
    // A nightly backup goes on meanwhile, and nobody takes it for a good one.
    let versions = format!("is version {}, and version {lost} was used already", lost - 1);
    let cautions = |output: &Output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(shown["caution"].as_str().unwrap().contains(&versions), "{shown}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("NO PLATFORM STARTS WITH"));
    };
    cautions(&back_up("backup"));
    cautions(&run(&home, &["backup", "verify", text(&backup)]));
    assert!(run(&home, &["backup", "verify", text(&table.file("whole"))]).status.success());
    let restored = run(&table.file("restored"), &["restore", "--from", text(&backup)]);
    assert!(restored.status.success(), "{restored:?}");
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert!(restored["caution"].as_str().unwrap().contains(&versions), "{restored}");
    let doctor = run(&home, &["doctor"]);
    assert!(String::from_utf8(doctor.stdout).unwrap().contains(&versions));
    let alone = accept("alone.txt", &["--part".to_owned(), table.part("share", 1)]);
    assert!(error(&alone).contains("parts given: 1; parts needed: 2"), "{alone:?}");
    assert_eq!(known(), lost, "one custodian is not enough");
    assert!(accept("accepted.txt", &custodians).status.success());
    assert_eq!(known(), lost - 1);
    platform.restart();
    let told = audit(&platform, "key.ceremony_held");
    let told =
        told.iter().filter(|line| line.starts_with(&format!("version {} accepted", lost - 1)));
    assert_eq!(told.count(), 1);
    assert!(rotate(&platform).status.success(), "it is gone on with");

    // Whoever writes to the database can stop the platform, and not for good.
    platform.kill();
    let forged = rusqlite::Connection::open(&database).unwrap();
    let write = format!("UPDATE key_catalogue SET version = {}, mac = zeroblob(32)", i64::MAX);
    forged.execute(&write, []).unwrap();
    drop(forged);
    let stopped = error(&rotate(&platform));
    assert!(stopped.contains("was used already"), "{stopped}");
    assert!(accept("mended.txt", &custodians).status.success());
    assert_eq!(known(), lost);
    platform.restart();
    assert!(rotate(&platform).status.success());

    // Nor with a row that does not read.
    platform.kill();
    let forged = rusqlite::Connection::open(&database).unwrap();
    let write = "PRAGMA ignore_check_constraints = 1; UPDATE key_catalogue SET version = version + 1, mac = x'00'";
    forged.execute_batch(write).unwrap();
    let stopped = error(&rotate(&platform));
    assert!(stopped.contains("makes no sense in column mac"), "{stopped}");
    assert!(accept("unreadable.txt", &custodians).status.success());
    assert_eq!(known(), lost + 1);
    platform.restart();
    assert!(rotate(&platform).status.success());
    let told = audit(&platform, "key.ceremony_held");
    assert!(
        told.iter().any(|line| line.contains("in the place of what makes no sense")),
        "{told:?}"
    );

    // Beside a platform that runs: it may have to be started again, and that is said.
    let write = format!("UPDATE key_catalogue SET version = {}", i64::MAX);
    forged.execute(&write, []).unwrap();
    let accepted = accept("running.txt", &custodians);
    assert!(accepted.status.success(), "{accepted:?}");
    assert!(String::from_utf8(accepted.stderr).unwrap().contains("A platform runs over this"));
    platform.kill();
    platform.restart();
    assert!(rotate(&platform).status.success());
}

/// Who writes into the realm's folder shows the custodians one file, and puts another one there while they give their
/// parts.
#[test]
fn attack_catalogue_exchanged_while_custodians_give_their_parts() {
    let table = Table::new();
    let home = table.home();
    let mut platform = Platform::on(&home);
    platform.tapfer(&["init"]);
    let issuer = issuer(&platform);
    done(&home, &as_str(&table.hand_out("share", &[])));
    let catalogue = home.join("keys.json");
    let older = fs::read_to_string(&catalogue).unwrap();
    let rotate = ["keys", "rotate", &issuer, "card-pins", "--reason", "a test"];
    assert!(platform.run(&rotate).status.success());
    platform.kill();

    // As if a key of it were retired, with the genuine MAC.
    let forged = older.replacen("\"state\":\"active\"", "\"state\":\"retired\"", 1);
    assert_ne!(forged, older);
    fs::write(&catalogue, forged).unwrap();
    let version = serde_json::from_str::<Value>(&older).unwrap()["content"]["version"].clone();
    let agreed = format!("accept catalogue {version}");
    let verb = ["keys", "ceremony", "accept-catalogue", "--officer", "Tony", "--agreed", &agreed];
    let slowly = table.file("slowly");
    assert!(Command::new("mkfifo").arg(&slowly).status().unwrap().success());
    let (transcript, third) = (table.file("exchanged.txt"), table.part("share", 3));
    let mut accept = tapfer();
    accept.args(verb).args(["--transcript", text(&transcript), "--part", text(&slowly)]);
    accept.args(["--part", &third, "--json", "--home", text(&home)]);
    let accept = accept.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("the custodians have agreed", Duration::from_secs(60), || {
        fs::read_to_string(&transcript).ok()?.contains("agreed by argument").then_some(())
    });
    fs::write(&catalogue, &older).unwrap();
    fs::write(&slowly, fs::read(table.part("share", 1)).unwrap()).unwrap();
    let refused = error(&accept.wait_with_output().unwrap());
    assert!(refused.contains("is not the file any more"), "{refused}");
    let stopped = error(&platform.run(&rotate));
    assert!(stopped.contains("was used already"), "{stopped}");

    // What is there now is shown, proven, and counted.
    let parts = table.two_custodians("share");
    let transcript = table.file("accepted.txt");
    let held = [&verb[..], &["--transcript", text(&transcript)], &as_str(&parts)].concat();
    done(&home, &held);
    let transcript = fs::read_to_string(&transcript).unwrap();
    assert!(transcript.contains("as it was shown: "), "{transcript}");
    assert!(transcript.contains(" keys in use, 0 retired, 0 destroyed"), "{transcript}");
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

/// A realm with custodians, and a protection key that they have accepted.
struct Exchange {
    table: Table,
    platform: Platform,
    issuer: String,
    /// Check value of the protection key.
    value: String,
}

impl Exchange {
    fn new() -> Self {
        let table = Table::new();
        let home = table.home();
        done(&home, &as_str(&table.hand_out("new", &["--realm", "demo"])));
        let platform = Platform::on(&home);
        platform.tapfer(&["init"]);
        let (one, other) = (table.part("new", 2), table.part("new", 3));
        let roots = ["--part", &one, "--part", &other, "--agreed", "protection"];
        let drawn = done(&home, &as_str(&table.hand_out("protection", &roots)));
        let value = protection_value(&drawn);
        let issuer = issuer(&platform);
        Self { table, platform, issuer, value }
    }

    fn home(&self) -> PathBuf {
        self.table.home()
    }

    /// Arguments behind `tapfer keys export` and `import`: whose parts, from which ceremonies.
    fn parts(&self, roots: (&str, [u8; 2]), protection: (&Table, &str, [u8; 2])) -> Vec<String> {
        let (verb, numbers) = roots;
        let roots = numbers.map(|number| ["--part".to_owned(), self.table.part(verb, number)]);
        let (table, verb, numbers) = protection;
        let protection =
            numbers.map(|number| ["--protection-part".to_owned(), table.part(verb, number)]);
        let why = ["--reason", "second site", "--by", "Ada", "--officer", "Tony"];
        let why = why.map(str::to_owned);
        roots.concat().into_iter().chain(protection.concat()).chain(why).collect()
    }

    fn own_parts(&self, verb: &str) -> Vec<String> {
        let mut parts = self.parts(("new", [1, 3]), (&self.table, "protection", [2, 3]));
        parts.extend(["--agreed".to_owned(), format!("{verb} {}", self.value)]);
        parts
    }

    /// Asks for the issuer's first master key, with a transcript of its own.
    fn export(&self, to: &Path, parts: &[String]) -> Output {
        let transcript = text(to).replace(".tr31", ".txt");
        let head = ["keys", "export", &self.issuer, "issuer-master", "1", "--to", text(to)];
        run(&self.home(), &[&head[..], &["--transcript", &transcript], &as_str(parts)].concat())
    }

    fn import(&self, purpose: &str, block: &Path, more: &[&str]) -> Output {
        let transcript = self.table.file(&format!("import-{purpose}-{}.txt", more.len()));
        let head = ["keys", "import", &self.issuer, purpose, "--from", text(block)];
        let transcript = ["--transcript", text(&transcript)];
        run(
            &self.home(),
            &[&head[..], &transcript, &as_str(&self.own_parts("import")), more].concat(),
        )
    }
}

fn protection_value(told: &Value) -> String {
    let values = told["check_values"].as_array().unwrap().iter();
    let mut values = values
        .filter_map(|value| value.as_str().unwrap().strip_prefix("key block protection key "));
    values.next().unwrap().to_owned()
}

fn error(output: &Output) -> String {
    let lines = String::from_utf8(output.stderr.clone()).unwrap();
    let said: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    said["error"].as_str().unwrap().to_owned()
}

#[test]
fn keys_travel_as_key_blocks_with_the_custodians_only() {
    let exchange = Exchange::new();
    let block = exchange.table.file("imk.tr31");
    // A login alone: parts of the protection key in the place of the roots'.
    let mut swapped =
        exchange.parts(("protection", [1, 2]), (&exchange.table, "protection", [1, 2]));
    swapped.extend(["--agreed".to_owned(), format!("export {}", exchange.value)]);
    assert_eq!(
        exchange.export(&exchange.table.file("swapped.tr31"), &swapped).status.code(),
        Some(1)
    );
    // Custodians who have not said to what, or who think of another key.
    let mut parts = exchange.parts(("new", [1, 3]), (&exchange.table, "protection", [2, 3]));
    let unsaid = exchange.export(&exchange.table.file("unsaid.tr31"), &parts);
    assert_eq!(unsaid.status.code(), Some(2), "{unsaid:?}");
    assert!(error(&unsaid).contains("A KEY IS ABOUT TO BE GIVEN OUT"), "{unsaid:?}");
    parts.extend(["--agreed", "export 000000"].map(str::to_owned));
    let other = exchange.export(&exchange.table.file("other.tr31"), &parts);
    assert!(error(&other).contains("the custodians agreed to \"export 000000\""), "{other:?}");
    for name in ["swapped.tr31", "unsaid.tr31", "other.tr31"] {
        assert!(!exchange.table.file(name).exists(), "{name}");
    }

    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let text_of_block = fs::read_to_string(&block).unwrap();
    assert_eq!(text_of_block.get(5..12), Some("E0AX01E"), "{text_of_block}");
    assert!(text_of_block.contains(&format!("TAPFER1 {} issuer-master 1", exchange.issuer)));
    let transcript = fs::read_to_string(exchange.table.file("imk.txt")).unwrap();
    for signs in ["officer   Tony", "custodian Ada", "custodian Grace", "custodian Edsger"] {
        assert!(transcript.contains(signs), "{signs}: {transcript}");
    }
    let told = audit(&exchange.platform, "key.exported");
    let [.., ordered, ended] = told.as_slice() else { panic!("{told:?}") };
    assert!(
        ordered.contains("ordered by Ada (user ") && ordered.contains("officer Tony"),
        "{ordered}"
    );
    let names = "root keys from part 1 of Ada and part 3 of Edsger, ceremony ";
    let value = format!("key block protection key {}", exchange.value);
    assert!(
        ended.starts_with("done: ") && ended.contains(names) && ended.contains(&value),
        "{ended}"
    );

    assert_eq!(
        exchange.import("card-records", &block, &[]).status.code(),
        Some(1),
        "for something else"
    );
    let known = error(&exchange.import("issuer-master", &block, &[]));
    assert!(known.contains("issuer-master 1, which is active"), "{known}");
    let imported = exchange.import("issuer-master", &block, &["--again"]);
    assert!(imported.status.success(), "{imported:?}");
    let shown = exchange.platform.tapfer(&["keys", "show", &exchange.issuer, "issuer-master"]);
    let (first, second) = (&shown["data"][0], &shown["data"][1]);
    assert_eq!(second["generation"], 2);
    assert_eq!(first["check_value"], second["check_value"], "the same key came back");
}

/// One officer, two custodians whom he has invented, and the realm's real ones, who come for something else.
#[test]
fn attack_protection_key_of_an_officer_alone() {
    let exchange = Exchange::new();
    // In the realm's directory its custodians would have to come.
    let mine = Table::new();
    let alone = run(&exchange.home(), &as_str(&mine.hand_out("protection", &[])));
    assert_eq!(alone.status.code(), Some(2), "{alone:?}");
    assert!(!mine.file("protection-parts").exists());
    let told = audit(&exchange.platform, "key.ceremony_held");
    let [.., ordered, ended] = told.as_slice() else { panic!("{told:?}") };
    assert!(ordered.starts_with("ordered by Tony"), "{ordered}");
    assert!(ended.contains("a ceremony needs a screen and a keyboard"), "{ended}");

    // Elsewhere nobody asks him, and nobody here has accepted what he draws.
    let mine = Table::new();
    let drawn = done(&mine.file("nothing"), &as_str(&mine.hand_out("protection", &[])));
    let value = protection_value(&drawn);
    let mut parts = exchange.parts(("new", [1, 3]), (&mine, "protection", [1, 2]));
    parts.extend(["--agreed".to_owned(), format!("export {value}")]);
    let block = mine.file("first.tr31");
    let refused = exchange.export(&block, &parts);
    assert!(error(&refused).contains("was not accepted by this realm's custodians"), "{refused:?}");

    // In a realm of his own he is all the custodians; what they accept there does not count here.
    let his = mine.file("his");
    done(&his, &as_str(&mine.hand_out("new", &["--realm", "demo"])));
    let roots = ["--part", &mine.part("new", 1), "--part", &mine.part("new", 2)];
    let protection = [1, 2]
        .map(|number| ["--protection-part".to_owned(), mine.part("protection", number)])
        .concat();
    let transcript = mine.file("accepted.txt");
    let agreed = format!("accept {value}");
    let accept =
        ["keys", "ceremony", "accept-protection", "--agreed", &agreed, "--officer", "Tony"];
    let accept = [&accept[..], &["--transcript", text(&transcript)], &roots, &as_str(&protection)];
    done(&his, &accept.concat());
    let realm = |home: &Path| {
        let catalogue: Value =
            serde_json::from_slice(&fs::read(home.join("keys.json")).unwrap()).unwrap();
        catalogue["content"]["realm_id"].as_str().unwrap().to_owned()
    };
    let list = fs::read_to_string(his.join("protection-keys.json")).unwrap();
    let list = list.replace(&realm(&his), &realm(&exchange.home()));
    fs::write(exchange.home().join("protection-keys.json"), list).unwrap();
    let block = mine.file("second.tr31");
    let refused = exchange.export(&block, &parts);
    assert!(error(&refused).contains("was not accepted by this realm's custodians"), "{refused:?}");
    assert!(!mine.file("first.tr31").exists() && !block.exists());
    assert!(!audit(&exchange.platform, "key.exported").iter().any(|line| line.starts_with("done")));
}

/// Parts of the protection key are with Ada, Grace and Edsger; the list says first that Mallory has them, and says it in a
/// way that a terminal obeys.
#[test]
fn attack_list_of_accepted_keys_that_lies_to_custodians() {
    let exchange = Exchange::new();
    let file = exchange.home().join("protection-keys.json");
    let mut list: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let mut lie = list["keys"][0].clone();
    lie["accepted"]["held_by"] = serde_json::json!(["Mallory of Visa\u{1b}[2J"]);
    lie["mac"] = serde_json::json!("00".repeat(32));
    list["keys"].as_array_mut().unwrap().insert(0, lie);
    fs::write(&file, list.to_string()).unwrap();
    let parts = exchange.parts(("new", [1, 3]), (&exchange.table, "protection", [2, 3]));
    let told = exchange.export(&exchange.table.file("told.tr31"), &parts);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let about = error(&told);
    assert!(about.contains(&exchange.value) && !about.contains("Mallory"), "{about}");
    let block = exchange.table.file("true.tr31");
    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let transcript = fs::read_to_string(exchange.table.file("true.txt")).unwrap();
    assert!(transcript.contains("were named: Ada, Grace, Edsger"), "{transcript}");
    assert!(!transcript.contains("Mallory"), "{transcript}");
}

/// The key was destroyed because others know it; its block of before is still there.
#[test]
fn attack_destroyed_key_by_its_old_block() {
    let exchange = Exchange::new();
    let block = exchange.table.file("old.tr31");
    let exported = exchange.export(&block, &exchange.own_parts("export"));
    assert!(exported.status.success(), "{exported:?}");
    let why = ["--reason", "others know it"];
    let key = [&exchange.issuer, "issuer-master"];
    exchange.platform.tapfer(&[&["keys", "rotate"][..], &key, &why].concat());
    exchange.platform.tapfer(&[&["keys", "retire"][..], &key, &["1"], &why].concat());
    let transcript = exchange.table.file("destroyed.txt");
    let name = format!("{} issuer-master 1", exchange.issuer);
    let (one, other) = (exchange.table.part("new", 1), exchange.table.part("new", 2));
    let held = ["--part", &one, "--part", &other, "--agreed", "destroy", "--confirm", &name];
    let held = [&held[..], &["--officer", "Tony", "--transcript", text(&transcript)]].concat();
    let destroy = [&["keys", "destroy"][..], &key, &["1"], &why, &held].concat();
    let needed = error(&exchange.platform.run(&destroy));
    let (_, lose) = needed.rsplit_once("--lose ").unwrap();
    exchange.platform.tapfer(&[&destroy[..], &["--lose", lose]].concat());

    let said = error(&exchange.import("issuer-master", &block, &[]));
    assert!(said.contains("issuer-master 1, which is destroyed"), "{said}");
    // The list that says so may be another's: the proven one is asked again.
    assert_eq!(masters(&exchange.platform, &exchange.issuer).len(), 2);
    let again = exchange.import("issuer-master", &block, &["--again"]);
    assert!(again.status.success(), "{again:?}");
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
    let said = refused(&table.home(), &as_str(&table.hand_out("new", &with)));
    assert!(said.contains("the passphrase is too short"), "{said}");
    assert!(!table.file("new-parts").exists() && !table.file("new.txt").exists());
}

#[test]
fn a_key_block_goes_to_where_we_are_and_the_audit_log_says_what_happened() {
    let exchange = Exchange::new();
    let here = exchange.table.file("here");
    fs::create_dir(&here).unwrap();
    let export = |to: &str, transcript: &str| {
        let mut command = tapfer();
        command.current_dir(&here).args([
            "keys",
            "export",
            &exchange.issuer,
            "issuer-master",
            "--to",
            to,
        ]);
        command.args(["--transcript", transcript]).args(exchange.own_parts("export"));
        command.arg("--json").arg("--home").arg(exchange.home()).output().unwrap()
    };
    let exported = export("blk", "plain.txt");
    assert!(exported.status.success(), "{exported:?}");
    let last = || audit(&exchange.platform, "key.exported").pop().unwrap();
    assert!(here.join("blk").exists() && last().starts_with("done: "), "{}", last());
    // Where no file can be: refused, and nothing is left.
    let refused = export("blk/inside", "refused.txt");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(last().starts_with("no key block was given out"), "{}", last());
    assert!(
        fs::read_to_string(here.join("refused.txt")).unwrap().contains("STOPPED: no key block")
    );
    // The medium of the transcript is full when it is over: the key block is out all the same.
    std::os::unix::fs::symlink(here.join("gone/medium"), here.join("cut.txt.json")).unwrap();
    let unwritten = export("cut", "cut.txt");
    assert_eq!(unwritten.status.code(), Some(1), "{unwritten:?}");
    let said = error(&unwritten);
    assert!(said.contains("WAS DONE") && said.contains("Do not do it again"), "{said}");
    assert!(here.join("cut").exists() && last().starts_with("done: "), "{}", last());
    assert!(last().contains("its transcript could not be written"), "{}", last());
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
