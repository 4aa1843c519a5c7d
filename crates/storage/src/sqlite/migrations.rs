//! Whose database a file is, and the schema and its versions.

use std::path::Path;

use refinery::{Migration, Runner};
use rusqlite::{Connection, OptionalExtension};
use tapfer_payment_types::RealmId;

use super::{Result, schema};
use crate::StorageError;

/// Written into every database file, so that no other program's file is taken for ours: "tpfr".
const APPLICATION_ID: i64 = 0x7470_6672;

/// One SQL file a version. A file that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__parties", include_str!("../../migrations/V1__parties.sql")),
    ("V2__money", include_str!("../../migrations/V2__money.sql")),
    ("V3__records", include_str!("../../migrations/V3__records.sql")),
    ("V4__keys", include_str!("../../migrations/V4__keys.sql")),
    ("V5__counters", include_str!("../../migrations/V5__counters.sql")),
    ("V6__merchants", include_str!("../../migrations/V6__merchants.sql")),
    ("V7__people", include_str!("../../migrations/V7__people.sql")),
    ("V8__stores", include_str!("../../migrations/V8__stores.sql")),
    ("V9__integrity", include_str!("../../migrations/V9__integrity.sql")),
    ("V10__refused_pins", include_str!("../../migrations/V10__refused_pins.sql")),
    (
        "V11__revoked_issuer_certificates",
        include_str!("../../migrations/V11__revoked_issuer_certificates.sql"),
    ),
    ("V12__logins", include_str!("../../migrations/V12__logins.sql")),
    ("V13__keys_that_count", include_str!("../../migrations/V13__keys_that_count.sql")),
    (
        "V14__logins_are_counted_at_once",
        include_str!("../../migrations/V14__logins_are_counted_at_once.sql"),
    ),
    ("V15__audit_chain", include_str!("../../migrations/V15__audit_chain.sql")),
    ("V16__key_catalogue", include_str!("../../migrations/V16__key_catalogue.sql")),
    ("V17__restored_stores", include_str!("../../migrations/V17__restored_stores.sql")),
    (
        "V18__restorations_in_the_chain",
        include_str!("../../migrations/V18__restorations_in_the_chain.sql"),
    ),
    ("V19__catalogue_lineage", include_str!("../../migrations/V19__catalogue_lineage.sql")),
    (
        "V20__successions_stand_in_the_catalogue",
        include_str!("../../migrations/V20__successions_stand_in_the_catalogue.sql"),
    ),
    ("V21__signed_api_keys", include_str!("../../migrations/V21__signed_api_keys.sql")),
    ("V22__journal", include_str!("../../migrations/V22__journal.sql")),
    ("V23__handed_over_intents", include_str!("../../migrations/V23__handed_over_intents.sql")),
    ("V24__vouched_answers", include_str!("../../migrations/V24__vouched_answers.sql")),
    ("V25__stand_in", include_str!("../../migrations/V25__stand_in.sql")),
    ("V26__retention", include_str!("../../migrations/V26__retention.sql")),
    ("V27__believed_clocks", include_str!("../../migrations/V27__believed_clocks.sql")),
    ("V28__added_to_stop", include_str!("../../migrations/V28__added_to_stop.sql")),
];

/// The version since which API keys have signatures.
pub(super) const API_KEYS_ARE_SIGNED: i64 = 21;

/// Written when the file is made, and never changed: keys and database of a realm have one id.
const REALM: &str = "CREATE TABLE realm (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL CHECK (id GLOB 'realm_*')
) STRICT;
CREATE TRIGGER realm_stays BEFORE UPDATE ON realm
BEGIN SELECT RAISE(ABORT, 'a database stays with its realm'); END;
CREATE TRIGGER realm_remains BEFORE DELETE ON realm
BEGIN SELECT RAISE(ABORT, 'a database stays with its realm'); END;";

/// Makes an empty file the realm's, in one transaction; refuses one that holds anything of others.
pub(super) fn claim(connection: &mut Connection, path: &Path, realm: RealmId) -> Result<()> {
    if !is_empty(connection)? {
        return check_owner(connection, path, realm);
    }
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch(REALM)?;
    transaction.execute("INSERT INTO realm (one, id) VALUES (1, ?1)", [realm.to_string()])?;
    Ok(transaction.commit()?)
}

/// Refuses a file that is not a database of this program, as this program makes it. Changes nothing, and reads no row
/// before it is sure.
pub(super) fn check_made_here(connection: &Connection, path: &Path) -> Result<()> {
    if is_empty(connection)? {
        return Err(StorageError::MissingDatabase(path.display().to_string()));
    }
    if application_id(connection)? != APPLICATION_ID {
        return Err(StorageError::ForeignDatabase(path.display().to_string()));
    }
    schema::check(connection, path)
}

/// The same, and refuses one that is another realm's.
pub(super) fn check_owner(connection: &Connection, path: &Path, realm: RealmId) -> Result<()> {
    check_made_here(connection, path)?;
    let owner = "SELECT id FROM realm";
    let owner = connection.query_row(owner, [], |row| row.get::<_, String>(0)).optional()?;
    if owner.is_some_and(|owner| owner == realm.to_string()) {
        return Ok(());
    }
    Err(StorageError::OtherRealm { path: path.display().to_string(), realm })
}

fn application_id(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "application_id", |row| row.get(0))?)
}

fn is_empty(connection: &Connection) -> Result<bool> {
    let count = "SELECT count(*) FROM sqlite_schema";
    let objects: i64 = connection.query_row(count, [], |row| row.get(0))?;
    Ok(objects == 0 && application_id(connection)? == 0)
}

fn failed(error: refinery::Error) -> StorageError {
    StorageError::Migration(error.to_string())
}

fn all() -> Result<Vec<Migration>> {
    let migrations = MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql));
    migrations.collect::<std::result::Result<_, _>>().map_err(failed)
}

/// Applies what is missing.
pub(super) fn run(connection: &mut Connection) -> Result<()> {
    check_version(connection)?;
    bring_to(connection, newest()?)
}

/// An empty database of a version, in memory.
pub(super) fn of_version(version: i64) -> Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch(REALM)?;
    bring_to(&mut connection, version)?;
    Ok(connection)
}

/// Applies what is missing up to a version.
pub(super) fn bring_to(connection: &mut Connection, version: i64) -> Result<()> {
    let mut migrations = all()?;
    migrations.retain(|migration| i64::from(migration.version()) <= version);
    if migrations.is_empty() {
        return Ok(());
    }
    // All or nothing: a machine that dies half-way finds the old schema.
    Runner::new(&migrations).set_grouped(true).run(connection).map(|_| ()).map_err(failed)
}

/// The newest version that is known here.
pub(super) fn newest() -> Result<i64> {
    let versions = all()?.into_iter().map(|migration| i64::from(migration.version()));
    Ok(versions.max().unwrap_or(0))
}

/// The version of a database's schema; 0 if it has none yet.
pub(super) fn version(connection: &Connection) -> Result<i64> {
    let table = "SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
    Ok(connection.query_row(newest, [], |row| row.get(0))?)
}

/// As [`version`]; refuses a database that a newer program has changed.
pub(super) fn check_version(connection: &Connection) -> Result<i64> {
    let (known, found) = (newest()?, version(connection)?);
    if found > known {
        return Err(StorageError::NewerDatabase { found, known });
    }
    Ok(found)
}
