//! Connections that read.

use std::sync::{Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use super::Result;
use crate::StorageError;

#[derive(Debug)]
pub(super) struct Readers {
    pool: Mutex<Pool>,
    changed: Condvar,
}

#[derive(Debug)]
struct Pool {
    idle: Vec<Connection>,
    closed: bool,
}

impl Readers {
    pub(super) const fn new(connections: Vec<Connection>) -> Self {
        let pool = Pool { idle: connections, closed: false };
        Self { pool: Mutex::new(pool), changed: Condvar::new() }
    }

    /// Runs a job on a connection of its own; all its statements see the same snapshot.
    pub(super) fn snapshot<T>(&self, job: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut lent = self.lend()?;
        let connection = lent.connection.as_mut().ok_or(StorageError::Closed)?;
        let transaction = connection.transaction()?;
        let value = job(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }

    /// Closes the connections that nobody uses; the others close when they are given back.
    pub(super) fn close(&self) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.closed = true;
        pool.idle.clear();
        self.changed.notify_all();
    }

    fn lend(&self) -> Result<Lent<'_>> {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pool = self
            .changed
            .wait_while(pool, |pool| pool.idle.is_empty() && !pool.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let connection = pool.idle.pop().ok_or(StorageError::Closed)?;
        Ok(Lent { readers: self, connection: Some(connection) })
    }
}

/// Goes back when it is dropped, whatever happened to it meanwhile.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if !pool.closed {
            pool.idle.extend(self.connection.take());
            self.readers.changed.notify_one();
        }
    }
}
