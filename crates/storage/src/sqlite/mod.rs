//! The embedded store: one SQLite file in write-ahead mode.
//!
//! One thread owns the only connection that writes. Every change is a savepoint of its own in an IMMEDIATE
//! transaction, which it shares with those that waited at the same moment, and is synced to the disk before its
//! caller hears of it. Readers have connections of their own that
//! cannot write, and see one snapshot for each call.

mod access;
mod audit;
mod audit_chain;
mod authorizations;
mod backup;
mod cards;
mod configurations;
mod devices;
mod idempotency;
mod integrity;
mod intents;
mod issuers;
mod key_catalogue;
mod key_uses;
mod ledger;
mod merchants;
mod migrations;
mod pins;
mod policies;
mod readers;
mod refunds;
mod reversals;
mod revocations;
mod rows;
mod schema;
mod terminal_certificates;
mod terminals;
mod tokens;
mod writer;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tapfer_payment_types::{CatalogueMark, RealmId, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult, Caller};

pub use self::audit_chain::AuditFile;
use crate::idempotency::RunningRequests;
use crate::{Load, Storage, StorageError, Write, Written};
pub use backup::{back_up, check};
pub use key_catalogue::known_catalogue;
pub use key_uses::KeyUse;
use readers::Readers;
use writer::Writer;

type Result<T> = std::result::Result<T, StorageError>;

/// How the store uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// How many changes may wait for the disk; one more is [`StorageError::Busy`].
    pub queue_length: usize,
    /// How many reads run at the same time.
    pub read_connections: usize,
    /// How long to wait for another process that holds the file (a backup, a second program).
    pub busy_timeout: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { queue_length: 1_024, read_connections: 4, busy_timeout: Duration::from_secs(5) }
    }
}

/// The store in one file.
#[derive(Debug)]
pub struct SqliteStorage {
    writer: Writer,
    readers: Readers,
    running: RunningRequests,
}

/// More than there are different statements, so that each is compiled once for each connection.
const STATEMENT_CACHE: usize = 128;

/// What a change resulted in, and what the audit log says about it.
struct Changed<T> {
    value: T,
    object: String,
    detail: Option<String>,
}

impl<T> Changed<T> {
    fn new(value: T, object: impl ToString) -> Self {
        Self { value, object: object.to_string(), detail: None }
    }

