//! What stands in the journal and in no table yet: who waits for it, and who does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use tapfer_payment_types::{PaymentIntentId, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::authorization::{Authorization, DeclineReason};
use tapfer_payments::intents::{CaptureMethod, IntentStatus};
use tapfer_storage::faults::{Fault, Faults, Moment};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{
    AuditStore as _, AuthorizationFilter, Begun, IdempotencyClaim, Page, Storage as _,
    StorageError, TopUp,
};
use world::backend::declined;
use world::{World, done, euro, noon, presented, write};

/// A store that never finds the time to bring its tables up to its journal, and is looked at behind each transaction.
#[derive(Debug, Default)]
struct NeverQuiet {
    path: PathBuf,
    /// The last entry that the tables knew, behind each transaction, if somebody wants to know it.
    written: Mutex<Option<Vec<i64>>>,
    /// Behind each transaction they catch up by so many.
    catches_up: AtomicUsize,
}

impl Faults for NeverQuiet {
    fn at(&self, moment: Moment) -> Option<Fault> {
        if let (Moment::Over { .. }, Some(written)) = (moment, &mut *self.written.lock().unwrap()) {
            written.push(in_tables(&self.path));
        }
        None
    }

    fn catches_up(&self) -> Option<usize> {
        Some(self.catches_up.load(Ordering::Relaxed))
    }
}

fn in_tables(path: &Path) -> i64 {
    let written = "SELECT entry FROM journal_written";
    Connection::open(path).unwrap().query_row(written, [], |row| row.get(0)).unwrap()
}

struct House {
    world: World,
    store: Arc<SqliteStorage>,
    quiet: Arc<NeverQuiet>,
    _directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        let options = SqliteOptions::default();
        let made = SqliteStorage::create(&path, world::realm(), &options).unwrap();
        World::new(Arc::new(made)).store.close();
        let quiet = Arc::new(NeverQuiet { path: path.clone(), ..NeverQuiet::default() });
        let faults = Arc::<NeverQuiet>::clone(&quiet);
        let store =
            SqliteStorage::open_with_faults(&path, world::realm(), &options, faults).unwrap();
        let store = Arc::new(store);
        let world = World::reopened(Arc::<SqliteStorage>::clone(&store), 1_000_000);
        Self { world, store, quiet, _directory: directory }
    }

    fn path(&self) -> &Path {
        &self.quiet.path
    }

    fn ahead(&self) -> usize {
        self.store.load().payments_ahead
    }

    /// Taps that spend a counter each and are declined: nobody has armed the terminal for this intent.
    fn taps(&self, intent: PaymentIntentId, counters: std::ops::RangeInclusive<u16>) {
        for counter in counters {
            let tap = self.world.pay(intent, counter, 100);
            assert_eq!(tap.outcome, declined(DeclineReason::TerminalNotArmed));
        }
    }

    fn top_up(&self) {
        let (card, reference) = (self.world.card, "more".into());
        done(self.world.store.top_up(TopUp { card, amount: euro(1), reference }, write()));
    }

    fn listed(&self) -> Vec<Authorization> {
        let filter = AuthorizationFilter::default();
        self.world.store.list_authorizations(filter, Page::first(99)).unwrap().items
    }
}

/// `tapfer keys` and a second program open the same file while the platform has payments ahead of its tables.
#[test]
fn another_program_may_bring_the_tables_up_to_the_journal() {
    let house = House::new();
    let first = house.world.pay_new(1, 100, CaptureMethod::Automatic);
    let intent = house.world.intent(100, CaptureMethod::Automatic).id;
    house.taps(intent, 2..=3);
    assert_eq!(house.ahead(), 2);
    let options = SqliteOptions::default();
    let other = SqliteStorage::open(house.path(), world::realm(), &options).unwrap();
    assert_eq!(other.load().payments_ahead, 0, "they are in the tables now");
    drop(other);
    let fourth = house.world.pay_new(4, 100, CaptureMethod::Automatic);
    let ids: Vec<_> = house.listed().iter().map(|authorization| authorization.id).collect();
    assert_eq!((ids.len(), ids.contains(&first.id), ids.contains(&fourth.id)), (4, true, true));
    assert_eq!(house.world.money(), (99_800, 99_800));
    house.store.check_memory().unwrap();
    assert!(house.world.store.verify_audit().unwrap().fault.is_none());
}

