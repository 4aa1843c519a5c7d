//! Links behind the commit.
//!
//! A change puts its line into the audit inbox, in its own transaction: durable, and in nobody's way. Lines become links of
//! the one chain afterwards, many in one transaction, by whichever node holds the lock at that moment. A server can put
//! lines in and have them linked, and can do nothing else to them: moving is a function with its owner's rights.
//! What is read of the log is read behind the lines that were committed before, so nobody notices that there are two steps.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::locks;
use super::pool::Pool;
use super::session::{SNAPSHOT, Session};
use crate::StorageError;
use crate::relational::rows::{Columns, all, first};
use crate::relational::sql::{Row, params};
use crate::relational::{Result, audit, audit_chain};

/// Only one node links at a time; it holds this until its transaction ends. "link".
const LOCK: &str = "SELECT pg_advisory_xact_lock(1818848875)";
/// As changes begin. A lot of lines is linked in less than a tenth of this, so whoever holds the lock for longer is no node.
const SOON: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '2s'";
const TRY_LOCK: &str =
    "SELECT CASE WHEN pg_try_advisory_xact_lock(1818848875) THEN 1 ELSE 0 END AS id";
/// So many lines go into one transaction.
const TOGETHER: usize = 2_048;
/// Lines of a node that died are linked by the others, this soon.
const AT_LEAST_EVERY: Duration = Duration::from_millis(250);

/// The thread that links what this node, and nodes that are gone, have committed.
pub(super) struct Linker {
    open: Mutex<Option<(SyncSender<()>, JoinHandle<()>)>>,
}

impl Linker {
    pub(super) fn start(pool: Arc<Pool>) -> Result<Self> {
        let (wake, woken) = sync_channel(1);
        let thread = Builder::new()
            .name("tapfer-linker".to_owned())
            .spawn(move || work(&pool, &woken))
            .map_err(|_| StorageError::Closed)?;
        Ok(Self { open: Mutex::new(Some((wake, thread))) })
    }

    /// Something was committed. One that is awake need not be woken.
    pub(super) fn wake(&self) {
        if let Some((wake, _)) = &*self.open.lock().unwrap_or_else(PoisonError::into_inner) {
            let _is_awake = wake.try_send(());
        }
    }

    pub(super) fn close(&self) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((wake, thread)) = taken {
            drop(wake);
            let _ended = thread.join();
        }
    }
}

fn work(pool: &Pool, woken: &Receiver<()>) {
    use std::sync::mpsc::RecvTimeoutError::Disconnected;
    loop {
        let is_closing = woken.recv_timeout(AT_LEAST_EVERY) == Err(Disconnected);
        // Whoever reads the log links what is missing, so nothing depends on this but how much waits.
        if let Err(error) = link(pool, TRY_LOCK) {
            tracing::warn!(%error, "lines of the audit log wait to be linked");
        }
        if is_closing {
            return;
        }
    }
}

/// Links all that was committed before. The pool is the linker's own: who reads the log takes no connection from payments.
pub(super) fn settle(pool: &Pool) -> Result<()> {
    let settled = link(pool, LOCK);
    if let Err(StorageError::Busy) = settled {
        locks::say_who_holds(pool);
    }
    settled
}

/// Links all that was committed before, if the lock is to be had. Lines that come meanwhile are not waited for: under load
/// there would be no end of them.
fn link(pool: &Pool, lock: &str) -> Result<()> {
    let mut end = None;
    loop {
        let linked = pool.repeat(SOON, |session, _| {
            let linked = link_some(session, lock);
            match &linked {
                Ok(numbers) if !numbers.is_empty() => session.commit()?,
                _ => session.roll_back(),
            }
            linked
        })?;
        let (Some(last), true) = (linked.last(), linked.len() >= TOGETHER) else { return Ok(()) };
        let end = match end {
            Some(end) => end,
            None => *end.insert(newest(pool)?),
        };
        if *last >= end {
            return Ok(());
        }
    }
}

/// The number of the newest line that waits.
fn newest(pool: &Pool) -> Result<i64> {
    let newest = "SELECT coalesce(max(number), 0) AS number FROM audit_inbox";
    pool.repeat(SNAPSHOT, |session, _| {
        let found = first(session, newest, params![], |row| {
            Columns::keyed(row, "audit_inbox", "number").get("number")
        });
        session.roll_back();
        Ok(found?.unwrap_or(0))
    })
}

/// Links lines that wait, in the order in which they were written; says which.
fn link_some(session: &Session, lock: &str) -> Result<Vec<i64>> {
    let is_mine = all(session, lock, params![], |row| {
        // The lock that waits says nothing.
        Ok(Columns::new(row, "audit_inbox").get::<i64>("id").unwrap_or(1) == 1)
    })?;
    if is_mine != [true] {
        return Ok(Vec::new());
    }
    let before = audit_chain::last(session)?;
    let waiting = "SELECT number AS sequence, * FROM audit_inbox ORDER BY number LIMIT ?1";
    let limit = i64::try_from(TOGETHER).unwrap_or(i64::MAX);
    let mut link = before;
    let (mut numbers, mut events, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for record in all(session, waiting, params![limit], |row: &Row<'_>| audit::read(row))? {
        link = link.behind(&record.event);
        numbers.push(record.sequence);
        events.push(link.event.to_vec());
        hashes.push(link.hash.to_vec());
    }
    if !numbers.is_empty() {
        let move_them = "SELECT link_audit_events(?1, ?2, ?3, ?4)";
        let last = audit_chain::place(before.sequence)?;
        session.ask_all(&[(move_them, vec![&last, &numbers, &events, &hashes])])?;
    }
    Ok(numbers)
}
