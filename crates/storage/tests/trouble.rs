//! What happens around a database that many platforms share: standbys that do not answer, schemas that go on, servers that
//! are gone, neighbours that hold a lock for long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{io, thread};

use tapfer_payment_types::RefundId;
use tapfer_payments::integrity::{AttestationTerms, Consequence, IntegrityPolicy, Standing};
use tapfer_payments::intents::CaptureMethod;
use tapfer_payments::ledger::{AccountKind, LedgerError};
use tapfer_payments::tokens::{Actor, TokenAction};
use tapfer_storage::postgres::{PostgresOptions, PostgresStorage, make};
use tapfer_storage::{
    AuditStore as _, AuthorizationFilter, Begun, IdempotencyClaim, IdempotencyStore as _,
    NewRefund, Page, RefundFilter, Refusal, Storage as _, StorageError, TokenFilter, TopUp, Write,
    Written,
};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use world::backend::{claim, migrated, options, platform};
use world::standby::{Held, find_the_standby, lose_the_standby, nobody_links, until_it_waits};
use world::{World, done, euro, noon, presented, realm, write};

/// How many wait for a lock.
fn waiting(server: &TestPostgres) -> usize {
    server.ask("SELECT count(*) FROM pg_locks WHERE NOT granted").parse().unwrap()
}

/// Whoever asks again is told what was answered when that cannot be lost any more.
#[test]
fn a_replay_waits_for_the_standby() {
    let server = migrated();
    let world = World::new(platform(&server));
    let key = claim(&world, "order-1");
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let decision = world.decide(intent, world.terminal, presented(1, 100));
    let _unlinked = nobody_links(&server);
    lose_the_standby(&server);
    let made = until_it_waits(&server, || world.commit(&decision, Some(key.clone())));
    assert!(matches!(made, Err(StorageError::NotSynced(_))), "{made:?}");
    // It is there for everybody to see, and perhaps on no other machine.
    let told = until_it_waits(&server, || world.store.begin(&key));
    assert!(matches!(told, Err(StorageError::NotSynced(_))), "{told:?}");
    let again = until_it_waits(&server, || world.commit(&decision, Some(key.clone())));
    assert!(matches!(again, Err(StorageError::NotSynced(_))), "{again:?}");
    find_the_standby(&server);
    assert!(matches!(world.store.begin(&key), Ok(Begun::Replay(_))));
}

/// The same of one that did not look before it began.
#[test]
fn a_change_that_was_made_before_waits_for_the_standby() {
    let server = migrated();
    let world = World::new(platform(&server));
    let key = claim(&world, "top-up-1");
    let top_up = || {
        let (card, amount, reference) = (world.card, euro(100), "second".to_owned());
        let write = Write { claim: Some(key.clone()), ..write() };
        world.store.top_up(TopUp { card, amount, reference }, write)
    };
    let _unlinked = nobody_links(&server);
    lose_the_standby(&server);
    for _ in 0..2 {
        let made = until_it_waits(&server, top_up);
        assert!(matches!(made, Err(StorageError::NotSynced(_))), "{made:?}");
    }
    find_the_standby(&server);
    assert!(matches!(top_up(), Ok(Written::Replayed(_))));
    assert_eq!(world.money(), (100_100, 100_100));
}

/// Advisory locks have no rights of their own, and their numbers are no secret.
#[test]
fn attack_turn_taken_by_a_login_that_only_reads() {
    let server = migrated();
    for role in ["tapfer_auditor", "tapfer_issuer"] {
        server.say(&format!("CREATE ROLE of_{role} LOGIN IN ROLE {role}"));
    }
    server.say("CREATE ROLE anybody LOGIN");
    let functions = server.ask(
        "SELECT format('%s(%s)', proname, CASE pronargs WHEN 1 THEN '1818848875' ELSE '0, 1818848875' END)
         FROM pg_proc WHERE proname ~ 'advisory' AND proname !~ 'unlock'",
    );
    assert_eq!(functions.lines().count(), 16, "{functions}");
    for login in ["of_tapfer_auditor", "of_tapfer_issuer", "anybody"] {
        for function in functions.lines() {
            let refused = server.try_as(login, &format!("SELECT {function}")).unwrap_err();
            assert!(refused.contains("permission denied for function"), "{refused}");
        }
    }
    // Platforms and the owner of the database go on.
    World::new(platform(&server)).pay_new(1, 100, CaptureMethod::Automatic);
}