/// Two programs write to the file, each whenever it can: neither is told that the journal is damaged, and nothing is
/// there twice.
#[test]
fn two_programs_at_one_file_do_not_harm_each_other() {
    let house = House::new();
    let intent = house.world.intent(100, CaptureMethod::Automatic).id;
    std::thread::scope(|threads| {
        let taps = threads.spawn(|| house.taps(intent, 1..=120));
        while !taps.is_finished() {
            let options = SqliteOptions::default();
            drop(SqliteStorage::open(house.path(), world::realm(), &options).unwrap());
        }
    });
    house.store.check_memory().unwrap();
    assert_eq!(house.world.store.highest_counter(house.world.token).unwrap(), Some(120));
    assert!(house.world.store.verify_audit().unwrap().fault.is_none());
}

/// What others ask of the tables is written to them in parts, a transaction each, so that a payment that comes meanwhile
/// waits for one part.
#[test]
fn no_transaction_brings_more_than_a_part_to_the_tables() {
    let house = House::new();
    let intent = house.world.intent(100, CaptureMethod::Automatic).id;
    house.taps(intent, 1..=300);
    assert_eq!(house.ahead(), 300);
    let before = in_tables(house.path());
    *house.quiet.written.lock().unwrap() = Some(vec![before]);
    house.top_up();
    assert_eq!(house.ahead(), 0, "a change sees all payments before it");
    let written = house.quiet.written.lock().unwrap().take().unwrap();
    let steps = written.windows(2).map(|pair| pair[1] - pair[0]);
    assert_eq!(steps.max(), Some(128), "each entry is one payment");
    assert_eq!(written.last(), Some(&(before + 300)));
    assert_eq!(house.world.money(), (100_001, 100_001));
}

/// However long nobody asks the tables, so many payments are ahead of them at most.
#[test]
fn no_more_than_a_thousand_are_ahead() {
    let house = House::new();
    let intent = house.world.intent(100, CaptureMethod::Automatic).id;
    for counter in 1..=1_100 {
        house.taps(intent, counter..=counter);
        assert!(house.ahead() <= 1_024);
    }
    assert!(house.ahead() > 900, "and not as few as that they are written one by one");
}

/// Who asks for one payment, for what no payment changes, or whether the platform serves, lets the journal be.
#[test]
fn reads_of_one_thing_do_not_wait_for_the_tables() {
    let house = House::new();
    let (world, store) = (&house.world, &house.world.store);
    let paid = world.pay_new(1, 100, CaptureMethod::Manual);
    assert_eq!(house.ahead(), 1);
    store.check().unwrap();
    assert_eq!(store.authorization(paid.id).unwrap(), Some(paid.clone()));
    let intent = store.intent(paid.payment_intent).unwrap().unwrap();
    assert_eq!(
        (intent.status, intent.authorization),
        (IntentStatus::RequiresCapture, Some(paid.id))
    );
    assert_eq!(store.armed_intent(world.terminal, noon()).unwrap(), None);
    assert!(store.merchant(world.merchant).unwrap().is_some());
    assert!(store.terminal(world.terminal).unwrap().is_some());
    assert!(store.issuer(world.issuer.id).unwrap().is_some());
    assert!(store.device(world.device).unwrap().is_some());
    assert!(store.newest_catalogue().unwrap().is_none());
    assert_eq!(house.ahead(), 1, "nobody has waited for the tables");
    // A change of the same intent does, and is what is read from then on.
    done(store.capture_intent(paid.payment_intent, None, write()));
    assert_eq!(house.ahead(), 0);
    let captured = store.intent(paid.payment_intent).unwrap().unwrap();
    assert_eq!(captured.status, IntentStatus::Succeeded);
    assert_eq!(store.authorization(paid.id).unwrap(), Some(paid));
}

/// What the tables do not know yet is not forgotten in memory, however much there is of one token.
#[test]
fn a_counter_that_only_the_journal_knows_is_spent() {
    let house = House::new();
    let intent = house.world.intent(100, CaptureMethod::Automatic).id;
    house.taps(intent, 1..=59);
    house.quiet.catches_up.store(20, Ordering::Relaxed);
    house.taps(intent, 60..=60);
    house.quiet.catches_up.store(0, Ordering::Relaxed);
    assert_eq!(house.ahead(), 40, "a part of them is in the tables");
    for counter in 1..=60 {
        let asked = house.world.decide(intent, house.world.terminal, presented(counter, 100));
        let token = asked.facts().token.as_ref().unwrap();
        let spent = token.counter_spent.unwrap_or_else(|| panic!("{counter} was spent"));
        assert!(house.world.store.authorization(spent.authorization).unwrap().is_some());
    }
    house.store.check_memory().unwrap();
}

