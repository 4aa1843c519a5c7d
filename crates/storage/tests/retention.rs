//! What has ended is erased when its limit is over, and not before; and nothing of it is left in any file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tapfer_payment_types::{CardId, DeviceId, Timestamp, TokenId};
use tapfer_payments::access::Principal;
use tapfer_payments::audit::AuditAction;
use tapfer_payments::intents::CaptureMethod;
use tapfer_payments::retention::RetentionLimit;
use tapfer_payments::store_shares::DeviceError;
use tapfer_payments::tokens::{Actor, TokenAction};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{
    Closing, DatabaseReader, NewRefund, Page, Refusal, RetentionStore as _, SealedNumber, Storage,
    TopUp, Write,
};
use tapfer_test_postgres::{OWNER, PLATFORM};
use world::backend::{Backend, contract, contract_of_one_log, migrated, platform, refusal, world};
use world::{World, done, euro, noon, realm, write};

fn days_later(days: i64) -> Timestamp {
    noon().plus_seconds(days * 86_400)
}

/// Closes the world's card, and pays out what is on it.
fn close(world: &World) {
    let (card, reason) = (world.card, "moved away".into());
    let closing = Closing { card, pays_out: true, actor: Actor::Issuer, reason };
    done(world.store.close_card(closing, write()));
}

fn erasures(store: &dyn Storage) -> Vec<(String, String)> {
    let events = store.audit_events(Page::first(100)).unwrap().items;
    let events = events.into_iter().map(|line| line.event);
    let erased = events.filter(|event| event.action == AuditAction::DataErased);
    erased.map(|event| (event.object, event.detail.unwrap())).collect()
}

fn what_has_ended_is_erased_behind_its_limit<B: Backend>() {
    let (world, backend) = world::<B>();
    let store = &world.store;
    done(store.set_card_pin(world.card, [9; 32], write()));
    let paid = world.armed(100, CaptureMethod::Automatic).id;
    world.pay(paid, 1, 100);
    let number = world.number();
    let closed_twice = CardId::new(noon(), world.next());
    done(store.create_card(world.card(closed_twice), number.clone(), write()));
    close(&world);
    let closing =
        Closing { card: closed_twice, pays_out: false, actor: Actor::Issuer, reason: "x".into() };
    done(store.close_card(closing, write()));

    assert_eq!(store.retention_limit().unwrap(), RetentionLimit::DEFAULT);
    let limit = RetentionLimit::new(200).unwrap();
    let later = Write { now: days_later(190), ..write() };
    assert_eq!(done(store.set_retention_limit(limit, "as agreed".into(), later)), limit);
    assert_eq!(store.retention_limit().unwrap(), limit);

    // A day before it is over nothing is, and a refund still comes; what has money then waits for it.
    backend.age_ended(199);
    assert_eq!(store.erase_ended(days_later(199)).unwrap(), 0);
    assert!(store.sealed_card_number(world.card).unwrap().is_some());
    let id = tapfer_payment_types::RefundId::new(noon(), world.next());
    done(store.create_refund(NewRefund { id, payment_intent: paid, amount_minor: None }, write()));
    backend.age_ended(3);
    // Two tokens of which one lives on: the world's own, whose card has money again, and the card without.
    let phone = usize::from(!backend.keeps_phones());
    assert_eq!(
        store.erase_ended(days_later(202)).unwrap(),
        2 + phone,
        "token, phone, the card without money"
    );
    assert!(store.sealed_card_number(closed_twice).unwrap().is_none());
    assert!(store.sealed_card_number(world.card).unwrap().is_some(), "it has money");
    close(&world);
    assert_eq!(store.erase_ended(days_later(202)).unwrap(), 1);
    assert_eq!(store.erase_ended(days_later(290)).unwrap(), 0, "nothing twice");
    backend.age_ended(121);
    assert_eq!(store.erase_ended(days_later(290)).unwrap(), 1 - phone, "the phone");

    assert!(store.sealed_card_number(world.card).unwrap().is_none());
    assert!(store.sealed_token_number(world.token).unwrap().is_none());
    assert!(store.card_pin(world.card).unwrap().is_none());
    assert!(store.card_by_number_hash(&number.keyed_hash).unwrap().is_none());
    let card = store.card(world.card).unwrap().unwrap().card;
    assert_eq!((card.last_four.as_str(), card.holder_reference), ("1111", None));
    assert_eq!(store.card_entries(world.card, Page::first(99)).unwrap().items.len(), 6);
    assert!(store.device(world.device).unwrap().unwrap().public_key.is_erased());
    let keys = store.list_api_keys(Some(Principal::Device(world.device)), Page::first(9)).unwrap();
    assert!(keys.items.iter().all(|key| key.revoked_at.is_some()), "{keys:?}");
    // A number that is forgotten may come again.
    done(store.create_card(world.card(CardId::new(noon(), world.next())), number, write()));

    assert!(store.verify_audit().unwrap().fault.is_none());
}

