//! The audit chain: written with every event, older events taken in once, and every hand on it found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod world;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tapfer_emv::audit_chain::KnownHead;
use tapfer_payment_types::configuration::{Audience, Restoration, SignedDocument};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::audit_chain::ChainFault;
use tapfer_payments::intents::CaptureMethod;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{
    AuditStore as _, ConfigurationStore as _, DatabaseReader, PublishedConfiguration, Storage as _,
    StorageError,
};
use world::{World, noon, realm};

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tapfer.db");
        Self { _directory: directory, path }
    }

    fn create(&self) -> Arc<SqliteStorage> {
        let options = SqliteOptions::default();
        Arc::new(SqliteStorage::create(&self.path, realm(), &options).unwrap())
    }

    fn open(&self) -> Result<SqliteStorage, StorageError> {
        SqliteStorage::open(&self.path, realm(), &SqliteOptions::default())
    }

    /// Somebody with a database tool, who takes the triggers away first, and puts them back.
    fn tamper(&self, statements: &str) {
        let connection = Connection::open(&self.path).unwrap();
        let triggers = "SELECT name, sql FROM sqlite_schema
                        WHERE type = 'trigger' AND tbl_name IN ('audit_events', 'audit_links')";
        let mut triggers = connection.prepare(triggers).unwrap();
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

    fn fault(&self) -> Option<ChainFault> {
        DatabaseReader::file(&self.path).unwrap().verify_audit().unwrap().fault
    }
}

/// A file with a few payments in it, closed; and how its chain ends.
fn filled() -> (File, KnownHead) {
    let file = File::new();
    let store = file.create();
    let world = World::new(store.clone());
    world.pay_new(1, 100, CaptureMethod::Automatic);
    world.pay_new(2, 100, CaptureMethod::Automatic);
    let end = store.audit_end().unwrap();
    store.close();
    (file, end)
}

#[test]
fn every_event_is_a_link() {
    let (file, end) = filled();
    let report = DatabaseReader::file(&file.path).unwrap().verify_audit().unwrap();
    assert_eq!((report.sound, report.fault), (end, None));
    let count = "SELECT count(*) FROM audit_events";
    let events: i64 =
        Connection::open(&file.path).unwrap().query_row(count, [], |row| row.get(0)).unwrap();
    assert!(events > 5);
    assert_eq!(i64::try_from(end.sequence), Ok(events));

    // What leads from an earlier end to a later one is hashes, and proves it.
    let store = file.open().unwrap();
    let hashes = store.audit_hashes(0, u16::MAX).unwrap();
    KnownHead::beginning(realm()).proves(&hashes, &end).unwrap();
    let more = AuditEvent::of_platform(AuditAction::HsmMemberDown, "one".into(), None, noon());
    store.record_audit(more).unwrap();
    let later = store.audit_end().unwrap();
    end.proves(&store.audit_hashes(end.sequence, 10).unwrap(), &later).unwrap();
    assert_eq!(later.sequence, end.sequence + 1);
}

