//! Answers kept for idempotency keys, and somebody who writes the database without having the platform's keys.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::sync::Arc;

use rusqlite::Connection;
use tapfer_payment_types::RefundId;
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::{
    Answer, Begun, IdempotencyClaim, NewRefund, Refusal, Storage, StorageError, StoredResponse,
    TopUp, Write,
};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use world::backend::{Backend, claim, migrated, platform};
use world::{World, caller, euro, noon, presented};

/// A store whose database a hand can reach that may do anything.
trait Reached: Backend {
    fn change(&self, sql: &str);
}

impl Reached for tempfile::TempDir {
    fn change(&self, sql: &str) {
        let file = Connection::open(self.path().join("tapfer.db")).unwrap();
        file.execute_batch(sql).unwrap();
    }
}

impl Reached for TestPostgres {
    fn change(&self, sql: &str) {
        self.try_as(OWNER, sql).unwrap();
    }
}

fn pay(world: &World, key: &IdempotencyClaim, counter: u16) {
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let decision = world.decide(intent, world.terminal, presented(counter, 100));
    world.commit(&decision, Some(key.clone())).unwrap();
    // The tables are to know it.
    world.store.audit_end().unwrap();
}

fn is_told(store: &dyn Storage, key: &IdempotencyClaim) -> bool {
    match store.begin(key) {
        Ok(Begun::Replay(_)) => true,
        Err(StorageError::Inconsistent(broken)) => {
            assert_eq!((broken.table, broken.column), ("idempotency_answers", "mac"));
            false
        }
        other => panic!("{other:?}"),
    }
}

fn answers_of_a_stranger_are_told_to_nobody<B: Reached>() {
    let (store, backend) = B::open();
    let world = World::new(Arc::clone(&store));
    let keys = ["order-1", "order-2", "order-3", "order-4"].map(|key| claim(&world, key));
    for (counter, key) in (1..).zip(&keys) {
        pay(&world, key, counter);
        assert!(is_told(&*store, key));
    }
    // Another text, another status, the answer to another request; each with a MAC that is genuine somewhere.
    backend.change("UPDATE idempotency_answers SET body = fingerprint WHERE key = 'order-1'");
    backend.change("UPDATE idempotency_answers SET status = 200 WHERE key = 'order-2'");
    backend.change(
        "UPDATE idempotency_answers SET (body, mac) =
             (SELECT body, mac FROM idempotency_answers WHERE key = 'order-4') WHERE key = 'order-3'",
    );
    for (key, told) in keys.iter().zip([false, false, false, true]) {
        assert_eq!(is_told(&*store, key), told, "{}", key.key);
        let intent = world.armed(100, CaptureMethod::Automatic).id;
        let decision = world.decide(intent, world.terminal, presented(9, 100));
        assert_eq!(world.commit(&decision, Some(key.clone())).is_ok(), told);
        world.store.cancel_intent(intent, world::write()).unwrap();
    }
}

#[test]
fn attack_answer_forged_in_the_database() {
    answers_of_a_stranger_are_told_to_nobody::<tempfile::TempDir>();
    answers_of_a_stranger_are_told_to_nobody::<TestPostgres>();
}

/// The platform's own login to PostgreSQL can neither change nor forget a young answer, nor make one old.
#[test]
fn attack_answer_exchanged_with_the_platforms_login() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let [key, other] = ["order-1", "order-2"].map(|key| claim(&world, key));
    pay(&world, &key, 1);
    for sql in [
        "UPDATE idempotency_answers SET body = 'x'",
        "DELETE FROM idempotency_answers",
        "TRUNCATE idempotency_answers",
        "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, inserted_at)
             SELECT api_key_id, 'order-3', fingerprint, status, body, 1, 1 FROM idempotency_answers",
        "UPDATE answers_vouched SET since = 0",
        "INSERT INTO answers_vouched VALUES (0)",
        "DELETE FROM booked_requests",
        "CREATE OR REPLACE VIEW kept_answers AS SELECT 1",
    ] {
        let refused = server.try_as(PLATFORM, sql).unwrap_err();
        let is_denied = refused.contains("permission denied") || refused.contains("must be owner");
        assert!(is_denied, "{sql}: {refused}");
    }
    let forgotten = server.try_as(PLATFORM, "SELECT forget_answers(9000000000000000, 1000)");
    assert_eq!(forgotten.unwrap(), "0", "by the database's clock it is young");
    // What he writes himself is told to nobody.
    let write = "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, mac)
                     SELECT api_key_id, 'order-2', fingerprint, status, 'approved', created_at, mac FROM idempotency_answers";
    server.try_as(PLATFORM, write).unwrap();
    assert!(!is_told(&*store, &other));
    assert!(is_told(&*store, &key));
    // Nor without a MAC: in a database that is new there is nothing from before.
    let write = "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at)
                     SELECT api_key_id, 'order-3', fingerprint, status, 'approved', created_at FROM idempotency_answers LIMIT 1";
    server.try_as(PLATFORM, write).unwrap();
    assert!(!is_told(&*store, &claim(&world, "order-3")));
}

