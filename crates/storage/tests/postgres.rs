//! What only a database has that many platforms share: their races, its rights, its failures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use rusqlite::Connection;
use tapfer_payment_types::{PaymentIntentId, TerminalId};
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::audit_chain::ChainFault;
use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::postgres::{PostgresOptions, PostgresStorage, make, migrate};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{
    AuditStore as _, Begun, CardChange, CardStore as _, DatabaseReader, IdempotencyStore as _,
    Storage as _, StorageError, Written,
};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use world::backend::{claim, migrated, options, platform};
use world::standby::{SYNC, find_the_standby};
use world::{World, noon, presented, realm, write};

const RACERS: usize = 120;
const LANES: usize = 12;

/// Two platforms, and terminals that each wait for a payment of the same phone.
fn two_platforms_and_lanes(
    server: &TestPostgres,
) -> (Arc<[World; 2]>, Vec<(PaymentIntentId, TerminalId)>) {
    let first = World::new(platform(server));
    let lanes = (0..LANES).map(|_| {
        let terminal = TerminalId::new(noon(), first.next());
        first.create_terminal(terminal);
        let intent = first.intent(100, CaptureMethod::Automatic).id;
        first.arm(intent, terminal);
        (intent, terminal)
    });
    let lanes = lanes.collect();
    (Arc::new([first, World::reopened(platform(server), 1_000_000)]), lanes)
}

/// Whoever presents the tap that was approved once more, at the same terminal, is told so; everybody else is declined.
#[test]
fn of_racers_that_are_decided_behind_the_locks_one_is_approved() {
    let server = migrated();
    let (worlds, lanes) = two_platforms_and_lanes(&server);
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|number| {
            let (worlds, start) = (Arc::clone(&worlds), Arc::clone(&start));
            let (intent, terminal) = lanes[number % LANES];
            thread::spawn(move || {
                let world = &worlds[number % 2];
                start.wait();
                let tap = world.undecided(intent, terminal, presented(1, 100), None);
                world.decide_all(vec![tap]).pop().unwrap().unwrap()
            })
        })
        .collect();
    let (mut outcomes, mut told_again) = (BTreeMap::new(), 0);
    for racer in racers {
        match racer.join().unwrap() {
            Written::Done { value, .. } => {
                *outcomes.entry(value.outcome.number()).or_insert(0) += 1;
            }
            Written::Replayed(_) => told_again += 1,
        }
    }
    let replay = Outcome::Declined(DeclineReason::Replay).number();
    let of_one = RACERS / LANES;
    assert_eq!(outcomes, BTreeMap::from([(0, 1), (replay, RACERS - of_one)]));
    assert_eq!(told_again, of_one - 1);
    assert_eq!(worlds[1].money(), (99_900, 99_900));
    assert_eq!(worlds[0].store.verify_audit().unwrap().fault, None);
}

#[test]
fn of_racers_at_two_platforms_with_one_counter_one_is_approved() {
    let server = migrated();
    let (worlds, lanes) = two_platforms_and_lanes(&server);
    let start = Arc::new(Barrier::new(RACERS));
    let racers: Vec<_> = (0..RACERS)
        .map(|number| {
            let (worlds, start) = (Arc::clone(&worlds), Arc::clone(&start));
            let (intent, terminal) = lanes[number % LANES];
            thread::spawn(move || {
                start.wait();
                worlds[number % 2].pay_on_facts(intent, terminal, 1, 100).outcome
            })
        })
        .collect();
    let mut outcomes = BTreeMap::new();
    for racer in racers {
        *outcomes.entry(racer.join().unwrap().number()).or_insert(0) += 1;
    }
    let replay = Outcome::Declined(DeclineReason::Replay).number();
    assert_eq!(outcomes, BTreeMap::from([(0, 1), (replay, RACERS - 1)]));
    assert_eq!(worlds[1].money(), (99_900, 99_900));
    // Both wrote into one log, and it is one chain.
    let report = worlds[0].store.verify_audit().unwrap();
    assert_eq!(report.fault, None);
    let decided = "SELECT count(*) FROM audit_events WHERE action = 'authorization.decided'";
    assert_eq!(server.ask(decided), RACERS.to_string());
    assert_eq!(server.ask("SELECT count(*) FROM audit_inbox"), "0");
}

