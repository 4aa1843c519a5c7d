//! Connections that wait to be used.

use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::options::PostgresOptions;
use super::session::Session;
use crate::StorageError;
use crate::relational::Result;

pub(super) struct Pool {
    options: PostgresOptions,
    state: Mutex<State>,
    changed: Condvar,
    round_trips: Arc<AtomicU64>,
}

struct State {
    idle: Vec<Session>,
    /// How many more may be opened.
    free: usize,
    closed: bool,
}

impl Pool {
    pub(super) fn new(options: PostgresOptions) -> Self {
        let state = State { idle: Vec::new(), free: options.connections(), closed: false };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { options, state, changed, round_trips: Arc::default() }
    }

    /// Lends a connection on which a transaction was begun. One that has waited may be gone, with the primary it led to:
    /// then there is nothing to undo, and another one is asked.
    ///
    /// # Errors
    /// [`StorageError::Closed`], [`StorageError::Unreachable`]
    pub(super) fn begin(&self, how: &str) -> Result<Lent<'_>> {
        loop {
            let (lent, has_waited) = self.lend()?;
            match lent.begin(how) {
                Ok(()) => return Ok(lent),
                Err(StorageError::Unreachable(_)) if has_waited => {}
                Err(error) => return Err(error),
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.idle.clear();
        self.changed.notify_all();
    }

    /// A connection, and whether it was used before.
    fn lend(&self) -> Result<(Lent<'_>, bool)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |state: &mut State| state.idle.is_empty() && state.free == 0;
        let mut state = self
            .changed
            .wait_while(state, |state| is_waiting(state) && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(StorageError::Closed);
        }
        if let Some(session) = state.idle.pop() {
            return Ok((Lent { pool: self, session: Some(session) }, true));
        }
        state.free = state.free.saturating_sub(1);
        drop(state);
        // Its place is given back also if it does not come about.
        let mut lent = Lent { pool: self, session: None };
        lent.session = Some(self.open()?);
        Ok((lent, false))
    }
}

/// Goes back when it is dropped, if its transaction has ended and the connection stands.
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    session: Option<Session>,
}

impl Deref for Lent<'_> {
    type Target = Session;

    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a session that is lent")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.session.take() {
            Some(session) if session.is_fit() && !state.closed => state.idle.push(session),
            _ => state.free = state.free.saturating_add(1),
        }
        self.pool.changed.notify_one();
    }
}
