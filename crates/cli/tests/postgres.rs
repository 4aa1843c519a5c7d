//! What an operator does with a realm that is kept in PostgreSQL. With the real binary and a real server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod platform;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use platform::Platform;
use serde_json::Value;
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

/// What lies there from a time when the realm was kept in a file. Nobody may read or write it.
const LEFT_OVER: &[u8] = b"SQLite format 3\0 of another time";

/// A realm in PostgreSQL, and a platform that runs on it.
struct Realm {
    server: TestPostgres,
    directory: tempfile::TempDir,
}

fn tapfer(home: &Path, arguments: &[&str]) -> Output {
    platform::tapfer().args(arguments).arg("--json").arg("--home").arg(home).output().unwrap()
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let output = tapfer(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(home: &Path, arguments: &[&str]) -> String {
    let output = tapfer(home, arguments);
    assert!(!output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn name_database(home: &Path, server: &TestPostgres) {
    let text = format!("address = {:?}", server.address(PLATFORM));
    fs::write(home.join("database.toml"), text).unwrap();
}

impl Realm {
    fn new() -> (Self, Platform) {
        let (server, directory) = (TestPostgres::start(), tempfile::tempdir().unwrap());
        let realm = Self { server, directory };
        let home = realm.home();
        fs::create_dir(&home).unwrap();
        name_database(&home, &realm.server);
        // Its login comes with the schema, and the schema when it is known whose keys lie there.
        realm.server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
        let empty = refusal(&home, &["serve", "--listen", "127.0.0.1:0"]);
        assert!(empty.contains("is empty"), "{empty}");
        let made = done(&home, &["db", "migrate", "--owner", OWNER]);
        assert_eq!(made["schema_before"], 0);
        realm.server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
        fs::write(home.join("tapfer.db"), LEFT_OVER).unwrap();
        let platform = Platform::on(&home);
        platform.tapfer(&["init", "--balance", "300.00"]);
        pay(&platform);
        (realm, platform)
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        let left = fs::read(self.home().join("tapfer.db"));
        if !std::thread::panicking() {
            assert_eq!(left.unwrap(), LEFT_OVER);
        }
    }
}

fn pay(platform: &Platform) {
    let pay = ["terminal", "pay", "--amount", "3.50", "--wallet", "--server", platform.address()];
    let paid = platform.tapfer(&pay);
    assert_eq!(paid["outcome"], "approved", "{paid}");
}

#[test]
fn what_a_superuser_did_to_the_audit_log_is_named() {
    let (realm, platform) = Realm::new();
    let home = realm.home();
    let head = platform.tapfer(&["audit", "head"]);
    let verified = done(&home, &["audit", "verify"]);
    assert_eq!((&verified["records"], &verified["not_linked_yet"]), (&head["sequence"], &0.into()));
    assert_eq!(verified["audit_keys_from"], "catalogue");
    assert!(verified["signed_api_keys"].as_u64().unwrap() > 2, "{verified}");
    // Somebody who has neither the platform's login nor its directory.
    realm.server.say("CREATE ROLE auditor LOGIN IN ROLE tapfer_auditor");
    let address = realm.server.address("auditor");
    let elsewhere = tempfile::tempdir().unwrap();
    let key = head["head"]["key"].as_str().unwrap();
    let as_auditor = ["audit", "verify", "--address", &address, "--audit-key", key];
    let verified = done(elsewhere.path(), &as_auditor);
    assert_eq!(verified["records"], head["sequence"]);

    for (statement, said) in [
        ("UPDATE audit_events SET detail = 'nothing' WHERE sequence = 3", "event 3 was altered"),
        (
            "UPDATE audit_events SET sequence = -1 WHERE sequence = 3;
             UPDATE audit_events SET sequence = 3 WHERE sequence = 5;
             UPDATE audit_events SET sequence = 5 WHERE sequence = -1",
            "event 3 was exchanged for the one that belongs in place 5",
        ),
        ("DELETE FROM audit_events WHERE sequence = 3", "event 3 was removed"),
    ] {
        realm.server.say("CREATE TABLE kept AS TABLE audit_events");
        realm.server.say(&format!("SET session_replication_role = replica; {statement}"));
        for verify in [&["audit", "verify"][..], &as_auditor] {
            let error = refusal(&home, verify);
            assert!(error.contains(said), "{statement}: {error}");
        }
        realm.server.say(
            "SET session_replication_role = replica; DELETE FROM audit_events;
             INSERT INTO audit_events TABLE kept; DROP TABLE kept",
        );
    }
    done(&home, &["audit", "verify"]);
    // An API key that somebody has written in.
    realm.server.say(
        "INSERT INTO api_keys (id, role, secret_hash, created_at)
         SELECT replace(id, '0', '1'), role, decode(repeat('07', 32), 'hex'), created_at FROM api_keys
         WHERE role = 'operator' LIMIT 1",
    );
    let error = refusal(&home, &["audit", "verify"]);
    assert!(error.contains("is not signed by the platform"), "{error}");
}

/// Whoever looks at a node is told what it may decide alone, and what of it waits to be booked.
#[test]
fn doctor_says_how_a_node_stands_in() {
    let (realm, platform) = Realm::new();
    let home = realm.home();
    let told = || {
        let report: Value = serde_json::from_slice(&tapfer(&home, &["doctor"]).stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["what"] == "stand-in")
    };
    assert_eq!(told(), None);
    let file = home.join("database.toml");
    let named = fs::read_to_string(&file).unwrap();
    let limits = "payment_minor = 1\ntoken_payments = 1\ntoken_minor = 1\nnode_payments = 1\nnode_minor = 250\n";
    let limits =
        format!("[stand_in]\ncurrency = \"EUR\"\n{limits}minutes = 1\nknown_minutes = 1\n");
    fs::write(&file, format!("{named}\n{limits}")).unwrap();
    let check = told().unwrap();
    assert_eq!(check["state"], "good");
    assert!(check["found"].as_str().unwrap().contains("2.50 EUR alone"), "{check}");
    fs::write(home.join("stand-in.journal"), b"TPSJ\x01").unwrap();
    let check = told().unwrap();
    assert!(check["found"].as_str().unwrap().contains("wait to be booked"), "{check}");
    drop(platform);
}

#[test]
fn what_is_done_with_keys_is_in_the_log_of_the_database() {
    let (realm, platform) = Realm::new();
    let home = realm.home();
    let old = fs::read(home.join("keys.json")).unwrap();
    let issuer = platform.tapfer(&["issuer", "list"])["data"][0]["id"].clone();
    let rotate = ["keys", "rotate", issuer.as_str().unwrap(), "card-pins", "--reason", "a test"];
    done(&home, &rotate);
    let logged = "SELECT count(*) FROM (SELECT action FROM audit_events UNION ALL SELECT action FROM audit_inbox)
                  AS lines WHERE action = 'key.rotated'";
    assert_eq!(realm.server.ask(logged), "2", "ordered, and done");
    drop(platform);
    // An old copy is named, though no platform runs.
    fs::write(home.join("keys.json"), old).unwrap();
    let told = tapfer(&home, &["keys", "list"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("was used already"), "{told}");
}

/// The way back that docs/disaster-recovery.md describes, on another server.
#[test]
fn a_realm_in_postgres_comes_back_from_its_backups() {
    let (realm, mut platform) = Realm::new();
    let (home, backups) = (realm.home(), tempfile::tempdir().unwrap());
    let [roles, database] = ["roles.sql", "tapfer.dump"].map(|file| backups.path().join(file));
    let run = |server: &TestPostgres, program: &str, arguments: &[&str], file: &Path| {
        let said = server.program(program).args(arguments).arg(file).output().unwrap();
        assert!(said.status.success(), "{program}: {said:?}");
    };
    run(&realm.server, "pg_dumpall", &["--roles-only", "--file"], &roles);
    run(&realm.server, "pg_dump", &["--format=custom", "--file"], &database);
    let backup = backups.path().join("tapfer");
    let to = backup.to_str().unwrap();
    let made = tapfer(&home, &["backup", "--to", to]);
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains("NOT in it: THE DATABASE"), "{said}");
    assert!(!backup.join("tapfer.db").exists());
    done(&home, &["backup", "verify", to]);
    let report = tapfer(&home, &["dr", "drill", "--from", to, "--wallet", to]);
    assert!(!report.status.success(), "a drill would open the database that payments run on");
    platform.kill();

    let server = TestPostgres::start();
    // It says of the owner that he is there already.
    let _said = server.program("psql").arg("--quiet").arg("--file").arg(&roles).output().unwrap();
    run(&server, "pg_restore", &["--exit-on-error", "--dbname", "postgres"], &database);
    // Into a database that was there, and has PostgreSQL's own rights.
    server.say("REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC");
    let restored = backups.path().join("restored");
    done(&restored, &["restore", "--from", to]);
    name_database(&restored, &server);
    let again = Platform::on(&restored);
    let verified = done(&restored, &["audit", "verify"]);
    assert!(verified["records"].as_u64().unwrap() > 5, "{verified}");
    // The phone and the till are the ones from before; they find the platform at its new address.
    for own in ["wallet", "terminals", "client.json"] {
        let mut copy = Command::new("cp");
        assert!(copy.arg("-a").arg(home.join(own)).arg(&restored).status().unwrap().success());
    }
    pay(&again);
    let count = "SELECT count(*) FROM authorizations WHERE outcome = 0";
    assert_eq!((realm.server.ask(count), server.ask(count)), ("1".to_owned(), "2".to_owned()));
    done(&restored, &["audit", "verify"]);
}

/// Whether the database is sound, beside the platform that runs on it; what is wrong is named, and the command ends with 1.
#[test]
fn the_database_is_checked_beside_the_platform() {
    let (realm, _platform) = Realm::new();
    let home = realm.home();
    let sound = done(&home, &["db", "check"]);
    assert_eq!((&sound["sound"], &sound["faults"]), (&true.into(), &Value::Array(Vec::new())));
    assert!(sound["checked"].as_array().unwrap().len() > 15, "{sound}");
    realm.server.say("UPDATE accounts SET balance = balance + 1 WHERE kind = 'merchant_payable'");
    let unsound = tapfer(&home, &["db", "check"]);
    assert_eq!(unsound.status.code(), Some(1));
    let unsound: Value = serde_json::from_slice(&unsound.stdout).unwrap();
    assert_eq!(unsound["faults"][0]["place"], "accounts", "{unsound}");
    let nothing = refusal(&home, &["db", "cut-log", "--yes-lose-what-stands-behind-it"]);
    assert!(nothing.contains("is kept in the PostgreSQL database"), "{nothing}");

    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "300.00"]);
    pay(&platform);
    assert_eq!(platform.tapfer(&["db", "check"])["sound"], true);
    let backup = platform.home().join("backup");
    platform.tapfer(&["backup", "--to", backup.to_str().unwrap()]);
    let file = backup.join("tapfer.db");
    let check = ["db", "check", "--database", file.to_str().unwrap()];
    assert_eq!(platform.tapfer(&check)["sound"], true);
    let cut = platform.run(&["db", "cut-log", "--yes-lose-what-stands-behind-it"]);
    assert!(String::from_utf8(cut.stderr).unwrap().contains("the platform runs"));
}

/// Says SQL in the database `tapfer`, or why it is refused.
fn ask(server: &TestPostgres, login: &str, sql: &str) -> Result<String, String> {
    let mut psql = server.program("psql");
    psql.args([
        "-X",
        "-q",
        "-t",
        "-A",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        "tapfer",
        "-U",
        login,
        "-c",
        sql,
    ]);
    let said = psql.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
}

/// The address of the database `tapfer`.
fn in_tapfer(server: &TestPostgres, login: &str) -> String {
    server.address(login).replace("/postgres", "/tapfer").replace("postgres:/", "postgresql:/")
}

fn check_named<'a>(checks: &'a Value, what: &str) -> Option<&'a Value> {
    checks["checks"].as_array().unwrap().iter().find(|check| check["what"] == what)
}

