//! The embedded store: one SQLite file in write-ahead mode.
//!
//! One thread owns the only connection that writes. Every change is a savepoint of its own in an IMMEDIATE
//! transaction, which it shares with those that waited at the same moment, and is synced to the disk before its
//! caller hears of it. Payments are decided against memory ([`crate::hot`]) and kept as entries of a journal, a table of
//! this file, from which the other tables are written when nothing waits, and before anything else looks at them.
//! Readers have connections of their own that cannot write, and see one snapshot for each call.

mod ahead;
mod backup;
mod claims;
mod desk;
mod file_reader;
mod journal;
mod lots;
mod mark;
mod migrations;
mod readers;
mod retention;
mod schema;
#[doc(hidden)]
pub mod simulated;
mod sql;
mod touched;
mod wal_file;
mod writer;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tapfer_payment_types::{CatalogueMark, RealmId};

use crate::faults::{Moment, NoFaults, SharedFaults};
use crate::idempotency::RunningRequests;
use crate::relational::lookup::Seen;
use crate::relational::rows::first;
use crate::relational::sql::params;
use crate::relational::{Engine, Result, audit_chain, of_each};
use crate::{CatalogueStore as _, Load, Sharing, Storage, StorageError};
pub use backup::{back_up, check};
use desk::{Desk, Shared};
pub(crate) use file_reader::FileReader;
use mark::OpenMark;
use readers::Readers;
pub use wal_file::{CutLog, WalEnd, WalFault, cut_log, examine as examine_log};
use writer::Writer;

/// How the store uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How many changes may wait for the disk; one more is [`StorageError::Busy`].
    pub queue_length: usize,
    /// How many reads run at the same time.
    pub read_connections: usize,
    /// How long to wait for another process that holds the file (a backup, a second program).
    pub busy_timeout: Duration,
    /// How many tokens, cards, intents and so on are kept in memory: so many of each that were used last, or twice as
    /// many. A token, its card and phone take about 2 kB.
    pub kept_of_each: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            queue_length: 1_024,
            read_connections: 4,
            busy_timeout: Duration::from_secs(5),
            kept_of_each: 100_000,
        }
    }
}

/// The store in one file.
#[derive(Debug)]
pub struct SqliteStorage {
    writer: Writer,
    readers: Readers,
    shared: Shared,
    running: RunningRequests,
    /// Held by whoever forgets old answers.
    forgetting: Mutex<()>,
}

/// More than there are different statements, so that each is compiled once for each connection.
const STATEMENT_CACHE: usize = 128;

impl SqliteStorage {
    /// Makes the database of a realm, and opens it. One that was begun and belongs to the realm is
    /// finished, so that a start that was torn off can be repeated.
    ///
    /// # Errors
    /// As [`SqliteStorage::open`].
    pub fn create(path: &Path, realm: RealmId, options: &SqliteOptions) -> Result<Self> {
        create_private(path);
        let path = &without_links(path);
        let log = wal_file::demand_sound(path)?;
        let made = || {
            let mut connection = connect(path, options, OpenFlags::SQLITE_OPEN_CREATE)?;
            migrations::claim(&mut connection, path, realm)?;
            Self::start(connection, path, options, Arc::new(NoFaults), Some(log))
        };
        made().map_err(|error: StorageError| error.of_file(path))
    }

    /// Opens the database of a realm and brings it to the current schema. Never makes one: a realm that
    /// lost its database must not go on as if nothing had ever been paid.
    ///
    /// # Errors
    /// [`StorageError::MissingDatabase`], [`StorageError::OtherRealm`],
    /// [`StorageError::NewerDatabase`], [`StorageError::ForeignDatabase`], [`StorageError::ChangedSchema`],
    /// [`StorageError::Migration`], [`StorageError::DamagedLog`], or the file cannot be opened or written.
    pub fn open(path: &Path, realm: RealmId, options: &SqliteOptions) -> Result<Self> {
        Self::open_with_faults(path, realm, options, Arc::new(NoFaults))
    }

    /// Opens it for somebody who notes something beside the platform, which may run: the audit log, the catalogue of keys.
    /// What the journal has in front of the tables is left to the platform, so nothing is read here that payments
    /// change, and no payment is taken.
    ///
    /// # Errors
    /// As [`SqliteStorage::open`].
    pub fn open_beside(path: &Path, realm: RealmId, options: &SqliteOptions) -> Result<Self> {
        let (connection, path, _) = connect_owned(path, realm, options)?;
        Self::start(connection, &path, options, Arc::new(NoFaults), None)
            .map_err(|error| error.of_file(&path))
    }

    /// As [`SqliteStorage::open`], for a simulation.
    ///
    /// # Errors
    /// As there.
    pub fn open_with_faults(
        path: &Path,
        realm: RealmId,
        options: &SqliteOptions,
        faults: SharedFaults,
    ) -> Result<Self> {
        let (connection, path, log) = connect_owned(path, realm, options)?;
        Self::start(connection, &path, options, faults, Some(log))
            .map_err(|error| error.of_file(&path))
    }

