//! Which version of the catalogue of keys was used.

use rusqlite::Connection;

use super::Result;

/// The highest version that was ever noted.
pub(super) fn highest(connection: &Connection) -> Result<u64> {
    let version: i64 =
        connection.query_row("SELECT version FROM key_catalogue", [], |row| row.get(0))?;
    Ok(u64::try_from(version).unwrap_or(0))
}

/// Takes note of a version. Another caller may have noted a higher one meanwhile, which stays.
pub(super) fn note(connection: &Connection, version: u64) -> Result<u64> {
    let column = i64::try_from(version).unwrap_or(i64::MAX);
    let higher = "UPDATE key_catalogue SET version = ?1 WHERE version < ?1";
    connection.execute(higher, [column])?;
    highest(connection)
}