/// An audit line is written beside the platform without a look at its journal, and no payment can be.
#[test]
fn who_notes_something_beside_the_platform_leaves_the_journal_to_it() {
    let house = House::new();
    let paid = house.world.pay_new(1, 100, CaptureMethod::Automatic);
    let options = SqliteOptions::default();
    let beside =
        Arc::new(SqliteStorage::open_beside(house.path(), world::realm(), &options).unwrap());
    let before = in_tables(house.path());
    let line = |action| AuditEvent::of_platform(action, "a key".into(), None, noon());
    beside.record_audit(line(AuditAction::KeyRotated)).unwrap();
    let other = World::reopened(Arc::<SqliteStorage>::clone(&beside), 2_000_000);
    let decision = other.decide(paid.payment_intent, other.terminal, presented(9, 100));
    assert!(matches!(other.commit(&decision, None), Err(StorageError::Closed)));
    beside.record_audit(line(AuditAction::KeyRetired)).unwrap();
    beside.close();
    assert_eq!((in_tables(house.path()), house.ahead()), (before, 1));
    house.world.pay_new(2, 100, CaptureMethod::Automatic);
    assert_eq!(house.world.money(), (99_800, 99_800));
    assert!(house.world.store.verify_audit().unwrap().fault.is_none());
}

/// A row stands in the tables that an entry of the journal is to put there: a defect, or somebody's hand.
#[test]
fn tables_that_do_not_take_an_entry_are_told_as_that() {
    let house = House::new();
    house.world.pay_new(1, 100, CaptureMethod::Automatic);
    house.top_up();
    let paid = house.world.pay_new(2, 100, CaptureMethod::Automatic);
    let tampered = Connection::open(house.path()).unwrap();
    tampered.pragma_update(None, "foreign_keys", false).unwrap();
    let row = "INSERT INTO authorizations (id, payment_intent_id, merchant_id, terminal_id, outcome, amount, currency,
                   application_transaction_counter, merchant_proven, created_at)
               VALUES (?1, 'nothing', 'nobody', 'nowhere', 1, 1, 'EUR', 1, 0, 1)";
    tampered.execute(row, [paid.id.to_string()]).unwrap();
    for _ in 0..2 {
        let card = house.world.store.card(house.world.card).unwrap_err();
        let StorageError::TablesBehind { entry: 2, .. } = card else { panic!("{card:?}") };
        assert!(card.to_string().contains("UNIQUE constraint failed: authorizations.id"), "{card}");
    }
    assert!(matches!(house.world.store.check(), Err(StorageError::TablesBehind { .. })));
    tampered.execute_batch("DROP TRIGGER authorizations_stay").unwrap();
    tampered.execute("DELETE FROM authorizations WHERE terminal_id = 'nowhere'", []).unwrap();
    assert_eq!(house.world.money(), (99_801, 99_801));
    house.world.store.check().unwrap();
}

/// Old answers are forgotten in parts, a transaction each, and the keys are good again behind that.
#[test]
fn old_answers_are_forgotten_in_parts() {
    let house = House::new();
    let (world, api_key) = (&house.world, house.world.operator);
    let answers = "WITH RECURSIVE numbers (number) AS
            (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 2500)
        INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at) SELECT ?1, 'key-' || number, zeroblob(32), 200, x'07', number FROM numbers";
    let rows = Connection::open(house.path()).unwrap();
    rows.execute(answers, [api_key.to_string()]).unwrap();
    let claim = |number: u16| {
        let key = format!("key-{number}").parse().unwrap();
        IdempotencyClaim { api_key, key, fingerprint: [0; 32], answers: world::answer_key() }
    };
    let is_answered =
        |number| matches!(world.store.begin(&claim(number)).unwrap(), Begun::Replay(_));
    house.top_up();
    assert!((1..=2_500).all(is_answered), "whoever wrote them");
    let (before, last) = (world.store.load().commits, Timestamp::from_unix_millis(2_500));
    assert_eq!(world.store.forget_answers(last).unwrap(), 2_499);
    assert_eq!(world.store.load().commits - before, 4, "three parts, and nothing more was there");
    assert!(is_answered(2_500));
    assert!(!(1..2_500).any(is_answered));
}
