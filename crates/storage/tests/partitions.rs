//! One realm in several databases: each on a PostgreSQL server of its own, which runs here for real.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use tapfer_payment_types::{Currency, DeviceId, PaymentIntentId, TokenId};
use tapfer_payments::access::Principal;
use tapfer_payments::authorization::{DeclineReason, Outcome};
use tapfer_payments::intents::{CaptureMethod, IntentError, IntentStatus};
use tapfer_payments::ledger::Account;
use tapfer_payments::store_shares::DeviceError;
use tapfer_payments::tokens::{Actor, TokenState};
use tapfer_storage::partitions::PartitionedStorage;
use tapfer_storage::postgres::{
    PUBLICATION, Part, PostgresOptions, PostgresStorage, close_partition, make, make_partition,
    open_partition, partition_of,
};
use tapfer_storage::{
    AuditStore as _, AuthorizationFilter, Begun, Closing, IdempotencyStore as _, Page, Refusal,
    StorageError, TerminalStore as _,
};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use world::backend::{Backend as _, Partitions, claim, options, refusal};
use world::standby::{Held, find_the_standby, lose_the_standby, nobody_links, until_it_waits};
use world::{World, done, noon, presented, realm, write};

/// A world whose own card is in partition 1, and a customer whose card is in the home.
fn two_customers(partitions: &Partitions) -> (World, World) {
    let there = World::new(partitions.platform());
    let at_home = there.another_customer_in(0, 500_000);
    (there, at_home)
}

/// What each table of the schema is: in a payment's way or everybody's, of each database or of the home. A new one is to be
/// thought about here.
const OF_PAYMENTS: &[&str] = &[
    "booked_requests",
    "accounts",
    "audit_inbox",
    "authorizations",
    "card_pins",
    "cards",
    "idempotency_answers",
    "ledger_transfers",
    "limited_use_keys",
    "payment_intents",
    "person_keys",
    "refunds",
    "reversals",
    "token_changes",
    "token_histories",
    "tokens",
    "transaction_counters",
];
const EVERYWHERE: &[&str] = &[
    "device_integrity",
    "devices",
    "integrity_policies",
    "issuer_policies",
    "issuers",
    "merchants",
    "terminals",
    "told",
];
const OF_EACH: &[&str] = &[
    "answers_vouched",
    "audit_events",
    "audit_heads",
    "audit_links",
    "issuer_logins",
    "own_partition",
    "realm",
    "refinery_schema_history",
    "retention",
];
const OF_THE_HOME: &[&str] = &[
    "api_keys",
    "configurations",
    "key_catalogue",
    "key_catalogue_copy",
    "partition_maps",
    "phones_in_use",
    "revoked_issuer_certificates",
    "terminal_certificates",
    "untold_answers",
];

/// Tables that statements of a server's log write to, since it had so many lines.
fn written(server: &TestPostgres, behind: usize) -> BTreeSet<String> {
    let log = server.log();
    let mut tables = BTreeSet::new();
    for line in log.lines().skip(behind) {
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(3) {
            let table = match pair {
                ["INSERT", "INTO", table] | ["DELETE", "FROM", table] => table,
                ["UPDATE", table, "SET" | "AS"] => table,
                _ => continue,
            };
            tables.insert((*table).to_owned());
        }
    }
    tables
}

/// No payment crosses partitions: proven by what every table is, and by every statement that a payment makes.
#[test]
fn a_payment_writes_in_one_partition() {
    let partitions = Partitions::start(2);
    let mut classes: Vec<_> = [OF_PAYMENTS, EVERYWHERE, OF_EACH, OF_THE_HOME]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
    classes.sort();
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'tapfer' ORDER BY tablename COLLATE \"C\"";
    for server in &partitions.0 {
        assert_eq!(server.ask(tables).lines().collect::<Vec<_>>(), classes, "in one class each");
        // Where statements are logged that change something.
        server.say(&format!("ALTER ROLE {PLATFORM} SET log_statement = 'mod'"));
    }
    let published = format!(
        "SELECT tablename FROM pg_publication_tables WHERE pubname = '{PUBLICATION}' ORDER BY tablename COLLATE \"C\""
    );
    assert_eq!(partitions.0[0].ask(&published).lines().collect::<Vec<_>>(), EVERYWHERE);

    let (there, at_home) = two_customers(&partitions);
    let [home, other] = [&partitions.0[0], &partitions.0[1]];
    let lines = |server: &TestPostgres| server.log().lines().count();
    for (world, number) in [(&there, 1_usize), (&at_home, 0)] {
        let intent = world.armed(700, CaptureMethod::Manual).id;
        let (at_home_before, there_before) = (lines(home), lines(other));
        assert_eq!(world.pay(intent, 1, 700).outcome, Outcome::Approved);
        let [in_home, in_other] = [written(home, at_home_before), written(other, there_before)];
        let paying = if number == 0 { &in_home } else { &in_other };
        for table in ["authorizations", "transaction_counters", "ledger_transfers", "accounts"] {
            assert!(paying.contains(table), "{table} is not in {paying:?}");
        }
        assert!(paying.iter().all(|table| OF_PAYMENTS.contains(&table.as_str())), "{paying:?}");
        // Of the other one nothing, but that the home lets the intent go.
        let beside = if number == 0 { in_other } else { in_home };
        let let_go = ["audit_inbox", "payment_intents"].map(str::to_owned);
        let expected = if number == 0 { BTreeSet::new() } else { BTreeSet::from(let_go) };
        assert_eq!(beside, expected, "a payment in partition {number}");
    }
}

