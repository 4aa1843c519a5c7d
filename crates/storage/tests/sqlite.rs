//! What is special about the embedded store: the file, its schema, rows that make no sense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    missing_docs
)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_payments::access::Principal;
use tapfer_payments::authorization::Outcome;
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::faults::{Fault, Faults, Moment};
use tapfer_storage::sqlite::{self, SqliteOptions, SqliteStorage};
use tapfer_storage::{DatabaseReader, Page, Storage, StorageError};
use world::World;

struct File {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("tapfer.db"), _directory: directory }
    }

    fn try_open(&self) -> Result<SqliteStorage, StorageError> {
        SqliteStorage::create(&self.path, world::realm(), &SqliteOptions::default())
    }

    fn open(&self) -> Arc<dyn Storage> {
        Arc::new(self.try_open().unwrap())
    }

    /// Opens the file behind the store's back, as somebody with a database tool would.
    fn tamper(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection
    }
}

#[test]
fn a_store_is_reopened_as_it_was_left() {
    let file = File::new();
    let world = World::new(file.open());
    let paid = world.pay_new(1, 100, CaptureMethod::Automatic);
    world.store.close();
    drop(world);
    assert!(!Path::new(&format!("{}-wal", file.path.display())).exists(), "the log is folded in");
    let world = World::reopened(file.open(), 1_000);
    assert_eq!(world.store.authorization(paid.id).unwrap(), Some(paid));
    assert_eq!(world.money(), (99_900, 99_900));
    assert_eq!(world.pay_new(2, 100, CaptureMethod::Automatic).outcome, Outcome::Approved);
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let file = File::new();
    let _world = World::new(file.open());
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", file.path.display());
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[test]
fn a_newer_database_is_refused() {
    let file = File::new();
    drop(file.open());
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (99, 'from_the_future', '2030-01-01T00:00:00Z', '1')";
    file.tamper().execute(newer, []).unwrap();
    let error = file.try_open().unwrap_err();
    assert!(matches!(error, StorageError::NewerDatabase { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("start the newer program"));
}

#[test]
fn a_changed_migration_is_refused() {
    let file = File::new();
    drop(file.open());
    let change = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 2";
    file.tamper().execute(change, []).unwrap();
    assert!(matches!(file.try_open(), Err(StorageError::Migration(_))));
}

#[test]
fn the_database_of_another_program_is_refused() {
    let file = File::new();
    file.tamper().execute("CREATE TABLE recipes (name TEXT)", []).unwrap();
    assert!(matches!(file.try_open(), Err(StorageError::ForeignDatabase(_))));
    let other = File::new();
    fs::write(&other.path, b"this is a letter, and not a short one, to somebody else").unwrap();
    let damaged = other.try_open().unwrap_err();
    let named = other.path.display().to_string();
    assert!(matches!(&damaged, StorageError::Damaged(path, _) if *path == named), "{damaged}");
    assert!(matches!(
        SqliteStorage::create(
            Path::new("/nowhere/tapfer.db"),
            world::realm(),
            &SqliteOptions::default()
        ),
        Err(StorageError::Database(_))
    ));
}

#[test]
fn a_realm_opens_its_own_database_and_no_other() {
    let file = File::new();
    let open = || SqliteStorage::open(&file.path, world::realm(), &SqliteOptions::default());
    assert!(matches!(open(), Err(StorageError::MissingDatabase(_))), "none is made");
    assert!(!file.path.exists());
    fs::write(&file.path, b"").unwrap();
    assert!(matches!(open(), Err(StorageError::MissingDatabase(_))), "an empty one is none");
    assert_eq!(fs::metadata(&file.path).unwrap().len(), 0, "and is left as it was");
    drop(file.open());
    drop(open().unwrap());

    let other = RealmId::new(Timestamp::from_unix_millis(1), [2; 10]);
    let options = SqliteOptions::default();
    for refused in [
        SqliteStorage::open(&file.path, other, &options),
        SqliteStorage::create(&file.path, other, &options),
    ] {
        assert!(matches!(refused, Err(StorageError::OtherRealm { .. })));
    }
    assert!(file.tamper().execute("UPDATE realm SET id = 'realm_1'", []).is_err());
    assert!(file.tamper().execute("DELETE FROM realm", []).is_err());
    file.tamper().execute_batch("DROP TABLE realm").unwrap();
    assert!(matches!(open(), Err(StorageError::ChangedSchema { .. })), "it belongs to nobody");
}

#[cfg(unix)]
#[test]
fn a_link_is_not_followed() {
    let file = File::new();
    let elsewhere = File::new();
    std::os::unix::fs::symlink(&elsewhere.path, &file.path).unwrap();
    assert!(matches!(file.try_open(), Err(StorageError::Database(_))));
    assert!(!elsewhere.path.exists());
    // A link among the directories is its owner's own doing.
    let linked = file.path.with_file_name("linked");
    std::os::unix::fs::symlink(elsewhere.path.parent().unwrap(), &linked).unwrap();
    let options = SqliteOptions::default();
    SqliteStorage::create(&linked.join("tapfer.db"), world::realm(), &options).unwrap();
    assert!(elsewhere.path.exists());
}

/// One row a case: what somebody changed, and which row is named.
/// Every request brings its API key, so it is known without the file, until somebody changes any.
#[test]
fn an_api_key_is_known_until_one_changes() {
    let file = File::new();
    let world = World::new(file.open());
    let store = &world.store;
    let keys = [(); 2].map(|()| world.new_api_key(Principal::Merchant(world.merchant)));
    for key in &keys {
        store.create_api_key(key.clone(), world::write()).unwrap();
        assert_eq!(store.known_api_key(&key.secret_hash), None, "nobody has asked for it");
        assert_eq!(store.api_key_by_hash(key.secret_hash).unwrap().as_ref(), Some(key));
    }
    let [first, second] = &keys;
    assert_eq!(store.known_api_key(&first.secret_hash).as_ref(), Some(first));
    store.revoke_api_key(second.id, "leaked".into(), world::write()).unwrap();
    for key in &keys {
        assert_eq!(store.known_api_key(&key.secret_hash), None, "what is known may be old now");
    }
    let found = store.api_key_by_hash(second.secret_hash).unwrap().unwrap();
    assert!(found.revoked_at.is_some());
    // One that was made changes none that is known.
    store.api_key_by_hash(first.secret_hash).unwrap();
    let third = world.new_api_key(Principal::Merchant(world.merchant));
    store.create_api_key(third, world::write()).unwrap();
    assert_eq!(store.known_api_key(&first.secret_hash).as_ref(), Some(first));
}

#[test]
fn a_row_that_makes_no_sense_is_named() {
    let table = [
        ("UPDATE tokens SET status = 'SLEEPING'", "tokens", "status"),
        ("UPDATE tokens SET suspended_by = 1", "tokens", "status, suspended_by"),
        ("UPDATE tokens SET suspended_by = 9", "tokens", "status, suspended_by"),
        ("UPDATE tokens SET sequence_number = 100", "tokens", "sequence_number"),
        ("UPDATE cards SET expiry = '2029-13'", "cards", "expiry"),
        ("UPDATE cards SET status = 'lost'", "cards", "status"),
        ("UPDATE issuers SET currency = 'QQQ'", "cards", "currency"),
        ("UPDATE issuers SET aid = x'00'", "issuers", "aid"),
        ("UPDATE tokens SET card_id = 'card_00000000000000000000000000'", "tokens", "card_id"),
        ("UPDATE limited_use_keys SET key_index = x'FFFFFFFF'", "limited_use_keys", "key_index"),
        ("UPDATE limited_use_keys SET key_class = 7", "limited_use_keys", "key_class"),
        ("UPDATE limited_use_keys SET used_payments = 70000", "limited_use_keys", "used_payments"),
        ("UPDATE payment_intents SET status = 'maybe'", "payment_intents", "status"),
        ("UPDATE payment_intents SET arming_state = NULL", "payment_intents", "arming_state"),
    ];
    for (statement, table, column) in table {
        let file = File::new();
        let world = World::new(file.open());
        let intent = world.armed(100, CaptureMethod::Automatic);
        world.store.close();
        assert!(file.tamper().execute(statement, []).unwrap() > 0, "{statement}");
        let world = World::reopened(file.open(), 1_000);
        let token_number_hash = world.token_number(world.token).keyed_hash;
        let query = tapfer_storage::FactsQuery {
            token_number_hash,
            payment_intent: intent.id,
            acquirer: [0; 6],
            terminal: world.terminal,
            presented: Arc::new(world::presented(1, 100)),
        };
        let facts = world.store.authorization_facts(query);
        let error = facts.and_then(|_| world.keys_that_count());
        match error {
            Err(StorageError::Inconsistent(found)) => {
                assert_eq!((found.table, found.column), (table, column), "{statement}");
                assert!(found.id.contains('_'), "{statement}: {}", found.id);
            }
            other => panic!("{statement}: {other:?}"),
        }
    }
}

/// The journal goes on where it ended, or the store is not opened.
#[test]
fn a_damaged_journal_is_named() {
    let file = File::new();
    let world = World::new(file.open());
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.store.close();
    for (entry, named) in
        [(2, "entry 2 was altered"), (3, "entry 2 is missing; the next one there is 3")]
    {
        let insert = "INSERT INTO journal (entry, hash, records) VALUES (?1, zeroblob(32), x'01')";
        file.tamper().execute(insert, [entry]).unwrap();
        match file.try_open() {
            Err(error @ StorageError::Journal(_)) => {
                assert!(error.to_string().contains(named), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let error = file.tamper().execute("DELETE FROM journal", []).unwrap_err().to_string();
        assert!(error.contains("stays in the journal"), "{error}");
        let taken_away = "DROP TRIGGER journal_stays; DELETE FROM journal;";
        let trigger = "SELECT sql FROM sqlite_schema WHERE name = 'journal_stays'";
        let trigger: String = file.tamper().query_row(trigger, [], |row| row.get(0)).unwrap();
        file.tamper().execute_batch(&format!("{taken_away}{trigger}")).unwrap();
    }
    let world = World::reopened(file.open(), 1_000);
    assert_eq!(world.money(), (99_900, 99_900));
}

/// A store that never finds the time to bring its tables up to its journal.
#[derive(Debug)]
struct NeverQuiet;

impl Faults for NeverQuiet {
    fn at(&self, _: Moment) -> Option<Fault> {
        None
    }

    fn catches_up(&self) -> Option<usize> {
        Some(0)
    }
}

/// The machine dies with a payment in the journal that no table knows, goes on behind it, and dies again.
#[test]
fn the_journal_goes_on_behind_what_a_crash_has_left_in_it() {
    let file = File::new();
    World::new(file.open()).store.close();
    let (mut path, mut paid) = (file.path.clone(), Vec::new());
    for counter in 1..=4_u16 {
        let options = SqliteOptions::default();
        let store =
            SqliteStorage::open_with_faults(&path, world::realm(), &options, Arc::new(NeverQuiet));
        let world = World::reopened(Arc::new(store.unwrap()), u64::from(counter) * 1_000);
        paid.push(world.pay_new(counter, 10, CaptureMethod::Automatic).id);
        let left = path.with_file_name(format!("left-{counter}.db"));
        let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
        fs::copy(&path, &left).unwrap();
        fs::copy(log(&path), log(&left)).unwrap();
        assert_eq!(world.store.load().payments_ahead, 1, "the tables know nothing of it yet");
        for id in &paid {
            assert!(world.store.authorization(*id).unwrap().is_some(), "payment {counter}");
        }
        path = left;
    }
}

/// What happened stays: not even somebody with a database tool changes it without first changing
/// the schema.
#[test]
fn history_is_append_only() {
    let file = File::new();
    let world = World::new(file.open());
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.money();
    let connection = file.tamper();
    for table in ["audit_events", "ledger_transfers", "authorizations", "token_changes"] {
        let column = if table == "authorizations" { "id" } else { "sequence" };
        for statement in
            [format!("UPDATE {table} SET {column} = {column}"), format!("DELETE FROM {table}")]
        {
            let error = connection.execute(&statement, []).unwrap_err().to_string();
            assert!(error.contains("is not"), "{statement}: {error}");
        }
    }
    let delete = "UPDATE tokens SET status = 'DEACTIVATED'";
    connection.execute(delete, []).unwrap();
    let wake = "UPDATE tokens SET status = 'ACTIVE'";
    let error = connection.execute(wake, []).unwrap_err().to_string();
    assert!(error.contains("stays deactivated"), "{error}");
    assert!(!world.store.audit_events(Page::first(1)).unwrap().items.is_empty());
}

/// Attack: who has had the database in hand once leaves something there that works on: a trigger that puts back what is
/// revoked or accepted, a view in the place of a table, an index, another table. Whoever opens the database later, or a
/// copy of it, is told by name.
#[test]
fn attack_trigger_left_in_the_database() {
    let undo = "BEGIN UPDATE key_catalogue SET version = 1000; END";
    let table = [
        (
            format!("CREATE TRIGGER his AFTER UPDATE OF revoked_at ON api_keys {undo}"),
            "the trigger \"his\" on \"api_keys\" does not belong there",
        ),
        (
            format!("CREATE TRIGGER his AFTER INSERT ON refinery_schema_history {undo}"),
            "the trigger \"his\" on \"refinery_schema_history\" does not belong there",
        ),
        (
            "DROP TRIGGER api_keys_stay_revoked".to_owned(),
            "the trigger \"api_keys_stay_revoked\" is missing",
        ),
        (
            format!(
                "DROP TRIGGER api_keys_stay_revoked;
                 CREATE TRIGGER api_keys_stay_revoked AFTER UPDATE ON api_keys {undo}"
            ),
            "the trigger \"api_keys_stay_revoked\" is another than it should be",
        ),
        (
            "DROP TABLE key_catalogue;
             CREATE VIEW key_catalogue AS WITH RECURSIVE endless (one) AS
                 (SELECT 1 UNION ALL SELECT one FROM endless) SELECT one FROM endless WHERE one > 1"
                .to_owned(),
            "the view \"key_catalogue\" on \"key_catalogue\" does not belong there",
        ),
        (
            "DROP TABLE refinery_schema_history;
             CREATE VIEW refinery_schema_history AS WITH RECURSIVE endless (version) AS
                 (SELECT 1 UNION ALL SELECT version FROM endless) SELECT max(version) AS version FROM endless"
                .to_owned(),
            "the view \"refinery_schema_history\"",
        ),
        (
            "CREATE UNIQUE INDEX his ON api_keys (role)".to_owned(),
            "the index \"his\" on \"api_keys\" does not belong there",
        ),
        ("CREATE TABLE his (row)".to_owned(), "the table \"his\" on \"his\""),
    ];
    for (statements, named) in table {
        let file = File::new();
        drop(file.open());
        let (realm, options) = (world::realm(), SqliteOptions::default());
        file.tamper().execute_batch(&statements).unwrap();
        let copy = file.path.with_file_name("copy.db");
        let refusals = [
            SqliteStorage::open(&file.path, realm, &options).map(drop),
            file.try_open().map(drop),
            DatabaseReader::file(&file.path).map(drop),
            sqlite::back_up(&file.path, realm, &copy).map(drop),
            sqlite::check(&file.path, realm),
        ];
        for refusal in refusals {
            let told = refusal.unwrap_err();
            assert!(matches!(told, StorageError::ChangedSchema { .. }), "{statements}: {told}");
            assert!(told.to_string().contains(named), "{statements}: {told}");
        }
    }
}

/// What SQLite would leave out without a word is refused, and can be cut off by who wants that; a torn end is not.
#[test]
fn attack_damaged_log_taken_for_a_shorter_one() {
    let file = File::new();
    let world = World::new(file.open());
    for counter in 1..=9 {
        world.pay_new(counter, 100, CaptureMethod::Automatic);
    }
    // As it lies there when the machine stops.
    let copy = File::new();
    let [log, copied] = [&file, &copy].map(|file| file.path.with_file_name("tapfer.db-wal"));
    fs::copy(&file.path, &copy.path).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    fs::write(&copied, &bytes[..bytes.len() - 100]).unwrap();
    copy.try_open().expect("a torn end is not refused").close();

    fs::copy(&file.path, &copy.path).unwrap();
    let frame = 4_096 + 24;
    bytes[32 + 3 * frame + 1_000] ^= 1;
    fs::write(&copied, &bytes).unwrap();
    let refused = copy.try_open().map(drop).unwrap_err();
    let StorageError::DamagedLog { fault, .. } = &refused else { panic!("{refused}") };
    assert!(fault.to_string().contains("frame 4, at byte 12392"), "{fault}");
    assert_eq!(fs::read(&copied).unwrap(), bytes, "nothing was changed");
    let found = DatabaseReader::file(&copy.path);
    let faults = found.map(|reader| reader.check().faults);
    assert!(faults.is_ok_and(|faults| faults.iter().any(|fault| fault.what.contains("frame 4"))));

    fs::write(&copied, &bytes).unwrap();
    let cut = sqlite::cut_log(&copy.path).unwrap().expect("it is damaged");
    assert_eq!(fs::read(cut.kept_as.unwrap()).unwrap(), bytes);
    assert_eq!(cut.left.end + cut.cut_bytes, u64::try_from(bytes.len()).unwrap());
    assert_eq!(sqlite::cut_log(&copy.path).unwrap(), None, "not damaged any more");
}