/// A server where everybody may take them, as PostgreSQL has it: who reads the log hears soon that it cannot be, payments do not
/// wait, and who holds up whom can be seen.
#[test]
fn a_lock_that_another_login_holds_stops_no_payment() {
    let server = migrated();
    server.say("GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_xact_lock(bigint) TO PUBLIC");
    server.say("CREATE ROLE anna LOGIN IN ROLE tapfer_auditor");
    let store = platform(&server);
    let world = World::new(store.clone());
    let look = tapfer_storage::postgres::look(&options(&server, PLATFORM), realm()).unwrap();
    assert!(look.locks_are_open && look.lock_holders.is_empty(), "{look:?}");
    let held = Held::by("anna", &server, "SELECT pg_advisory_xact_lock(1818848875)");
    thread::scope(|scope| {
        let readers: Vec<_> = (0..40).map(|_| scope.spawn(|| store.audit_end())).collect();
        for counter in 1..=20 {
            assert!(world.pay_new(counter, 10, CaptureMethod::Automatic).outcome.is_approved());
        }
        for reader in readers {
            let told = reader.join().unwrap();
            assert!(matches!(told, Err(StorageError::Busy)), "{told:?}");
        }
    });
    let look = tapfer_storage::postgres::look(&options(&server, PLATFORM), realm()).unwrap();
    let holders: Vec<_> = look.lock_holders.iter().map(|one| one.login.as_str()).collect();
    assert_eq!(holders, ["anna"]);
    drop(held);
    assert_eq!(store.verify_audit().unwrap().fault, None);
}

/// Somebody holds a row for longer than anybody waits: that is all there is to tell, and the next attempt is made.
#[test]
fn a_lot_that_waits_too_long_for_a_lock_is_told_to_ask_again() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let decision = world.decide(intent, world.terminal, presented(1, 100));
    let lock = format!("SELECT 1 FROM cards WHERE id = '{}' FOR UPDATE", world.card);
    let held = Held::new(&server, &lock);
    let made = world.commit(&decision, None);
    assert!(matches!(made, Err(StorageError::Busy)), "{made:?}");
    drop(held);
    world.commit(&decision, None).unwrap();
}

/// Whatever somebody has set for the platform's login.
#[test]
fn a_platform_waits_for_standbys_and_hears_warnings_by_its_own_settings() {
    let server = migrated();
    server.say(&format!("ALTER ROLE {PLATFORM} SET synchronous_commit = off"));
    server.say(&format!("ALTER ROLE {PLATFORM} SET client_min_messages = error"));
    let world = World::new(platform(&server));
    let intent = world.armed(100, CaptureMethod::Automatic).id;
    let decision = world.decide(intent, world.terminal, presented(1, 100));
    let _unlinked = nobody_links(&server);
    lose_the_standby(&server);
    let made = until_it_waits(&server, || world.commit(&decision, None));
    assert!(matches!(made, Err(StorageError::NotSynced(_))), "{made:?}");
    find_the_standby(&server);
}

#[test]
fn a_server_that_forgets_when_its_power_fails_is_refused() {
    let server = migrated();
    for setting in ["fsync", "full_page_writes"] {
        server.say(&format!("ALTER SYSTEM SET {setting} = off"));
        server.say("SELECT pg_reload_conf()");
        while server.ask(&format!("SHOW {setting}")) == "on" {
            thread::yield_now();
        }
        let refused = PostgresStorage::open(&options(&server, PLATFORM), realm()).unwrap_err();
        let told = refused.to_string();
        assert!(told.contains(&format!("{setting} = off")), "{told}");
        server.say(&format!("ALTER SYSTEM RESET {setting}"));
        server.say("SELECT pg_reload_conf()");
        while server.ask(&format!("SHOW {setting}")) == "off" {
            thread::yield_now();
        }
    }
    let _opens = platform(&server);
}