/// Attack: somebody who may write into the database's file hides what was done.
#[test]
fn attack_audit_record_altered_removed_swapped_or_added() {
    type Expected = fn(u64) -> ChainFault;
    let tried: [(&str, Expected); 8] = [
        ("UPDATE audit_events SET detail = 'nothing' WHERE sequence = 3", |_| {
            ChainFault::Altered { sequence: 3 }
        }),
        ("UPDATE audit_events SET detail = '' WHERE sequence = 3", |_| ChainFault::Altered {
            sequence: 3,
        }),
        ("UPDATE audit_events SET at = at + 1 WHERE sequence = 4", |_| ChainFault::Altered {
            sequence: 4,
        }),
        ("UPDATE audit_events SET role = 'merchant' WHERE sequence = 5", |_| ChainFault::Altered {
            sequence: 5,
        }),
        ("DELETE FROM audit_events WHERE sequence = 4", |_| ChainFault::Removed { sequence: 4 }),
        (
            "DELETE FROM audit_events WHERE sequence = 4; DELETE FROM audit_links WHERE sequence = 4",
            |_| ChainFault::Removed { sequence: 4 },
        ),
        (
            "UPDATE audit_events SET sequence = -1 WHERE sequence = 3;
             UPDATE audit_events SET sequence = 3 WHERE sequence = 5;
             UPDATE audit_events SET sequence = 5 WHERE sequence = -1",
            |_| ChainFault::Swapped { sequence: 3, belongs: 5 },
        ),
        (
            "INSERT INTO audit_events (at, role, origin, request_id, action, object, result)
             VALUES (1, 'operator', 'local', '', 'card.blocked', 'card_x', 'succeeded')",
            |end| ChainFault::Added { sequence: end + 1 },
        ),
    ];
    for (statements, expected) in tried {
        let (file, end) = filled();
        assert_eq!(file.fault(), None);
        file.tamper(statements);
        assert_eq!(file.fault(), Some(expected(end.sequence)), "{statements}");
    }
    // With the event's hash, but not the links behind it.
    let (file, _) = filled();
    file.tamper(
        "UPDATE audit_events SET action = (SELECT action FROM audit_events WHERE sequence = 2),
             at = (SELECT at FROM audit_events WHERE sequence = 2),
             object = (SELECT object FROM audit_events WHERE sequence = 2),
             detail = (SELECT detail FROM audit_events WHERE sequence = 2),
             origin = (SELECT origin FROM audit_events WHERE sequence = 2),
             request_id = (SELECT request_id FROM audit_events WHERE sequence = 2),
             api_key_id = (SELECT api_key_id FROM audit_events WHERE sequence = 2)
             WHERE sequence = 3;
         UPDATE audit_links SET event_hash = (SELECT event_hash FROM audit_links WHERE sequence = 2)
             WHERE sequence = 3",
    );
    assert_eq!(file.fault(), Some(ChainFault::Rewritten { sequence: 3 }));
}

/// Attack: the last records are cut off, event and link, so that the chain is whole but shorter.
#[test]
fn attack_audit_log_cut_off_at_the_end() {
    let (file, end) = filled();
    let store = file.open().unwrap();
    let signed = SignedDocument {
        document: "head".into(),
        key: HexBytes(vec![1; 64]),
        signature: HexBytes(vec![2; 64]),
    };
    store.put_audit_head(end, signed.clone()).unwrap();
    store.put_audit_head(end, signed.clone()).unwrap();
    assert_eq!(store.newest_audit_head().unwrap(), Some(signed.clone()));
    let forged = KnownHead { hash: [9; 32], ..end };
    let forged = store.put_audit_head(forged, signed.clone());
    assert!(matches!(forged, Err(StorageError::Conflict)));
    store.close();
    let last = end.sequence;
    file.tamper(&format!(
        "PRAGMA foreign_keys = OFF; DELETE FROM audit_events WHERE sequence = {last};
         DELETE FROM audit_links WHERE sequence = {last}"
    ));
    let report = DatabaseReader::file(&file.path).unwrap().verify_audit().unwrap();
    assert_eq!((report.fault, report.sound.sequence), (None, last - 1));
    assert_eq!(report.heads, [(signed, None)], "no hash in the signed place");
}

#[test]
fn a_database_from_before_the_chain_is_taken_in_once() {
    let (file, end) = filled();
    file.tamper("DELETE FROM audit_links; PRAGMA foreign_keys = OFF");
    let without = DatabaseReader::file(&file.path).unwrap();
    assert!(without.verify_audit().is_err(), "there is no chain yet");
    drop(without);
    let store = file.open().unwrap();
    assert_eq!(store.audit_end().unwrap(), end, "the same events, the same chain");
    store.close();
    // From now on no event is taken for an old one.
    let connection = Connection::open(&file.path).unwrap();
    connection
        .execute_batch(
            "INSERT INTO audit_events (at, role, origin, request_id, action, object, result)
             VALUES (1, 'operator', 'local', '', 'card.blocked', 'card_x', 'succeeded')",
        )
        .unwrap();
    file.open().unwrap().close();
    assert_eq!(file.fault(), Some(ChainFault::Added { sequence: end.sequence + 1 }));
}

