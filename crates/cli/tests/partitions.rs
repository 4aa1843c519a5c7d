//! A real `tapfer serve` whose realm lies on two real PostgreSQL servers: it pays on both, and one partition is moved to a third
//! server while phones go on paying.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs
)]

mod custodians;
mod load;
mod platform;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use custodians::{Table, as_str, text};
use load::{Load, uptime};
use platform::{Platform, tapfer, until};
use serde_json::Value;
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};

/// So many cards: all in one partition come once in ten thousand runs.
const PHONES: usize = 14;
const PATIENCE: Duration = Duration::from_secs(120);
/// What the home sends to everybody, and so is not part of a copy.
const EVERYWHERE: [&str; 8] = [
    "device_integrity",
    "devices",
    "integrity_policies",
    "issuer_policies",
    "issuers",
    "merchants",
    "terminals",
    "told",
];

fn ran(command: &mut Command) -> Vec<u8> {
    let said = command.output().unwrap();
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
    said.stdout
}

/// A command of the operator, in a home directory; what it says as JSON, however it ends.
fn said(home: &Path, arguments: &[&str]) -> (bool, Value) {
    let output = tapfer().args(arguments).arg("--json").arg("--home").arg(home).output().unwrap();
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into());
    (output.status.success(), value)
}

fn done(home: &Path, arguments: &[&str]) -> Value {
    let (is_done, value) = said(home, arguments);
    assert!(is_done, "{arguments:?}: {value}");
    value
}

/// The way to both partitions, for a home directory.
fn lead(home: &Path, partitions: [&TestPostgres; 2]) {
    let [first, second] = partitions.map(|server| server.address(PLATFORM));
    let named = format!("address = \"{first}\"\n\n[[partition]]\naddress = \"{second}\"\n");
    fs::write(home.join("database.toml"), named).unwrap();
}

fn approved(server: &TestPostgres) -> u64 {
    server.ask("SELECT count(*) FROM authorizations WHERE outcome = 0").parse().unwrap()
}

fn subscribe(server: &TestPostgres, home: &TestPostgres, name: &str) {
    let from = home.conninfo();
    server.say(&format!(
        "CREATE SUBSCRIPTION {name} CONNECTION '{from}' PUBLICATION tapfer_everywhere"
    ));
}

/// Copies a closed partition with pg_dump and pg_restore: docs/partitions.md.
fn copy(old: &TestPostgres, new: &TestPostgres, home: &TestPostgres) {
    let directory = tempfile::tempdir().unwrap();
    let dump = directory.path().join("partition.dump");
    let but = EVERYWHERE.iter().map(|table| format!("--exclude-table-data=tapfer.{table}"));
    ran(old
        .program("pg_dump")
        .args(["-Fc", "-n", "tapfer", "--no-subscriptions", "--no-publications"])
        .args(but)
        .stdout(Stdio::from(File::create(&dump).unwrap())));
    for role in ["tapfer_server", "tapfer_auditor", "tapfer_issuer"] {
        new.say(&format!("CREATE ROLE {role} NOLOGIN"));
    }
    new.say(&format!("CREATE ROLE {PLATFORM} LOGIN IN ROLE tapfer_server"));
    let restore = |section: &str| {
        let section = format!("--section={section}");
        let from = Stdio::from(File::open(&dump).unwrap());
        ran(new.program("pg_restore").args(["-d", "postgres", "-e", &section]).stdin(from));
    };
    restore("pre-data");
    restore("data");
    subscribe(new, home, "tapfer_1_2");
    until("what everybody needs is there", PATIENCE, || {
        let missing = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
        (new.ask(missing) == "0").then_some(())
    });
    restore("post-data");
}