/// What docs/postgresql.md says to do once.
fn create_database(server: &TestPostgres, place: &Path) {
    for login in ["tapfer", "tapfer_owner"] {
        fs::write(place.join(format!("{login}.password")), "geheim").unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy/high-availability/create-database");
    let psql = PathBuf::from(server.program("psql").get_program());
    let path = format!("{}:{}", psql.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let socket = server.address(OWNER);
    let socket = socket.split('@').nth(1).unwrap().split('/').next().unwrap().replace("%2F", "/");
    let connection = format!("dbname=postgres host={socket} user={OWNER}");
    let made = Command::new(script).arg(place).arg(connection).env("PATH", path).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Attack: a login that only reads fills the disk with large objects, which PostgreSQL lets everybody make. In a database that came back
/// from a dump as well.
#[test]
fn attack_disk_filled_by_a_login_that_only_reads() {
    let (server, place) = (TestPostgres::start(), tempfile::tempdir().unwrap());
    create_database(&server, place.path());
    let anna = "CREATE ROLE anna LOGIN CONNECTION LIMIT 3 IN ROLE tapfer_auditor";
    ask(&server, OWNER, anna).unwrap();
    let refuses_all = |server: &TestPostgres| {
        for login in ["anna", "tapfer"] {
            for fills in [
                "lo_creat(-1)",
                "lo_create(0)",
                "lo_from_bytea(0, 'x')",
                "lo_put(1, 0, 'x')",
                "lowrite(0, 'x')",
            ] {
                let refused = ask(server, login, &format!("SELECT {fills}")).unwrap_err();
                assert!(
                    refused.contains("permission denied for function lo"),
                    "{fills}: {refused}"
                );
            }
        }
    };
    refuses_all(&server);
    let [roles, dump] = ["roles.sql", "tapfer.dump"].map(|file| place.path().join(file));
    let run = |server: &TestPostgres, program: &str, arguments: &[&str], last: &Path| {
        let said = server.program(program).args(arguments).arg(last).output().unwrap();
        assert!(said.status.success(), "{program}: {said:?}");
    };
    run(&server, "pg_dumpall", &["--roles-only", "--file"], &roles);
    let to = dump.to_str().unwrap();
    run(&server, "pg_dump", &["--format=custom", "--file", to], Path::new("tapfer"));
    let back = TestPostgres::start();
    run(&back, "psql", &["--quiet", "--file"], &roles);
    run(&back, "pg_restore", &["--exit-on-error", "--create", "--dbname", "postgres"], &dump);
    refuses_all(&back);
}

/// The lines of docs/postgresql.md and of the way back in docs/disaster-recovery.md, on real servers.
#[test]
fn a_database_made_by_hand_comes_back_with_its_owner_and_rights() {
    let (server, place) = (TestPostgres::start(), tempfile::tempdir().unwrap());
    create_database(&server, place.path());
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    // A database that is not to be had leaves nothing behind.
    fs::write(home.join("database.toml"), "address = \"postgresql://tapfer@127.0.0.1:1/tapfer\"")
        .unwrap();
    let away = refusal(&home, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(away.contains("cannot be reached"), "{away}");
    let left: Vec<_> = fs::read_dir(&home).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["database.toml"]);
    let name = |home: &Path, server: &TestPostgres| {
        let text = format!("address = {:?}", in_tapfer(server, "tapfer"));
        fs::write(home.join("database.toml"), text).unwrap();
    };
    name(&home, &server);
    let empty = refusal(&home, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(empty.contains("is empty"), "{empty}");
    done(&home, &["db", "migrate"]);
    let mut platform = Platform::on(&home);
    platform.tapfer(&["init", "--balance", "300.00"]);
    pay(&platform);
    let checks = tapfer(&home, &["doctor"]);
    let checks: Value = serde_json::from_slice(&checks.stdout).unwrap();
    assert_eq!(check_named(&checks, "database").unwrap()["state"], "good", "{checks}");
    assert_eq!(check_named(&checks, "database's locks"), None, "{checks}");
    // A realm of its own does not get into it.
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    name(&other, &server);
    let taken = refusal(&other, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(taken.contains("copy the first one's realm.json"), "{taken}");
    assert!(!other.join("keys.json").exists());

    // Who may what.
    ask(&server, OWNER, "CREATE ROLE anna LOGIN IN ROLE tapfer_auditor; CREATE ROLE bert LOGIN IN ROLE tapfer_issuer; CREATE ROLE eve LOGIN").unwrap();
    let issuer = platform.tapfer(&["issuer", "list"])["data"][0]["id"].as_str().unwrap().to_owned();
    ask(
        &server,
        "tapfer_owner",
        &format!("INSERT INTO tapfer.issuer_logins VALUES ('bert', '{issuer}')"),
    )
    .unwrap();
    assert_eq!(ask(&server, "bert", "SELECT count(*) FROM tapfer.cards"), Ok("1".to_owned()));
    assert!(
        ask(&server, "eve", "SELECT 1").unwrap_err().contains("permission denied for database")
    );
    let named = || {
        let checks = tapfer(&home, &["doctor"]);
        let checks: Value = serde_json::from_slice(&checks.stdout).unwrap();
        assert_eq!(check_named(&checks, "database's disk"), None, "{checks}");
        check_named(&checks, "database's connections").map(|check| check["found"].to_string())
    };
    assert!(named().unwrap().contains("anna, bert may take all connections"), "{:?}", named());
    ask(&server, OWNER, "ALTER ROLE anna CONNECTION LIMIT 3; ALTER ROLE bert CONNECTION LIMIT 3")
        .unwrap();
    assert_eq!(named(), None);
    let head = platform.tapfer(&["audit", "head"]);
    let (key, anna) = (head["head"]["key"].as_str().unwrap(), in_tapfer(&server, "anna"));
    done(&home, &["audit", "verify", "--address", &anna, "--audit-key", key]);
    for command in ["check", "retention"] {
        let may_not = refusal(&home, &["db", command, "--address", &anna]);
        assert!(may_not.contains("check with the platform's login or the owner's"), "{may_not}");
    }
    let owner = in_tapfer(&server, "tapfer_owner");
    assert_eq!(done(&home, &["db", "check", "--address", &owner])["sound"], true);
    assert_eq!(done(&home, &["db", "retention", "--address", &owner])["kept_to"], true);

    let [roles, dump] = ["roles.sql", "tapfer.dump"].map(|file| place.path().join(file));
    let run = |server: &TestPostgres, program: &str, arguments: &[&str], file: &Path| {
        let said = server.program(program).args(arguments).arg(file).output().unwrap();
        assert!(said.status.success(), "{program}: {said:?}");
    };
    run(&server, "pg_dumpall", &["--roles-only", "--file"], &roles);
    let backup = server
        .program("pg_dump")
        .args(["--format=custom", "--file"])
        .arg(&dump)
        .arg("tapfer")
        .output();
    assert!(backup.unwrap().status.success());
    let to = place.path().join("backup");
    let made = tapfer(&home, &["backup", "--to", to.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    platform.kill();

    let back = TestPostgres::start();
    run(&back, "psql", &["--quiet", "--file"], &roles);
    run(&back, "pg_restore", &["--exit-on-error", "--create", "--dbname", "postgres"], &dump);
    let is_as_it_was = "SELECT pg_get_userbyid(datdba), has_database_privilege('public', 'tapfer', 'CONNECT'),
        has_function_privilege('public', 'pg_advisory_lock(bigint)', 'EXECUTE') FROM pg_database WHERE datname = 'tapfer'";
    assert_eq!(ask(&back, OWNER, is_as_it_was), Ok("tapfer_owner|f|f".to_owned()));
    let restored = place.path().join("restored");
    done(&restored, &["restore", "--from", to.to_str().unwrap()]);
    name(&restored, &back);
    let migrated = done(&restored, &["db", "migrate"]);
    assert_eq!(migrated["schema_before"], migrated["schema"]);
    let again = Platform::on(&restored);
    done(&restored, &["audit", "verify"]);
    assert_eq!(again.tapfer(&["authorization", "list"])["data"].as_array().unwrap().len(), 1);
}
