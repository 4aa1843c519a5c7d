//! The audit log of a file that this process does not run.

use std::path::Path;

use rusqlite::Connection;
use tapfer_emv::audit_chain::KnownHead;
use tapfer_payment_types::RealmId;
use tapfer_payments::access::ApiKey;

use super::{Result, SqliteOptions, migrations, open_reader, without_links};
use crate::relational::rows::all;
use crate::relational::sql::params;
use crate::relational::{access, audit_chain, realm};
use crate::{ChainReport, Inconsistency, StorageError};

/// The audit log of a database that this process does not run: read only, beside the platform or of a backup.
#[derive(Debug)]
pub struct AuditFile {
    connection: Connection,
    realm: RealmId,
}

impl AuditFile {
    /// Opens a database for reading.
    ///
    /// # Errors
    /// It is not there, not of this program, or has no chain yet.
    pub fn open(path: &Path) -> Result<Self> {
        if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
            return Err(StorageError::MissingDatabase(path.display().to_string()));
        }
        let path = &without_links(path);
        let connection = open_reader(path, &SqliteOptions::default())?;
        migrations::check_made_here(&connection, path)?;
        let realm = realm::realm(&connection)?;
        audit_chain::last(&connection)?;
        Ok(Self { connection, realm })
    }

    /// Whose log it is.
    #[must_use]
    pub const fn realm(&self) -> RealmId {
        self.realm
    }

    /// Walks the whole chain.
    ///
    /// # Errors
    /// The database failed.
    pub fn verify(&mut self) -> Result<ChainReport> {
        let transaction = self.connection.transaction()?;
        audit_chain::verify(&*transaction)
    }

    /// The API keys that nobody has taken back; of a row that makes no sense, which it is. None of a database from before
    /// they were signed.
    ///
    /// # Errors
    /// The database failed.
    pub fn api_keys(&self) -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>> {
        if migrations::version(&self.connection)? < migrations::API_KEYS_ARE_SIGNED {
            return Ok(Vec::new());
        }
        all(&self.connection, access::IN_FORCE, params![], access::read_or_name)
    }

    /// The end that the chain had when it had so many events; `None` if it never had.
    ///
    /// # Errors
    /// The database failed.
    pub fn end_at(&self, sequence: u64) -> Result<Option<KnownHead>> {
        audit_chain::end_at(&self.connection, sequence)
    }
}