#[test]
fn a_platform_pays_in_two_partitions_and_one_is_moved() {
    let (first, second) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let (at_work, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (at_work, keeper) = (at_work.path(), kept.path());
    lead(at_work, [&first, &second]);
    for server in [&first, &second] {
        server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
    }
    // The first start makes the keys, and says whose turn it is.
    let refused =
        tapfer().args(["serve", "--listen", "127.0.0.1:0", "--home"]).arg(at_work).output();
    let told = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(told.contains("tapfer db migrate"), "{told}");
    for (number, server) in [("0", &first), ("1", &second)] {
        done(at_work, &["db", "migrate", "--owner", OWNER, "--partition", number]);
        server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
    }
    subscribe(&second, &first, "tapfer_1");
    let platform = Platform::on(at_work);
    platform.tapfer(&["init", "--balance", "1000.00"]);
    let shown = done(at_work, &["db", "partitions", "show"]);
    assert_eq!((&shown["map"], &shown["sound"]), (&1.into(), &true.into()), "{shown}");
    for name in ["realm.json", "keystore", "keys.json", "demo-unlock.key"] {
        fs::copy(at_work.join(name), keeper.join(name)).unwrap();
    }
    lead(keeper, [&first, &second]);

    let load = Load::start(&[&platform], PHONES);
    load.wait_for_more(3 * PHONES);
    let before = [&first, &second].map(approved);
    assert!(before.iter().all(|count| *count > 0), "{before:?}");

    let closed = uptime();
    done(keeper, &["db", "partitions", "close", "1", "--owner", OWNER]);
    let (is_sound, shown) = said(keeper, &["db", "partitions", "show"]);
    assert!(!is_sound && shown["partitions"][1]["closed"] == true, "{shown}");
    let at_the_old_place = approved(&second);
    // Nothing is signed before it is there.
    let (is_signed, refused) = said(keeper, &["db", "partitions", "sign", "1"]);
    assert!(!is_signed, "{refused}");
    second.say("ALTER SUBSCRIPTION tapfer_1 DISABLE");
    let third = TestPostgres::start();
    copy(&second, &third, &first);
    // The others pay all the time.
    load.wait_for_more(PHONES);
    assert_eq!(approved(&second), at_the_old_place, "closed is closed");
    lead(keeper, [&first, &third]);
    lead(at_work, [&first, &third]);
    let opened = done(keeper, &["db", "partitions", "open", "1", "--owner", OWNER]);
    assert_eq!(opened["place"], 2, "{opened}");
    let (_, again) = said(keeper, &["db", "partitions", "open", "1", "--owner", OWNER]);
    assert!(again.to_string().contains("`tapfer db partitions sign 1` does it"), "{again}");
    let signed = done(keeper, &["db", "partitions", "sign", "1"]);
    assert_eq!((&signed["map"], &signed["places"]), (&2.into(), &serde_json::json!([1, 2])));
    // Nobody has restarted anything.
    until("phones of the partition pay at its new place", PATIENCE, || {
        (approved(&third) > at_the_old_place).then_some(())
    });
    eprintln!("closed for {:.1} s", uptime() - closed);
    let found = load.end();
    eprintln!("{found}");
    let acknowledged = found["acknowledged"].as_u64().unwrap();
    assert_eq!(approved(&first) + approved(&third), acknowledged, "each is there once");
    done(at_work, &["db", "partitions", "show"]);
    assert_eq!(first.ask("SELECT count(*) FROM partition_maps"), "2");
    // Each database for itself is as it should be.
    for command in [["db", "check"], ["audit", "verify"]] {
        let said = done(keeper, &command);
        assert_eq!(
            (&said["sound"], number_of_good(&said)),
            (&true.into(), vec![true; 2]),
            "{said}"
        );
        done(keeper, &[&command[..], &["--address", &third.address(PLATFORM)]].concat());
    }
}

/// What a command says of each partition, in their order.
fn number_of_good(said: &Value) -> Vec<bool> {
    let partitions = said["partitions"].as_array().unwrap().iter().enumerate();
    let good = partitions.map(|(number, one)| {
        assert_eq!(one["partition"], number, "{said}");
        ["sound", "kept_to"].into_iter().find_map(|verdict| one[verdict].as_bool()).unwrap()
    });
    good.collect()
}

#[test]
fn damage_in_another_partition_is_found_from_the_home_directory() {
    let (first, second) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let platform = begun(home, [&first, &second]);
    platform.tapfer(&["init"]);
    // Where a card goes its number says: half of them here.
    while second.ask("SELECT count(*) FROM accounts WHERE kind = 'cardholder'") == "0" {
        let card = platform.tapfer(&["card", "create"]);
        platform.tapfer(&["card", "top-up", card["id"].as_str().unwrap(), "--amount", "5.00"]);
    }
    until("its lines are linked", PATIENCE, || {
        let second_line = "SELECT count(*) FROM audit_events WHERE sequence = 2";
        (second.ask(second_line) == "1").then_some(())
    });
    drop(platform);
    let commands = [["db", "check"], ["audit", "verify"], ["db", "retention"]];
    let bad = |command: [&str; 2]| {
        let (is_good, said) = said(home, &command);
        assert!(!is_good, "{command:?}: {said}");
        assert_eq!(number_of_good(&said), [true, false], "{said}");
        said["partitions"][1].to_string()
    };
    for command in commands {
        assert_eq!(number_of_good(&done(home, &command)), [true, true]);
    }
    second.say(
        "SET session_replication_role = replica;
         UPDATE accounts SET balance = balance + 100 WHERE kind = 'cardholder';
         UPDATE audit_events SET detail = 'nothing' WHERE sequence = 2",
    );
    assert!(bad(["db", "check"]).contains("its balance is not the sum"));
    assert!(bad(["audit", "verify"]).contains("event 2 was altered"));
    second.say(
        "SET session_replication_role = replica; UPDATE accounts SET balance = 0;
         UPDATE cards SET closed_at = 0, closed_seen_at = 0",
    );
    assert!(bad(["db", "retention"]).contains("\"kept_to\":false"));
    // The home twice, and a partition that is away: neither is what was asked for.
    lead(home, [&first, &first]);
    for command in commands {
        assert!(bad(command).contains("says of itself that it is partition 0"), "{command:?}");
    }
    let elsewhere = TestPostgres::start();
    lead(home, [&first, &elsewhere]);
    drop(elsewhere);
    for command in commands {
        assert!(bad(command).contains("cannot be reached"), "{command:?}");
        let text = ran_badly(tapfer().args(command).arg("--home").arg(home));
        assert!(text.contains("partition 1\n") && text.contains("cannot be reached"), "{text}");
        assert!(text.ends_with("of 2 partitions NOT as they should be: 1\n"), "{text}");
    }
    // One alone, by its address.
    done(home, &["db", "check", "--address", &first.address(PLATFORM)]);
    // A file that names the home alone is told what it leaves out.
    let alone = format!("address = \"{}\"\n", first.address(PLATFORM));
    fs::write(home.join("database.toml"), alone).unwrap();
    for command in commands {
        let (is_good, said) = said(home, &command);
        assert!(!is_good && said.to_string().contains("partition 0 of 2"), "{said}");
    }
}

/// What a command says to people that ends with a no.
fn ran_badly(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A platform on two new servers, of a realm that has not paid yet.
fn begun(home: &Path, servers: [&TestPostgres; 2]) -> Platform {
    lead(home, servers);
    for server in servers {
        server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
    }
    let _refused = tapfer().args(["serve", "--listen", "127.0.0.1:0", "--home"]).arg(home).output();
    for (number, server) in [("0", servers[0]), ("1", servers[1])] {
        done(home, &["db", "migrate", "--owner", OWNER, "--partition", number]);
        server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
    }
    subscribe(servers[1], servers[0], "tapfer_1");
    Platform::on(home)
}

/// The map as `db partitions show` has it.
fn map_of(home: &Path) -> Value {
    let shown = done(home, &["db", "partitions", "show"]);
    assert_eq!(shown["sound"], true, "{shown}");
    shown["map"].clone()
}

/// Attack: who writes into the home's database puts a map there that the platform did not sign, or an older one once more, to lead
/// payments astray, or so that no platform starts.
#[test]
fn attack_forged_partition_map() {
    let (first, second) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let mut platform = begun(home, [&first, &second]);
    assert_eq!(map_of(home), 1);
    // Somebody else's signature; and the first one, genuine, as the next. Not far ahead, where it would be the newest for ever.
    let put = |version: u32, document: &str| {
        let put = format!(
            "INSERT INTO partition_maps SELECT {version}, {document}, key, signature FROM partition_maps WHERE version = 1"
        );
        first.try_as(PLATFORM, &put)
    };
    put(2, "replace(replace(document, '\"version\":1', '\"version\":2'), '[1,1]', '[1,2]')")
        .unwrap();
    assert_eq!(map_of(home), 1);
    let refused = put(99, "document").unwrap_err();
    assert!(refused.contains("the version behind the newest"), "{refused}");
    // The platform goes on, and signs behind it.
    done(home, &["keys", "rotate", "platform", "audit-head", "--reason", "a test"]);
    until("the map is signed anew", PATIENCE, || (map_of(home) == 3).then_some(()));
    put(4, "document").unwrap();
    assert_eq!(map_of(home), 3);
    platform.kill();
    platform.restart();
    platform.tapfer(&["init"]);
}

/// The key that signed the map is destroyed: while a platform runs the map is signed anew before that, and where none ran the
/// next one that starts does it, if every database says what the map says.
#[test]
fn a_map_whose_key_is_destroyed_is_signed_anew() {
    let (first, second) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let table = Table::new();
    let home = table.home();
    fs::create_dir(&home).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut platform = begun(&home, [&first, &second]);
    done(&home, &as_str(&table.hand_out("share", &[])));
    let parts = table.two_custodians("share");
    let audit_head = |verb, more: &[&str]| {
        let key = ["keys", verb, "platform", "audit-head"];
        done(&home, &[&key[..], more, &["--reason", "a test"]].concat());
    };
    let destroy = |generation: &str, more: &[&str]| {
        let transcript = table.file(&format!("destroyed-{generation}-{}.txt", more.len()));
        let confirm = format!("platform audit-head {generation}");
        let held = ["--confirm", &confirm, "--officer", "Tony", "--transcript", text(&transcript)];
        let key = ["keys", "destroy", "platform", "audit-head", generation, "--agreed", "destroy"];
        let why = ["--reason", "a test"];
        said(&home, &[&key[..], &held, more, &why, &as_str(&parts)].concat())
    };
    audit_head("rotate", &[]);
    until("the map is signed anew", PATIENCE, || (map_of(&home) == 2).then_some(()));
    audit_head("retire", &["1"]);
    let (is_destroyed, told) = destroy("1", &[]);
    assert!(is_destroyed, "{told}");
    assert_eq!(map_of(&home), 2);

    platform.kill();
    audit_head("rotate", &[]);
    audit_head("retire", &["2"]);
    let (is_destroyed, told) = destroy("2", &[]);
    assert!(!is_destroyed && told.to_string().contains("1 partition map in force"), "{told}");
    let (is_destroyed, told) = destroy("2", &["--lose", "1"]);
    assert!(is_destroyed, "{told}");
    let (is_sound, told) = said(&home, &["db", "partitions", "show"]);
    assert!(!is_sound && told.to_string().contains("signed anew when a platform starts"), "{told}");
    platform.restart();
    assert_eq!(map_of(&home), 3);
    platform.tapfer(&["init"]);
}

/// Attack, or a mistake: `database.toml` leads to the place that a partition has left, or to another copy of it, and somebody opens
/// that one too.
#[test]
fn attack_partition_opened_at_a_place_that_it_left() {
    let (first, second) = (TestPostgres::start_to_subscribe_from(), TestPostgres::start());
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    lead(home, [&first, &second]);
    for server in [&first, &second] {
        server.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
    }
    let _refused = tapfer().args(["serve", "--listen", "127.0.0.1:0", "--home"]).arg(home).output();
    for (number, server) in [("0", &first), ("1", &second)] {
        done(home, &["db", "migrate", "--owner", OWNER, "--partition", number]);
        server.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
    }
    drop(Platform::on(home));
    let open = ["db", "partitions", "open", "1", "--owner", OWNER];
    done(home, &["db", "partitions", "close", "1", "--owner", OWNER]);
    second.say("CREATE DATABASE copy TEMPLATE postgres");
    second.say("CREATE DATABASE old TEMPLATE postgres");
    let lead_to = |database: &str| {
        let address = second.address(PLATFORM);
        let (server, _) = address.rsplit_once('/').unwrap();
        let home_is = first.address(PLATFORM);
        let named = format!(
            "address = \"{home_is}\"\n\n[[partition]]\naddress = \"{server}/{database}\"\n"
        );
        fs::write(home.join("database.toml"), named).unwrap();
    };
    // Two copies are opened, and the map names the one that is signed.
    for database in ["copy", "postgres"] {
        lead_to(database);
        assert_eq!(done(home, &open)["place"], 2);
    }
    done(home, &["db", "partitions", "sign", "1"]);
    done(home, &["db", "partitions", "show"]);
    lead_to("copy");
    let (is_sound, shown) = said(home, &["db", "partitions", "show"]);
    assert!(!is_sound, "{shown}");
    // The old place is as closed as ever, and no place to open it at.
    lead_to("old");
    let (is_open, refused) = said(home, &open);
    assert!(
        !is_open && refused.to_string().contains("the newest map names another place"),
        "{refused}"
    );
    let closed = second
        .program("psql")
        .args(["-d", "old", "-tAc", "SELECT closed FROM tapfer.own_partition"])
        .output();
    assert_eq!(closed.unwrap().stdout, b"1\n");
}