#[test]
fn a_payment_that_was_decided_before_a_block_is_not_written_behind_it() {
    let server = migrated();
    let here = World::new(platform(&server));
    let there = platform(&server);
    let intent = here.armed(100, CaptureMethod::Automatic).id;
    let decision = here.decide(intent, here.terminal, presented(1, 100));
    there.change_card(here.card, CardChange::Block, "lost".into(), write()).unwrap();
    assert!(matches!(here.commit(&decision, None), Err(StorageError::Conflict)));
    assert_eq!(here.money(), (100_000, 100_000));
}

#[test]
fn a_request_runs_at_one_platform_at_a_time() {
    let server = migrated();
    let here = World::new(platform(&server));
    let there = platform(&server);
    let key = claim(&here, "order-1");
    let Begun::Run(running) = here.store.begin(&key).unwrap() else { panic!("runs") };
    for _ in 0..3 {
        assert!(matches!(there.begin(&key), Err(StorageError::StillRunning)));
    }
    // Given up: another one may run it, as soon as the database has heard.
    drop(running);
    let running = loop {
        match there.begin(&key) {
            Ok(Begun::Run(running)) => break running,
            Err(StorageError::StillRunning) => thread::yield_now(),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(here.store.begin(&key), Err(StorageError::StillRunning)));
    let intent = here.armed(100, CaptureMethod::Automatic).id;
    let decision = here.decide(intent, here.terminal, presented(1, 100));
    here.commit(&decision, Some(key.clone())).unwrap();
    // Its answer is told while whoever ran it is still at it.
    assert!(matches!(here.store.begin(&key), Ok(Begun::Replay(_))));
    drop(running);
}

#[test]
fn a_request_that_two_platforms_finish_has_one_effect() {
    let server = migrated();
    let here = World::new(platform(&server));
    let there = World::reopened(platform(&server), 1_000_000);
    let key = claim(&here, "order-1");
    let intent = here.armed(100, CaptureMethod::Automatic).id;
    let decision = here.decide(intent, here.terminal, presented(1, 100));
    // Nobody asked whether it was running: a connection that held the marks was lost.
    let start = Barrier::new(2);
    let commit = |world: &World| {
        start.wait();
        world.commit(&decision, Some(key.clone()))
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| commit(&there));
        (commit(&here), other.join().unwrap())
    });
    let done =
        [&one, &other].iter().filter(|made| matches!(made, Ok(Written::Done { .. }))).count();
    assert_eq!(done, 1, "{one:?} {other:?}");
    assert!(matches!(here.store.begin(&key), Ok(Begun::Replay(_))));
    assert_eq!(here.money(), (99_900, 99_900));
}

/// Attack: whoever has the platform's login, or the platform, wants what was to be otherwise.
#[test]
fn attack_history_rewritten_with_the_platforms_login() {
    let server = migrated();
    let world = World::new(platform(&server));
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.store.audit_end().unwrap();
    let tables = [
        "audit_inbox",
        "audit_events",
        "audit_links",
        "audit_heads",
        "authorizations",
        "ledger_transfers",
        "token_changes",
        "refunds",
        "reversals",
        "revoked_issuer_certificates",
    ];
    let denied = |sql: &str| match server.try_as(PLATFORM, sql) {
        Err(refused) => {
            let is_denied =
                refused.contains("permission denied") || refused.contains("must be owner");
            assert!(is_denied, "{sql}: {refused}");
        }
        Ok(answer) => panic!("{sql}: {answer}"),
    };
    for table in tables {
        let column = server.ask(&format!(
            "SELECT column_name FROM information_schema.columns
             WHERE table_name = '{table}' ORDER BY ordinal_position DESC LIMIT 1"
        ));
        denied(&format!("UPDATE {table} SET {column} = {column}"));
        denied(&format!("DELETE FROM {table}"));
        denied(&format!("TRUNCATE {table}"));
    }
    denied("INSERT INTO audit_events SELECT * FROM audit_events");
    denied("INSERT INTO audit_links SELECT * FROM audit_links");
    denied("UPDATE cards SET number_sealed = ''");
    denied("UPDATE api_keys SET secret_hash = secret_hash");
    denied("DROP TRIGGER audit_events_are_final ON audit_events");
    // A line that waits can be linked, and only as the next.
    let early = server.try_as(PLATFORM, "SELECT link_audit_events(0, '{1}', '{x}', '{x}')");
    assert!(early.unwrap_err().contains("the audit chain has gone on"));
    // Not even its owner changes a row without taking the trigger away first.
    let refused = server.try_as(OWNER, "UPDATE audit_events SET detail = ''").unwrap_err();
    assert!(refused.contains("the audit log is not changed"), "{refused}");
    assert_eq!(world.store.verify_audit().unwrap().fault, None);
}

