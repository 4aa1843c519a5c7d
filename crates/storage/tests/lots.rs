//! Payments that are decided together in a database of many platforms: as cheap for many as for one, as right as one by one,
//! and nobody's failure is his neighbour's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::cell::Cell;
use std::sync::{Arc, Barrier};
use std::thread;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tapfer_payment_types::{MerchantId, PaymentIntentId, TerminalId};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::AuditAction;
use tapfer_payments::authorization::{Authorization, Decision};
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{AuthorizationFilter, IdempotencyClaim, Page, Storage, StorageError, Written};
use tapfer_test_postgres::TestPostgres;
use world::backend::{claim, migrated, platform};
use world::{World, done, merchant, noon, presented, realm, write};

type Made = Result<Written<Authorization>, StorageError>;

/// So many customers of one merchant.
fn customers(world: &World, count: u64) -> Vec<World> {
    (1..=count).map(|number| world.another_customer(number * 1_000_000)).collect()
}

/// What each of them would pay now, with this counter.
fn taps(customers: &[World], counter: u16) -> Vec<Decision> {
    let tap = |customer: &World| {
        let intent = customer.armed(100, CaptureMethod::Automatic).id;
        customer.decide(intent, customer.terminal, presented(counter, 100))
    };
    customers.iter().map(tap).collect()
}

fn is_done(made: &Made) -> bool {
    matches!(made, Ok(Written::Done { .. }))
}

#[test]
fn a_lot_of_many_costs_the_round_trips_of_one() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let customers = customers(&world, 64);
    let mut counter = 0;
    let mut pay = |count: usize| {
        counter += 1;
        let decisions = taps(&customers[..count], counter);
        let keys: Vec<_> = (0..count).map(|each| format!("order-{counter}-{each}")).collect();
        let keyed = decisions.iter().zip(&keys).map(|(one, key)| (one, Some(claim(&world, key))));
        let keyed = keyed.collect();
        let before = store.round_trips();
        let made = world.commit_all(keyed);
        let round_trips = store.round_trips() - before;
        assert!(made.iter().all(is_done), "{made:?}");
        round_trips
    };
    // Each connection prepares a statement once.
    pay(2);
    let (one, many) = (pay(1), pay(64));
    assert_eq!(one, many);
    // Begin; lock and read; write and commit.
    assert!(one <= 3, "{one}");
    for customer in &customers {
        let paid = customer.money().0;
        assert!(paid < 100_000, "{paid}");
    }
    let owed = "SELECT balance FROM accounts WHERE kind = 'merchant_payable'";
    assert_eq!(server.ask(owed), "6700");
}

#[test]
fn what_is_decided_together_costs_the_round_trips_of_one() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let customers = customers(&world, 64);
    let mut counter = 0;
    let mut pay = |count: usize| {
        counter += 1;
        let armed: Vec<_> = customers[..count]
            .iter()
            .map(|customer| (customer, customer.armed(100, CaptureMethod::Automatic).id))
            .collect();
        let queries = armed.iter().map(|(customer, intent)| {
            customer.query(*intent, customer.terminal, presented(counter, 100))
        });
        let queries: Vec<_> = queries.collect();
        let before = store.round_trips();
        let found = world.store.presented_tokens(&queries, true);
        let looked_up = store.round_trips() - before;
        assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))), "{found:?}");
        let taps = armed.iter().map(|(customer, intent)| {
            let key = Some(claim(&world, &format!("order-{intent}")));
            customer.undecided(*intent, customer.terminal, presented(counter, 100), key)
        });
        let taps = taps.collect();
        let before = store.round_trips();
        let made = world.decide_all(taps);
        let decided = store.round_trips() - before;
        assert!(made.iter().all(is_done), "{made:?}");
        (looked_up, decided)
    };
    // Each connection prepares a statement once.
    pay(2);
    let (one, many) = (pay(1), pay(64));
    assert_eq!(one, many);
    // Begin; lock and read; write and commit.
    assert_eq!(one, (1, 3));
    let owed = "SELECT balance FROM accounts WHERE kind = 'merchant_payable'";
    assert_eq!(server.ask(owed), "6700");
}

