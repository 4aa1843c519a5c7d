//! `tapfer db check`: each kind of damage is named, with its table and row, on both stores.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tapfer_payment_types::{RefundId, ReversalId};
use tapfer_payments::intents::CaptureMethod::{Automatic, Manual};
use tapfer_storage::postgres::PostgresOptions;
use tapfer_storage::{DatabaseReader, NewRefund, NewReversal, Soundness, StorageError};
use tapfer_test_postgres::{PLATFORM, TestPostgres};
use world::backend::Backend;
use world::{World, done, noon, write};

/// Everything that can happen to a payment.
fn payments(world: &World) {
    let store = &world.store;
    let refund = |payment_intent, minor| {
        let id = RefundId::new(noon(), world.next());
        done(store.create_refund(NewRefund { id, payment_intent, amount_minor: minor }, write()));
    };
    let undo = |authorization| {
        let id = ReversalId::new(noon(), world.next());
        done(store.reverse(NewReversal { id, authorization, reason: "lost".into() }, write()));
    };
    world.pay_new(1, 1_000, Automatic);
    let refunded = world.pay_new(2, 1_000, Automatic);
    refund(refunded.payment_intent, Some(300));
    let captured = world.pay_new(3, 1_000, Manual);
    done(store.capture_intent(captured.payment_intent, Some(600), write()));
    done(store.cancel_intent(world.pay_new(4, 1_000, Manual).payment_intent, write()));
    undo(world.pay_new(5, 1_000, Manual).id);
    let undone = world.pay_new(6, 1_000, Automatic);
    refund(undone.payment_intent, Some(400));
    undo(undone.id);
    world.pay_new(7, 1_000, Manual);
    // A replay, which is declined.
    world.pay(world.armed(500, Automatic).id, 7, 500);
}

/// Somebody with all rights.
trait Damaged: Backend {
    /// Says it past all rules.
    fn damage(&self, statements: &str);
    fn check(&self) -> Soundness;
    /// Remembers how everything is.
    fn keep(&self);
    /// Makes everything as it was.
    fn put_back(&self);
}

/// The tables that are damaged here.
const TABLES: [&str; 10] = [
    "issuers",
    "issuer_policies",
    "accounts",
    "ledger_transfers",
    "payment_intents",
    "authorizations",
    "refunds",
    "reversals",
    "transaction_counters",
    "audit_events",
];

impl Damaged for tempfile::TempDir {
    fn damage(&self, statements: &str) {
        tamper(&self.path().join("tapfer.db"), statements);
    }

    fn check(&self) -> Soundness {
        DatabaseReader::file(&self.path().join("tapfer.db")).unwrap().check()
    }

    fn keep(&self) {
        std::fs::copy(self.path().join("tapfer.db"), self.path().join("kept.db")).unwrap();
    }

    fn put_back(&self) {
        std::fs::copy(self.path().join("kept.db"), self.path().join("tapfer.db")).unwrap();
    }
}

impl Damaged for TestPostgres {
    fn damage(&self, statements: &str) {
        self.say(&format!("SET session_replication_role = replica; {statements}"));
    }

    fn check(&self) -> Soundness {
        let options = PostgresOptions::new(&self.address(PLATFORM), None, None).unwrap();
        DatabaseReader::server(&options).unwrap().check()
    }

    fn keep(&self) {
        self.say("CREATE SCHEMA kept");
        for table in TABLES {
            self.say(&format!("CREATE TABLE kept.{table} AS TABLE {table}"));
        }
    }

    fn put_back(&self) {
        let back = TABLES.map(|table| {
            format!(
                "DELETE FROM {table}; INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE kept.{table};"
            )
        });
        self.damage(&back.concat());
    }
}

/// Takes triggers away first and puts them back.
fn tamper(path: &Path, statements: &str) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON")
        .unwrap();
    let mut triggers =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let triggers = triggers.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let triggers: Vec<(String, String)> = triggers.map(Result::unwrap).collect();
    for (name, _) in &triggers {
        connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    connection.execute_batch(statements).unwrap();
    for (_, made_by) in &triggers {
        connection.execute_batch(made_by).unwrap();
    }
}