    fn because(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

impl SqliteStorage {
    /// Makes the database of a realm, and opens it. One that was begun and belongs to the realm is
    /// finished, so that a start that was torn off can be repeated.
    ///
    /// # Errors
    /// As [`SqliteStorage::open`].
    pub fn create(path: &Path, realm: RealmId, options: &SqliteOptions) -> Result<Self> {
        create_private(path);
        let path = &without_links(path);
        let mut connection = connect(path, options, OpenFlags::SQLITE_OPEN_CREATE)?;
        migrations::claim(&mut connection, path, realm)?;
        Self::start(connection, path, options)
    }

    /// Opens the database of a realm and brings it to the current schema. Never makes one: a realm that
    /// lost its database must not go on as if nothing had ever been paid.
    ///
    /// # Errors
    /// [`StorageError::MissingDatabase`], [`StorageError::OtherRealm`],
    /// [`StorageError::NewerDatabase`], [`StorageError::ForeignDatabase`], [`StorageError::ChangedSchema`],
    /// [`StorageError::Migration`], or the file cannot be opened or written.
    pub fn open(path: &Path, realm: RealmId, options: &SqliteOptions) -> Result<Self> {
        // Looked at first: SQLite would throw away the log that may lie beside an empty file.
        if std::fs::metadata(path).map_or(true, |found| found.len() == 0) {
            return Err(StorageError::MissingDatabase(path.display().to_string()));
        }
        let path = &without_links(path);
        let connection = connect(path, options, OpenFlags::empty())?;
        migrations::check_owner(&connection, path, realm)?;
        Self::start(connection, path, options)
    }

    fn start(mut connection: Connection, path: &Path, options: &SqliteOptions) -> Result<Self> {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // An acknowledged change is on the disk, not in the operating system's cache.
        connection.pragma_update(None, "synchronous", "FULL")?;
        migrations::run(&mut connection)?;
        audit_chain::begin(&mut connection)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let readers = (0..options.read_connections.max(1))
            .map(|_| open_reader(path, options))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            writer: Writer::start(connection, options.queue_length)?,
            readers: Readers::new(readers),
            running: RunningRequests::default(),
        })
    }

    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.snapshot(job)
    }

    /// Reads for each of many questions, in one snapshot.
    fn read_all<Q, T>(
        &self,
        questions: Vec<Q>,
        read: impl Fn(&Connection, Q) -> Result<T>,
    ) -> Vec<Result<T>> {
        let count = questions.len();
        let all = |connection: &Connection| {
            Ok(questions.into_iter().map(|question| read(connection, question)).collect())
        };
        self.read(all).unwrap_or_else(|error| of_each(count, &error))
    }

    /// One change: the replay of an earlier answer, or the change with its audit line and answer.
    fn change<T: Send + 'static>(
        &self,
        write: Write<T>,
        action: AuditAction,
        job: impl FnOnce(&Connection, Timestamp) -> Result<Changed<T>> + Send + 'static,
    ) -> Result<Written<T>> {
        self.writer.run(move |connection| change(connection, write, action, job))
    }

    /// Many of one kind in one transaction, each for itself.
    fn change_all<W: Send + 'static, T: Send + 'static>(
        &self,
        wanted: Vec<(W, Write<T>)>,
        action: AuditAction,
        job: fn(&Connection, W, Caller, Timestamp) -> Result<Changed<T>>,
    ) -> Vec<Result<Written<T>>> {
        let jobs = wanted.into_iter().map(|(wanted, write)| {
            move |connection: &Connection| {
                let caller = write.caller.clone();
                change(connection, write, action, |connection, now| {
                    job(connection, wanted, caller, now)
                })
            }
        });
        self.writer.run_all(jobs.collect())
    }

    /// No changes, but things that are answered once more: the answers are kept for these claims too.
    fn answer_again<I: Send + 'static, T: Send + 'static>(
        &self,
        wanted: Vec<(I, Write<T>)>,
        load: fn(&Connection, I) -> Result<T>,
    ) -> Vec<Result<Written<T>>> {
        let jobs = wanted.into_iter().map(|(id, write)| {
            move |connection: &Connection| {
                let Write { claim, answer, now, .. } = write;
                let Some(claim) = claim else {
                    return Ok(Written::Replayed(answer.to(&load(connection, id)?)));
                };
                if let Some(stored) = idempotency::stored_answer(connection, &claim)? {
                    return Ok(Written::Replayed(stored));
                }
                let response = answer.to(&load(connection, id)?);
                idempotency::insert(connection, &claim, &response, now)?;
                Ok(Written::Replayed(response))
            }
        });
        self.writer.run_all(jobs.collect())
    }
}

/// One error for all that were asked together.
fn of_each<T>(count: usize, error: &StorageError) -> Vec<Result<T>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

/// The replay of an earlier answer, or a change with its audit line and answer.
fn change<T>(
    connection: &Connection,
    write: Write<T>,
    action: AuditAction,
    job: impl FnOnce(&Connection, Timestamp) -> Result<Changed<T>>,
) -> Result<Written<T>> {
    let Write { caller, claim, answer, now } = write;
    if let Some(claim) = &claim
        && let Some(stored) = idempotency::stored_answer(connection, claim)?
    {
        return Ok(Written::Replayed(stored));
    }
    let Changed { value, object, detail } = job(connection, now)?;
    let result = AuditResult::Succeeded;
    audit::insert(connection, &AuditEvent { at: now, caller, action, object, result, detail })?;
    let response = answer.to(&value);
    if let Some(claim) = &claim {
        idempotency::insert(connection, claim, &response, now)?;
    }
    Ok(Written::Done { value, response })
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

fn connect(path: &Path, options: &SqliteOptions, more: OpenFlags) -> Result<Connection> {
    open_file(path, options, OpenFlags::SQLITE_OPEN_READ_WRITE | more)
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

impl Storage for SqliteStorage {
    fn check(&self) -> Result<()> {
        self.read(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?))?;
        self.writer.run(|_| Ok(()))
    }

    fn newest_catalogue(&self) -> Result<Option<CatalogueMark>> {
        self.read(key_catalogue::newest)
    }

    fn note_catalogue(&self, known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool> {
        if known == Some(newer) {
            return Ok(true);
        }
        self.writer.run(move |connection| key_catalogue::note(connection, known, newer))
    }

    fn load(&self) -> Load {
        Load { waiting_changes: self.writer.waiting(), commits: self.writer.commits() }
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
