//! Connections that wait to be used.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::options::PostgresOptions;
use super::session::Session;
use crate::StorageError;
use crate::relational::Result;

/// Whoever waits for a connection looks so often whether there is still somebody to be asked, and gives up after so many
/// looks.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: usize = 40;
/// A transaction that the server has undone for the sake of something else is made again so often before its caller hears of
/// it.
const REPEATS: usize = 3;

pub(super) struct Pool {
    options: PostgresOptions,
    most: usize,
    state: Mutex<State>,
    changed: Condvar,
    round_trips: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    /// How many are used at this moment, or are being opened.
    used: usize,
    /// Connections that were lent before are not used again when this counts up.
    generation: u64,
    /// Why no connection came about when it was tried last.
    failure: Option<StorageError>,
    /// Whether somebody tries again at this moment.
    is_tried: bool,
    closed: bool,
}

impl State {
    /// What is said to who would have to wait for an attempt that is likely to fail.
    fn refusal(&self) -> Option<StorageError> {
        self.failure.clone().filter(|_| self.is_tried)
    }
}

impl Pool {
    /// So many connections at most.
    pub(super) fn new(options: PostgresOptions, most: usize) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { options, most, state, changed, round_trips: Arc::default() }
    }

    /// Begins a transaction on a connection, and lends it.
    ///
    /// # Errors
    /// As [`Pool::lend`], and those of the job.
    pub(super) fn begin<T>(&self, how: &str, job: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        self.lend(|session| session.begin(how), |session, ()| job(session))
    }

    /// As [`Pool::begin`]. What the server undoes for the sake of something else is made again on the same connection; the
    /// job is told whether it is for the last time.
    pub(super) fn repeat<T>(
        &self,
        how: &str,
        job: impl Fn(&Session, bool) -> Result<T>,
    ) -> Result<T> {
        self.begin(how, |session| {
            for is_last in (0..=REPEATS).map(|repeat| repeat == REPEATS) {
                let made = job(session, is_last);
                if is_last || !session.is_overtaken() {
                    return made;
                }
                tracing::warn!("the server has undone a transaction; it is made again");
                session.begin(how)?;
            }
            Err(StorageError::Busy)
        })
    }

    /// Lends a connection, on which `first` was asked. One that has waited may be gone, with the primary it led to: then there
    /// is nothing to undo, and another one is asked. It is used again if it is fit.
    ///
    /// # Errors
    /// [`StorageError::Closed`], [`StorageError::Unreachable`], [`StorageError::Busy`] if none was free for too long, and
    /// those of the jobs.
    pub(super) fn lend<A, T>(
        &self,
        first: impl Fn(&Session) -> Result<A>,
        then: impl FnOnce(&Session, A) -> Result<T>,
    ) -> Result<T> {
        let place = self.place()?;
        let (session, found) = loop {
            self.options.presence().demand()?;
            let waited = self.state().idle.pop();
            let has_waited = waited.is_some();
            let session = waited.map_or_else(|| self.open(), Ok)?;
            match first(&session) {
                Ok(found) => break (session, found),
                Err(StorageError::Unreachable(_)) if has_waited => {}
                Err(error) => return Err(error),
            }
        };
        let made = then(&session, found);
        place.give_back(session);
        made
    }

    /// Lends a connection for one statement that reads, which may be asked again, also of another one.
    ///
    /// # Errors
    /// As [`Pool::lend`].
    pub(super) fn ask<T>(&self, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
        let ask = |session: &Session| match job(session) {
            Err(error @ StorageError::Unreachable(_)) => Err(error),
            // The schema has gone on.
            Err(_) if session.is_overtaken() => Ok(job(session)),
            found => Ok(found),
        };
        self.lend(ask, |_, found| found)
    }

    /// A connection outside of this pool's count, for what has one to itself. Where none came about, one at a time tries again,
    /// and the others hear it at once.
    pub(super) fn open(&self) -> Result<Session> {
        self.options.presence().demand()?;
        {
            let mut state = self.state();
            if let Some(refused) = state.refusal() {
                return Err(refused);
            }
            state.is_tried = state.failure.is_some();
        }
        let opened = Session::open(&self.options, &self.round_trips);
        let mut state = self.state();
        (state.is_tried, state.failure) = (false, opened.as_ref().err().cloned());
        opened
    }

    /// How often a server was asked and waited for.
    pub(super) const fn round_trips(&self) -> &Arc<AtomicU64> {
        &self.round_trips
    }

    /// Ends all connections, those that are lent when they are given back.
    pub(super) fn renew(&self) {
        let mut state = self.state();
        state.generation = state.generation.wrapping_add(1);
        state.idle.clear();
    }

    /// Closes the connections that nobody uses; the others close when they are given back.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.idle.clear();
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may be used.
    fn place(&self) -> Result<Place<'_>> {
        for _ in 0..LOOKS {
            let is_full = |state: &mut State| state.used >= self.most && !state.closed;
            let waited = self.changed.wait_timeout_while(self.state(), LOOK, is_full);
            let (mut state, looked) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(StorageError::Closed);
            }
            if !looked.timed_out() {
                state.used = state.used.saturating_add(1);
                return Ok(Place { pool: self, generation: state.generation });
            }
            if let Some(refused) = state.refusal() {
                return Err(refused);
            }
            drop(state);
            self.options.presence().demand()?;
        }
        Err(StorageError::Busy)
    }
}

/// The right to use a connection, which ends with this, however its holder leaves.
struct Place<'a> {
    pool: &'a Pool,
    generation: u64,
}

impl Place<'_> {
    /// Keeps a connection for the next one, if its transaction has ended and it stands.
    fn give_back(self, session: Session) {
        let mut state = self.pool.state();
        if session.is_fit() && !state.closed && state.generation == self.generation {
            state.idle.push(session);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.used = state.used.saturating_sub(1);
        self.pool.changed.notify_one();
    }
}
