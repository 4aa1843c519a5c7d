//! A process that takes payments is killed at any moment, again and again. Afterwards nothing it
//! acknowledged is missing, nothing is there twice, and the ledger adds up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rusqlite::Connection;
use tapfer_payment_types::{PaymentIntentId, RefundId};
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{IdempotencyClaim, NewRefund, Storage as _};
use world::{World, done, noon, presented, write};

const KILLS: u64 = 20;
/// Tells the child what to do: `RUN:PATH`.
const CHILD: &str = "TAPFER_CRASH_CHILD";

#[test]
fn nothing_acknowledged_is_lost() {
    if let Ok(order) = env::var(CHILD) {
        let (run, path) = order.split_once(':').unwrap();
        take_payments(Path::new(path), run.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapfer.db");
    World::new(open(&path)).store.close();
    let mut acknowledged = BTreeSet::new();
    for run in 1..=KILLS {
        let seen = acknowledged.len();
        acknowledged.extend(kill_once(&path, run));
        assert!(acknowledged.len() > seen, "run {run} acknowledged nothing");
        check(&path, &acknowledged);
    }
}

fn open(path: &Path) -> Arc<SqliteStorage> {
    Arc::new(SqliteStorage::create(path, world::realm(), &SqliteOptions::default()).unwrap())
}

/// Scatters the moments of death: a step of a linear congruential generator (Knuth's MMIX).
fn scatter(seed: u64) -> u64 {
    seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33
}

/// Runs a child until it has acknowledged a few payments, kills it somewhere in the next one, and
/// returns what it acknowledged.
fn kill_once(path: &Path, run: u64) -> Vec<String> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["nothing_acknowledged_is_lost", "--exact", "--nocapture"])
        .env(CHILD, format!("{run}:{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let enough = usize::try_from(scatter(run) % 12).unwrap() + 1;
    let is_acknowledgement = |line: std::io::Result<String>| {
        line.ok().and_then(|line| line.strip_prefix("acknowledged ").map(str::to_owned))
    };
    let mut acknowledged: Vec<_> =
        lines.by_ref().filter_map(is_acknowledgement).take(enough).collect();
    for _ in 0..scatter(run + 1_000) % 200_000 {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died counts too.
    acknowledged.extend(lines.filter_map(is_acknowledgement));
    assert!(acknowledged.len() >= enough, "the child died by itself");
    acknowledged
}

/// The child: pays until it is killed. Every third payment is captured later and in part, every
/// fourth is refunded.
fn take_payments(path: &Path, run: u64) -> ! {
    let world = World::reopened(open(path), run * 1_000_000);
    if let Some(intent) = world.store.armed_intent(world.terminal, noon()).unwrap() {
        done(world.store.cancel_intent(intent.id, write()));
    }
    let highest = world.store.highest_counter(world.token).unwrap().unwrap_or(0);
    for counter in highest + 1.. {
        let method =
            if counter % 3 == 0 { CaptureMethod::Manual } else { CaptureMethod::Automatic };
        let intent = world.armed(10, method).id;
        let decision = world.decide(intent, world.terminal, presented(counter, 10));
        let key = format!("payment-{counter}").parse().unwrap();
        let (api_key, answers) = (world.operator, world::answer_key());
        let claim = IdempotencyClaim { api_key, key, fingerprint: [1; 32], answers };
        let authorization = done(world.commit(&decision, Some(claim)));
        assert!(authorization.outcome.is_approved());
        println!("acknowledged {}", authorization.id);
        if counter % 3 == 0 {
            done(world.store.capture_intent(intent, Some(6), write()));
        }
        if counter % 4 == 0 {
            println!("acknowledged {}", refund(&world, intent));
        }
    }
    panic!("nobody killed me");
}

fn refund(world: &World, payment_intent: PaymentIntentId) -> RefundId {
    let id = RefundId::new(noon(), world.next());
    let refund = NewRefund { id, payment_intent, amount_minor: Some(2) };
    done(world.store.create_refund(refund, write())).id
}

/// Looks at the file itself, not through the store, once the tables know what the journal does.
fn check(path: &Path, acknowledged: &BTreeSet<String>) {
    open(path).close();
    let connection = Connection::open(path).unwrap();
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let sound: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    assert_eq!(number("SELECT count(*) FROM pragma_foreign_key_check"), 0);
    for id in acknowledged {
        let table = if id.starts_with("auth_") { "authorizations" } else { "refunds" };
        let kept = number(&format!("SELECT count(*) FROM {table} WHERE id = '{id}'"));
        assert_eq!(kept, 1, "{id} was acknowledged and is lost");
    }
    // Effect and answer are there together or not at all, once each.
    let payments = number("SELECT count(*) FROM authorizations WHERE outcome = 0");
    for (what, sql) in [
        (
            "answers",
            "SELECT count(*) FROM idempotency_answers JOIN authorizations ON id = CAST(body AS TEXT)",
        ),
        (
            "counters",
            "SELECT count(DISTINCT application_transaction_counter) FROM transaction_counters",
        ),
        (
            "highest counter",
            "SELECT max(application_transaction_counter) FROM transaction_counters",
        ),
        ("holds", "SELECT count(*) FROM ledger_transfers WHERE kind = 'hold'"),
        ("key uses", "SELECT used_payments FROM limited_use_keys"),
        (
            "intents",
            "SELECT count(*) FROM payment_intents WHERE status IN ('succeeded', 'requires_capture')",
        ),
        ("audit lines", "SELECT count(*) FROM audit_events WHERE action = 'authorization.decided'"),
        ("entries", "SELECT entry FROM journal_written"),
    ] {
        assert_eq!(number(sql), payments, "{what}");
    }
    let refunds = number("SELECT count(*) FROM refunds");
    let booked = number("SELECT count(*) FROM ledger_transfers WHERE kind = 'refund'");
    assert_eq!(booked, refunds);
    check_ledger(&connection);
}

/// Every balance is what the transfers make of it, and all of them add up to zero.
fn check_ledger(connection: &Connection) {
    let mut balances: BTreeMap<(String, String), i64> = BTreeMap::new();
    let sql = "SELECT from_kind, from_owner, to_kind, to_owner, amount FROM ledger_transfers";
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let amount: i64 = row.get(4).unwrap();
        *balances.entry((row.get(0).unwrap(), row.get(1).unwrap())).or_default() -= amount;
        *balances.entry((row.get(2).unwrap(), row.get(3).unwrap())).or_default() += amount;
    }
    let mut statement = connection.prepare("SELECT kind, owner, balance FROM accounts").unwrap();
    let kept: BTreeMap<(String, String), i64> = statement
        .query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(kept, balances);
    assert_eq!(kept.values().sum::<i64>(), 0);
}
