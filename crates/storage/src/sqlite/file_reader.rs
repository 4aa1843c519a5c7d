//! The file of a store that this process does not run.

use std::path::Path;

use rusqlite::Connection;
use tapfer_payment_types::RealmId;

use super::{Result, SqliteOptions, migrations, open_reader, without_links};
use crate::StorageError;
use crate::relational::realm;
use crate::relational::rows::first;
use crate::relational::sql::{self, params};

/// Reads one moment of a file.
pub(crate) struct FileReader(Connection);

impl FileReader {
    /// # Errors
    /// It is not there, or not of this program.
    pub(crate) fn open(path: &Path) -> Result<(Self, RealmId)> {
        if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
            return Err(StorageError::MissingDatabase(path.display().to_string()));
        }
        let path = &without_links(path);
        let connection = open_reader(path, &SqliteOptions::default())?;
        connection.execute_batch("BEGIN")?;
        migrations::check_made_here(&connection, path)?;
        let realm = realm::realm(&connection)?;
        Ok((Self(connection), realm))
    }

    pub(crate) fn connection(&self) -> &sql::Connection {
        &self.0
    }

    /// The version of the schema.
    pub(crate) fn version(&self) -> Result<i64> {
        migrations::version(&self.0)
    }

    /// Whether it is not older than signatures of API keys.
    pub(crate) fn has_signed_api_keys(&self) -> Result<bool> {
        Ok(self.version()? >= migrations::API_KEYS_ARE_SIGNED)
    }

    /// Whether it is not older than marks of the catalogue of keys.
    pub(crate) fn has_catalogue_marks(&self) -> Result<bool> {
        let columns = "SELECT 1 FROM pragma_table_info('key_catalogue') WHERE name = 'key_hash'";
        Ok(first(&self.0, columns, params![], |_| Ok(()))?.is_some())
    }
}