/// A statement, the table that is named, and what is said.
const DAMAGES: [(&str, &str, &str); 19] = [
    ("UPDATE accounts SET balance = balance + 1 WHERE kind = 'merchant_payable'", "accounts", "sum of what was booked"),
    ("UPDATE ledger_transfers SET amount = amount + 1 WHERE kind = 'top_up'", "accounts", "sum of what was booked"),
    ("UPDATE ledger_transfers SET to_kind = 'held' WHERE kind = 'top_up'", "ledger_transfers", "no booking of this kind"),
    ("UPDATE ledger_transfers SET cause = 'nothing' WHERE kind = 'refund' AND amount = 300", "ledger_transfers", "is not there"),
    (
        "UPDATE ledger_transfers SET amount = 999 WHERE kind = 'hold' AND sequence = (SELECT min(sequence) FROM ledger_transfers WHERE kind = 'hold')",
        "authorizations",
        "one hold of its amount",
    ),
    ("UPDATE payment_intents SET captured = 599 WHERE captured = 600", "payment_intents", "not what it says"),
    ("UPDATE payment_intents SET refunded = 299 WHERE refunded = 300", "payment_intents", "not what it says"),
    ("UPDATE payment_intents SET status = 'succeeded' WHERE status = 'requires_capture'", "payment_intents", "not what it says"),
    ("DELETE FROM authorizations WHERE application_transaction_counter = 2", "payment_intents", "is not there"),
    ("UPDATE payment_intents SET authorization_id = NULL, status = 'canceled' WHERE refunded = 300", "authorizations", "does not name it"),
    ("UPDATE refunds SET amount = amount + 1 WHERE amount = 300", "refunds", "not with its amount"),
    ("UPDATE reversals SET amount = amount - 1 WHERE amount = 600", "reversals", "not with its amount"),
    ("DELETE FROM transaction_counters WHERE application_transaction_counter = 3", "authorizations", "counter is not spent"),
    ("UPDATE transaction_counters SET authorization_id = 'auth_x' WHERE application_transaction_counter = 3", "transaction_counters", "is not there"),
    (
        "UPDATE authorizations SET application_transaction_counter = 60 WHERE application_transaction_counter = 3;
         UPDATE transaction_counters SET application_transaction_counter = 60 WHERE application_transaction_counter = 3",
        "authorizations",
        "not above that of the approval before",
    ),
    ("DELETE FROM audit_events WHERE action = 'authorization.decided'", "authorizations", "audit log does not tell"),
    ("UPDATE issuers SET policy_version = 9", "issuers", "is not there"),
    ("UPDATE issuers SET policy_version = 0", "issuer_policies", "no platform has set it"),
    ("UPDATE issuer_policies SET document = '{}'", "issuer_policies", "column document makes no sense"),
];

fn every_kind_of_damage_is_named<B: Damaged>() {
    let (store, backend) = B::open();
    payments(&World::new(store.clone()));
    store.verify_audit().unwrap();
    store.close();
    drop(store);
    backend.keep();
    for (statements, table, said) in DAMAGES {
        assert_eq!(backend.check().faults, []);
        backend.damage(statements);
        let faults = backend.check().faults;
        let named = faults.iter().find(|fault| fault.place == table && fault.what.contains(said));
        let named = named.unwrap_or_else(|| panic!("{statements}: {faults:?}"));
        assert!(!named.row.is_empty() && !named.to_do.is_empty(), "{named:?}");
        backend.put_back();
    }
}

fn answers_and_lines_name_decisions_that_are_there<B: Damaged>(hex: fn(&str) -> String) {
    let (store, backend) = B::open();
    payments(&World::new(store.clone()));
    store.verify_audit().unwrap();
    store.close();
    drop(store);
    let checked = backend.check();
    assert_eq!(checked.faults, []);
    assert!(checked.checked.iter().all(|checked| !checked.what.is_empty()));
    let count =
        |what: &str| checked.checked.iter().find(|one| one.what.contains(what)).unwrap().count;
    assert_eq!((count("one hold"), count("refunds with")), (8, 2));
    let answer = |id: &str| {
        let body = hex(&format!("{{\"id\":\"{id}\",\"outcome\":\"approved\"}}"));
        backend.damage(&format!(
            "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at)
             SELECT 'key_a', '{id}', hash, 201, {body}, 1 FROM audit_links WHERE sequence = 0"
        ));
    };
    answer("auth_00000000000000000000000001");
    backend.damage("UPDATE audit_events SET object = 'auth_other' WHERE sequence = (SELECT max(sequence) FROM audit_events WHERE action = 'authorization.decided')");
    let faults = backend.check().faults;
    let is_named = |place: &str, row: &str| {
        faults.iter().any(|fault| fault.place == place && fault.row == row)
    };
    assert!(is_named("idempotency_answers", "auth_00000000000000000000000001"), "{faults:?}");
    assert!(is_named("audit_events", "auth_other"), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.what.contains("was altered")), "{faults:?}");
}