#[test]
fn both_partitions_are_one_platform() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let store = &there.store;
    for (world, counter) in [(&there, 1), (&at_home, 1), (&there, 2), (&at_home, 2)] {
        world.pay_new(counter, 1_000, CaptureMethod::Automatic);
    }
    assert_eq!((there.money(), at_home.money()), ((98_000, 98_000), (98_000, 98_000)));
    // Each books with its own cards, and a merchant is owed the sum.
    let owed = Account::MerchantPayable(there.merchant);
    assert_eq!(store.account_balance(owed, Currency::EUR).unwrap().minor, 4_000);
    for server in &partitions.0 {
        let own = "SELECT balance FROM accounts WHERE kind = 'merchant_payable'";
        assert_eq!(server.ask(own), "2000");
    }
    // A list goes on over both, newest first, with each payment once.
    let (mut page, mut seen) = (Page::first(3), Vec::new());
    loop {
        let slice = store.list_authorizations(AuthorizationFilter::default(), page).unwrap();
        seen.extend(slice.items.iter().map(|found| found.id));
        let Some(next) = slice.next else { break };
        page = Page { cursor: Some(next), limit: 3 };
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|newer, older| newer > older));
    assert_eq!(store.list_intents(None, Page::first(10)).unwrap().items.len(), 4);
    assert_eq!(store.verify_audit().unwrap().fault, None);
    // A token's number has to lead to its card.
    let elsewhere = at_home.token_number(there.token);
    let refused = store.create_token(there.token(there.token), elsewhere, write());
    assert!(matches!(refused, Err(StorageError::Refused(Refusal::OtherPartition))), "{refused:?}");
}

/// An intent goes from one card's partition to the next one's, back to be armed, and is paid once.
#[test]
fn an_intent_follows_the_cards_that_are_tapped() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let store = &there.store;
    let intent = there.intent(200_000, CaptureMethod::Automatic).id;
    for (round, world) in (1..).zip([&there, &at_home, &there, &there, &at_home]) {
        world.arm(intent, there.terminal);
        let declined = world.pay_at(intent, there.terminal, round, 200_000);
        assert_eq!(declined.outcome, Outcome::Declined(DeclineReason::VerificationRequired));
        let found = store.intent(intent).unwrap().unwrap();
        assert_eq!(found.status, IntentStatus::RequiresPaymentMethod);
        assert_eq!(
            store.list_intents(None, Page::first(9)).unwrap().items,
            [found],
            "it is there once"
        );
    }
    // Between two: it went, and whoever took it died.
    let torn = there.armed(100, CaptureMethod::Automatic).id;
    partitions.0[0].say(&format!("UPDATE payment_intents SET handed_to = 1 WHERE id = '{torn}'"));
    let found = store.intent(torn).unwrap().unwrap();
    assert!(found.is_armed_at(there.terminal, noon()));
    assert_eq!(at_home.pay_at(torn, there.terminal, 9, 100).outcome, Outcome::Approved);
    // Paid, it stays where it is: another card is told so.
    let query = there.query(torn, there.terminal, presented(9, 100));
    let refused = store.authorization_facts(query).unwrap_err();
    let status = IntentStatus::Succeeded;
    let paid = Refusal::Intent(IntentError::NotFrom { status, done: "paid with this card" });
    assert!(matches!(refused, StorageError::Refused(refusal) if refusal == paid));
    assert!(matches!(store.intent(PaymentIntentId::new(noon(), [9; 10])), Ok(None)));
}

/// Attack: two cards of two partitions are tapped for one intent at the same moment, so that both are taken, or both pay.
#[test]
fn attack_one_intent_paid_in_two_partitions() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let worlds = Arc::new([there, at_home]);
    for counter in 1..=8_u16 {
        let intent = worlds[0].armed(100, CaptureMethod::Automatic).id;
        let start = Arc::new(Barrier::new(2));
        let racers = [0, 1].map(|number| {
            let (worlds, start) = (Arc::clone(&worlds), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                tap(&worlds[number], intent, worlds[0].terminal, counter)
            })
        });
        let approved =
            racers.map(|racer| racer.join().unwrap()).iter().filter(|paid| **paid).count();
        assert_eq!(approved, 1, "of intent {counter}");
        let status = worlds[0].store.intent(intent).unwrap().unwrap().status;
        assert_eq!(status, IntentStatus::Succeeded);
    }
    let paid = worlds.iter().map(|world| 100_000 - world.money().0).sum::<i64>();
    assert_eq!(paid, 800);
}

