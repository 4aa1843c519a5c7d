//! The thread that owns the only connection that writes.
//!
//! Jobs come through a bounded queue and run one after another, each as one IMMEDIATE transaction.
//! A job sees the transaction and nothing else that lives longer than it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};

use super::Result;
use crate::StorageError;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when the store closes: the queue ends, the thread finishes what waits and stops.
    open: Mutex<Option<(SyncSender<Job>, JoinHandle<()>)>>,
    /// Jobs that were given in and have no answer yet.
    waiting: AtomicUsize,
}

impl Writer {
    pub(super) fn start(connection: Connection, queue_length: usize) -> Result<Self> {
        let (sender, queue) = sync_channel(queue_length.max(1));
        let thread = std::thread::Builder::new()
            .name("tapfer-writer".to_owned())
            .spawn(move || work(connection, &queue))
            .map_err(|_| StorageError::Closed)?;
        Ok(Self { open: Mutex::new(Some((sender, thread))), waiting: AtomicUsize::new(0) })
    }

    /// Runs a job as one transaction and waits until it is on the disk.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _waiting = Waiting::one_more(&self.waiting);
        let (reply, answer) = sync_channel(1);
        self.send(Box::new(move |connection| {
            let result = transaction(connection, job);
            // Nobody listens any more if the caller's thread is gone; the change stands.
            let _ = reply.send(result);
        }))?;
        answer.recv().map_err(|_| StorageError::Abandoned)?
    }

    fn send(&self, job: Job) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, _) = open.as_ref().ok_or(StorageError::Closed)?;
        sender.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Busy,
            TrySendError::Disconnected(_) => StorageError::Closed,
        })
    }

    /// How many jobs have no answer yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Ends the queue and waits for the thread.
    pub(super) fn close(&self) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = taken {
            drop(sender);
            let _ = thread.join();
        }
    }
}

/// Counts one job for as long as it lives, however its caller leaves.
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

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(mut connection: Connection, queue: &Receiver<Job>) {
    for job in queue {
        // A job that panics has been rolled back by its transaction's destructor, and its caller is
        // told by the dropped reply. The jobs behind it are not to suffer for it.
        if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
            tracing::error!("a change was given up half-way and rolled back");
        }
    }
    // The last connection that closes folds the write-ahead log into the database.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database did not close cleanly; its log is read at next start");
    }
}

fn transaction<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::Writer;
    use crate::StorageError;
    use rusqlite::Connection;
    use std::sync::mpsc::channel;

    fn writer(queue_length: usize) -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
        Writer::start(connection, queue_length).unwrap()
    }

    fn count(writer: &Writer) -> i64 {
        let count = "SELECT count(*) FROM numbers";
        writer
            .run(move |connection| Ok(connection.query_row(count, [], |row| row.get(0))?))
            .unwrap()
    }

    #[test]
    fn a_job_that_fails_or_panics_leaves_nothing() {
        let writer = writer(4);
        let insert = "INSERT INTO numbers VALUES (1)";
        let failed = writer.run::<()>(move |connection| {
            connection.execute(insert, [])?;
            Err(StorageError::Conflict)
        });
        assert!(matches!(failed, Err(StorageError::Conflict)));
        let panicked = writer.run::<()>(move |connection| {
            connection.execute(insert, []).unwrap();
            panic!("on purpose");
        });
        assert!(matches!(panicked, Err(StorageError::Abandoned)));
        assert_eq!(count(&writer), 0);
        writer.run(move |connection| Ok(connection.execute(insert, [])?)).unwrap();
        assert_eq!(count(&writer), 1);
    }

    #[test]
    fn a_full_queue_says_so_and_closing_finishes_what_waits() {
        let writer = writer(1);
        let (started, has_started) = channel();
        let (go_on, may_go_on) = channel::<()>();
        let (done, is_done) = channel();
        writer
            .send(Box::new(move |_| {
                started.send(()).unwrap();
                may_go_on.recv().unwrap();
            }))
            .unwrap();
        has_started.recv().unwrap();
        writer.send(Box::new(move |_| done.send(()).unwrap())).unwrap();
        assert!(matches!(writer.run(|_| Ok(())), Err(StorageError::Busy)));
        go_on.send(()).unwrap();
        writer.close();
        is_done.try_recv().unwrap();
        assert!(matches!(writer.run(|_| Ok(())), Err(StorageError::Closed)));
    }
}
