//! What every partition needs: issuers, policies, phones, merchants, terminals. Written in the home; PostgreSQL's logical
//! replication brings it to the others, and nobody hears that it is done before they have it.
//!
//! A number counts up in the home in the transaction of each such change. Replication keeps the order of commits: who sees the
//! number sees the change. Behind that each partition is waited for until what was under way there with what was before has
//! ended. The answer to a change is kept with its number, and told again when all have heard that.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tapfer_payment_types::Timestamp;
use tapfer_payments::audit::AuditAction;

use super::PartitionedStorage;
use crate::postgres::PostgresStorage;
use crate::relational::known_keys::KnownKeys;
use crate::relational::rows::{Columns, execute, first, found};
use crate::relational::sql::{Connection, Row, params};
use crate::relational::{Changed, Engine, Result, change};
use crate::{IdempotencyClaim, StorageError, Write, Written};

/// A partition is asked so often, each time a hundredth of a second later.
const LOOKS: usize = 300;

/// A change that a partition has not heard of.
#[derive(Debug, thiserror::Error)]
#[error("partition {0} has not heard of it yet: look at its subscription (pg_stat_subscription)")]
struct NotHeard(usize);

/// A change that a partition has heard of, while something there may go on with what was before.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {0} has heard of it, and transactions that began there before have not ended: look at its pg_stat_activity \
     (backend_xid)"
)]
struct NotEnded(usize);

/// The home, where each change counts.
pub(super) struct Counting {
    home: Arc<PostgresStorage>,
    /// Under which claim the change was asked for, and whether it was made now.
    claim: RefCell<Option<IdempotencyClaim>>,
    is_counted: Arc<AtomicBool>,
}

impl Engine for Counting {
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T> + Clone) -> Result<T> {
        self.home.read(job)
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        self.home.write(job)
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static>,
    ) -> Vec<Result<T>> {
        self.home.write_all(jobs)
    }

    fn look_up<T>(&self, job: impl Fn(&Connection) -> Result<T>) -> Result<T> {
        self.home.look_up(job)
    }

    fn known_keys(&self) -> Option<&KnownKeys> {
        self.home.known_keys()
    }

    fn settle_audit(&self) -> Result<()> {
        self.home.settle_audit()
    }

    fn change<T: Send + 'static>(
        &self,
        write: Write<T>,
        action: AuditAction,
        job: impl FnOnce(&Connection, Timestamp) -> Result<Changed<T>> + Clone + Send + 'static,
    ) -> Result<Written<T>> {
        let claim = write.claim.clone();
        self.claim.replace(claim.clone());
        let is_counted = Arc::clone(&self.is_counted);
        self.home.write(move |connection| {
            let made = change(connection, write, action, job)?;
            let is_made = matches!(made, Written::Done { .. });
            if is_made {
                // Last: who counts keeps all others from it until the commit.
                count(connection, claim.as_ref())?;
            }
            is_counted.store(is_made, Ordering::Release);
            Ok(made)
        })
    }
}

impl PartitionedStorage {
    /// A change that holds everywhere when it is answered.
    pub(super) fn everywhere<T>(
        &self,
        change: impl FnOnce(&Counting) -> Result<Written<T>>,
    ) -> Result<Written<T>> {
        let home = Arc::clone(&self.home);
        let home = Counting { home, claim: RefCell::default(), is_counted: Arc::default() };
        let made = change(&home);
        match &made {
            Ok(_) if home.is_counted.load(Ordering::Acquire) => self.tell()?,
            Ok(_) => home.claim.borrow().as_ref().map_or(Ok(()), |of| self.settle_answer(of))?,
            // What it is refused for may be a change of before: "it is locked" is true when it is so everywhere.
            Err(StorageError::Refused(_)) => self.settle()?,
            Err(_) => {}
        }
        made
    }

    /// Sees that what was changed in the home before is everywhere.
    ///
    /// # Errors
    /// [`StorageError::NotSynced`], and that a partition cannot be asked.
    fn settle(&self) -> Result<()> {
        let untold = "SELECT number FROM told WHERE heard < number";
        match self.home.look_up(|home| first(home, untold, params![], read))? {
            None => Ok(()),
            Some(_) => self.tell(),
        }
    }