fn the_log_tells_what_was_erased<B: Backend>() {
    let (world, backend) = world::<B>();
    let store = &world.store;
    close(&world);
    backend.age_ended(541);
    assert_eq!(store.erase_ended(days_later(541)).unwrap(), 3);
    let log = erasures(store.as_ref());
    let line = |kind: &str, id: String| (kind.to_owned(), format!("1 past 540 days: {id}"));
    let expected = [
        line("device", world.device.to_string()),
        line("card", world.card.to_string()),
        line("token", world.token.to_string()),
    ];
    assert_eq!(log, expected);
    let limit = RetentionLimit::new(200).unwrap();
    done(store.set_retention_limit(limit, "as agreed".into(), write()));
    let newest = store.audit_events(Page::first(1)).unwrap().items.remove(0).event;
    assert_eq!(newest.action, AuditAction::RetentionSet);
    assert_eq!(newest.detail.as_deref(), Some("200 days: as agreed"));
    assert!(store.verify_audit().unwrap().fault.is_none());
}

fn what_lives_is_not_erased<B: Backend>() {
    let (world, backend) = world::<B>();
    let store = &world.store;
    backend.age_ended(4_000);
    assert_eq!(store.erase_ended(days_later(4_000)).unwrap(), 0);
    world.change_token(TokenAction::Suspend, Actor::Issuer).unwrap();
    done(store.change_card(world.card, tapfer_storage::CardChange::Block, "lost".into(), write()));
    assert_eq!(
        store.erase_ended(days_later(4_000)).unwrap(),
        0,
        "suspended and blocked is not ended"
    );
    world.change_token(TokenAction::Delete, Actor::Cardholder).unwrap();
    backend.age_ended(4_000);
    assert_eq!(store.erase_ended(days_later(4_000)).unwrap(), 2, "the token and the phone");
    assert!(store.sealed_card_number(world.card).unwrap().is_some());
    let token = world.token(TokenId::new(noon(), world.next()));
    done(store.change_card(
        world.card,
        tapfer_storage::CardChange::Unblock,
        "found".into(),
        write(),
    ));
    let refused = store.create_token(token, world.token_number(world.token), write());
    assert_eq!(refusal(refused), Refusal::Device(DeviceError::Erased));
}

contract! {
    what_has_ended_is_erased_behind_its_limit
    what_lives_is_not_erased
}

contract_of_one_log! {
    the_log_tells_what_was_erased
}