/// A table that somebody uses for long, as a dump does, keeps a migration waiting, and nobody behind it for long.
#[test]
fn a_migration_gives_way_and_is_tried_again() {
    let server = TestPostgres::start();
    server.say(&format!(
        "CREATE SCHEMA IF NOT EXISTS tapfer AUTHORIZATION {OWNER}; SET ROLE {OWNER};
         CREATE TABLE tapfer.refinery_schema_history (
             version INT4 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), checksum VARCHAR(255))"
    ));
    let dump = Held::new(&server, "LOCK TABLE refinery_schema_history IN SHARE MODE");
    thread::scope(|scope| {
        let owner = options(&server, OWNER);
        let migration = scope.spawn(move || make(&owner, realm()));
        while !server.log().contains("canceling statement due to lock timeout") {
            assert!(!migration.is_finished());
            thread::yield_now();
        }
        drop(dump);
        migration.join().unwrap().unwrap();
    });
    assert_eq!(server.ask("SELECT count(*) FROM cards"), "0");
}

/// Every kind of statement that a platform keeps prepared.
fn use_everything(world: &World, counter: u16) {
    let store = &world.store;
    let paid = world.pay_new(counter, 100, CaptureMethod::Automatic);
    let key = claim(world, &format!("order-{counter}"));
    assert!(matches!(store.begin(&key), Ok(Begun::Run(_))));
    let intent = world.armed(100, CaptureMethod::Manual).id;
    let decision = world.decide(intent, world.terminal, presented(counter + 1, 100));
    world.commit(&decision, Some(key.clone())).unwrap();
    assert!(matches!(store.begin(&key), Ok(Begun::Replay(_))));
    done(store.capture_intent(intent, None, write()));
    let id = RefundId::new(noon(), world.next());
    let payment_intent = paid.payment_intent;
    done(store.create_refund(NewRefund { id, payment_intent, amount_minor: Some(50) }, write()));
    world.change_token(TokenAction::Suspend, Actor::Issuer).unwrap();
    world.change_token(TokenAction::Unsuspend, Actor::Issuer).unwrap();
    store.list_issuers(Page::first(5)).unwrap();
    store.list_cards(None, Page::first(5)).unwrap();
    store.list_devices(None, Page::first(5)).unwrap();
    store.list_tokens(TokenFilter::default(), Page::first(5)).unwrap();
    store.list_merchants(Page::first(5)).unwrap();
    store.list_terminals(None, Page::first(5)).unwrap();
    store.list_api_keys(None, Page::first(5)).unwrap();
    store.list_intents(None, Page::first(5)).unwrap();
    store.list_authorizations(AuthorizationFilter::default(), Page::first(5)).unwrap();
    store.list_refunds(RefundFilter::default(), Page::first(5)).unwrap();
    store.card_entries(world.card, Page::first(5)).unwrap();
    store.token_history(world.token).unwrap();
    store.token_person(world.token).unwrap();
    store.policy(world.issuer.id).unwrap();
    store.api_keys_in_force().unwrap();
    store.audit_events(Page::first(5)).unwrap();
    assert_eq!(store.verify_audit().unwrap().fault, None);
    world.keys_that_count().unwrap();
    store.check().unwrap();
}

/// Migrations add columns while platforms run, which go on with what they have prepared.
#[test]
fn a_newer_schema_does_not_disturb_a_platform() {
    let server = migrated();
    let world = World::new(platform(&server));
    use_everything(&world, 1);
    for round in [3, 5] {
        server.say(&format!(
            "DO $$ DECLARE name TEXT; BEGIN
                 FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'tapfer' LOOP
                     EXECUTE format('ALTER TABLE tapfer.%I ADD COLUMN later{round} BIGINT DEFAULT 0', name);
                 END LOOP;
             END $$"
        ));
        use_everything(&world, round);
    }
}