#[test]
fn every_kind_of_damage_is_named_in_a_file() {
    every_kind_of_damage_is_named::<tempfile::TempDir>();
}

#[test]
fn every_kind_of_damage_is_named_in_postgres() {
    every_kind_of_damage_is_named::<TestPostgres>();
}

#[test]
fn answers_and_lines_of_a_file() {
    answers_and_lines_name_decisions_that_are_there::<tempfile::TempDir>(|text| {
        format!("CAST('{text}' AS BLOB)")
    });
}

#[test]
fn answers_and_lines_of_postgres() {
    answers_and_lines_name_decisions_that_are_there::<TestPostgres>(|text| {
        format!("convert_to('{text}', 'UTF8')")
    });
}

#[test]
fn a_trigger_that_was_switched_off_is_named() {
    let (store, server) = TestPostgres::open();
    store.close();
    assert_eq!(server.check().faults, []);
    server.say("ALTER TABLE audit_events DISABLE TRIGGER audit_events_are_final");
    let faults = server.check().faults;
    assert_eq!(faults[0].row, "audit_events audit_events_are_final");
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let (store, directory) = tempfile::TempDir::open();
    payments(&World::new(store.clone()));
    store.close();
    let path = directory.path().join("tapfer.db");
    (directory, path)
}

#[test]
fn what_sqlite_knows_to_be_wrong_is_named() {
    for (statements, said) in [
        ("UPDATE cards SET issuer_id = 'iss_x'", "refers to nothing"),
        ("UPDATE accounts SET balance = -1 WHERE kind = 'held'", "below zero"),
    ] {
        let (_directory, path) = file();
        tamper(&path, statements);
        let faults = DatabaseReader::file(&path).unwrap().check().faults;
        assert!(faults.iter().any(|fault| fault.what.contains(said)), "{statements}: {faults:?}");
    }
    // A page in the middle that a disk has forgotten.
    let (_directory, path) = file();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..middle + 4_096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    match DatabaseReader::file(&path) {
        Ok(reader) => assert!(!reader.check().faults.is_empty()),
        Err(error) => assert!(matches!(error, StorageError::Database(_)), "{error}"),
    }
}

/// A file of a platform that died with payments in its journal.
fn with_a_journal() -> (tempfile::TempDir, PathBuf) {
    let (store, directory) = tempfile::TempDir::open();
    let world = World::new(store.clone());
    let copy = directory.path().join("copy.db");
    // Behind it nobody reads, so it is not written to the tables before the copy unless the writer is faster.
    for attempt in 1..100 {
        world.pay_new(attempt, 100, Automatic);
        for end in ["", "-wal"] {
            let from = directory.path().join(format!("tapfer.db{end}"));
            std::fs::copy(from, directory.path().join(format!("copy.db{end}"))).unwrap();
        }
        let entries = "SELECT count(*) FROM journal";
        let read = Connection::open(&copy).unwrap();
        if read.query_row(entries, [], |row| row.get::<_, i64>(0)).is_ok_and(|entries| entries > 0)
        {
            return (directory, copy);
        }
    }
    panic!("the tables always knew it");
}

#[test]
fn a_journal_that_was_altered_or_has_a_gap_is_named() {
    for (statements, said) in [
        ("UPDATE journal SET records = CAST(records || X'00' AS BLOB)", "was altered"),
        ("UPDATE journal SET entry = entry + 1", "is missing"),
    ] {
        let (_directory, path) = with_a_journal();
        let sound = DatabaseReader::file(&path).unwrap().check();
        assert_eq!(sound.faults, []);
        let journal = sound.checked.iter().find(|checked| checked.what.contains("journal"));
        assert_eq!(journal.unwrap().count, 1);
        tamper(&path, statements);
        let faults = DatabaseReader::file(&path).unwrap().check().faults;
        assert!(
            faults.iter().any(|fault| fault.place == "journal" && fault.what.contains(said)),
            "{faults:?}"
        );
    }
}