/// The platform's own login can erase nothing before its limit, shorten no limit below the least, and make nothing look old.
#[test]
fn attack_data_erased_before_its_limit() {
    let server = migrated();
    let world = World::new(platform(&server));
    close(&world);
    let closed = world.card;
    for sql in [
        "UPDATE cards SET number_sealed = ''",
        "UPDATE cards SET number_hash = ''",
        "UPDATE cards SET closed_seen_at = 0",
        "UPDATE cards SET erased_at = 0",
        "UPDATE tokens SET number_sealed = ''",
        "UPDATE tokens SET ended_seen_at = 0",
        "UPDATE devices SET created_at = 0",
        "DELETE FROM cards",
        "DELETE FROM card_pins",
        "DELETE FROM person_keys",
        "DELETE FROM retention",
        "UPDATE retention SET one = 2",
        "CREATE OR REPLACE VIEW ended_data AS SELECT 1",
        "DELETE FROM audit_inbox",
    ] {
        let refused = server.try_as(PLATFORM, sql).unwrap_err();
        let is_denied = refused.contains("permission denied") || refused.contains("must be owner");
        assert!(is_denied, "{sql}: {refused}");
    }
    let short = server.try_as(PLATFORM, "UPDATE retention SET days = 179").unwrap_err();
    assert!(short.contains("retention_days_check"), "{short}");
    server.try_as(PLATFORM, "UPDATE retention SET days = 180").unwrap();
    let again = server.try_as(PLATFORM, "UPDATE cards SET closed_at = 0").unwrap_err();
    assert!(again.contains("a closed card stays closed"), "{again}");
    let opened = server.try_as(PLATFORM, "UPDATE cards SET status = 'active'").unwrap_err();
    assert!(opened.contains("a closed card stays closed"), "{opened}");
    // What he ends himself, long ago as he says.
    let other = world.another_customer_in(0, 5_000);
    let empty = CardId::new(noon(), world.next());
    done(world.store.create_card(world.card(empty), world.number(), write()));
    let (card, token) = (empty.to_string(), other.token.to_string());
    for sql in [
        format!("UPDATE cards SET status = 'blocked', closed_at = 0 WHERE id = '{card}'"),
        format!("UPDATE tokens SET status = 'DEACTIVATED', ended_at = 0 WHERE id = '{token}'"),
    ] {
        server.try_as(PLATFORM, &sql).unwrap();
    }
    for (kind, id) in [("card", closed.to_string()), ("card", card), ("token", token)] {
        let erased = server.try_as(
            PLATFORM,
            &format!("SELECT erase_ended('{kind}', ARRAY['{id}'], 9000000000000000)"),
        );
        assert_eq!(erased.unwrap(), "", "by the database's clock it has just ended");
    }
    assert!(world.store.sealed_card_number(closed).unwrap().is_some());
    // What is past its limit he may erase, and it is written down.
    server.age_ended(181);
    let sql = format!("SELECT erase_ended('card', ARRAY['{closed}'], 1)");
    assert_eq!(server.try_as(PLATFORM, &sql).unwrap(), closed.to_string());
    assert_eq!(erasures(&*world.store).len(), 1);
}

/// The embedded store asks itself: whoever names rows that are not due has none of them erased.
#[test]
fn a_file_that_is_left_alone_keeps_what_is_young() {
    let (world, _directory) = world::<tempfile::TempDir>();
    close(&world);
    assert_eq!(world.store.erase_ended(days_later(539)).unwrap(), 0);
    assert_eq!(world.store.erase_ended(days_later(541)).unwrap(), 3);
}

/// A clock that is far ahead erases nothing, however often it is asked, and what is written down meanwhile makes it no better; set
/// right, or said to be right, it is believed.
#[test]
fn a_clock_that_jumps_ahead_erases_nothing_until_somebody_has_looked_at_it() {
    let (world, directory) = world::<tempfile::TempDir>();
    close(&world);
    let store = &world.store;
    assert_eq!(store.erase_ended(noon()).unwrap(), 0);
    let believes = |days| {
        let file = DatabaseReader::file(&directory.path().join("tapfer.db")).unwrap();
        file.retention(days_later(days)).unwrap().is_clock_believed
    };
    for _ in 0..3 {
        let now = days_later(730);
        let refused = refusal(store.erase_ended(now));
        assert_eq!(refused, Refusal::ClockAhead { now, before: noon(), days: 540 });
        let card = CardId::new(now, world.next());
        let at_that_time = Write { now, ..write() };
        done(store.create_card(world.card(card), world.number(), at_that_time));
    }
    assert_eq!((believes(90), believes(91)), (true, false));
    // Set back too far, and then right: as before.
    assert_eq!(store.erase_ended(days_later(-9_000)).unwrap(), 0);
    assert_eq!(store.erase_ended(days_later(90)).unwrap(), 0);
    assert!(store.sealed_card_number(world.card).unwrap().is_some());
    // As long as a platform runs its clock is followed, whatever happens or does not.
    for days in (180..=540).step_by(90) {
        assert_eq!(store.erase_ended(days_later(days)).unwrap(), 0);
    }
    assert!(matches!(refusal(store.erase_ended(days_later(631))), Refusal::ClockAhead { .. }));
    let said = Write { now: days_later(631), ..write() };
    done(store.set_retention_limit(RetentionLimit::DEFAULT, "the clock is right".into(), said));
    assert_eq!(store.erase_ended(days_later(631)).unwrap(), 3);
}

