//! A database server for a simulation: several nodes at one database, in one process and without threads.
//!
//! It simulates the *server*, not the platform: PostgreSQL cannot run in one process on a clock that somebody turns. A SQLite file
//! stands in its place. Above it everything is as at PostgreSQL: every node has a store of its own, keeps nothing in memory, makes
//! each change in one transaction, and decides payments on what it reads in that transaction. The verbs are those of
//! [`crate::relational`], which both engines share. No platform opens its database so.
//!
//! A node may stand in for it ([`crate::StandIn`]). Whether it is there a node learns when somebody lets it look, and so it does its
//! rounds; of what others take out of service it hears with the commit, as at PostgreSQL.

#[cfg(feature = "planted-faults")]
mod planted;
mod watch;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;
use tapfer_payment_types::{AuthorizationId, CatalogueMark, Timestamp};
use tapfer_payments::authorization::{Authorization, Facts};
use tapfer_payments::retention::RetentionLimit;

use self::watch::Watch;
use super::Result;
use super::writer::one_change;
use crate::faults::{Fault, Moment, SharedFaults};
use crate::hot::Hot;
use crate::idempotency::RunningRequests;
use crate::postgres::Told;
use crate::relational::known_keys::KnownKeys;
use crate::relational::lookup::Seen;
use crate::relational::{Engine, authorizations, decided, idempotency, of_each, retention, sql};
use crate::stand_in::database::MayBeAway;
use crate::stand_in::rounds::Rounds;
use crate::undecided::tell_again;
use crate::{
    AuthorizationFilter, AuthorizationStore, Begun, CatalogueStore as _, CommitAuthorization,
    FactsQuery, IdempotencyClaim, IdempotencyStore, Load, Made, Page, PresentedToken,
    RetentionStore, Sharing, Slice, Storage, StorageError, Undecided, Write, Written,
};

/// So many old answers are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: u16 = 1_000;

/// What PostgreSQL's tables allow beyond those of a file, because nodes stand in (V7): an issuer's losses, and a counter under two
/// payments. <https://www.sqlite.org/lang_altertable.html#otheralter> changes constraints so.
const LOSSES: &str = "
    PRAGMA writable_schema = ON;
    UPDATE sqlite_schema SET sql = replace(replace(sql, '''merchant_payable''', '''merchant_payable'', ''issuer_loss'''),
        'kind = ''issuer_funding''', 'kind IN (''issuer_funding'', ''issuer_loss'')') WHERE name = 'accounts';
    UPDATE sqlite_schema SET sql = replace(sql, '''reversal''', '''reversal'', ''loss''') WHERE name = 'ledger_transfers';
    PRAGMA writable_schema = RESET;
    DROP INDEX authorizations_by_counter;";

/// The server. It never dies; that a node does not reach it, or does not hear what became of a transaction, is for
/// [`crate::faults::Faults`] to say.
pub struct SimulatedServer {
    database: Mutex<Database>,
    /// Requests that run at some node.
    running: RunningRequests,
    /// The newest catalogue of keys, as its file is.
    catalogue: Mutex<Option<Vec<u8>>>,
    /// Whoever listens.
    nodes: Mutex<Vec<Weak<SimulatedNode>>>,
}

impl fmt::Debug for SimulatedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedServer").finish_non_exhaustive()
    }
}

struct Database {
    connection: Connection,
    /// Whether there is no room for more pages.
    is_full: bool,
}

impl SimulatedServer {
    /// Over the database of a realm, which a platform has made and closed.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn over(file: &Path) -> Result<Arc<Self>> {
        let connection = Connection::open(file)?;
        // What its disk loses is not simulated: what it acknowledged stands, and what it lost never was.
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(super::STATEMENT_CACHE);
        connection.execute_batch(LOSSES)?;
        watch::note(&connection)?;
        Ok(Arc::new(Self {
            database: Mutex::new(Database { connection, is_full: false }),
            running: RunningRequests::default(),
            catalogue: Mutex::default(),
            nodes: Mutex::default(),
        }))
    }

    /// Tells nodes of rows. One that cannot be reached has lost its connection with it.
    fn tell(&self, rows: &[watch::Row]) {
        if rows.is_empty() {
            return;
        }
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|node| node.strong_count() > 0);
        let nodes: Vec<_> = nodes.iter().filter_map(Weak::upgrade).collect();
        for node in nodes.iter().filter(|node| node.listens()) {
            if !node.reaches_server() {
                node.is_cut_off();
                continue;
            }
            rows.iter().for_each(|(table, id)| node.watch.hears(Told::Row(table, id)));
        }
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database {
    fn set_full(&mut self, is_full: bool) -> Result<()> {
        if is_full != self.is_full {
            // No fewer than there are; and as many as SQLite can count.
            let most_pages = if is_full { 1_u32 } else { u32::MAX - 1 };
            self.connection.pragma_update(None, "max_page_count", most_pages)?;
            self.is_full = is_full;
        }
        Ok(())
    }

    /// One transaction, which is undone if it fails, or if somebody says behind it that it is lost.
    fn transact<T>(
        &self,
        begin: &str,
        job: impl FnOnce(&Connection) -> Result<T>,
        is_lost: impl FnOnce() -> bool,
    ) -> Result<T> {
        self.connection.execute_batch(begin)?;
        let mut made = job(&self.connection);
        if made.is_ok() && !is_lost() {
            match self.connection.execute_batch("COMMIT") {
                Ok(()) => return made,
                Err(error) => made = Err(error.into()),
            }
        }
        // SQLite may have given it up by itself.
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        made.and_then(|_| Err(StorageError::NotSynced(Arc::new(AsWanted))))
    }
}