/// One tap that others may be faster than: whether it was approved.
fn tap(
    world: &World,
    intent: PaymentIntentId,
    terminal: tapfer_payment_types::TerminalId,
    counter: u16,
) -> bool {
    loop {
        let query = world.query(intent, terminal, presented(counter, 100));
        match world.store.authorization_facts(query) {
            Ok(_) => {}
            Err(StorageError::Refused(_)) => return false,
            Err(StorageError::Conflict | StorageError::Busy) => continue,
            Err(error) => panic!("{error}"),
        }
        let query = world.query(intent, terminal, presented(counter, 100));
        let Ok(facts) = world.store.authorization_facts(query) else { continue };
        let decision = world.decide_on(facts, presented(counter, 100));
        match world.commit(&decision, None) {
            Ok(written) => return written.value().unwrap().outcome == Outcome::Approved,
            Err(StorageError::Conflict | StorageError::Busy) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What was taken back in the home is taken back in every partition when it is answered.
#[test]
fn a_block_holds_everywhere_when_it_is_answered() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let store = &there.store;
    let armed = there.armed(100, CaptureMethod::Automatic).id;
    let before = there.decide(armed, there.terminal, presented(1, 100));
    assert_eq!(before.outcome(), Outcome::Approved);
    store.revoke_terminal(there.terminal, "stolen".into(), write()).unwrap();
    // Decided before, and not written behind it.
    assert!(matches!(there.commit(&before, None), Err(StorageError::Conflict)));
    let declined = there.pay(armed, 1, 100).outcome;
    assert_eq!(declined, Outcome::Declined(DeclineReason::TerminalRevoked));
    // While a partition cannot hear, nobody is told that it is done; asked again it is made, and told.
    let other = &partitions.0[1];
    other.say("ALTER SUBSCRIPTION tapfer_1 DISABLE");
    let lock = || {
        let mut write = write();
        write.claim = Some(claim(&there, "lock"));
        let by = tapfer_payments::store_shares::Locker::Issuer;
        store.lock_device(there.device, by, "lost".into(), write)
    };
    assert!(matches!(lock(), Err(StorageError::NotSynced(_))));
    let told = || store.begin(&claim(&there, "lock"));
    assert!(matches!(told(), Err(StorageError::NotSynced(_))), "it is made, and not everywhere");
    // Nor is he who asks under another key, and hears that it is locked.
    let again = || {
        let by = tapfer_payments::store_shares::Locker::Issuer;
        store.lock_device(there.device, by, "lost".into(), write())
    };
    assert!(matches!(again(), Err(StorageError::NotSynced(_))));
    // Answers that have nothing to do with it are told.
    let (intent, paid) = (at_home.armed(100, CaptureMethod::Automatic).id, claim(&there, "paid"));
    let decision = at_home.decide(intent, at_home.terminal, presented(1, 100));
    at_home.commit(&decision, Some(paid.clone())).unwrap();
    assert!(matches!(store.begin(&paid), Ok(Begun::Replay(_))));
    other.say("ALTER SUBSCRIPTION tapfer_1 ENABLE");
    assert!(matches!(told(), Ok(Begun::Replay(_))));
    assert!(matches!(again(), Err(StorageError::Refused(_))));
    assert_eq!(partitions.0[0].ask("SELECT count(*) FROM untold_answers"), "0");
    assert!(matches!(lock(), Ok(tapfer_storage::Written::Replayed(_))));
    let locked = "SELECT count(*) FROM devices WHERE locked_by IS NOT NULL";
    assert_eq!(other.ask(locked), "1");
}

/// Two changes meet, and who made the first dies behind it: its answer waits for a partition that has heard only the second.
#[test]
fn a_change_is_not_told_for_another_one() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let [home, other] = [&partitions.0[0], &partitions.0[1]];
    let key = claim(&there, "first");
    let revoke = |terminal, claim| {
        let write = tapfer_storage::Write { claim, ..write() };
        there.store.revoke_terminal(terminal, "stolen".into(), write)
    };
    let locked = |table: &str| Held::new(home, &format!("SELECT 1 FROM {table} FOR UPDATE"));
    let of_the_first = locked(&format!("terminals WHERE id = '{}'", there.terminal));
    thread::scope(|scope| {
        let first = scope.spawn(|| revoke(there.terminal, Some(key.clone())));
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while home.ask(waiting) == "0" {
            assert!(!first.is_finished());
        }
        revoke(at_home.terminal, None).unwrap();
        other.say("ALTER SUBSCRIPTION tapfer_1 DISABLE");
        let _nobody_counts = locked("told");
        drop(of_the_first);
        first.join().unwrap().unwrap_err();
    });
    let told = there.store.begin(&key);
    assert!(!matches!(told, Ok(Begun::Replay(_))), "the other partition has not heard of it");
}

/// An intent that went, as far as one machine knows, is not paid where it went to: the home's standby knows nothing of that.
#[test]
fn a_handed_over_intent_waits_for_the_standby() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let [home, other] = [&partitions.0[0], &partitions.0[1]];
    let intent = there.armed(100, CaptureMethod::Automatic).id;
    let query = || there.query(intent, there.terminal, presented(1, 100));
    let unlinked = nobody_links(home);
    lose_the_standby(home);
    for _ in 0..2 {
        let facts = until_it_waits(home, || there.store.authorization_facts(query()));
        assert!(matches!(facts, Err(StorageError::NotSynced(_))), "{facts:?}");
        let come = format!("SELECT count(*) FROM payment_intents WHERE id = '{intent}'");
        assert_eq!(other.ask(&come), "0");
    }
    find_the_standby(home);
    drop(unlinked);
    assert_eq!(there.pay(intent, 1, 100).outcome, Outcome::Approved);
}