/// A server whose clock was far ahead when something was erased last, or is now.
#[test]
fn a_server_whose_clock_jumps_ahead_erases_nothing_until_somebody_has_looked_at_it() {
    let server = migrated();
    let world = World::new(platform(&server));
    close(&world);
    assert_eq!(world.store.erase_ended(noon()).unwrap(), 0);
    server.age_ended(541);
    server.say("UPDATE retention SET clock = clock - 91 * CAST(86400000 AS BIGINT)");
    for _ in 0..2 {
        let refused = refusal(world.store.erase_ended(noon()));
        assert!(matches!(refused, Refusal::ClockAhead { days: 540, .. }), "{refused:?}");
    }
    let limit = RetentionLimit::DEFAULT;
    done(world.store.set_retention_limit(limit, "the clock is right".into(), write()));
    assert_eq!(world.store.erase_ended(noon()).unwrap(), 3);
}

/// Whoever erases has no way to the audit log: what it says of the time before stays, and what was erased comes behind it.
#[test]
fn what_is_erased_leaves_the_audit_log() {
    let (world, directory) = world::<tempfile::TempDir>();
    close(&world);
    let lines = || world.store.audit_events(Page::first(100)).unwrap().items;
    let before = lines();
    assert_eq!(world.store.erase_ended(days_later(5_000)).unwrap(), 3);
    let after = lines();
    assert_eq!(after.len(), before.len() + 3);
    assert_eq!(after[3..], before);
    let file = Connection::open(directory.path().join("tapfer.db")).unwrap();
    for sql in
        ["DELETE FROM audit_events", "UPDATE audit_events SET at = 0", "DELETE FROM audit_links"]
    {
        let refused = file.execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains("audit"), "{sql}: {refused}");
    }
}

/// Bytes that are nowhere else.
fn known(of: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    (0..48)
        .map(|place: u8| of ^ place.wrapping_mul(37) ^ high.wrapping_mul(29))
        .chain([high, low])
        .collect()
}

struct Sought(Vec<Vec<u8>>);

impl Sought {
    /// How many of these bytes stand in these files.
    fn in_files(&self, files: &[impl AsRef<Path>]) -> usize {
        let mut found = 0;
        for file in files {
            let bytes = std::fs::read(file).unwrap_or_default();
            found += self.0.iter().filter(|sought| contains(&bytes, sought)).count();
        }
        found
    }
}