#[test]
fn the_facts_of_many_cost_the_round_trips_of_one() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let customers = customers(&world, 8);
    let queries: Vec<_> = customers
        .iter()
        .map(|customer| {
            let intent = customer.armed(100, CaptureMethod::Automatic).id;
            customer.query(intent, customer.terminal, presented(1, 100))
        })
        .collect();
    let look = |count: usize| {
        let before = store.round_trips();
        let facts = world.store.facts_of_authorizations(&queries[..count]);
        assert!(facts.iter().all(Result::is_ok), "{facts:?}");
        store.round_trips() - before
    };
    look(1);
    let (one, many) = (look(1), look(8));
    assert_eq!(one, many);
    assert!(one <= 4, "{one}");
}

#[test]
fn an_api_key_is_looked_up_in_one_round_trip() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let look = || {
        let before = store.round_trips();
        assert!(world.store.api_key(world.operator).unwrap().is_some());
        store.round_trips() - before
    };
    look();
    assert_eq!(look(), 1);
    // A connection that was lost while it waited is no reason to refuse somebody.
    server.say(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tapfer'",
    );
    look();
}

/// Makes every statement for many payments fail, so that they are decided one by one.
fn fail_what_is_written_together(server: &TestPostgres) {
    server.say(
        "CREATE FUNCTION one_by_one() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF current_query() LIKE '%unnest%' THEN RAISE EXCEPTION 'planted'; END IF; RETURN NULL; END $$",
    );
    server.say("CREATE TRIGGER one_by_one AFTER INSERT ON authorizations FOR EACH STATEMENT EXECUTE FUNCTION one_by_one()");
}

/// So many times lots are tried.
const CASES: u32 = 12;

/// One tap of a lot: whose, for which of the intents, with which counter, cryptogram, amount, and under which key.
#[derive(Debug, Clone)]
struct Tap {
    customer: usize,
    intent: usize,
    counter: u16,
    cryptogram: u8,
    minor: i64,
    key: Option<u8>,
}

fn tap() -> impl Strategy<Value = Tap> {
    let minor = prop_oneof![6 => Just(100_i64), 1 => Just(7_i64)];
    let key = prop_oneof![3 => Just(None), 1 => (0..4_u8).prop_map(Some)];
    // A second cryptogram under one counter is a copy of the phone: seldom, for its token pays nothing afterwards.
    let cryptogram = prop_oneof![20 => Just(0_u8), 1 => Just(1_u8)];
    (0..3_usize, 0..2_usize, 1..24_u16, cryptogram, minor, key).prop_map(
        |(customer, intent, counter, cryptogram, minor, key)| Tap {
            customer,
            intent,
            counter,
            cryptogram,
            minor,
            key,
        },
    )
}

/// So many customers pay in a town.
const CUSTOMERS: u64 = 3;

/// The same people with the same ids in some store.
struct Town {
    world: World,
    customers: Vec<World>,
    intents: Vec<[PaymentIntentId; 2]>,
    /// So many times others have come.
    arrivals: u64,
}

impl Town {
    fn new(store: Arc<dyn Storage>) -> Self {
        let world = World::new(store);
        Self { world, customers: Vec::new(), intents: Vec::new(), arrivals: 0 }
    }

    /// Others come, whose counters are unused and whose keys of requests are new.
    fn others_come(&mut self) {
        let first = self.arrivals * CUSTOMERS;
        self.arrivals += 1;
        let numbers = first + 1..=first + CUSTOMERS;
        let customer = |number| self.world.another_customer(number * 1_000_000);
        self.customers = numbers.map(customer).collect();
    }

    fn claim(&self, key: u8) -> IdempotencyClaim {
        claim(&self.world, &format!("order-{}-{key}", self.arrivals))
    }

    /// Each customer has an intent that is taken at once, and one that is captured later, or never was armed.
    fn open(&mut self) {
        let open = |customer: &World| {
            if let Some(armed) = customer.store.armed_intent(customer.terminal, noon()).unwrap() {
                customer.store.cancel_intent(armed.id, write()).unwrap();
            }
            [
                customer.armed(100, CaptureMethod::Automatic).id,
                customer.intent(100, CaptureMethod::Manual).id,
            ]
        };
        self.intents = self.customers.iter().map(open).collect();
    }

