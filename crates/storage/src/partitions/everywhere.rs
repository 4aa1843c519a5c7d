//! What every partition needs: issuers, policies, phones, merchants, terminals. Written in the home; PostgreSQL's logical
//! replication brings it to the others, and nobody hears that it is done before they have it.
//!
//! A number counts up in the home before such a change and behind it. Replication keeps the order of commits: who sees the
//! number sees the change. Behind that each partition is waited for until what was under way there with what was before has
//! ended. As long as not all have heard the newest number no answer of the home is told again: one of them may be that of such
//! a change.

use std::sync::Arc;

use super::PartitionedStorage;
use crate::postgres::PostgresStorage;
use crate::relational::rows::{Columns, execute, first, found};
use crate::relational::sql::{Connection, Row, params};
use crate::relational::{Engine as _, Result};
use crate::{StorageError, Written};

/// A partition is asked so often, each time a hundredth of a second later.
const LOOKS: usize = 300;

/// A change that a partition has not heard of.
#[derive(Debug, thiserror::Error)]
#[error("partition {0} has not heard of it yet: look at its subscription (pg_stat_subscription)")]
struct NotHeard(usize);

impl PartitionedStorage {
    /// A change that holds everywhere when it is answered.
    pub(super) fn everywhere<T>(
        &self,
        change: impl FnOnce(&PostgresStorage) -> Result<Written<T>>,
    ) -> Result<Written<T>> {
        self.home.write(count)?;
        let made = change(&self.home)?;
        self.tell()?;
        Ok(made)
    }

    /// Sees that what was changed in the home before is everywhere.
    ///
    /// # Errors
    /// [`StorageError::NotSynced`], and that a partition cannot be asked.
    pub(super) fn settle(&self) -> Result<()> {
        let heard = "SELECT CASE WHEN heard = number THEN 1 ELSE 0 END AS number FROM told";
        let is_heard = self.home.look_up(|home| first(home, heard, params![], read))? == Some(1);
        if is_heard { Ok(()) } else { self.tell() }
    }

    fn tell(&self) -> Result<()> {
        let number = self.home.write(count)?;
        for partition in 1..self.count() {
            self.ask(partition, |store| hear(store, partition, number))?;
        }
        self.home.write(move |home| {
            let heard = "UPDATE told SET heard = ?1 WHERE heard < ?1";
            execute(home, heard, [number]).map(drop)
        })
    }
}

fn count(home: &Connection) -> Result<i64> {
    let next = "UPDATE told SET number = number + 1 RETURNING number";
    found(first(home, next, params![], read)?, "told number", 1)
}

fn read(row: &Row<'_>) -> Result<i64> {
    Columns::keyed(row, "told", "one").get("number")
}

fn hear(store: &PostgresStorage, partition: usize, number: i64) -> Result<()> {
    let has_heard = "SELECT number FROM told WHERE number >= ?1";
    wait_for(store, partition, |connection| first(connection, has_heard, [number], read))?;
    // Payments write as soon as they have locked, and read what they rest on behind that.
    let newest =
        "SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS TEXT) AS BIGINT) AS number";
    let newest = store.look_up(|connection| first(connection, newest, params![], read))?;
    let newest = newest.unwrap_or(i64::MAX);
    let ended = "SELECT CAST(1 AS BIGINT) AS number
        WHERE CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT) >= ?1";
    wait_for(store, partition, |connection| first(connection, ended, [newest], read))
}

fn wait_for(
    store: &PostgresStorage,
    partition: usize,
    is_so: impl Fn(&Connection) -> Result<Option<i64>>,
) -> Result<()> {
    // The server waits, so that nobody has to look at a clock here.
    let pause = "SELECT 1 FROM pg_sleep(0.01)";
    for _ in 0..LOOKS {
        if store.look_up(&is_so)?.is_some() {
            return Ok(());
        }
        store.look_up(|connection| first(connection, pause, params![], |_| Ok(())))?;
    }
    Err(StorageError::NotSynced(Arc::new(NotHeard(partition))))
}
