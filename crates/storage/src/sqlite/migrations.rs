//! The schema and its versions.

use std::path::Path;

use refinery::{Migration, Runner};
use rusqlite::{Connection, OptionalExtension};

use super::Result;
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
];

/// Makes an empty file ours; refuses one that holds anything of others.
pub(super) fn claim(connection: &Connection, path: &Path) -> Result<()> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if id == APPLICATION_ID {
        return Ok(());
    }
    let count = "SELECT count(*) FROM sqlite_schema";
    let objects: i64 = connection.query_row(count, [], |row| row.get(0))?;
    if id != 0 || objects != 0 {
        return Err(StorageError::ForeignDatabase(path.display().to_string()));
    }
    Ok(connection.pragma_update(None, "application_id", APPLICATION_ID)?)
}

/// Applies what is missing.
pub(super) fn run(connection: &mut Connection) -> Result<()> {
    let failed = |error: refinery::Error| StorageError::Migration(error.to_string());
    let migrations = MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(failed)?;
    let known = migrations.iter().map(|migration| i64::from(migration.version())).max();
    refuse_newer(connection, known.unwrap_or(0))?;
    // All or nothing: a machine that dies half-way finds the old schema.
    Runner::new(&migrations).set_grouped(true).run(connection).map(|_| ()).map_err(failed)
}

fn refuse_newer(connection: &Connection, known: i64) -> Result<()> {
    let table = "SELECT 1 FROM sqlite_schema WHERE name = 'refinery_schema_history'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(());
    }
    let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
    let found: i64 = connection.query_row(newest, [], |row| row.get(0))?;
    if found > known {
        return Err(StorageError::NewerDatabase { found, known });
    }
    Ok(())
}