    /// What comes of a lot, in words: every tap is decided on what is there before it.
    fn pay(&self, lot: &[Tap]) -> Vec<String> {
        let decide = |tap: &Tap| {
            let customer = &self.customers[tap.customer];
            let mut presented = presented(tap.counter, tap.minor);
            presented.cryptogram = [tap.cryptogram; 8];
            customer.decide(self.intents[tap.customer][tap.intent], customer.terminal, presented)
        };
        let decisions: Vec<_> = lot.iter().map(decide).collect();
        let keyed = decisions
            .iter()
            .zip(lot)
            .map(|(decision, tap)| (decision, tap.key.map(|key| self.claim(key))));
        let made = self.world.commit_all(keyed.collect());
        made.iter().map(|made| format!("{made:?}")).collect()
    }

    /// As [`Self::pay`], decided in the store: all at once, or one after another.
    fn decide(&self, lot: &[Tap], at_once: bool) -> Vec<String> {
        let tap = |tap: &Tap| {
            let customer = &self.customers[tap.customer];
            let mut presented = presented(tap.counter, tap.minor);
            presented.cryptogram = [tap.cryptogram; 8];
            let key = tap.key.map(|key| self.claim(key));
            let intent = self.intents[tap.customer][tap.intent];
            customer.undecided(intent, customer.terminal, presented, key)
        };
        let taps: Vec<_> = lot.iter().map(tap).collect();
        let made: Vec<_> = match at_once {
            true => self.world.decide_all(taps),
            false => taps.into_iter().flat_map(|tap| self.world.decide_all(vec![tap])).collect(),
        };
        made.iter().map(|made| format!("{made:?}")).collect()
    }

    /// All that can be read of it.
    fn told(&self) -> String {
        let store = &self.world.store;
        let decided = store.list_authorizations(AuthorizationFilter::default(), Page::first(100));
        let each = self.customers.iter().zip(&self.intents).map(|(customer, intents)| {
            let intents = intents.map(|id| store.intent(id).unwrap());
            let keys = customer.keys_that_count().unwrap();
            let token = store.token(customer.token).unwrap();
            let history = store.token_history(customer.token).unwrap();
            let person = store.token_person(customer.token).unwrap();
            let booked = store.card_entries(customer.card, Page::first(100)).unwrap();
            let card = store.card(customer.card).unwrap();
            format!("{card:?} {token:?} {history:?} {person:?} {keys:?} {intents:?} {booked:?}")
        });
        let each: Vec<_> = each.collect();
        let log = store.audit_events(Page::first(100)).unwrap();
        format!("{:?}\n{}\n{log:?}", decided.unwrap(), each.join("\n"))
    }
}

/// How a town pays a lot: what comes of it, in words.
type Pay = fn(&Town, &[Tap]) -> Vec<String>;

/// The same town in the embedded store, where what is written together fails, and where it does not.
struct Towns {
    planted: TestPostgres,
    server: TestPostgres,
    _directory: tempfile::TempDir,
    towns: [Town; 3],
}

impl Towns {
    fn new() -> Self {
        let (server, planted) = (migrated(), migrated());
        fail_what_is_written_together(&planted);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        let embedded = SqliteStorage::create(&path, realm(), &SqliteOptions::default()).unwrap();
        let towns = [
            Town::new(Arc::new(embedded)),
            Town::new(platform(&planted)),
            Town::new(platform(&server)),
        ];
        Self { planted, server, _directory: directory, towns }
    }

    /// What comes of the same lots, paid as is said for each town, and all that can be read behind each.
    fn all_pay(&mut self, lots: &[Vec<Tap>], pay: [Pay; 3]) -> Result<(), TestCaseError> {
        self.towns.iter_mut().for_each(Town::others_come);
        for lot in lots {
            self.towns.iter_mut().for_each(Town::open);
            let [embedded, one_by_one, together] = &self.towns;
            let [pay_embedded, pay_one_by_one, pay_together] = pay;
            let paid = pay_together(together, lot);
            prop_assert_eq!(pay_embedded(embedded, lot), paid.clone());
            prop_assert_eq!(pay_one_by_one(one_by_one, lot), paid);
            let [embedded, one_by_one, together] = self.towns.each_ref().map(Town::told);
            prop_assert_eq!(embedded, together.clone());
            prop_assert_eq!(one_by_one, together);
        }
        let owed = "SELECT * FROM accounts WHERE balance <> 0 ORDER BY kind, owner";
        prop_assert_eq!(self.planted.ask(owed), self.server.ask(owed));
        Ok(())
    }

