//! The file of a store that this process does not run.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tapfer_payment_types::RealmId;

use super::journal::Journal;
use super::wal_file::Examined;
use super::{Result, SqliteOptions, migrations, open_reader, wal_file, without_links};
use crate::StorageError;
use crate::relational::realm;
use crate::relational::rows::first;
use crate::relational::soundness::{CUT_LOG, Soundness, Unsound, number};
use crate::relational::sql::{self, params};

/// Reads one moment of a file.
pub(crate) struct FileReader {
    connection: Connection,
    path: PathBuf,
    /// The log as it was before the file was opened, which may make one.
    log: io::Result<Option<Examined>>,
}

impl FileReader {
    /// # Errors
    /// It is not there, or not of this program.
    pub(crate) fn open(path: &Path) -> Result<(Self, RealmId)> {
        if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
            return Err(StorageError::MissingDatabase(path.display().to_string()));
        }
        let path = &without_links(path);
        let log = wal_file::examine_beside(path);
        let opened = || {
            let connection = open_reader(path, &SqliteOptions::default())?;
            connection.execute_batch("BEGIN")?;
            migrations::check_made_here(&connection, path)?;
            let realm = realm::realm(&connection)?;
            Ok((connection, realm))
        };
        let (connection, realm) = opened().map_err(|error: StorageError| error.of_file(path))?;
        Ok((Self { connection, path: path.clone(), log }, realm))
    }

    pub(crate) fn connection(&self) -> &sql::Connection {
        &self.connection
    }

    /// The version of the schema.
    pub(crate) fn version(&self) -> Result<i64> {
        migrations::version(&self.connection)
    }

    /// Whether it is not older than signatures of API keys.
    pub(crate) fn has_signed_api_keys(&self) -> Result<bool> {
        Ok(self.version()? >= migrations::API_KEYS_ARE_SIGNED)
    }

    /// Whether it is not older than marks of the catalogue of keys.
    pub(crate) fn has_catalogue_marks(&self) -> Result<bool> {
        let columns = "SELECT 1 FROM pragma_table_info('key_catalogue') WHERE name = 'key_hash'";
        Ok(first(&self.connection, columns, params![], |_| Ok(()))?.is_some())
    }

    /// Refuses to go on where a part of the log is missing that was acknowledged.
    ///
    /// # Errors
    /// [`StorageError::DamagedLog`]
    pub(crate) fn demand_whole_log(&self) -> Result<()> {
        match &self.log {
            Ok(Some(Err(fault))) => Err(StorageError::DamagedLog {
                path: wal_file::log_of(&self.path).display().to_string(),
                fault: *fault,
            }),
            _ => Ok(()),
        }
    }

    /// What only this engine can be asked: its files and pages, and the journal. Whether the tables are those of this
    /// program, so that their rows can be compared.
    pub(crate) fn check(&self, found: &mut Soundness) -> bool {
        self.check_log(found);
        let pages = self.check_pages(found);
        found.unless_readable(&self.path.display().to_string(), pages);
        let (version, known) = (self.version(), migrations::newest());
        let version = found.unless_readable("refinery_schema_history", version).unwrap_or(0);
        // One of an older version is sound as far as SQLite goes; whoever opens it brings it forward.
        let is_newest = known.is_ok_and(|known| known == version);
        if is_newest {
            let journal = found.unless_readable("journal", Journal::read(&self.connection));
            let ahead = journal.map_or(0, |journal| journal.ahead.len());
            found.checked("entries of the journal with their hashes", as_count(ahead));
        }
        is_newest
    }

    fn check_log(&self, found: &mut Soundness) {
        let log = wal_file::log_of(&self.path).display().to_string();
        match &self.log {
            Ok(Some(Ok(end))) => {
                found.checked("frames of the log with their checksums", end.frames);
                if end.dropped_bytes > 0 {
                    found.remarks.push(format!(
                        "{log} ends with a transaction that was not finished ({} frames, {} bytes): nobody was told of it, and it is \
                         left out. If this machine lost no power and no process was killed, look at the disk",
                        end.dropped_frames, end.dropped_bytes
                    ));
                }
            }
            Ok(Some(Err(fault))) => found.faults.push(Unsound {
                place: log,
                row: String::new(),
                what: fault.to_string(),
                to_do: CUT_LOG,
            }),
            Ok(None) => {}
            Err(error) => found.fault(&log, "", error),
        }
    }

    /// What SQLite itself knows to be wrong with pages, indices, types and references between tables.
    fn check_pages(&self, found: &mut Soundness) -> Result<()> {
        let pages = number(&self.connection, "SELECT page_count AS number FROM pragma_page_count")?;
        found.checked("pages with their rows, types and indices", pages);
        let mut said = self.connection.prepare("PRAGMA integrity_check(5)")?;
        for line in said.query_map([], |row| row.get::<_, String>(0))? {
            let line = line?;
            if line != "ok" {
                found.fault(&self.path.display().to_string(), "", line);
            }
        }
        let mut loose = self.connection.prepare("PRAGMA foreign_key_check")?;
        let loose = loose.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, String>(2)?))
        })?;
        for row in loose.take(5) {
            let (table, row, parent) = row?;
            let row = row.map(|row| format!("row {row}")).unwrap_or_default();
            found.fault(&table, row, format!("it refers to nothing in {parent}"));
        }
        Ok(())
    }
}

fn as_count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
