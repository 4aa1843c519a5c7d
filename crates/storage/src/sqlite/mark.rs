//! A mark beside a database that is open: then its log has to be there too.
//!
//! What was acknowledged may stand in the write-ahead log alone, and SQLite takes one that is missing, or empty, for one
//! in which nothing stood. So whoever opens the database to take payments leaves a mark, and takes it away when all is
//! folded into the database. The order of steps, each on the disk before the next, is such that a process may die
//! between any two of them:
//!
//! | opening | closing |
//! |---|---|
//! | a transaction, so that there is a log | the log is folded into the database |
//! | the mark: that log's header | the mark is taken away |
//! | payments | SQLite deletes the log |
//!
//! Wherever there is a mark there is a log. SQLite deletes it when the last connection closes, whoever's that is, and so is told
//! not to while there is a mark ([`respect`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::Result;
use super::wal_file::{self, HEADER};
use crate::StorageError;

/// Of one who opened the database, until it closes.
#[derive(Debug)]
pub(super) struct OpenMark {
    database: PathBuf,
    /// Whether it is this one's. If not, the platform's stays as it is.
    is_own: bool,
}

impl OpenMark {
    /// Leaves a mark. `begun` comes when there is a log, and before there is a mark.
    ///
    /// # Errors
    /// The log or the mark cannot be written.
    pub(super) fn leave(
        database: &Path,
        connection: &Connection,
        begun: impl FnOnce(),
    ) -> Result<Self> {
        keep_log(connection, true)?;
        // What a process that died has left in the log, and what was made of the schema.
        fold(connection)?;
        // Nobody reads it; a page is written for it all the same.
        connection.pragma_update(None, "user_version", 0)?;
        begun();
        let header = wal_file::header_of(database);
        let written = header.and_then(|header| write(&mark_of(database), &header));
        written.map_err(|error| failed(&mark_of(database), &error))?;
        Ok(Self { database: database.to_owned(), is_own: true })
    }

    /// For whoever makes changes beside the platform, or while none runs.
    pub(super) fn of_others(database: &Path) -> Self {
        Self { database: database.to_owned(), is_own: false }
    }

    /// Before the connection closes: all is in the database, and the mark is gone; or both stay, mark and log. `folded`
    /// comes in between.
    ///
    /// # Errors
    /// The log cannot be folded, or the mark not be taken away.
    pub(super) fn take_away(&self, connection: &Connection, folded: impl FnOnce()) -> Result<()> {
        let mark = mark_of(&self.database);
        if self.is_own {
            if !fold(connection)? {
                return keep_log(connection, true);
            }
            folded();
            remove(&mark).map_err(|error| failed(&mark, &error))?;
        }
        keep_log(connection, mark.exists())
    }
}

/// Brings the database up to its log; whether all of it is there now. Who reads an older moment keeps some of it back.
pub(super) fn fold(connection: &Connection) -> Result<bool> {
    Ok(folded(connection)?.is_some())
}

/// The same, and how many frames of the log count.
fn folded(connection: &Connection) -> Result<Option<i64>> {
    let folded = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let counted: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok(counted)
    });
    let [is_busy, frames, folded] = folded?;
    Ok((is_busy == 0 && frames == folded).then_some(frames))
}

/// Has the log begin anew, and cuts off what stood in it; whether that could be done. It is never without a frame: see the module.
pub(super) fn wipe(connection: &Connection) -> Result<bool> {
    if !fold(connection)? {
        return Ok(false);
    }
    // The commit that begins a log anew cuts it to its own length.
    connection.pragma_update(None, "journal_size_limit", 0)?;
    // Nobody reads it; a page is written for it all the same.
    let written = connection.pragma_update(None, "user_version", 0);
    connection.pragma_update(None, "journal_size_limit", -1)?;
    written?;
    Ok(folded(connection)? == Some(1))
}

/// Before anything is done on a connection that writes.
///
/// # Errors
/// SQLite refuses it.
pub(super) fn respect(database: &Path, connection: &Connection) -> Result<()> {
    keep_log(connection, mark_of(database).exists())
}

/// Whether the log stays when this connection closes, though it be the last.
fn keep_log(connection: &Connection, stays: bool) -> Result<()> {
    Ok(connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays).map(drop)?)
}

/// What a mark says: the header of the log, as far as it can be read. `None`: there is no mark.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(database: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(mark_of(database)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::with_capacity(HEADER);
    let most = u64::try_from(HEADER).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Takes the mark of a database away whose log is gone, or holds nothing. It need not be there.
///
/// # Errors
/// It cannot be removed.
pub(super) fn forget(database: &Path) -> Result<()> {
    let mark = mark_of(database);
    remove(&mark).map_err(|error| failed(&mark, &error))
}

fn mark_of(database: &Path) -> PathBuf {
    let mut mark = database.as_os_str().to_owned();
    mark.push("-open");
    mark.into()
}

fn failed(mark: &Path, error: &io::Error) -> StorageError {
    let said = io::Error::new(error.kind(), format!("{}: {error}", mark.display()));
    StorageError::Database(Arc::new(said))
}

fn write(mark: &Path, header: &[u8]) -> io::Result<()> {
    let mut unfinished = mark.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(header)?;
    file.sync_all()?;
    fs::rename(&unfinished, mark)?;
    sync_directory(mark)
}

fn remove(mark: &Path) -> io::Result<()> {
    match fs::remove_file(mark) {
        Ok(()) => sync_directory(mark),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if cfg!(unix) => {
            let here = directory.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { directory })?.sync_all()
        }
        _ => Ok(()),
    }
}