#[test]
fn a_platform_does_not_start_with_more_rights_than_it_needs() {
    let server = migrated();
    let refused = PostgresStorage::open(&options(&server, OWNER), realm()).unwrap_err();
    assert!(matches!(refused, StorageError::TooManyRights(_)), "{refused}");
    for (right, table) in [
        ("DELETE", "audit_events"),
        ("UPDATE (amount)", "ledger_transfers"),
        ("UPDATE (version)", "partition_maps"),
        ("TRUNCATE", "retention"),
    ] {
        server.say(&format!("GRANT {right} ON {table} TO {PLATFORM}"));
        let refused = PostgresStorage::open(&options(&server, PLATFORM), realm()).unwrap_err();
        let said = format!("rows of {table}, which are final");
        assert!(refused.to_string().contains(&said), "{refused}");
        server.say(&format!("REVOKE {right} ON {table} FROM {PLATFORM}"));
    }
    drop(platform(&server));
}

/// Attack: somebody with the owner's login, who takes the triggers away.
#[test]
fn attack_audit_rows_changed_by_the_databases_owner() {
    let server = migrated();
    let world = World::new(platform(&server));
    let end = world.store.audit_end().unwrap();
    assert!(end.sequence > 5);
    let added = "INSERT INTO audit_events SELECT 1000000, at, api_key_id, role, origin, request_id, action, object, result,
                     detail FROM audit_events WHERE sequence = 1";
    let hands = [
        (
            "UPDATE audit_events SET detail = 'nothing' WHERE sequence = 3",
            ChainFault::Altered { sequence: 3 },
        ),
        ("DELETE FROM audit_events WHERE sequence = 4", ChainFault::Removed { sequence: 4 }),
        (
            "UPDATE audit_events SET sequence = -1 WHERE sequence = 3;
          UPDATE audit_events SET sequence = 3 WHERE sequence = 5;
          UPDATE audit_events SET sequence = 5 WHERE sequence = -1",
            ChainFault::Swapped { sequence: 3, belongs: 5 },
        ),
        (added, ChainFault::Added { sequence: 1_000_000 }),
    ];
    for (hand, fault) in hands {
        server.say(
            "CREATE TABLE kept AS SELECT * FROM audit_events; ALTER TABLE audit_events DISABLE TRIGGER ALL",
        );
        server.say(hand);
        assert_eq!(world.store.verify_audit().unwrap().fault, Some(fault), "{hand}");
        server.say(
            "TRUNCATE audit_events; INSERT INTO audit_events SELECT * FROM kept; DROP TABLE kept",
        );
        assert_eq!(world.store.verify_audit().unwrap().fault, None);
    }
}