/// A terminal waits for the payment that it was armed for last, also when an older one comes to where that is.
#[test]
fn an_older_payment_that_moves_leaves_the_terminal_alone() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let store = &there.store;
    let waits = |intent| store.intent(intent).unwrap().unwrap().is_armed_at(there.terminal, noon());
    // Declined there, and armed elsewhere, while the terminal waits for the next customer.
    let older = there.armed(200_000, CaptureMethod::Automatic).id;
    there.pay(older, 1, 200_000);
    let newer = there.armed(100, CaptureMethod::Automatic).id;
    there.arm(older, at_home.terminal);
    assert!(waits(newer));
    // Not tapped to the end, and over: the terminal was free again.
    store.cancel_intent(older, write()).unwrap();
    assert_eq!(at_home.pay_at(newer, there.terminal, 1, 100).outcome, Outcome::Approved);
    let older = there.armed(100, CaptureMethod::Automatic).id;
    store.authorization_facts(there.query(older, there.terminal, presented(2, 100))).unwrap();
    let later = noon().plus_seconds(61);
    let arm = |intent, terminal| {
        let write = tapfer_storage::Write { now: later, ..write() };
        store.arm_intent(intent, terminal, later.plus_seconds(60), write).unwrap()
    };
    let newer = there.intent(100, CaptureMethod::Automatic).id;
    arm(newer, there.terminal);
    arm(older, at_home.terminal);
    assert!(waits(newer));
}

/// Attack: a terminal names another merchant's payment, and a card of another partition, to have it moved out of the way.
#[test]
fn attack_intent_moved_by_another_merchant() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let intent = there.armed(100, CaptureMethod::Automatic).id;
    let merchant = tapfer_payment_types::MerchantId::new(noon(), there.next());
    let key = there.new_api_key(Principal::Merchant(merchant));
    there.store.create_merchant(world::merchant(merchant), key, write()).unwrap();
    let terminal = tapfer_payment_types::TerminalId::new(noon(), there.next());
    there.create_terminal_of(merchant, terminal);
    let facts = there.store.authorization_facts(there.query(intent, terminal, presented(1, 100)));
    // As of one in the same database: the service sees whose it is, and hides it.
    assert_eq!(facts.unwrap().intent.id, intent);
    let there_too = "SELECT count(*) FROM payment_intents";
    assert_eq!(partitions.0[1].ask(there_too), "0");
    let moves = "SELECT count(*) FROM (SELECT action FROM audit_inbox UNION ALL SELECT action FROM audit_events) AS done
        WHERE action = 'payment_intent.moved'";
    assert_eq!(partitions.0[0].ask(moves), "0");
    assert_eq!(there.pay(intent, 1, 100).outcome, Outcome::Approved);
}

/// A partition whose commits hang keeps nobody else from paying: from then on it is asked nothing, until it commits again.
#[test]
fn a_partition_that_does_not_commit_stops_its_own_cards() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let other = &partitions.0[1];
    there.pay_new(1, 100, CaptureMethod::Automatic);
    let hanging = there.armed(100, CaptureMethod::Automatic).id;
    let [refused, again] = [(); 2].map(|()| there.intent(100, CaptureMethod::Automatic).id);
    let another = tapfer_payment_types::TerminalId::new(noon(), there.next());
    there.create_terminal(another);
    let decision = there.decide(hanging, there.terminal, presented(2, 100));
    let _unlinked = nobody_links(other);
    lose_the_standby(other);
    let hangs = there.commit(&decision, None);
    assert!(matches!(hangs, Err(StorageError::NotSynced(_))), "{hangs:?}");
    let query = there.query(refused, there.terminal, presented(3, 100));
    let refused = there.store.authorization_facts(query);
    assert!(matches!(refused, Err(StorageError::Unreachable(_))), "{refused:?}");
    at_home.pay_new(1, 100, CaptureMethod::Automatic);
    find_the_standby(other);
    // As a till does: again, until there is an answer.
    let key = claim(&there, "again");
    there.arm(again, another);
    while !pays_at(&there, again, another, 4, &key) {
        thread::yield_now();
    }
}

/// What is done on the same server in another database, however long it takes, keeps no change waiting.
#[test]
fn a_neighbour_keeps_no_change_waiting() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    partitions.0[1].say("CREATE DATABASE neighbour");
    let mut psql = partitions.0[1].program("psql");
    psql.env("PGDATABASE", "neighbour").args(["-X", "-q", "-t", "-A"]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut says = psql.stdin.take().unwrap();
    says.write_all(b"BEGIN; SELECT pg_current_xact_id() IS NOT NULL;\n").unwrap();
    let mut line = String::new();
    BufReader::new(psql.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "t\n");
    there.store.revoke_terminal(there.terminal, "stolen".into(), write()).unwrap();
    drop(says);
    psql.wait().unwrap();
}

