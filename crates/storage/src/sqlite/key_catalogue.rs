//! Which version of the catalogue of keys was used: what other programs ask of the file, and what people decide.

use std::path::Path;

use tapfer_payment_types::{CatalogueMark, RealmId};
use tapfer_payments::audit::AuditEvent;

use super::{Result, SqliteOptions, SqliteStorage, migrations, open_reader, without_links};
use crate::StorageError;
use crate::relational::Engine;
use crate::relational::key_catalogue::newest;
use crate::relational::rows::{execute, first};
use crate::relational::sql::params;

/// The newest version of the catalogue of keys that a database knows, of a realm or of its backup, whoever has it open
/// beside. `None` for one from before such a version was kept.
///
/// # Errors
/// [`StorageError::OtherRealm`]; the database cannot be read, or what it says there makes no sense.
pub fn known_catalogue(database: &Path, realm: RealmId) -> Result<Option<CatalogueMark>> {
    let connection = open_reader(&without_links(database), &SqliteOptions::default())?;
    migrations::check_owner(&connection, database, realm)?;
    let columns = "SELECT 1 FROM pragma_table_info('key_catalogue') WHERE name = 'key_hash'";
    match first(&connection, columns, params![], |_| Ok(()))? {
        None => Ok(None),
        Some(()) => newest(&connection),
    }
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
        self.write(move |connection| {
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
            connection.record(&event)?;
            Ok(true)
        })
    }
}