/// What a node does not hear, and why.
#[derive(Debug, thiserror::Error)]
#[error("as a simulation wanted it")]
struct AsWanted;

/// The store of one node at a [`SimulatedServer`].
pub struct SimulatedNode {
    server: Arc<SimulatedServer>,
    faults: SharedFaults,
    is_closed: AtomicBool,
    commits: AtomicU64,
    watch: Watch,
    rounds: Mutex<Option<Rounds>>,
    #[cfg(feature = "planted-faults")]
    before: planted::Before,
}

impl fmt::Debug for SimulatedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedNode").finish_non_exhaustive()
    }
}

impl SimulatedNode {
    /// A node that these things happen to.
    #[must_use]
    pub fn at(server: &Arc<SimulatedServer>, faults: SharedFaults) -> Arc<Self> {
        let node = Arc::new(Self {
            server: Arc::clone(server),
            faults,
            is_closed: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            watch: Watch::default(),
            rounds: Mutex::default(),
            #[cfg(feature = "planted-faults")]
            before: planted::Before::default(),
        });
        let mut nodes = server.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.push(Arc::downgrade(&node));
        node
    }

    /// Whether it hears what others take out of service.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.watch.listens()
    }

    /// The connection on which it listens is gone; it notices when it looks.
    pub fn is_cut_off(&self) {
        self.watch.breaks();
    }

    /// Looks whether the server is there, and listens again if it is: what it missed it is to ask.
    pub fn looks_for_server(&self) {
        self.watch.attempts(self.reaches_server());
    }

    /// What stands in for it does its next round, if something does.
    pub fn goes_round(&self) {
        if let Some(rounds) = &*self.rounds.lock().unwrap_or_else(PoisonError::into_inner) {
            rounds.next();
        }
    }

    fn reaches_server(&self) -> bool {
        self.faults.at(Moment::Asked).is_none()
    }

    fn demand_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::SeqCst) { Err(StorageError::Closed) } else { Ok(()) }
    }

    fn change_all<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.demand_open()?;
        let mut database = self.server.database();
        let begins = self.faults.at(Moment::Begins);
        let made = match begins {
            Some(Fault::Away) => Err(StorageError::Unreachable(Arc::new(AsWanted))),
            begins => database.set_full(begins == Some(Fault::DiskFull)).and_then(|()| {
                let is_lost = || self.faults.at(Moment::Made).is_some();
                database.transact("BEGIN IMMEDIATE", job, is_lost)
            }),
        };
        let told = made.as_ref().map_or(Ok(Vec::new()), |_| watch::take(&database.connection))?;
        let over = self.faults.at(Moment::Over { synced: made.is_ok() });
        drop(database);
        self.server.tell(&told);
        let value = made?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        match over {
            None => Ok(value),
            Some(_) => Err(StorageError::NotSynced(Arc::new(AsWanted))),
        }
    }

    fn snapshot<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.demand_open()?;
        match self.faults.at(Moment::Asked) {
            None => self.server.database().transact("BEGIN", job, || false),
            Some(_) => Err(StorageError::Unreachable(Arc::new(AsWanted))),
        }
    }
}

impl Engine for SimulatedNode {
    fn read<T>(&self, job: impl FnOnce(&sql::Connection) -> Result<T> + Clone) -> Result<T> {
        self.snapshot(|connection| job(connection))
    }

    fn look_up<T>(&self, job: impl Fn(&sql::Connection) -> Result<T>) -> Result<T> {
        self.snapshot(|connection| job(connection))
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&sql::Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.change_all(|connection| job(connection))
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&sql::Connection) -> Result<T> + Send + 'static>,
    ) -> Vec<Result<T>> {
        if jobs.is_empty() {
            return Vec::new();
        }
        let count = jobs.len();
        let made = self.change_all(|connection| {
            let each = jobs.into_iter().map(|job| {
                one_change(connection, |connection: &Connection| job(connection))
                    .map_err(StorageError::from)
            });
            each.collect::<Result<Vec<_>>>()
        });
        made.unwrap_or_else(|error| of_each(count, &error))
    }

    /// Another node may take a key back at any moment.
    fn known_keys(&self) -> Option<&KnownKeys> {
        None
    }

    /// A line and its link are one transaction.
    fn settle_audit(&self) -> Result<()> {
        Ok(())
    }
}