/// What was broken off is finished, and only the home's changes come to the others.
#[test]
fn a_partition_is_made_to_its_end() {
    let partitions = Partitions::start(2);
    let [home, other] = [&partitions.0[0], &partitions.0[1]];
    home.say(&format!("DROP PUBLICATION {PUBLICATION}"));
    make_partition(&options(home, OWNER), Part { number: 0, partitions: 2, place: 1 }).unwrap();
    assert_eq!(home.ask("SELECT count(*) FROM pg_publication"), "1");
    for table in EVERYWHERE {
        other.try_as(PLATFORM, &format!("INSERT INTO {table} SELECT * FROM {table}")).unwrap_err();
    }
    other.try_as(PLATFORM, "UPDATE told SET number = 9000000000000000000").unwrap_err();
}

/// What began in a partition before it heard of a change, and may rest on what was before, ends before that is answered.
#[test]
fn a_change_waits_for_payments_that_are_on_their_way() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let store = &there.store;
    // A transaction that has written, as a lot of payments has behind its locks.
    let mut lot = partitions.0[1].program("psql");
    lot.args(["-X", "-q", "-t", "-A"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut lot = lot.spawn().unwrap();
    let mut says = lot.stdin.take().unwrap();
    says.write_all(b"BEGIN; SELECT pg_current_xact_id() IS NOT NULL;\n").unwrap();
    let mut line = String::new();
    BufReader::new(lot.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "t\n");
    let renew = || {
        let mut write = write();
        write.claim = Some(claim(&there, "renew"));
        store.renew_issuer_keys(there.issuer.id, 2, vec![0x12, 0x00], write)
    };
    assert!(matches!(renew(), Err(StorageError::NotSynced(_))));
    let heard = "SELECT derivation_key_index FROM issuers";
    assert_eq!(partitions.0[1].ask(heard), "2", "it is there, and not answered");
    says.write_all(b"COMMIT;\n").unwrap();
    drop(says);
    lot.wait().unwrap();
    assert!(matches!(renew(), Ok(tapfer_storage::Written::Replayed(_))));
}

/// A request is one request, whichever card it names the second time.
#[test]
fn an_idempotency_key_is_one_over_all_partitions() {
    let partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    let store = &there.store;
    let key = claim(&there, "tap");
    let running = store.begin(&key).unwrap();
    assert!(matches!(partitions.platform().begin(&key), Err(StorageError::StillRunning)));
    let intent = there.armed(100, CaptureMethod::Automatic).id;
    let decision = there.decide(intent, there.terminal, presented(1, 100));
    there.commit(&decision, Some(key.clone())).unwrap();
    drop(running);
    // The answer is in the card's partition alone, and found from anywhere.
    let answers = "SELECT count(*) FROM idempotency_answers";
    assert_eq!(
        partitions.0.iter().map(|server| server.ask(answers)).collect::<Vec<_>>(),
        ["0", "1"]
    );
    assert!(matches!(store.begin(&key), Ok(Begun::Replay(_))));
    let other = tapfer_storage::IdempotencyClaim { fingerprint: [2; 32], ..key };
    assert!(matches!(at_home.store.begin(&other), Err(StorageError::DifferentContent(_))));
}

/// Runs one of PostgreSQL's programs and wants it to succeed.
fn ran(command: &mut std::process::Command) {
    let said = command.output().unwrap();
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// A partition goes to another server with pg_dump and pg_restore, while its cards and those of the other are asked to pay all
/// the time: nothing that was acknowledged is lost, nothing is there twice, and the other never waits.
#[test]
fn a_partition_is_moved_and_loses_nothing() {
    let partitions = Partitions::start(2);
    let new_server = TestPostgres::start();
    let [home, old] = [&partitions.0[0], &partitions.0[1]];
    let part = |number, place| Part { number, partitions: 2, place };

    // Platforms know where it is from what they are told at last.
    let place = Arc::new(Mutex::new((options(old, PLATFORM), part(1, 1))));
    let (at_home, told) = (options(home, PLATFORM).as_partition(part(0, 1)), Arc::clone(&place));
    let open = Arc::new(move |_| {
        let (options, part) = told.lock().unwrap().clone();
        PostgresStorage::open(&options.as_partition(part), realm())
    });
    let home_store = PostgresStorage::open(&at_home, realm()).unwrap();
    let store = Arc::new(PartitionedStorage::new(Arc::new(home_store), 2, open));
    let there = World::new(store.clone());
    let customers = Arc::new([there.another_customer_in(0, 500_000), there]);

    let (is_over, paid) =
        (Arc::new(AtomicBool::new(false)), [(); 2].map(|()| Arc::new(AtomicU16::new(0))));
    let tills = [0, 1].map(|number: usize| {
        let (customers, is_over) = (Arc::clone(&customers), Arc::clone(&is_over));
        let paid = Arc::clone(&paid[number]);
        thread::spawn(move || {
            let world = &customers[number];
            for counter in 1.. {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let intent = world.armed(10, CaptureMethod::Automatic).id;
                let key = claim(world, &format!("{number}-{counter}"));
                // As a till does: the same tap under the same key until there is an answer.
                while !pays(world, intent, counter, &key) {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    thread::yield_now();
                }
                paid.fetch_add(1, Ordering::AcqRel);
            }
        })
    });
    let count = |number: usize| paid[number].load(Ordering::Acquire);
    let more = |number: usize, than: u16| {
        while count(number) < than {
            thread::yield_now();
        }
    };
    more(0, 3);
    more(1, 3);

    // Closed: behind this nothing is acknowledged there any more.
    close_partition(&options(old, OWNER)).unwrap();
    let when_closed = count(1);
    old.say("ALTER SUBSCRIPTION tapfer_1 DISABLE");
    let directory = tempfile::tempdir().unwrap();
    let dump = directory.path().join("partition.dump");
    let tables = EVERYWHERE.iter().map(|table| format!("--exclude-table-data=tapfer.{table}"));
    let to = || Stdio::from(File::create(&dump).unwrap());
    ran(old
        .program("pg_dump")
        .args(["-Fc", "-n", "tapfer", "--no-subscriptions", "--no-publications"])
        .args(tables)
        .stdout(to()));
    new_server.say("CREATE ROLE tapfer_server NOLOGIN");
    new_server.say("CREATE ROLE tapfer_auditor NOLOGIN");
    new_server.say("CREATE ROLE tapfer_issuer NOLOGIN");
    let restore = |section: &str| {
        let from = Stdio::from(File::open(&dump).unwrap());
        ran(new_server
            .program("pg_restore")
            .args(["-d", "postgres", "-e", &format!("--section={section}")])
            .stdin(from));
    };
    restore("pre-data");
    restore("data");
    // What everybody needs comes from the home again, whole.
    let subscribe = format!(
        "CREATE SUBSCRIPTION tapfer_1_2 CONNECTION '{}' PUBLICATION {PUBLICATION}",
        home.conninfo()
    );
    new_server.say(&subscribe);
    let is_copied = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    while new_server.ask(is_copied) != "0" {
        thread::yield_now();
    }
    restore("post-data");
    new_server.say(&format!("CREATE ROLE {PLATFORM} LOGIN IN ROLE tapfer_server"));
    // Until it is opened it is closed, as the copy of a closed one.
    let found = partition_of(&options(&new_server, OWNER)).unwrap().unwrap();
    assert_eq!((found.part, found.is_closed), (part(1, 1), true));
    let during = count(0);
    more(0, during + 3);
    open_partition(&options(&new_server, OWNER), part(1, 2)).unwrap();
    open_partition(&options(&new_server, OWNER), part(1, 2)).unwrap_err();
    *place.lock().unwrap() = (options(&new_server, PLATFORM), part(1, 2));

    more(1, when_closed + 5);
    is_over.store(true, Ordering::Release);
    tills.into_iter().for_each(|till| till.join().unwrap());
    for number in [0, 1] {
        let spent = 100_000 - customers[number].money().0;
        assert_eq!(spent, i64::from(count(number)) * 10, "of partition {number}");
    }
    let approved = "SELECT count(*) FROM authorizations WHERE outcome = 0";
    assert_eq!(new_server.ask(approved), count(1).to_string());
    let at_the_old_place: u16 = old.ask(approved).parse().unwrap();
    assert!(at_the_old_place >= when_closed, "all that was acknowledged there was in the copy");
    assert_eq!(store.verify_audit().unwrap().fault, None);
    // What is told to everybody reaches it at its new place.
    let revoked = store.revoke_terminal(customers[1].terminal, "over".into(), write());
    revoked.unwrap();
    assert_eq!(new_server.ask("SELECT count(*) FROM terminals WHERE revoked_at IS NOT NULL"), "1");
    // The old place refuses: who was led there by an older map, or writes there past the platform.
    let stale = PostgresStorage::open(&options(old, PLATFORM).as_partition(part(1, 1)), realm());
    assert!(matches!(stale, Err(StorageError::Moved(_))), "{stale:?}");
    let stale =
        PostgresStorage::open(&options(&new_server, PLATFORM).as_partition(part(1, 1)), realm());
    assert!(matches!(stale, Err(StorageError::Moved(_))), "{stale:?}");
    old.try_as(PLATFORM, "INSERT INTO idempotency_answers SELECT 'key_1', 'x', fingerprint, 200, body, 1 FROM idempotency_answers LIMIT 1")
        .unwrap_err();
}

/// Asks once: whether it was approved. Refused, or unknown, it is asked again.
fn pays(
    world: &World,
    intent: PaymentIntentId,
    counter: u16,
    key: &tapfer_storage::IdempotencyClaim,
) -> bool {
    pays_at(world, intent, world.terminal, counter, key)
}

fn pays_at(
    world: &World,
    intent: PaymentIntentId,
    terminal: tapfer_payment_types::TerminalId,
    counter: u16,
    key: &tapfer_storage::IdempotencyClaim,
) -> bool {
    match world.store.begin(key) {
        Ok(Begun::Replay(_)) => return true,
        Ok(Begun::Run(_)) => {}
        Err(_) => return false,
    }
    let query = world.query(intent, terminal, presented(counter, 10));
    let Ok(facts) = world.store.authorization_facts(query) else { return false };
    let decision = world.decide_on(facts, presented(counter, 10));
    world.commit(&decision, Some(key.clone())).is_ok()
}

/// A partition whose server is gone keeps nobody else from paying, and its cards are refused with the reason.
#[test]
fn a_partition_that_is_away_stops_its_own_cards() {
    let mut partitions = Partitions::start(2);
    let (there, at_home) = two_customers(&partitions);
    there.pay_new(1, 100, CaptureMethod::Automatic);
    let intent = there.armed(100, CaptureMethod::Automatic).id;
    drop(partitions.0.pop());
    at_home.pay_new(1, 100, CaptureMethod::Automatic);
    let refused =
        there.store.authorization_facts(there.query(intent, there.terminal, presented(2, 100)));
    assert!(matches!(refused, Err(StorageError::Unreachable(_))), "{refused:?}");
    at_home.pay_new(2, 100, CaptureMethod::Automatic);
    // What everybody has to hear is not answered meanwhile, and a list that lacks something is none.
    at_home.store.revoke_terminal(there.terminal, "lost".into(), write()).unwrap_err();
    at_home.store.list_cards(None, Page::first(1)).unwrap_err();
    // Nor does a platform wait for it that starts now.
    let started = World::reopened(partitions.platform_of(2), 900_000);
    assert!(started.store.card(at_home.card).unwrap().is_some());
    assert!(matches!(started.store.card(there.card), Err(StorageError::Unreachable(_))));
}

/// What has ended in the others is erased while one is away; a phone may have a token there.
#[test]
fn a_partition_that_is_away_erases_later() {
    let mut partitions = Partitions::start(3);
    let there = World::new(partitions.platform());
    let store = &there.store;
    for card in [there.card, there.another_customer_in(2, 500_000).card] {
        let reason = "moved away".into();
        let closing = Closing { card, pays_out: true, actor: Actor::Issuer, reason };
        store.close_card(closing, write()).unwrap();
    }
    partitions.0.iter().for_each(|server| server.age_ended(541));
    let gone = partitions.0.remove(1);
    let erased = "SELECT count(*) FROM cards WHERE erased_at IS NOT NULL";
    assert_eq!(partitions.0[1].ask(erased), "0");
    drop(gone);
    assert!(matches!(store.erase_ended(noon()), Err(StorageError::Unreachable(_))));
    assert_eq!(partitions.0[1].ask(erased), "1");
    let phones = "SELECT count(*) FROM devices WHERE label = 'erased'";
    assert_eq!(partitions.0[0].ask(phones), "0");
}

/// A phone is erased in the home, and a partition has not heard of it: what is made there for it meanwhile ends at once.
#[test]
fn a_phone_that_is_just_erased_gets_no_token_in_any_partition() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let store = &there.store;
    let phone = DeviceId::new(noon(), there.next());
    let key = there.new_api_key(Principal::Device(phone));
    store.create_device(there.device(phone), key, write()).unwrap();
    partitions.0[1].say("ALTER SUBSCRIPTION tapfer_1 DISABLE");
    partitions.0.iter().for_each(|server| server.age_ended(541));
    // A partition knows some of its tokens, and erases no phone, whoever asks it to.
    let erase = format!("SELECT erase_ended('device', ARRAY['{phone}'], 0)");
    assert_eq!(partitions.0[1].try_as(PLATFORM, &erase).unwrap(), "");
    assert_eq!(store.erase_ended(noon()).unwrap(), 1);
    let mut token = there.token(TokenId::new(noon(), there.next()));
    token.device = phone;
    let id = token.id;
    let refused = store.create_token(token, there.token_number(id), write());
    assert_eq!(refusal(refused), Refusal::Device(DeviceError::Erased));
    assert_eq!(store.token(id).unwrap().unwrap().state, TokenState::Deactivated);
}

/// Attack: the login of a platform to the home, which sees no token of a phone that is used with a card of another partition, takes it
/// for ended. It is older than any limit.
#[test]
fn attack_phones_in_use_erased_from_the_home() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let home = &partitions.0[0];
    let steal = "UPDATE retention SET days = 180; SELECT erase_ended('device', ARRAY(SELECT id FROM devices), 0)";
    let phones = "SELECT count(*) FROM devices WHERE label = 'erased'";
    // Each hour a platform asks, long before the phone is as old as the least limit.
    partitions.0.iter().for_each(|server| server.age_ended(61));
    assert_eq!(there.store.erase_ended(noon()).unwrap(), 0);
    for _ in 0..3 {
        // He finds it older than the limit, and lately asked about.
        partitions.0.iter().for_each(|server| server.age_ended(119));
        assert_eq!(home.try_as(PLATFORM, steal).unwrap(), "");
        assert_eq!(there.store.erase_ended(noon()).unwrap(), 0);
    }
    home.try_as(PLATFORM, "UPDATE phones_in_use SET seen_at = 0").unwrap();
    assert_eq!(home.try_as(PLATFORM, steal).unwrap(), "", "the database says when");
    home.try_as(PLATFORM, "DELETE FROM phones_in_use").unwrap_err();
    assert_eq!(home.ask(phones), "0");
    assert!(there.pay_new(1, 100, CaptureMethod::Automatic).outcome.is_approved());
}

