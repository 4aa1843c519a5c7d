//! The store of many platforms: one PostgreSQL database, its primary.
//!
//! Every change is one transaction on a connection of its own, which locks what it rests on before it reads it (READ
//! COMMITTED, [`crate::relational::sql::Guard`]): a card's payments are decided one after another, on whichever node they
//! arrive, and others do not wait. Reads see one snapshot. Nothing is ever read from a standby. ADR 21 says why.

mod chain;
mod claims;
mod durability;
mod errors;
mod fetched;
mod joint;
mod locks;
mod look;
mod lots;
mod migrations;
mod options;
mod overdue;
mod partition;
mod pool;
mod presence;
mod reader;
mod retention;
mod rights;
mod session;
mod sharing;
mod slots;
mod sql;
mod together;
mod watch;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tapfer_payment_types::RealmId;

use self::chain::Linker;
use self::claims::Claims;
use self::pool::Pool;
use self::session::{CHANGE, SNAPSHOT, Session};
use self::watch::Watch;
use crate::relational::known_keys::KnownKeys;
use crate::relational::rows::first;
use crate::relational::sql::{Connection, params};
use crate::relational::{Engine, Result, of_each};
use crate::{Load, Storage, StorageError};
pub(crate) use joint::Joint;
pub use locks::LockHolder;
pub use look::{Look, look};
pub use migrations::{make, migrate};
pub use options::{PostgresOptions, PostgresOptionsError};
pub use partition::{
    Found, PUBLICATION, Part, PlaceName, close_partition, make_partition, open_partition,
    partition_of,
};
pub(crate) use reader::ServerReader;
pub use slots::Slot;

/// The store in a PostgreSQL database, which other platforms of the realm may use at the same time.
pub struct PostgresStorage {
    pool: Arc<Pool>,
    claims: Claims,
    linker: Linker,
    linking: Arc<Pool>,
    settled: Joint,
    watch: Watch,
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
    /// [`StorageError::OlderDatabase`], [`StorageError::TooManyRights`], [`StorageError::Forgetful`]
    pub fn open(options: &PostgresOptions, realm: RealmId) -> Result<Self> {
        let pool = |connections| Arc::new(Pool::new(options.clone(), connections));
        // What holds marks and what links have connections of their own: they keep no payment waiting for one.
        let (linking, holder) = (pool(1), pool(1));
        let pool = pool(options.connections());
        pool.begin(SNAPSHOT, |session| {
            migrations::check(session, options, realm)?;
            partition::check(options.part(), options.place_name(), partition::found(session)?)?;
            rights::check(session)?;
            rights::warn_of_others(session)?;
            durability::check(session)?;
            locks::check(session)?;
            session.end()
        })?;
        let claims = Claims::start(Arc::clone(&pool), holder)?;
        let linker = Linker::start(Arc::clone(&linking))?;
        let watch = Watch::start(options.clone())?;
        let settled = Joint::default();
        let (waiting, commits) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Self { pool, claims, linker, linking, settled, watch, waiting, commits })
    }

    /// Whether nobody answers, as far as is known.
    pub(crate) fn is_away(&self) -> bool {
        self.watch.is_away()
    }

    /// How often somebody waited for the server since the store was opened: several statements that were sent together
    /// are one. What links the audit log, behind everybody's back, is not counted.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        let asked = [self.pool.round_trips(), self.claims.round_trips()];
        asked.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Reads; all statements see the same snapshot.
    fn look<T>(&self, how: &str, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
        self.pool.repeat(how, |session, _| {
            let found = attempt(session, &job);
            match found {
                Ok(_) => session.end()?,
                Err(_) => session.roll_back(),
            }
            found
        })
    }

    /// One transaction, which is undone if it fails. If the server undid it for the sake of something else there is nothing
    /// left of it, and it is made again.
    fn transact<T>(&self, how: &str, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
        let _waiting = Waiting::one_more(&self.waiting);
        let made = self.pool.repeat(how, |session, is_last| match attempt(session, &job) {
            // Something of it may be missing, where its parts stand or fall each for itself.
            Ok(made) if is_last || !session.is_overtaken() => session.commit().map(|()| made),
            undone => {
                session.roll_back();
                undone
            }
        });
        made.inspect(|_| self.is_committed())
    }

    fn is_committed(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.linker.wake();
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
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T> + Clone) -> Result<T> {
        self.look(SNAPSHOT, |session| job.clone()(session))
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        self.transact(CHANGE, |session| job.clone()(session))
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static>,
    ) -> Vec<Result<T>> {
        if jobs.is_empty() {
            return Vec::new();
        }
        let made = self.transact(CHANGE, |session| {
            jobs.iter().map(|job| one_change(session, |session| job.clone()(session))).collect()
        });
        made.unwrap_or_else(|error| of_each(jobs.len(), &error))
    }

    /// Without a transaction around it, which would be two round trips more.
    fn look_up<T>(&self, job: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        self.pool.ask(|session| attempt(session, |session| job(session)))
    }

    /// Another platform may take a key back at any moment, and it ends with the answer to that.
    fn known_keys(&self) -> Option<&KnownKeys> {
        None
    }

    fn settle_audit(&self) -> Result<()> {
        self.settled.run(|| chain::settle(&self.linking))
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

    fn load(&self) -> Load {
        Load {
            waiting_changes: self.waiting.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            payments_ahead: 0,
            audit_waits: self.linker.waits(),
        }
    }

    fn close(&self) {
        // The linker first: it links what was committed before.
        self.linker.close();
        self.linking.close();
        self.watch.close();
        self.claims.close();
        self.pool.close();
    }
}

impl Drop for PostgresStorage {
    fn drop(&mut self) {
        self.close();
    }
}