/// Attack: a reader of one issuer's rows wants another's, or numbers.
#[test]
fn attack_rows_of_another_issuer() {
    let server = migrated();
    let world = World::new(platform(&server));
    server.say("CREATE ROLE campus LOGIN IN ROLE tapfer_issuer; CREATE ROLE festival LOGIN IN ROLE tapfer_issuer");
    server.say(&format!("INSERT INTO issuer_logins VALUES ('campus', '{}')", world.issuer.id));
    for table in ["issuers", "cards", "devices", "tokens", "issuer_policies"] {
        let count = format!("SELECT count(*) FROM {table}");
        assert_eq!(server.try_as("campus", &count), Ok("1".to_owned()), "{table}");
        assert_eq!(server.try_as("festival", &count), Ok("0".to_owned()), "{table}");
    }
    for secret in [
        "SELECT number_sealed FROM cards",
        "SELECT * FROM issuer_logins",
        "SELECT * FROM person_keys",
    ] {
        assert!(server.try_as("campus", secret).unwrap_err().contains("permission denied"));
    }
}

#[test]
fn a_commit_of_which_nobody_knows_is_asked_again_and_has_one_effect() {
    let server = migrated();
    let world = World::new(platform(&server));
    let waits =
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%COMMIT'";
    for (counter, end) in [(1, "pg_cancel_backend"), (2, "pg_terminate_backend")] {
        let key = claim(&world, &format!("order-{counter}"));
        let intent = world.armed(100, CaptureMethod::Automatic).id;
        let decision = world.decide(intent, world.terminal, presented(counter, 100));
        // From here on there is no other commit than this one.
        world.store.audit_end().unwrap();
        // A standby that does not answer: commits wait.
        server.say("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        server.say("SELECT pg_reload_conf()");
        let made = thread::scope(|scope| {
            let committing = scope.spawn(|| world.commit(&decision, Some(key.clone())));
            while server.ask(&format!("SELECT count(*) FROM ({waits}) AS waiting")) == "0" {
                thread::yield_now();
            }
            server.say("ALTER SYSTEM RESET synchronous_standby_names");
            server.say(&format!("SELECT {end}(pid) FROM ({waits}) AS waiting"));
            server.say("SELECT pg_reload_conf()");
            committing.join().unwrap()
        });
        // Itself a commit, which waits until the server has heard that commits do not wait any more.
        server.say("CREATE TABLE settled (); DROP TABLE settled");
        assert!(matches!(made, Err(StorageError::NotSynced(_))), "{end}: {made:?}");
        let again = world.commit(&decision, Some(key));
        assert!(matches!(again, Ok(Written::Replayed(_))), "{end}: {again:?}");
    }
    assert_eq!(world.money(), (99_800, 99_800));
}

#[test]
fn nobody_waits_for_a_commit_on_a_server_that_says_nothing() {
    let server = migrated();
    let world = World::new(platform(&server));
    let key = claim(&world, "order");
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let decision = world.decide(intent, world.terminal, presented(1, 100));
    // From here on there is no other commit than this one.
    world.store.audit_end().unwrap();
    server.say("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.say("SELECT pg_reload_conf()");
    let made = thread::scope(|scope| {
        let committing = scope.spawn(|| world.commit(&decision, Some(key.clone())));
        while server.ask(&format!("SELECT count(*) FROM ({SYNC}) AS waiting")) == "0" {
            thread::yield_now();
        }
        server.stand_still(true);
        let made = committing.join().unwrap();
        server.stand_still(false);
        made
    });
    // Known from the node's ear, which asks each second: without it the commit itself is given up much later, for another cause.
    let Err(StorageError::NotSynced(cause)) = made else { panic!("{made:?}") };
    assert_eq!(cause.to_string(), "it has not answered for some seconds");
    find_the_standby(&server);
    let again = loop {
        match world.commit(&decision, Some(key.clone())) {
            Err(StorageError::Unreachable(_)) => thread::yield_now(),
            known => break known,
        }
    };
    assert!(matches!(again, Ok(Written::Replayed(_))), "{again:?}");
    assert_eq!(world.money(), (99_900, 99_900));
}

#[test]
fn connections_that_were_lost_are_made_anew() {
    let server = migrated();
    let world = World::new(platform(&server));
    for counter in 1..4 {
        server.say("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tapfer'");
        world.pay_new(counter, 100, CaptureMethod::Automatic);
    }
    assert_eq!(world.store.verify_audit().unwrap().fault, None);
}

/// What is hashed for the audit log is a text's octets in UTF-8, as they stand in the database.
#[test]
fn a_database_in_another_encoding_is_refused_with_what_to_do() {
    let server = TestPostgres::start();
    let make_in = |encoding: &str| {
        let database = encoding.to_lowercase();
        server.say(&format!(
            "CREATE DATABASE {database} TEMPLATE template0 ENCODING '{encoding}' \
             LOCALE_PROVIDER libc LOCALE 'C'"
        ));
        let address = server.address(OWNER);
        let (server, _) = address.rsplit_once('/').unwrap();
        make(&PostgresOptions::new(&format!("{server}/{database}"), None, None).unwrap(), realm())
    };
    let refused = make_in("LATIN1").unwrap_err().to_string();
    assert!(refused.contains("this database is in LATIN1"), "{refused}");
    assert!(refused.contains("make a database with ENCODING 'UTF8'"), "{refused}");
    make_in("UTF8").unwrap();
    make_in("SQL_ASCII").unwrap();
}

#[test]
fn a_database_is_of_one_realm_and_of_a_version() {
    let server = TestPostgres::start();
    let owner = options(&server, OWNER);
    assert!(matches!(PostgresStorage::open(&owner, realm()), Err(StorageError::Empty(_))));
    // Only a new realm's database begins with nothing.
    assert!(matches!(migrate(&owner, realm()), Err(StorageError::Empty(_))));
    let (before, after) = make(&owner, realm()).unwrap();
    assert!(before == 0 && after > 0);
    assert_eq!(migrate(&owner, realm()).unwrap(), (after, after), "nothing left to do");
    server.let_platforms_in();
    let other = tapfer_payment_types::RealmId::new(noon(), [2; 10]);
    assert!(matches!(migrate(&owner, other), Err(StorageError::OtherRealm { .. })));
    let platform = options(&server, PLATFORM);
    let refused = PostgresStorage::open(&platform, other);
    assert!(matches!(refused, Err(StorageError::OtherRealm { .. })));
    // A node that was upgraded first has brought the schema further: this one goes on beside it.
    let further = |by| {
        format!(
            "UPDATE refinery_schema_history SET version = version {by} WHERE version >= {after}"
        )
    };
    server.say(&further("+ 1"));
    PostgresStorage::open(&platform, realm()).unwrap();
    server.say(&format!("DELETE FROM refinery_schema_history WHERE version >= {after}"));
    let refused = PostgresStorage::open(&platform, realm());
    assert!(matches!(refused, Err(StorageError::OlderDatabase { .. })));
}

/// Verbs are written once: both engines have the same tables with the same columns.
#[test]
fn both_engines_have_the_same_columns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapfer.db");
    SqliteStorage::create(&path, realm(), &SqliteOptions::default()).unwrap().close();
    let file = Connection::open(&path).unwrap();
    let columns = "SELECT t.name || '.' || c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
                   WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE 'refinery%'";
    let mut columns = file.prepare(columns).unwrap();
    let mut embedded: Vec<String> =
        columns.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    // What only many platforms need.
    let own = [
        "audit_inbox.",
        "idempotency_answers.inserted_at",
        "cards.closed_seen_at",
        "tokens.ended_seen_at",
        "ended_data.",
        "kept_answers.",
        "issuer_logins.",
        "key_catalogue_copy.",
        "own_partition.",
        "partition_maps.",
        "phones_in_use.",
        "told.",
        "untold_answers.",
        "audit_heads.rowid",
        "refinery_schema_history.",
    ];
    // What only memory in front of the tables needs, and only a file.
    embedded.retain(|column| !column.starts_with("journal") && column != "retention.is_rewritten");
    let server = migrated();
    let shared = server.ask(
        "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'tapfer'",
    );
    let shared = shared.lines().filter(|column| !own.iter().any(|own| column.starts_with(own)));
    let mut shared: Vec<String> = shared.map(str::to_owned).collect();
    embedded.sort();
    shared.sort();
    assert_eq!(embedded, shared);
}

/// What a superuser does to the log past all rules is named to an auditor, who has a login that reads the log and nothing
/// else.
#[test]
fn an_auditor_names_what_a_superuser_did_to_the_log() {
    let server = migrated();
    let world = World::new(platform(&server));
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.pay_new(2, 100, CaptureMethod::Automatic);
    let end = world.store.audit_end().unwrap();
    world.store.close();
    server.say("CREATE ROLE auditor LOGIN IN ROLE tapfer_auditor");
    let fault = || {
        let reader = DatabaseReader::server(&options(&server, "auditor")).unwrap();
        assert_eq!((reader.realm(), reader.lines_to_be_linked().unwrap()), (realm(), Some(0)));
        reader.api_keys().unwrap();
        reader.verify_audit().unwrap().fault
    };
    assert_eq!(fault(), None);
    server.say("CREATE TABLE kept_events AS TABLE audit_events; CREATE TABLE kept_links AS TABLE audit_links");
    let altered = Some(ChainFault::Altered { sequence: 3 });
    for (statement, expected) in [
        ("UPDATE audit_events SET detail = '' WHERE sequence = 3", altered),
        ("UPDATE audit_events SET role = 'merchant' WHERE sequence = 3", altered),
        (
            "DELETE FROM audit_events WHERE sequence = 4",
            Some(ChainFault::Removed { sequence: 4 }),
        ),
        (
            "UPDATE audit_events SET sequence = -1 WHERE sequence = 3;
             UPDATE audit_events SET sequence = 3 WHERE sequence = 5;
             UPDATE audit_events SET sequence = 5 WHERE sequence = -1",
            Some(ChainFault::Swapped { sequence: 3, belongs: 5 }),
        ),
        (
            "INSERT INTO audit_events (sequence, at, role, origin, request_id, action, object, result)
             VALUES (1000000, 1, 'operator', 'local', '', 'card.blocked', 'card_x', 'succeeded')",
            Some(ChainFault::Added { sequence: 1_000_000 }),
        ),
        (
            "UPDATE audit_links SET hash = decode(repeat('00', 32), 'hex') WHERE sequence = 6",
            Some(ChainFault::Rewritten { sequence: 6 }),
        ),
    ] {
        server.say(&format!("SET session_replication_role = replica; {statement}"));
        assert_eq!(fault(), expected, "{statement}");
        server.say(
            "SET session_replication_role = replica; DELETE FROM audit_links; DELETE FROM audit_events;
             INSERT INTO audit_events TABLE kept_events; INSERT INTO audit_links TABLE kept_links",
        );
        assert_eq!(fault(), None);
    }
    let reader = DatabaseReader::server(&options(&server, "auditor")).unwrap();
    assert_eq!(reader.end_at(end.sequence).unwrap(), Some(end));
}

/// A log longer than what is read at once is walked to its end, and what a look beside finds does not stop the walk.
#[test]
fn a_long_log_is_walked_in_parts() {
    let server = migrated();
    let store = platform(&server);
    let event = |object: &str| {
        AuditEvent::of_platform(AuditAction::HsmMemberUp, object.to_owned(), None, noon())
    };
    thread::scope(|scope| {
        for lane in 0..8 {
            let store = &store;
            scope.spawn(move || {
                (0..300).for_each(|_| store.record_audit(event(&lane.to_string())).unwrap());
            });
        }
    });
    let report = store.verify_audit().unwrap();
    assert_eq!((report.fault, report.sound.sequence), (None, 2_400));
    server.say(
        "SET session_replication_role = replica; UPDATE audit_events SET sequence = -1 WHERE sequence = 1500;
         UPDATE audit_events SET sequence = 1500, at = at + 1 WHERE sequence = 2300",
    );
    let fault = store.verify_audit().unwrap().fault;
    assert_eq!(fault, Some(ChainFault::Altered { sequence: 1_500 }));
}
