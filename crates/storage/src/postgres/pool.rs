//! Connections that wait to be used.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::options::PostgresOptions;
use super::session::Session;
use crate::StorageError;
use crate::relational::Result;

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
    closed: bool,
}

impl Pool {
    /// So many connections at most.
    pub(super) fn new(options: PostgresOptions, most: usize) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { options, most, state, changed, round_trips: Arc::default() }
    }

    /// Begins a transaction on a connection, and lends it. A connection that has waited may be gone, with the primary it led
    /// to: then there is nothing to undo, and another one is asked. It is used again if the transaction was ended.
    ///
    /// # Errors
    /// [`StorageError::Closed`], [`StorageError::Unreachable`], and those of the job.
    pub(super) fn begin<T>(&self, how: &str, job: impl FnOnce(&Session) -> Result<T>) -> Result<T> {
        let place = self.place()?;
        let session = loop {
            let (session, has_waited) = self.session()?;
            match session.begin(how) {
                Ok(()) => break session,
                Err(StorageError::Unreachable(_)) if has_waited => {}
                Err(error) => return Err(error),
            }
        };
        let made = job(&session);
        place.give_back(session);
        made
    }

    /// Lends a connection for one statement that reads, which may be asked again of another one.
    ///
    /// # Errors
    /// As [`Pool::begin`].
    pub(super) fn ask<T>(&self, job: impl Fn(&Session) -> Result<T>) -> Result<T> {
        let place = self.place()?;
        loop {
            let (session, has_waited) = self.session()?;
            match job(&session) {
                Err(StorageError::Unreachable(_)) if has_waited => {}
                found => {
                    place.give_back(session);
                    return found;
                }
            }
        }
    }

    /// A connection outside of this pool's count, for what has one to itself.
    pub(super) fn open(&self) -> Result<Session> {
        Session::open(&self.options, &self.round_trips)
    }

    /// How often a server was asked and waited for.
    pub(super) const fn round_trips(&self) -> &Arc<AtomicU64> {
        &self.round_trips
    }

    /// Closes the connections that nobody uses; the others close when they are given back.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.idle.clear();
        self.changed.notify_all();
    }

    /// A connection, and whether it has waited.
    fn session(&self) -> Result<(Session, bool)> {
        let waited = self.state().idle.pop();
        let has_waited = waited.is_some();
        Ok((waited.map_or_else(|| self.open(), Ok)?, has_waited))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may be used.
    fn place(&self) -> Result<Place<'_>> {
        let is_full = |state: &mut State| state.used >= self.most && !state.closed;
        let waited = self.changed.wait_while(self.state(), is_full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StorageError::Closed);
        }
        state.used = state.used.saturating_add(1);
        Ok(Place(self))
    }
}

/// The right to use a connection, which ends with this, however its holder leaves.
struct Place<'a>(&'a Pool);

impl Place<'_> {
    /// Keeps a connection for the next one, if its transaction has ended and it stands.
    fn give_back(self, session: Session) {
        let mut state = self.0.state();
        if session.is_fit() && !state.closed {
            state.idle.push(session);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.used = state.used.saturating_sub(1);
        self.0.changed.notify_one();
    }
}