    /// `log` is what was found of it by who is to take payments; whoever is beside him leaves it alone.
    fn start(
        mut connection: Connection,
        path: &Path,
        options: &SqliteOptions,
        faults: SharedFaults,
        log: Option<WalEnd>,
    ) -> Result<Self> {
        if log.is_some_and(|log| log.frames == 0) {
            // Nothing stands in it, so SQLite may begin another one.
            mark::forget(path)?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged change is on the disk, not in the operating system's cache.
        connection.pragma_update(None, "synchronous", "FULL")?;
        retention::overwrite_deleted(&connection)?;
        migrations::run(&mut connection)?;
        let transaction = connection.transaction()?;
        audit_chain::begin(&*transaction)?;
        transaction.commit()?;
        if log.is_some()
            && let Err(error) = retention::rewrite(&connection, path)
        {
            tracing::warn!(target: "tapfer::storage", %error, "the database was not written anew behind what was erased; at the next start it is tried again");
        }
        connection.pragma_update(None, "foreign_keys", true)?;
        let readers = (0..options.read_connections.max(1))
            .map(|_| open_reader(path, options))
            .collect::<Result<Vec<_>>>()?;
        let shared = Shared::new(options.kept_of_each);
        let desk = if log.is_some() {
            let desk = Desk::new(connection, shared.clone())?;
            let begun = || {
                faults.at(Moment::LogBegun);
            };
            let mark = OpenMark::leave(path, desk.connection(), begun)?;
            faults.at(Moment::Marked);
            desk.marked(mark)
        } else {
            Desk::beside(connection, shared.clone())?.marked(OpenMark::of_others(path))
        };
        Ok(Self {
            writer: Writer::start(desk, options.queue_length, faults)?,
            readers: Readers::new(readers),
            shared,
            running: RunningRequests::default(),
            forgetting: Mutex::default(),
        })
    }

    /// Compares what is kept in memory with the tables.
    ///
    /// # Errors
    /// [`StorageError::Inconsistent`] names the first thing that differs: a defect.
    pub fn check_memory(&self) -> Result<()> {
        let hot = Arc::clone(&self.shared.hot);
        self.writer.run(move |connection| {
            hot.read().unwrap_or_else(PoisonError::into_inner).compare(&Seen(connection))
        })
    }
}

/// Makes a file that only its owner may read; SQLite gives its log the same rights. A file that is
/// there keeps the rights it has, and if none can be made SQLite says why when it opens it.
fn create_private(path: &Path) {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

/// The path with the links in its directories followed, but not that of the file itself: SQLite is told
/// to follow none, lest a link that somebody planted makes it write elsewhere.
fn without_links(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        // Then SQLite says what is wrong when it opens it.
        _ => path.to_owned(),
    }
}

/// Connects to the database of a realm. With what was found of its log.
fn connect_owned(
    path: &Path,
    realm: RealmId,
    options: &SqliteOptions,
) -> Result<(Connection, PathBuf, WalEnd)> {
    // Looked at first: SQLite would throw away the log that may lie beside an empty file.
    if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
        return Err(StorageError::MissingDatabase(path.display().to_string()));
    }
    let path = without_links(path);
    let log = wal_file::demand_sound(&path)?;
    let opened = || {
        let connection = connect(&path, options, OpenFlags::empty())?;
        migrations::check_owner(&connection, &path, realm)?;
        Ok(connection)
    };
    let connection = opened().map_err(|error: StorageError| error.of_file(&path))?;
    Ok((connection, path, log))
}

fn connect(path: &Path, options: &SqliteOptions, more: OpenFlags) -> Result<Connection> {
    let connection = open_file(path, options, OpenFlags::SQLITE_OPEN_READ_WRITE | more)?;
    mark::respect(path, &connection)?;
    Ok(connection)
}

fn open_reader(path: &Path, options: &SqliteOptions) -> Result<Connection> {
    open_file(path, options, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open_file(path: &Path, options: &SqliteOptions, flags: OpenFlags) -> Result<Connection> {
    let always = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags | always)?;
    connection.busy_timeout(options.busy_timeout)?;
    // What stands in the schema calls no function that could do more than compute.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

impl Sharing for SqliteStorage {
    fn note_catalogue_with_copy(
        &self,
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        _copy: Vec<u8>,
    ) -> Result<bool> {
        self.note_catalogue(known, newer)
    }
}

impl Storage for SqliteStorage {
    fn check(&self) -> Result<()> {
        // Asks nothing of the thread that writes but whether it lives: anybody may ask this, as often as he likes.
        self.read_apart(|connection| first(connection, "SELECT 1", params![], |_| Ok(())))?;
        self.writer.check()?;
        self.shared.check()
    }

    fn load(&self) -> Load {
        Load {
            waiting_changes: self.writer.waiting(),
            commits: self.writer.commits(),
            payments_ahead: self.shared.ahead.payments(),
            audit_waits: 0,
        }
    }

    fn close(&self) {
        // Readers first: the writer, being the last, can then fold its log into the database.
        self.readers.close();
        self.writer.close();
    }
}

impl Drop for SqliteStorage {
    fn drop(&mut self) {
        self.close();
    }
}