/// Attack: the number that changes are told by is set to the last one, so that none can be told any more, and one who only reads keeps a
/// transaction open, so that none is heard.
#[test]
fn attack_changes_that_nobody_is_told() {
    let partitions = Partitions::start(2);
    let (there, _) = two_customers(&partitions);
    let home = &partitions.0[0];
    for number in ["9223372036854775807", "number + 2", "0"] {
        let refused = home.try_as(PLATFORM, &format!("UPDATE told SET number = {number}"));
        assert!(refused.unwrap_err().contains("counted one by one"), "{number}");
    }
    there.store.revoke_terminal(there.terminal, "stolen".into(), write()).unwrap();
    let falls = home.try_as(PLATFORM, "UPDATE told SET heard = 0").unwrap_err();
    assert!(falls.contains("counted one by one"), "{falls}");

    let other = &partitions.0[1];
    other.say("CREATE ROLE anna LOGIN IN ROLE tapfer_auditor");
    let mut anna = other.program("psql");
    anna.env("PGUSER", "anna").args(["-X", "-q", "-t", "-A"]);
    let mut anna = anna.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut says = anna.stdin.take().unwrap();
    says.write_all(b"BEGIN; SELECT pg_current_xact_id() IS NOT NULL;\n").unwrap();
    let mut line = String::new();
    BufReader::new(anna.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "t\n");
    let by = tapfer_payments::store_shares::Locker::Issuer;
    done(there.store.lock_device(there.device, by, "lost".into(), write()));
    drop(says);
    anna.wait().unwrap();
}