    /// Whatever lots are paid, each time by others in the same towns: servers take longer to start than lots to pay. Where something is
    /// not alike, the next ones pay in towns of their own.
    fn are_alike_after_any_lots(pay: [Pay; 3]) {
        let lots = prop::collection::vec(prop::collection::vec(tap(), 1..12), 1..5);
        let config = ProptestConfig {
            cases: CASES,
            max_shrink_iters: 8,
            source_file: Some(file!()),
            ..ProptestConfig::default()
        };
        let towns = Cell::new(None);
        let outcome = TestRunner::new(config).run(&lots, |lots| {
            let mut these = towns.take().unwrap_or_else(Self::new);
            these.all_pay(&lots, pay)?;
            towns.set(Some(these));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Together, one by one, and in the embedded store.
#[test]
fn a_lot_is_decided_as_one_by_one() {
    Towns::are_alike_after_any_lots([Town::pay; 3]);
}

/// Decided behind the locks: together, where what is written together fails, and one after another in the embedded store.
#[test]
fn a_lot_is_decided_as_one_after_another() {
    let at_once = |town: &Town, lot: &[Tap]| town.decide(lot, true);
    let after_another = |town: &Town, lot: &[Tap]| town.decide(lot, false);
    Towns::are_alike_after_any_lots([after_another, at_once, at_once]);
}

/// Runs SQL in a transaction of the owner's that holds what `hold` locks; once somebody waits, `then` is said, and it
/// commits. Meanwhile does something that will wait for it.
fn beside<T>(server: &TestPostgres, hold: &str, then: &str, meanwhile: impl FnOnce() -> T) -> T {
    let session = format!(
        "BEGIN; SET LOCAL deadlock_timeout = '1h'; {hold}; SELECT pg_advisory_xact_lock(77);
         DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted); END LOOP; END $$;
         {then}; COMMIT"
    );
    thread::scope(|scope| {
        let held = scope.spawn(|| server.say(&session));
        let holds = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77";
        while server.ask(holds) == "0" {
            thread::yield_now();
        }
        let done = meanwhile();
        held.join().unwrap();
        done
    })
}

#[test]
fn an_answer_that_another_platform_gives_meanwhile_fails_no_neighbour() {
    let server = migrated();
    // As in a realm from before answers were vouched for: this one's has no MAC.
    server.say(
        "SET session_replication_role = replica;
         UPDATE answers_vouched SET since = (date_part('epoch', now()) * 1000)::BIGINT",
    );
    let store = platform(&server);
    let world = World::new(store.clone());
    let customers = customers(&world, 3);
    let decisions = taps(&customers, 1);
    let keys = ["order-1", "order-2", "order-3"].map(|key| Some(claim(&world, key)));
    // One of the version before, which vouches for nothing.
    server.say(
        "SET session_replication_role = replica;
         UPDATE answers_vouched SET since = (date_part('epoch', now()) * 1000)::BIGINT",
    );
    let answer = format!(
        "INSERT INTO idempotency_answers VALUES ('{}', 'order-2', decode(repeat('01', 32), 'hex'), 201, 'x', 1)",
        world.operator
    );
    let made = beside(&server, &answer, "SELECT 1", || {
        world.commit_all(decisions.iter().zip(keys).collect())
    });
    assert!(is_done(&made[0]) && is_done(&made[2]), "{made:?}");
    let Ok(Written::Replayed(response)) = &made[1] else { panic!("{made:?}") };
    assert_eq!(response.body, b"x");
    let money: Vec<_> = customers.iter().map(|customer| customer.money().0).collect();
    assert_eq!(money, [99_900, 100_000, 99_900]);
}

/// Payments and changes that wait for one that waits for them.
#[test]
fn a_deadlock_is_not_told_to_anybody() {
    let server = migrated();
    // Who waits looks once, by then: until then the other one has to wait as well.
    server.say("ALTER SYSTEM SET deadlock_timeout = '3s'");
    server.say("SELECT pg_reload_conf()");
    let store = platform(&server);
    let world = World::new(store.clone());
    let customers = customers(&world, 2);
    let decisions = taps(&customers, 1);
    let lock =
        |table: &str, id: String| format!("SELECT 1 FROM {table} WHERE id = '{id}' FOR UPDATE");
    let card = lock("cards", customers[1].card.to_string());
    let issuer =
        format!("SELECT pg_advisory_xact_lock(hashtextextended('Issuer {}', 0))", world.issuer.id);
    let made = beside(&server, &card, &issuer, || {
        world.commit_all(decisions.iter().map(|decision| (decision, None)).collect())
    });
    assert!(made.iter().all(is_done), "{made:?}");
    assert_eq!(customers[1].money(), (99_900, 99_900));
    let intent = world.intent(100, CaptureMethod::Automatic).id;
    let held = lock("payment_intents", intent.to_string());
    let terminal = lock("terminals", world.terminal.to_string());
    let armed = beside(&server, &held, &terminal, || {
        world.store.arm_intent(intent, world.terminal, noon().plus_seconds(60), write())
    });
    assert!(armed.is_ok(), "{armed:?}");
    let log = world.store.audit_events(Page::first(100)).unwrap().items;
    let about = |action| log.iter().filter(|line| line.event.action == action).count();
    let (decided, armed) = (AuditAction::AuthorizationDecided, AuditAction::IntentArmed);
    assert_eq!((about(decided), about(armed)), (2, 3));
    assert!(deadlocks(&server).parse::<u32>().unwrap() >= 2);
}

/// How often the server has found that two waited for each other: it says so in its log at once.
fn deadlocks(server: &TestPostgres) -> String {
    server.ask(
        "SELECT (length(log) - length(replace(log, 'deadlock detected', ''))) / length('deadlock detected')
         FROM pg_read_file(current_setting('data_directory') || '/../log') AS log",
    )
}

/// Lots of two platforms pay the same two merchants, each in the other's order.
fn pay_in_opposite_orders(server: &TestPostgres) {
    const ROUNDS: u16 = 60;
    server.say("ALTER SYSTEM SET deadlock_timeout = '10ms'");
    server.say("SELECT pg_reload_conf()");
    let here = World::new(platform(server));
    let there = World::reopened(platform(server), 90_000_000);
    let other = MerchantId::new(noon(), here.next());
    let key = here.new_api_key(Principal::Merchant(other));
    done(here.store.create_merchant(merchant(other), key, write()));
    let mut customers = customers(&here, 4);
    for customer in &mut customers[1..3] {
        customer.merchant = other;
        customer.terminal = TerminalId::new(noon(), customer.next());
        customer.create_terminal(customer.terminal);
    }
    for round in 1..=ROUNDS {
        let decisions = taps(&customers, round);
        let start = Barrier::new(2);
        let commit = |world: &World, lot: &[Decision]| {
            start.wait();
            world.commit_all(lot.iter().map(|decision| (decision, None)).collect())
        };
        let (one, two) = thread::scope(|scope| {
            let two = scope.spawn(|| commit(&there, &decisions[2..]));
            (commit(&here, &decisions[..2]), two.join().unwrap())
        });
        assert!(one.iter().chain(&two).all(is_done), "{one:?} {two:?}");
    }
    assert_eq!(deadlocks(server), "0");
    let paid = i64::from(ROUNDS) * 200;
    let owed =
        "SELECT string_agg(balance::text, ' ') FROM accounts WHERE kind = 'merchant_payable'";
    assert_eq!(server.ask(owed), format!("{paid} {paid}"));
}

#[test]
fn lots_do_not_wait_for_each_other_at_their_merchants() {
    pay_in_opposite_orders(&migrated());
}

#[test]
fn lots_decided_one_by_one_do_not_wait_for_each_other_at_their_merchants() {
    let server = migrated();
    fail_what_is_written_together(&server);
    pay_in_opposite_orders(&server);
}
