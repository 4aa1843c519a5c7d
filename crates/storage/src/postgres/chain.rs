//! Links behind the commit.
//!
//! A change puts its line into the audit inbox, in its own transaction: durable, and in nobody's way. Lines become links of
//! the one chain afterwards, many in one transaction, by whichever node holds the lock at that moment. A server can put
//! lines in and have them linked, and can do nothing else to them: moving is a function with its owner's rights.
//! What is read of the log is read behind the lines that were committed before, so nobody notices that there are two steps.

use std::mem::{Discriminant, discriminant};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::locks;
use super::overdue::Overdue;
use super::pool::Pool;
use super::session::{SNAPSHOT, Session};
use crate::StorageError;
use crate::relational::Result;
use crate::relational::rows::{Columns, all, first};
use crate::relational::sql::{Row, params};

/// Only one node links at a time; it holds this until its transaction ends. "link".
const LOCK: &str = "SELECT pg_advisory_xact_lock(1818848875)";
/// As changes begin. A lot of lines is linked in less than a tenth of this, so whoever holds the lock for longer is no node.
const SOON: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '2s'";
const TRY_LOCK: &str =
    "SELECT CASE WHEN pg_try_advisory_xact_lock(1818848875) THEN 1 ELSE 0 END AS id";
/// So many lines go into one transaction.
const TOGETHER: i64 = 2_048;
/// How often a node links what waits, its own lines and others'. Who reads the log does not wait for it.
const EVERY: Duration = Duration::from_millis(250);

/// The thread that links what this node, and nodes that are gone, have committed.
pub(super) struct Linker {
    open: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
    waits: Arc<AtomicU64>,
}

impl Linker {
    pub(super) fn start(pool: Arc<Pool>) -> Result<Self> {
        let (open, closing) = channel();
        let waits = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&waits);
        let thread = Builder::new()
            .name("tapfer-linker".to_owned())
            .spawn(move || work(&pool, &closing, &seen))
            .map_err(|_| StorageError::Closed)?;
        Ok(Self { open: Mutex::new(Some((open, thread))), waits })
    }

    /// For how many seconds lines have been waiting that should have been linked long ago.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((open, thread)) = taken {
            drop(open);
            let _ended = thread.join();
        }
    }
}

fn work(pool: &Pool, closing: &Receiver<()>, waits: &AtomicU64) {
    let (mut overdue, mut told) = (Overdue::default(), Told::default());
    loop {
        let is_closing = closing.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
        // Whoever reads the log links what is missing, so nothing depends on this but how much waits.
        let linked = link(pool, TRY_LOCK);
        told.tell(&linked);
        let seconds = match linked {
            Ok(true) => overdue.nothing_waits(),
            _ => overdue.look(pool),
        };
        waits.store(seconds, Ordering::Relaxed);
        if is_closing {
            return;
        }
    }
}

/// What was said of linking: that it fails when it begins to, or fails for another reason, and that it goes on. It is tried four
/// times a second, through an outage as well.
#[derive(Default)]
struct Told(Option<Discriminant<StorageError>>);

impl Told {
    fn tell(&mut self, linked: &Result<bool>) {
        if !self.is_news(linked) {
            return;
        }
        match linked {
            Ok(_) => tracing::info!("the audit log is linked again"),
            Err(error) => {
                tracing::warn!(%error, "the audit log cannot be linked; its lines wait, and it is tried all the time");
            }
        }
    }

    fn is_news(&mut self, linked: &Result<bool>) -> bool {
        let now = linked.as_ref().err().map(discriminant);
        std::mem::replace(&mut self.0, now) != now
    }
}

/// Links all that was committed before. The pool is the linker's own: who reads the log takes no connection from payments.
pub(super) fn settle(pool: &Pool) -> Result<()> {
    let settled = link(pool, LOCK).map(drop);
    if let Err(StorageError::Busy) = settled {
        locks::say_who_holds(pool);
    }
    settled
}

/// Links all that was committed before, if the lock is to be had, and says whether it was. Lines that come meanwhile are not
/// waited for: under load there would be no end of them.
fn link(pool: &Pool, lock: &str) -> Result<bool> {
    let mut end = None;
    loop {
        let linked = pool.repeat(SOON, |session, _| {
            let linked = link_some(session, lock);
            match &linked {
                Ok(Some(Linked { lines: 1.., .. })) => session.commit()?,
                _ => session.roll_back(),
            }
            linked
        })?;
        let Some(linked) = linked else { return Ok(false) };
        if linked.lines < TOGETHER {
            return Ok(true);
        }
        let end = match end {
            Some(end) => end,
            None => *end.insert(newest(pool)?),
        };
        if linked.newest >= end {
            return Ok(true);
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

/// Lines that were linked together, and the number of the newest of them.
struct Linked {
    lines: i64,
    newest: i64,
}

/// Links lines that wait, in the order in which they were written, if it is this one's turn. The function makes the hashes itself.
fn link_some(session: &Session, lock: &str) -> Result<Option<Linked>> {
    let is_mine = all(session, lock, params![], |row| {
        // The lock that waits says nothing.
        Ok(Columns::new(row, "audit_inbox").get::<i64>("id").unwrap_or(1) == 1)
    })?;
    if is_mine != [true] {
        return Ok(None);
    }
    let link = "SELECT linked, newest FROM link_waiting_lines(?1)";
    first(session, link, [TOGETHER], |row: &Row<'_>| {
        let columns = Columns::keyed(row, "audit_inbox", "newest");
        Ok(Linked { lines: columns.get("linked")?, newest: columns.get("newest")? })
    })
}
