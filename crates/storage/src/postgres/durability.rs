//! Whether what the server acknowledges is kept.

use crate::StorageError;
use crate::relational::Result;
use crate::relational::rows::{Columns, all};
use crate::relational::sql::{Connection, Row, params};

const SETTINGS: &str = "SELECT name AS id, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_standby_names') ORDER BY name";

/// Refuses a server that writes nothing through to its disk, and says whether standbys confirm what it acknowledges: a single
/// server may be what was meant.
///
/// # Errors
/// [`StorageError::Forgetful`]
pub(super) fn check(connection: &Connection) -> Result<()> {
    let read = |row: &Row<'_>| {
        let columns = Columns::new(row, "pg_settings");
        Ok((columns.get::<String>("id")?, columns.get::<String>("setting")?))
    };
    for (name, setting) in all(connection, SETTINGS, params![], read)? {
        if name == "synchronous_standby_names" {
            match &*setting {
                "" => tracing::warn!(
                    "no standby confirms what the database acknowledges: it is on one machine"
                ),
                standbys => {
                    tracing::info!(standbys, "standbys confirm what the database acknowledges")
                }
            }
        } else if setting == "off" {
            return Err(StorageError::Forgetful(name));
        }
    }
    Ok(())
}