#[test]
fn the_chain_is_append_only() {
    let (file, _) = filled();
    let store = file.open().unwrap();
    let restored = Restoration::at(noon());
    assert_eq!(world::done(store.restore("a disk broke".into(), world::write())), restored);
    assert_eq!(store.audit_end().unwrap().restoration, restored);
    assert_eq!(store.last_restoration().unwrap(), Some(noon()));
    let connection = Connection::open(&file.path).unwrap();
    for statement in [
        "UPDATE audit_links SET hash = zeroblob(32)",
        "DELETE FROM audit_links",
        "INSERT INTO audit_links VALUES (900, zeroblob(32), zeroblob(32))",
    ] {
        assert!(connection.execute(statement, []).is_err(), "{statement}");
    }
}

/// Attack: who writes to the database says that the platform was restored, so that devices follow an old state or
/// refuse every later one, without the audit log telling of it.
#[test]
fn attack_restoration_written_by_hand() {
    let line = |sequence: &str, number: &str| {
        format!(
            "INSERT INTO audit_events (sequence, at, role, origin, request_id, action, object, result)
             VALUES ({sequence}, 1, 'operator', 'local', '', 'platform.restored', '{number}', 'succeeded')"
        )
    };
    let restored =
        |store: &SqliteStorage| world::done(store.restore("a disk broke".into(), world::write()));
    // A line beside the chain, and a line of it that is altered: nothing is signed any more, and the log is at fault.
    let (file, end) = filled();
    file.tamper(&line(&(end.sequence + 1).to_string(), "1790000000000"));
    let store = file.open().unwrap();
    assert!(matches!(store.audit_end(), Err(StorageError::Inconsistent(_))));
    store.close();
    let (file, end) = filled();
    let store = file.open().unwrap();
    let first = restored(&store);
    store.close();
    file.tamper("UPDATE audit_events SET object = '1' WHERE action = 'platform.restored'");
    assert_eq!(file.fault(), Some(ChainFault::Altered { sequence: end.sequence + 1 }));
    let store = file.open().unwrap();
    assert!(matches!(store.audit_end(), Err(StorageError::Inconsistent(_))));
    // What the operator says is heard all the same.
    assert_eq!(restored(&store), first);
    assert_eq!(store.audit_end().unwrap().restoration, first);
    assert_eq!(restored(&store), first.next(), "later, in the same instant too");
    store.close();

    // With a link of his own making it is an event as any: it shows, and it uses no number up.
    let (file, end) = filled();
    let store = file.open().unwrap();
    let number = Restoration::at(noon().plus_seconds(301));
    let event =
        AuditEvent::of_platform(AuditAction::PlatformRestored, number.to_string(), None, noon());
    store.record_audit(event).unwrap();
    assert_eq!(store.audit_end().unwrap().restoration, number);
    assert_eq!(restored(&store), Restoration::at(noon()));
    assert_eq!(store.audit_end().unwrap().restoration, Restoration::at(noon()));
    store.close();
    let report = DatabaseReader::file(&file.path).unwrap().verify_audit().unwrap();
    let places: Vec<_> = report.restorations.iter().map(|line| line.sequence).collect();
    let end = i64::try_from(end.sequence).unwrap();
    assert_eq!((report.fault, places), (None, vec![end + 1, end + 2]));
}

fn published(version: u64) -> PublishedConfiguration {
    PublishedConfiguration {
        audience: Audience::Terminals,
        version,
        signed: SignedDocument {
            document: format!("version {version}"),
            key: HexBytes(vec![1; 64]),
            signature: HexBytes(vec![2; 64]),
        },
    }
}

#[test]
fn a_configuration_takes_the_place_of_the_one_that_was_seen() {
    let (file, _) = filled();
    let store = file.open().unwrap();
    assert_eq!(store.configuration(Audience::Terminals).unwrap(), None);
    let [one, two] = [4, 5].map(|version| published(version).signed);
    store.publish_configuration(published(4), None, noon()).unwrap();
    for before in [None, Some(two.clone())] {
        let slower = store.publish_configuration(published(5), before, noon());
        assert!(matches!(slower, Err(StorageError::Conflict)));
    }
    store.publish_configuration(published(5), Some(one), noon()).unwrap();
    assert_eq!(store.configuration(Audience::Terminals).unwrap(), Some(two));
    let connection = Connection::open(&file.path).unwrap();
    assert!(connection.execute("DELETE FROM configurations", []).is_err());
    assert_eq!(file.fault(), None);
}