/// Answers from before there were MACs are told for as long as they can be from before.
#[test]
fn an_answer_without_a_mac_is_told_if_it_is_from_before() {
    let (store, directory) = <tempfile::TempDir as Backend>::open();
    let world = World::new(Arc::clone(&store));
    let key = claim(&world, "order-1");
    pay(&world, &key, 1);
    directory.change("UPDATE idempotency_answers SET mac = NULL");
    assert!(is_told(&*store, &key), "given at a time before this database was made");
    let set_since = |since: &str| {
        directory.change(&format!(
            "DROP TRIGGER answers_vouched_stays_as_it_is; UPDATE answers_vouched SET since = {since};
             CREATE TRIGGER answers_vouched_stays_as_it_is BEFORE UPDATE ON answers_vouched
    BEGIN SELECT RAISE(ABORT, 'since when answers are vouched for does not change'); END;"
        ));
    };
    set_since("(SELECT created_at - 1 FROM idempotency_answers)");
    assert!(!is_told(&*store, &key), "given behind it");
    set_since("unixepoch() * 1000 - 31 * 86400000");
    directory.change("UPDATE idempotency_answers SET created_at = 1");
    assert!(!is_told(&*store, &key), "a month later none can be left");

    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let key = claim(&world, "order-1");
    pay(&world, &key, 1);
    server.change("UPDATE idempotency_answers SET mac = NULL");
    assert!(!is_told(&*store, &key), "a new database, which has nothing from before");
    server.change(
        "SET session_replication_role = replica;
         UPDATE answers_vouched SET since = (date_part('epoch', now()) * 1000)::BIGINT",
    );
    assert!(
        is_told(&*store, &key),
        "of a platform of the version before, which runs beside this one"
    );
    server.change("UPDATE idempotency_answers SET inserted_at = inserted_at + 2 * 86400000");
    assert!(!is_told(&*store, &key), "two days behind the migration");
    let faults = tapfer_storage::DatabaseReader::server(&world::backend::options(&server, OWNER));
    let faults = faults.unwrap().check().faults;
    assert!(faults.iter().any(|fault| fault.what.contains("no platform has given")), "{faults:?}");
}

/// The same idempotency key moves money once, also when its answer is gone.
fn money_moves_once<B: Reached>() {
    let (store, backend) = B::open();
    let world = World::new(Arc::clone(&store));
    let top_up = || {
        let reference = "cash".to_owned();
        let top_up = TopUp { card: world.card, amount: euro(50), reference };
        store.top_up(top_up, write(&world, "top-up")).map(drop)
    };
    let paid = world.pay_new(1, 100, CaptureMethod::Automatic);
    let refund = || {
        let id = RefundId::new(noon(), world.next());
        let wanted = NewRefund { id, payment_intent: paid.payment_intent, amount_minor: Some(10) };
        store.create_refund(wanted, write(&world, "refund")).map(drop)
    };
    for _ in 0..2 {
        top_up().unwrap();
        refund().unwrap();
    }
    let money = world.money();
    backend.change("DELETE FROM idempotency_answers");
    for refused in [top_up(), refund()] {
        assert!(
            matches!(&refused, Err(StorageError::Refused(Refusal::BookedBefore))),
            "{refused:?}"
        );
    }
    assert_eq!(world.money(), money);
}

fn write<T>(world: &World, key: &str) -> Write<T> {
    let answer = Answer::Known(StoredResponse { status: 201, body: b"booked".to_vec() });
    Write { caller: caller(), claim: Some(claim(world, key)), answer, now: noon() }
}

#[test]
fn attack_money_moved_again_when_the_answer_is_gone() {
    money_moves_once::<tempfile::TempDir>();
    money_moves_once::<TestPostgres>();
}
