//! Which version of the catalogue of keys was used.

use std::path::Path;

use rusqlite::{Connection, params};
use tapfer_payment_types::{CatalogueMark, RealmId};
use tapfer_payments::audit::AuditEvent;

use super::rows::{Columns, execute, first};
use super::{
    Result, SqliteOptions, SqliteStorage, StorageError, audit, migrations, open_reader,
    without_links,
};

const TABLE: &str = "key_catalogue";

/// The newest version that was ever noted.
pub(super) fn newest(connection: &Connection) -> Result<Option<CatalogueMark>> {
    first(connection, "SELECT * FROM key_catalogue WHERE one = 1", [], |row| {
        let columns = Columns::keyed(row, TABLE, "version");
        Ok(CatalogueMark {
            version: columns.number("version")?,
            mac: columns.bytes("mac")?,
            key: columns.bytes("key_hash")?,
        })
    })
}

/// The newest version of the catalogue of keys that a database knows, of a realm or of its backup, whoever has it open
/// beside. `None` for one from before such a version was kept.
///
/// # Errors
/// [`StorageError::OtherRealm`]; the database cannot be read, or what it says there makes no sense.
pub fn known_catalogue(database: &Path, realm: RealmId) -> Result<Option<CatalogueMark>> {
    let connection = open_reader(&without_links(database), &SqliteOptions::default())?;
    migrations::check_owner(&connection, database, realm)?;
    let columns = "SELECT 1 FROM pragma_table_info('key_catalogue') WHERE name = 'key_hash'";
    match first(&connection, columns, [], |_| Ok(()))? {
        None => Ok(None),
        Some(()) => newest(&connection),
    }
}

/// Puts `newer` in the place of `known`. Whether that was still the newest.
pub(super) fn note(
    connection: &Connection,
    known: Option<CatalogueMark>,
    newer: CatalogueMark,
) -> Result<bool> {
    let found = newest(connection)?;
    if found != known {
        return Ok(false);
    }
    if found != Some(newer) {
        let version = i64::try_from(newer.version).unwrap_or(i64::MAX);
        let note = "INSERT INTO key_catalogue (one, version, mac, key_hash) VALUES (1, ?1, ?2, ?3) \
                    ON CONFLICT (one) DO UPDATE SET version = ?1, mac = ?2, key_hash = ?3";
        execute(connection, note, params![version, newer.mac.as_slice(), newer.key.as_slice()])?;
    }
    Ok(true)
}

impl SqliteStorage {
    /// Knows `accepted` in the place of `known`, also if it is older or does not come from it: people have decided so,
    /// and `event` says it. `None`: what is known there makes no sense. Whether that was still so; if not, nothing was
    /// done.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn accept_catalogue(
        &self,
        known: Option<CatalogueMark>,
        accepted: CatalogueMark,
        event: AuditEvent,
    ) -> Result<bool> {
        self.writer.run(move |connection| {
            let is_known = match newest(connection) {
                Ok(found) => found.is_some() && found == known,
                Err(StorageError::Inconsistent(_)) => known.is_none(),
                Err(error) => return Err(error),
            };
            if !is_known {
                return Ok(false);
            }
            // A row that is replaced is neither updated nor deleted, which the table refuses.
            let accept = "INSERT OR REPLACE INTO key_catalogue (one, version, mac, key_hash) \
                          VALUES (1, ?1, ?2, ?3)";
            let version = i64::try_from(accepted.version).unwrap_or(i64::MAX);
            let (mac, key) = (accepted.mac.as_slice(), accepted.key.as_slice());
            execute(connection, accept, params![version, mac, key])?;
            audit::insert(connection, &event)?;
            Ok(true)
        })
    }
}