/// A database is one partition, whatever an address says.
#[test]
fn a_wrong_database_is_refused() {
    let partitions = Partitions::start(2);
    let part = |number, place| Part { number, partitions: 2, place };
    let [home, other] = [&partitions.0[0], &partitions.0[1]];
    for (server, wanted) in [(home, part(1, 1)), (other, part(0, 1)), (other, part(1, 2))] {
        let opened =
            PostgresStorage::open(&options(server, PLATFORM).as_partition(wanted), realm());
        assert!(matches!(opened, Err(StorageError::Moved(_))), "{opened:?}");
    }
    // A platform that knows of no partitions, and a database that is none.
    let opened = PostgresStorage::open(&options(home, PLATFORM), realm());
    assert!(matches!(opened, Err(StorageError::Moved(_))), "{opened:?}");
    let whole = TestPostgres::start();
    make(&options(&whole, OWNER), realm()).unwrap();
    whole.let_platforms_in();
    let opened =
        PostgresStorage::open(&options(&whole, PLATFORM).as_partition(part(1, 1)), realm());
    assert!(matches!(opened, Err(StorageError::Moved(_))), "{opened:?}");
    // Nor does it become another one.
    make_partition(&options(other, OWNER), part(0, 1)).unwrap_err();
    other.try_as(OWNER, "UPDATE own_partition SET place = 0").unwrap_err();
    other.try_as(OWNER, "DELETE FROM own_partition").unwrap_err();
}