/// Whoever reads the log waits for the lines that were there when he asked, and not for those that come.
#[test]
fn settling_ends_while_lines_come() {
    let server = migrated();
    let world = World::new(platform(&server));
    // With every line that is linked there comes another one.
    server.say(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO audit_inbox (at, role, origin, request_id, action, object, result)
                 VALUES (1, 'operator', 'local', '', 'card.blocked', 'card_x', 'succeeded');
             RETURN NULL;
         END $$;
         CREATE TRIGGER again AFTER INSERT ON audit_links FOR EACH STATEMENT EXECUTE FUNCTION again()",
    );
    world.pay_new(1, 100, CaptureMethod::Automatic);
    let end = world.store.audit_end().unwrap();
    assert!(end.sequence > 5);
    world.store.close();
}

/// Whoever changes what payments of an issuer rest on waits for those that are on their way, and for no later one.
#[test]
fn a_busy_issuer_can_be_changed() {
    let server = migrated();
    let world = World::new(platform(&server));
    let customers = [world.another_customer(1_000_000), world.another_customer(2_000_000)];
    let decisions = customers.each_ref().map(|customer| {
        let intent = customer.armed(100, CaptureMethod::Automatic).id;
        customer.decide(intent, customer.terminal, presented(1, 100))
    });
    let rules = IntegrityPolicy {
        least: Standing::Software,
        below: Consequence::Refuse,
        failed: Consequence::Refuse,
        maximum_age_seconds: 60,
        key_attestation: AttestationTerms::default(),
    };
    let busy = format!("SELECT 1 FROM cards WHERE id = '{}' FOR UPDATE", customers[0].card);
    let busy = Held::new(&server, &busy);
    thread::scope(|scope| {
        let on_its_way = scope.spawn(|| world.commit(&decisions[0], None));
        while waiting(&server) < 1 {
            thread::yield_now();
        }
        let change = scope
            .spawn(|| world.store.set_integrity_policy(world.issuer.id, rules.clone(), write()));
        while waiting(&server) < 2 {
            thread::yield_now();
        }
        let later = scope.spawn(|| world.commit(&decisions[1], None));
        while waiting(&server) < 3 {
            assert!(!later.is_finished(), "it went before a change that was asked for earlier");
            thread::yield_now();
        }
        drop(busy);
        assert!(matches!(on_its_way.join().unwrap(), Ok(Written::Done { .. })));
        done(change.join().unwrap());
        // What it was decided on is not so any more.
        assert!(matches!(later.join().unwrap(), Err(StorageError::Conflict)));
    });
}

/// Two that each find enough on an account which has enough for one.
#[test]
fn of_two_refunds_that_overdraw_a_merchant_one_is_refused() {
    let server = migrated();
    let world = World::new(platform(&server));
    let customers = [world.another_customer(1_000_000), world.another_customer(2_000_000)];
    let paid = customers.each_ref().map(|it| it.pay_new(1, 100, CaptureMethod::Automatic));
    server.say("UPDATE accounts SET balance = 100 WHERE kind = 'merchant_payable'");
    let account =
        Held::new(&server, "SELECT 1 FROM accounts WHERE kind = 'merchant_payable' FOR UPDATE");
    let made = thread::scope(|scope| {
        let refunds = paid.each_ref().map(|paid| {
            let (id, payment_intent) = (RefundId::new(noon(), world.next()), paid.payment_intent);
            let refund = NewRefund { id, payment_intent, amount_minor: None };
            scope.spawn(|| world.store.create_refund(refund, write()))
        });
        while waiting(&server) < 2 {
            thread::yield_now();
        }
        drop(account);
        refunds.map(|refund| refund.join().unwrap())
    });
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    let refused = made.into_iter().find_map(Result::err);
    let overdrawn = LedgerError::Overdrawn(AccountKind::MerchantPayable);
    assert!(
        matches!(&refused, Some(StorageError::Refused(Refusal::Ledger(error))) if *error == overdrawn),
        "{refused:?}"
    );
}