fn contains(bytes: &[u8], sought: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == sought[0]) {
        rest = &rest[at..];
        if rest.starts_with(sought) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Cards with phones and tokens, whose sealed bytes and hashes are known: a half of them is closed. What is to be gone, and what is
/// to stay.
fn crowd(world: &World, count: u16) -> (Sought, Sought) {
    let store = &world.store;
    let (mut gone, mut stays) = (Vec::new(), Vec::new());
    for number in 0..count {
        let card = CardId::new(noon(), world.next());
        let of_card = SealedNumber { sealed: known(1, number), keyed_hash: known(2, number) };
        let mut new = world.card(card);
        let holder = format!("holder-{number:05}-of-the-crowd");
        new.holder_reference = Some(holder.clone());
        done(store.create_card(new, of_card.clone(), write()));
        let top_up = TopUp { card, amount: euro(7), reference: "x".into() };
        done(store.top_up(top_up, write()));
        let pin: [u8; 32] = known(3, number)[18..].try_into().unwrap();
        done(store.set_card_pin(card, pin, write()));
        let device = DeviceId::new(noon(), world.next());
        let key = world.new_api_key(Principal::Device(device));
        done(store.create_device(world.device(device), key, write()));
        let token = TokenId::new(noon(), world.next());
        let of_token = SealedNumber { sealed: known(4, number), keyed_hash: known(5, number) };
        let mut new = world.token(token);
        (new.card, new.device) = (card, device);
        done(store.create_token(new, of_token.clone(), write()));
        // Rows grow and move.
        for change in [tapfer_storage::CardChange::Block, tapfer_storage::CardChange::Unblock] {
            let reason = "a reason that is longer than the one before it, and so the row moves"
                .repeat(1 + usize::from(number % 3));
            done(store.change_card(card, change, reason, write()));
        }
        let all = [
            of_card.sealed,
            of_card.keyed_hash,
            of_token.sealed,
            of_token.keyed_hash,
            pin.to_vec(),
            holder.into_bytes(),
        ];
        if number % 2 == 0 {
            let closing =
                Closing { card, pays_out: true, actor: Actor::Issuer, reason: "end".into() };
            done(store.close_card(closing, write()));
            gone.extend(all);
        } else {
            stays.extend(all);
        }
    }
    (Sought(gone), Sought(stays))
}

#[test]
fn nothing_of_what_was_erased_is_left_in_the_file_or_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapfer.db");
    let files = [path.clone(), directory.path().join("tapfer.db-wal")];
    let store = Arc::new(SqliteStorage::create(&path, realm(), &SqliteOptions::default()).unwrap());
    let world = World::new(store.clone());
    let (gone, stays) = crowd(&world, 120);
    assert!(gone.in_files(&files) >= gone.0.len(), "what is sought is found while it is there");
    assert_eq!(store.erase_ended(days_later(541)).unwrap(), 180);
    let log = std::fs::metadata(&files[1]).unwrap().len();
    assert_eq!(log, 32 + 24 + 4_096, "the log has one frame");
    let left = gone.in_files(&files);
    println!("left in a file that is open: {left} of {}", gone.0.len());
    drop(world);
    store.close();
    let store = SqliteStorage::open(&path, realm(), &SqliteOptions::default()).unwrap();
    assert_eq!(gone.in_files(&files), 0, "in one that was opened anew");
    assert_eq!(stays.in_files(&files[..1]), stays.0.len(), "what lives is there");
    store.close();
    let sound = DatabaseReader::file(&path).unwrap().check();
    assert!(sound.faults.is_empty(), "{:?}", sound.faults);
    let rewritten = Connection::open(&path).unwrap();
    let rewritten: i64 =
        rewritten.query_row("SELECT is_rewritten FROM retention", [], |row| row.get(0)).unwrap();
    assert_eq!(rewritten, 1);
}

/// Who reads the file at the start keeps its old pages there: it is not said to be written anew before it is.
#[test]
fn a_file_that_somebody_reads_is_written_anew_at_a_later_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapfer.db");
    let files = [path.clone(), directory.path().join("tapfer.db-wal")];
    let store = Arc::new(SqliteStorage::create(&path, realm(), &SqliteOptions::default()).unwrap());
    let world = World::new(store.clone());
    let (gone, _) = crowd(&world, 60);
    assert_eq!(store.erase_ended(days_later(541)).unwrap(), 90);
    drop(world);
    store.close();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM cards").unwrap();
    let is_rewritten =
        || DatabaseReader::file(&path).unwrap().retention(noon()).unwrap().is_rewritten;
    for (reads, is_done) in [(Some(reader), false), (None, true)] {
        let store = SqliteStorage::open(&path, realm(), &SqliteOptions::default()).unwrap();
        assert_eq!(is_rewritten(), Some(is_done));
        drop(reads);
        store.close();
    }
    assert_eq!(gone.in_files(&files), 0);
}