impl AuthorizationStore for SimulatedNode {
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        _: bool,
    ) -> Vec<Result<Option<PresentedToken>>> {
        #[cfg(feature = "planted-faults")]
        self.remember(queries);
        let known = Hot::new(0);
        let found = self.snapshot(|connection| {
            let of = |query: &FactsQuery| known.presented(&Seen(connection), query);
            Ok(queries.iter().map(of).collect())
        });
        found.unwrap_or_else(|error| of_each(queries.len(), &error))
    }

    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        #[cfg(feature = "planted-faults")]
        if planted::decides_on_what_was() {
            return self.decide_on_what_was(undecided);
        }
        let jobs = undecided
            .clone()
            .into_iter()
            .map(|one| move |connection: &sql::Connection| decided::decide(connection, &one));
        let settled = self.write_all(jobs.collect());
        tell_again(self, undecided, settled)
    }

    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        let known = Hot::new(0);
        let found = self.snapshot(|connection| {
            Ok(queries.iter().map(|query| known.facts(&Seen(connection), query)).collect())
        });
        found.unwrap_or_else(|error| of_each(queries.len(), &error))
    }

    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        let jobs = commits
            .into_iter()
            .map(|commit| move |connection: &sql::Connection| decided::commit(connection, commit));
        self.write_all(jobs.collect())
    }

    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        self.answer_again(repeated, authorizations::get)
    }

    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>> {
        self.read(|connection| authorizations::find(connection, id))
    }

    fn list_authorizations(
        &self,
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>> {
        self.read(|connection| authorizations::list(connection, filter, page))
    }
}

impl IdempotencyStore for SimulatedNode {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        // Marked first and looked up then, as everywhere.
        let marked: Vec<_> = claims.iter().map(|claim| self.server.running.start(claim)).collect();
        let begun = claims.iter().zip(marked).map(|(claim, running)| {
            let running = running?;
            let answer = self.read(|connection| idempotency::stored_answer(connection, claim))?;
            Ok(answer.map_or(Begun::Run(running), Begun::Replay))
        });
        begun.collect()
    }

    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        let before = self.read(|connection| idempotency::forgotten_before(connection, before))?;
        let mut forgotten = 0_usize;
        loop {
            let part = self.write(move |connection| {
                idempotency::forget_some(connection, before, FORGOTTEN_AT_ONCE)
            })?;
            if part == 0 {
                return Ok(forgotten);
            }
            forgotten = forgotten.saturating_add(part);
        }
    }
}

impl RetentionStore for SimulatedNode {
    fn retention_limit(&self) -> Result<RetentionLimit> {
        self.read(retention::limit)
    }

    fn set_retention_limit(
        &self,
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>> {
        retention::set_limit(self, limit, reason, write, |_, now| Ok(now))
    }

    fn erase_ended(&self, now: Timestamp) -> Result<usize> {
        retention::erase_ended(self, now)
    }
}

impl Sharing for SimulatedNode {
    fn is_shared(&self) -> bool {
        true
    }

    fn catalogue_copy(&self) -> Result<Option<Vec<u8>>> {
        self.snapshot(|_| Ok(()))?;
        Ok(self.server.catalogue.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn note_catalogue_with_copy(
        &self,
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        copy: Vec<u8>,
    ) -> Result<bool> {
        let is_noted = self.note_catalogue(known, newer)?;
        if is_noted {
            let mut kept = self.server.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some(copy);
        }
        Ok(is_noted)
    }
}

impl MayBeAway for SimulatedNode {
    fn is_away(&self) -> bool {
        self.watch.is_away()
    }

    fn tell_of_rows(&self, tell: Box<dyn Fn(Told<'_>) + Send + Sync>) {
        self.watch.tell_of_rows(tell);
    }

    /// It has no room, if anything.
    fn is_trouble(&self, _: &StorageError) -> bool {
        self.server.database().is_full
    }

    /// When somebody says so ([`SimulatedNode::goes_round`]).
    fn starts(&self, rounds: Rounds) -> Result<()> {
        rounds.by_hand()?;
        *self.rounds.lock().unwrap_or_else(PoisonError::into_inner) = Some(rounds);
        Ok(())
    }

    fn faults(&self) -> SharedFaults {
        Arc::clone(&self.faults)
    }
}

impl Storage for SimulatedNode {
    fn check(&self) -> Result<()> {
        self.snapshot(|_| Ok(()))
    }

    fn load(&self) -> Load {
        let commits = self.commits.load(Ordering::Relaxed);
        Load { waiting_changes: 0, commits, payments_ahead: 0, audit_waits: 0 }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }
}
