//! The store of many platforms: one PostgreSQL database, its primary.
//!
//! Every change is one transaction on a connection of its own, which locks what it rests on before it reads it (READ
//! COMMITTED, [`crate::relational::sql::Guard`]): a card's payments are decided one after another, on whichever node they
//! arrive, and others do not wait. Reads see one snapshot. Nothing is ever read from a standby. ADR 21 says why.

mod chain;
mod claims;
mod errors;
mod lots;
mod migrations;
mod options;
mod pool;
mod rights;
mod session;
mod sql;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tapfer_payment_types::{CatalogueMark, RealmId};

use self::chain::Linker;
use self::claims::Claims;
use self::pool::{Lent, Pool};
use self::session::{CHANGE, SNAPSHOT, Session};
use crate::relational::key_catalogue as noted;
use crate::relational::known_keys::KnownKeys;
use crate::relational::rows::first;
use crate::relational::sql::{Connection, params};
use crate::relational::{Engine, Result, of_each};
use crate::{Load, Storage, StorageError};
pub use migrations::{make, migrate};
pub use options::{PostgresOptions, PostgresOptionsError};

/// The store in a PostgreSQL database, which other platforms of the realm may use at the same time.
pub struct PostgresStorage {
    pool: Arc<Pool>,
    claims: Claims,
    linker: Linker,
    waiting: AtomicUsize,
    commits: AtomicU64,
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage").field("load", &self.load()).finish_non_exhaustive()
    }
}

impl PostgresStorage {
    /// Opens the database of a realm, which its owner has made and brought to this schema ([`make`], [`migrate`]).
    ///
    /// # Errors
    /// [`StorageError::Unreachable`], [`StorageError::Empty`], [`StorageError::OtherRealm`],
    /// [`StorageError::OlderDatabase`], [`StorageError::TooManyRights`]
    pub fn open(options: &PostgresOptions, realm: RealmId) -> Result<Self> {
        let pool = Arc::new(Pool::new(options.clone()));
        let session = pool.begin(SNAPSHOT)?;
        migrations::check(&session, options, realm)?;
        rights::check(&*session)?;
        session.end()?;
        drop(session);
        let claims = Claims::start(Arc::clone(&pool))?;
        let linker = Linker::start(Arc::clone(&pool))?;
        let (waiting, commits) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Self { pool, claims, linker, waiting, commits })
    }

    /// How often a server was asked and waited for since the store was opened: several statements that were sent together
    /// are one.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.pool.round_trips().load(Ordering::Relaxed)
    }

    /// One transaction, which is undone if it fails.
    fn transact<T>(&self, job: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        let _waiting = Waiting::one_more(&self.waiting);
        let session = self.pool.begin(CHANGE)?;
        match attempt(&session, job) {
            Ok(made) => {
                self.commit(&session)?;
                Ok(made)
            }
            Err(error) => {
                session.roll_back();
                Err(error)
            }
        }
    }

    /// One transaction of many changes behind something that is done first, each change for itself. What came of each, in
    /// their order.
    fn each_for_itself<T>(
        &self,
        first: impl FnOnce(&Session) -> Result<()>,
        jobs: Vec<impl FnOnce(&Session) -> Result<T>>,
    ) -> Result<Vec<Result<T>>> {
        self.transact(|session| {
            first(session)?;
            jobs.into_iter().map(|job| one_change(session, job)).collect()
        })
    }

    fn commit(&self, session: &Lent<'_>) -> Result<()> {
        session.commit()?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.linker.wake();
        Ok(())
    }
}

/// A job that panics is an error of its own.
fn attempt<T>(session: &Session, job: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(|| job(session))).unwrap_or_else(|_| {
        tracing::error!("a change was given up half-way and rolled back");
        Err(StorageError::Abandoned)
    })
}

/// One change of several, which leaves nothing if it fails.
///
/// # Errors
/// The transaction is lost, with all that was made in it.
fn one_change<T>(session: &Session, job: impl FnOnce(&Session) -> Result<T>) -> Result<Result<T>> {
    session.execute_batch("SAVEPOINT one_change")?;
    let made = attempt(session, job);
    session.execute_batch(match made {
        Ok(_) => "RELEASE one_change",
        Err(_) => "ROLLBACK TO one_change; RELEASE one_change",
    })?;
    Ok(made)
}

impl Engine for PostgresStorage {
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let session = self.pool.begin(SNAPSHOT)?;
        match attempt(&session, |session| job(session)) {
            Ok(found) => {
                session.end()?;
                Ok(found)
            }
            Err(error) => {
                session.roll_back();
                Err(error)
            }
        }
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.transact(|session| job(session))
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Send + 'static>,
    ) -> Vec<Result<T>> {
        let count = jobs.len();
        if count == 0 {
            return Vec::new();
        }
        let jobs = jobs.into_iter().map(|job| |session: &Session| job(session));
        self.each_for_itself(|_| Ok(()), jobs.collect())
            .unwrap_or_else(|error| of_each(count, &error))
    }

    fn read_apart<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.read(job)
    }

    /// Another platform may take a key back at any moment, and it ends with the answer to that.
    fn known_keys(&self) -> Option<&KnownKeys> {
        None
    }

    fn settle_audit(&self) -> Result<()> {
        chain::settle(&self.pool)
    }
}

/// Counts changes for as long as it lives, however their caller leaves.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn one_more(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Storage for PostgresStorage {
    fn check(&self) -> Result<()> {
        self.write(|connection| first(connection, "SELECT 1", params![], |_| Ok(())).map(drop))
    }

    fn newest_catalogue(&self) -> Result<Option<CatalogueMark>> {
        self.read(noted::newest)
    }

    fn note_catalogue(&self, known: Option<CatalogueMark>, newer: CatalogueMark) -> Result<bool> {
        if known == Some(newer) {
            return Ok(true);
        }
        self.write(move |connection| noted::note(connection, known, newer))
    }

    fn load(&self) -> Load {
        Load {
            waiting_changes: self.waiting.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            payments_ahead: 0,
        }
    }

    fn close(&self) {
        // The linker first: it links what was committed before, over a connection of the pool.
        self.linker.close();
        self.claims.close();
        self.pool.close();
    }
}

impl Drop for PostgresStorage {
    fn drop(&mut self) {
        self.close();
    }
}