/// Where a reader keeps an older moment, and the platform dies behind the erasure: the next start makes good for it.
#[test]
fn a_death_behind_an_erasure_leaves_nothing_either() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tapfer.db");
    let copy = directory.path().join("copy");
    let store = Arc::new(SqliteStorage::create(&path, realm(), &SqliteOptions::default()).unwrap());
    let world = World::new(store.clone());
    let (gone, _) = crowd(&world, 20);
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM cards").unwrap();
    assert_eq!(store.erase_ended(days_later(541)).unwrap(), 30);
    // As its files are at this moment.
    std::fs::create_dir(&copy).unwrap();
    let names = ["tapfer.db", "tapfer.db-wal", "tapfer.db-open"];
    for name in names {
        std::fs::copy(directory.path().join(name), copy.join(name)).unwrap();
    }
    let files = names.map(|name| copy.join(name));
    assert!(gone.in_files(&files) > 0, "the reader's moment is there");
    let store = SqliteStorage::open(&copy.join("tapfer.db"), realm(), &SqliteOptions::default());
    assert_eq!(gone.in_files(&files), 0);
    let store = store.unwrap();
    assert_eq!(store.erase_ended(days_later(541)).unwrap(), 0);
    store.close();
}

/// Where the owner has the tables written anew, nothing is left in the files of the tables; the log is PostgreSQL's own matter.
#[test]
fn nothing_of_what_was_erased_is_left_in_the_tables_of_a_server() {
    let server = migrated();
    let world = World::new(platform(&server));
    let (gone, stays) = crowd(&world, 30);
    let files = || {
        server.say("CHECKPOINT");
        let listed = server.ask(
            "SELECT current_setting('data_directory') || '/' || pg_relation_filepath(c.oid) FROM pg_class AS c
             WHERE c.relkind IN ('r', 'i', 't') AND pg_relation_filepath(c.oid) IS NOT NULL",
        );
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // Samples of columns are kept behind the end of their rows.
    server.say("ANALYZE");
    assert!(gone.in_files(&files()) >= gone.0.len(), "what is sought is found while it is there");
    server.age_ended(541);
    assert_eq!(world.store.erase_ended(days_later(541)).unwrap(), 45);
    server.try_as(OWNER, "VACUUM (FULL) cards, tokens, card_pins, person_keys, devices").unwrap();
    let files = files();
    assert_eq!(gone.in_files(&files), 0);
    assert!(stays.in_files(&files) >= stays.0.len(), "what lives is there");
}

/// Whoever makes a token for a phone that somebody erases at this moment hears of it.
#[test]
fn a_phone_that_is_just_erased_gets_no_token() {
    let server = migrated();
    let world = World::new(platform(&server));
    let phone = DeviceId::new(noon(), world.next());
    let key = world.new_api_key(Principal::Device(phone));
    done(world.store.create_device(world.device(phone), key, write()));
    server.age_ended(541);
    let erase = format!(
        "BEGIN; SELECT erase_ended('device', ARRAY['{phone}'], 0); SELECT pg_advisory_xact_lock(77);
         DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted)
             OR EXISTS (SELECT FROM tokens WHERE device_id = '{phone}'); END LOOP; END $$; COMMIT"
    );
    let mut token = world.token(TokenId::new(noon(), world.next()));
    token.device = phone;
    let number = world.token_number(token.id);
    let made = std::thread::scope(|scope| {
        let erasing = scope.spawn(|| server.say(&erase));
        let holds = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77";
        while server.ask(holds) == "0" {
            std::thread::yield_now();
        }
        let made = world.store.create_token(token, number, write());
        erasing.join().unwrap();
        made
    });
    assert_eq!(refusal(made), Refusal::Device(DeviceError::Erased));
    assert!(world.store.device(phone).unwrap().unwrap().public_key.is_erased());
}

/// Platforms that erase at the same moment erase nothing twice.
#[test]
fn one_node_erases_at_a_time() {
    let server = migrated();
    let stores = [platform(&server), platform(&server)];
    let world = World::new(stores[0].clone());
    crowd(&world, 20);
    server.age_ended(541);
    let erased: usize = std::thread::scope(|scope| {
        let both =
            stores.each_ref().map(|store| scope.spawn(|| store.erase_ended(days_later(541))));
        both.map(|one| one.join().unwrap().unwrap()).iter().sum()
    });
    let rest = stores[0].erase_ended(days_later(541)).unwrap();
    assert_eq!(erased + rest, 30);
    let named: usize =
        erasures(&*world.store).iter().map(|(_, said)| said.split("_").count() - 1).sum();
    assert_eq!(named, 30, "each once");
}