/// Old answers go a part at a time, so that nobody waits for long behind any of them; and one node at a time sees to it.
#[test]
fn old_answers_are_forgotten_in_parts() {
    let server = migrated();
    let store = platform(&server);
    let world = World::new(store.clone());
    server.say(&format!(
        "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, inserted_at)
             SELECT '{}', 'old-' || number, decode(repeat('01', 32), 'hex'), 201, 'x', number, number
             FROM generate_series(1, 2500) AS number",
        world.operator
    ));
    let other = Held::new(&server, "SELECT pg_advisory_xact_lock(1718579815)");
    assert_eq!(store.forget_answers(noon()).unwrap(), 0);
    drop(other);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1718579815";
    while server.ask(held) != "0" {
        thread::yield_now();
    }
    let before = store.load().commits;
    assert_eq!(store.forget_answers(noon()).unwrap(), 2_500);
    assert!(store.load().commits - before >= 3);
    assert_eq!(server.ask("SELECT count(*) FROM idempotency_answers"), "0");
}

/// What a way to a server does with those who come.
#[derive(Default)]
struct Way {
    comers: AtomicUsize,
    is_silent: AtomicBool,
}

impl Way {
    /// A port of this machine that leads to a server; on the way back nothing is said, if it is silent.
    fn to(server: &TestPostgres) -> (Arc<Self>, PostgresOptions) {
        let way = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let directory = server.ask("SHOW unix_socket_directories");
        let socket = format!("{directory}/.s.PGSQL.5432");
        let of_thread = Arc::clone(&way);
        thread::spawn(move || {
            for comer in listener.incoming() {
                let comer = comer.unwrap();
                of_thread.comers.fetch_add(1, Ordering::Relaxed);
                let way = Arc::clone(&of_thread);
                let socket = socket.clone();
                thread::spawn(move || way.lead(comer, &socket));
            }
        });
        let address = format!("postgres://{PLATFORM}@127.0.0.1:{port}/postgres");
        (way, PostgresOptions::new(&address, None, None).unwrap())
    }

    fn lead(&self, comer: TcpStream, socket: &str) {
        if self.is_silent.load(Ordering::Relaxed) {
            // Until the comer hangs up.
            let _hung_up = io::copy(&mut &comer, &mut io::sink());
            return;
        }
        let server = UnixStream::connect(socket).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ended = io::copy(&mut &comer, &mut &server);
                let _closed = server.shutdown(std::net::Shutdown::Both);
            });
            let _ended = io::copy(&mut &server, &mut &comer);
            let _closed = comer.shutdown(std::net::Shutdown::Both);
        });
    }
}

/// Somebody takes connections in the place of the server, and says nothing: one waits until it is clear, the others hear it.
#[test]
fn nobody_queues_for_a_server_that_is_gone() {
    const CALLERS: usize = 40;
    let server = migrated();
    let (way, options) = Way::to(&server);
    let store = Arc::new(PostgresStorage::open(&options, realm()).unwrap());
    let world = World::new(store.clone());
    let key = claim(&world, "order-1");
    assert!(matches!(store.begin(&key), Ok(Begun::Run(_))));
    way.is_silent.store(true, Ordering::Relaxed);
    server.say(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tapfer'",
    );
    let before = way.comers.load(Ordering::Relaxed);
    let claims: Vec<IdempotencyClaim> =
        (0..CALLERS).map(|number| claim(&world, &format!("order-{number}"))).collect();
    thread::scope(|scope| {
        for key in &claims {
            scope.spawn(|| {
                let begun = world.store.begin(key);
                assert!(
                    matches!(begun, Err(StorageError::Unreachable(_) | StorageError::Busy)),
                    "{begun:?}"
                );
            });
        }
    });
    // One of them has tried, and the linker.
    let tried = way.comers.load(Ordering::Relaxed) - before;
    assert!(tried < CALLERS / 2, "{tried}");
    way.is_silent.store(false, Ordering::Relaxed);
    while world.store.begin(&key).is_err() {
        thread::yield_now();
    }
    world.pay_new(1, 100, CaptureMethod::Automatic);
}