/// Attack: the closed partition is copied twice, or its old place is opened as well as the new one, and both are the place of the map:
/// a card pays at each what it has once.
#[test]
fn attack_partition_open_at_two_places() {
    let server = TestPostgres::start();
    make(&options(&server, OWNER), realm()).unwrap();
    server.let_platforms_in();
    let part = |place| Part { number: 1, partitions: 2, place };
    make_partition(&options(&server, OWNER), part(1)).unwrap();
    close_partition(&options(&server, OWNER)).unwrap();
    server.say("CREATE DATABASE other TEMPLATE postgres");
    let at = |database: &str, login| {
        let address = server.address(login);
        let (server, _) = address.rsplit_once('/').unwrap();
        PostgresOptions::new(&format!("{server}/{database}"), None, None).unwrap()
    };
    let [one, other] = ["postgres", "other"].map(|database| {
        open_partition(&at(database, OWNER), part(2)).unwrap();
        partition_of(&at(database, OWNER)).unwrap().unwrap()
    });
    assert!(one.part == other.part && one.name != other.name, "{one:?} {other:?}");
    let open = |database| {
        let options = at(database, PLATFORM).as_partition(part(2)).at_place(Some(one.name));
        PostgresStorage::open(&options, realm())
    };
    open("postgres").unwrap();
    let refused = open("other");
    assert!(matches!(refused, Err(StorageError::Moved(_))), "{refused:?}");
    server
        .try_as(OWNER, "UPDATE own_partition SET name = uuid_send(gen_random_uuid())")
        .unwrap_err();
}
