//! A database that this process does not run.

use std::fmt;
use std::path::Path;

use tapfer_emv::audit_chain::KnownHead;
use tapfer_payment_types::{CatalogueMark, RealmId, Timestamp};
use tapfer_payments::access::ApiKey;

use crate::postgres::{PostgresOptions, ServerReader};
use crate::relational::retention::{self, RetentionReport};
use crate::relational::rows::{Columns, all, first};
use crate::relational::soundness::{self, Soundness};
use crate::relational::sql::{Connection, params};
use crate::relational::{Result, access, audit_chain, key_catalogue};
use crate::sqlite::FileReader;
use crate::{ChainReport, Inconsistency};

/// A realm's database, read beside the platforms that run on it, or from a backup. Changes nothing, and sees one moment of
/// it.
pub struct DatabaseReader {
    source: Source,
    realm: RealmId,
}

enum Source {
    File(FileReader),
    Server(Box<ServerReader>),
}

impl fmt::Debug for DatabaseReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseReader").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl DatabaseReader {
    /// The file of an embedded store.
    ///
    /// # Errors
    /// It is not there, or not of this program.
    pub fn file(path: &Path) -> Result<Self> {
        let (file, realm) = FileReader::open(path)?;
        Ok(Self { source: Source::File(file), realm })
    }

    /// A PostgreSQL database, for a login that may read what is asked: the platform's own, or for the audit log one in the
    /// role `tapfer_auditor`.
    ///
    /// # Errors
    /// [`crate::StorageError::Unreachable`], [`crate::StorageError::Empty`]
    pub fn server(options: &PostgresOptions) -> Result<Self> {
        let (server, realm) = ServerReader::open(options)?;
        Ok(Self { source: Source::Server(Box::new(server)), realm })
    }

    /// Whose it is.
    #[must_use]
    pub const fn realm(&self) -> RealmId {
        self.realm
    }

    /// Version of the schema.
    ///
    /// # Errors
    /// The database failed.
    pub fn schema(&self) -> Result<u32> {
        let version = match &self.source {
            Source::File(file) => file.version()?,
            Source::Server(server) => server.version()?,
        };
        Ok(u32::try_from(version).unwrap_or(0))
    }

    /// Refuses a file beside which a part of its log is missing that was acknowledged: what is read of it is not all that there was.
    ///
    /// # Errors
    /// [`crate::StorageError::DamagedLog`]
    pub fn demand_whole_log(&self) -> Result<()> {
        match &self.source {
            Source::File(file) => file.demand_whole_log(),
            Source::Server(_) => Ok(()),
        }
    }

    /// Refuses a login that may not read all that [`DatabaseReader::check`] compares.
    ///
    /// # Errors
    /// [`crate::StorageError::TooFewRights`]
    pub fn demand_rights_to_check(&self) -> Result<()> {
        match &self.source {
            Source::File(_) => Ok(()),
            Source::Server(server) => server.demand_rights_to_check(),
        }
    }

    /// Walks the whole chain of the audit log.
    ///
    /// # Errors
    /// It has none yet; the database failed.
    pub fn verify_audit(&self) -> Result<ChainReport> {
        audit_chain::last(self.connection())?;
        audit_chain::verify(self.connection())
    }

    /// Lines of the audit log that are not linked yet: no chain covers them. `None` where a line and its link are one.
    ///
    /// # Errors
    /// The database failed.
    pub fn lines_to_be_linked(&self) -> Result<Option<u64>> {
        let Source::Server(server) = &self.source else { return Ok(None) };
        let waiting = "SELECT count(*) AS number FROM audit_inbox";
        first(&**server, waiting, params![], |row| {
            Columns::keyed(row, "audit_inbox", "number").number("number")
        })
    }

    /// The API keys that nobody has taken back; of a row that makes no sense, which it is. None of a database from before
    /// they were signed.
    ///
    /// # Errors
    /// The database failed.
    pub fn api_keys(&self) -> Result<Vec<std::result::Result<ApiKey, Inconsistency>>> {
        match &self.source {
            Source::File(file) if !file.has_signed_api_keys()? => Ok(Vec::new()),
            _ => all(self.connection(), access::IN_FORCE, params![], access::read_or_name),
        }
    }

    /// The end that the chain had when it had so many events; `None` if it never had.
    ///
    /// # Errors
    /// The database failed.
    pub fn end_at(&self, sequence: u64) -> Result<Option<KnownHead>> {
        audit_chain::end_at(self.connection(), sequence)
    }

    /// The newest version of the catalogue of keys that was used. `None` also of a database from before such a version was
    /// kept.
    ///
    /// # Errors
    /// The database cannot be read, or what it says there makes no sense.
    pub fn newest_catalogue(&self) -> Result<Option<CatalogueMark>> {
        match &self.source {
            Source::File(file) if !file.has_catalogue_marks()? => Ok(None),
            _ => key_catalogue::newest(self.connection()),
        }
    }

    /// What has ended, what of it is past its limit, and what was erased.
    ///
    /// # Errors
    /// The database failed.
    pub fn retention(&self, now: Timestamp) -> Result<RetentionReport> {
        match &self.source {
            Source::File(_) => retention::report(self.connection(), now, true),
            Source::Server(_) => {
                retention::report(self.connection(), retention::clock(self.connection())?, false)
            }
        }
    }

    /// Compares everything with everything: what the engine knows of itself, then what stands in the tables. What could not be read is a
    /// fault with a name.
    #[must_use]
    pub fn check(&self) -> Soundness {
        let mut found = Soundness::default();
        let (has_rules, lines) = match &self.source {
            Source::File(file) => {
                (file.check(&mut found), "SELECT action, object FROM audit_events")
            }
            Source::Server(server) => {
                let checked = server.check(&mut found);
                found.unless_readable("pg_trigger", checked);
                // Also those that wait to be linked.
                let lines = "SELECT action, object FROM audit_events
                             UNION ALL SELECT action, object FROM audit_inbox";
                (true, lines)
            }
        };
        if has_rules {
            soundness::check(self.connection(), lines, &mut found);
        }
        found
    }

    fn connection(&self) -> &Connection {
        match &self.source {
            Source::File(file) => file.connection(),
            Source::Server(server) => &**server,
        }
    }
}