    /// Sees that what was answered under this claim is everywhere.
    ///
    /// # Errors
    /// [`StorageError::NotSynced`], and that a partition cannot be asked.
    pub(super) fn settle_answer(&self, claim: &IdempotencyClaim) -> Result<()> {
        let untold = "SELECT number FROM untold_answers WHERE api_key_id = ?1 AND key = ?2";
        let (api_key, key) = (claim.api_key.to_string(), claim.key.as_str());
        let is_untold =
            self.home.look_up(|home| first(home, untold, params![api_key, key], |_| Ok(())))?;
        is_untold.map_or(Ok(()), |()| self.tell())
    }

    /// Sees that each partition has the newest change. One does it for all who want it meanwhile.
    fn tell(&self) -> Result<()> {
        self.told.run(|| {
            let newest = "SELECT number FROM told";
            let newest = self.home.look_up(|home| first(home, newest, params![], read))?;
            let newest = found(newest, "told number", 1)?;
            for partition in 1..self.count() {
                self.ask(partition, |store| hear(store, partition, newest))?;
            }
            self.home.write(move |home| {
                execute(home, "UPDATE told SET heard = ?1 WHERE heard < ?1", [newest]).map(drop)
            })
        })
    }
}

/// Counts a change, and keeps the number with the answer.
fn count(home: &Connection, claim: Option<&IdempotencyClaim>) -> Result<()> {
    let next = "UPDATE told SET number = number + 1 RETURNING number";
    let number = found(first(home, next, params![], read)?, "told number", 1)?;
    let Some(claim) = claim else { return Ok(()) };
    let keep = "INSERT INTO untold_answers (api_key_id, key, number) VALUES (?1, ?2, ?3)
        ON CONFLICT (api_key_id, key) DO UPDATE SET number = excluded.number";
    let (api_key, key) = (claim.api_key.to_string(), claim.key.as_str());
    execute(home, keep, params![api_key, key, number]).map(drop)
}

fn read(row: &Row<'_>) -> Result<i64> {
    Columns::keyed(row, "told", "number").get("number")
}

/// Waits until a partition has a number, and nothing goes on there that may not know what was changed before it.
///
/// Payments lock before they read what they rest on, and who has locked has a transaction number. The number told is applied
/// behind the change, so who has read what was before has its transaction number when the number told is seen here.
fn hear(store: &PostgresStorage, partition: usize, number: i64) -> Result<()> {
    let has_heard = "SELECT number FROM told WHERE number >= ?1";
    let not_heard = || StorageError::NotSynced(Arc::new(NotHeard(partition)));
    wait_for(store, not_heard, |connection| first(connection, has_heard, [number], |_| Ok(())))?;
    // Of this database alone: what others on the same server do for long says nothing of payments here. And of those who may pay: who
    // only reads gets a transaction number as well, if he asks for one, and keeps it for as long as he likes.
    let running = "SELECT coalesce(string_agg(CAST(backend_xid AS TEXT), ' '), '') AS running FROM pg_stat_activity
        WHERE datname = current_database() AND backend_xid IS NOT NULL AND pg_has_role(usesysid, 'tapfer_server', 'MEMBER')";
    let running = store.look_up(|connection| {
        first(connection, running, params![], |row| {
            Columns::keyed(row, "pg_stat_activity", "running").get::<String>("running")
        })
    })?;
    let running = running.unwrap_or_default();
    let ended = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND CAST(backend_xid AS TEXT) = ANY (string_to_array(?1, ' ')))";
    let not_ended = || StorageError::NotSynced(Arc::new(NotEnded(partition)));
    wait_for(store, not_ended, |connection| {
        first(connection, ended, [running.as_str()], |_| Ok(()))
    })
}

fn wait_for(
    store: &PostgresStorage,
    not_so: impl Fn() -> StorageError,
    is_so: impl Fn(&Connection) -> Result<Option<()>>,
) -> Result<()> {
    // The server waits, so that nobody has to look at a clock here.
    let pause = "SELECT 1 FROM pg_sleep(0.01)";
    for _ in 0..LOOKS {
        if store.look_up(&is_so)?.is_some() {
            return Ok(());
        }
        store.look_up(|connection| first(connection, pause, params![], |_| Ok(())))?;
    }
    Err(not_so())
}
