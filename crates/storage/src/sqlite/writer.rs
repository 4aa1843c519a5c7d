//! The thread that owns the only connection that writes.
//!
//! Changes come through a bounded queue, alone or several of one caller, and run one after another. Those that came
//! while the disk was busy with the ones before share a transaction and one sync: alone, a change waits for nobody.
//! Payments go first and into the journal; any other change has a savepoint of its own, and waits until the tables know
//! what was paid before it ([`super::desk`]). Nobody is told anything before the transaction is on the disk.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ffi};
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payments::authorization::Authorization;

use super::desk::{AT_ONCE, Desk, Turn};
use super::{Result, of_each};
use crate::faults::{Fault, Moment, SharedFaults};
use crate::{CommitAuthorization, StorageError, Write, Written};

/// The payments of so many callers, and the changes of as many, share a transaction at most: the first waits for the last.
const MOST_TOGETHER: usize = 64;
/// So many callers whose changes wait for the tables are set aside for the payments behind them in the queue.
const MOST_ASIDE: usize = 1_024;
/// When nothing has come for so long, the tables catch up with the journal. Nobody waits for it.
const QUIET: Duration = Duration::from_millis(10);
/// When nothing has come for so long, the log is folded into the database.
const REST: Duration = Duration::from_secs(10);

/// Something that callers wait for.
enum Wanted {
    Payments(Payments),
    Changes(Box<dyn Changes>),
    /// That nothing is left in the log of what stood there.
    WipedLog(SyncSender<Result<bool>>),
}

impl Wanted {
    fn tell(self, on_disk: std::result::Result<(), StorageError>) {
        match self {
            Self::Payments(payments) => tell(payments.made, &payments.reply, on_disk),
            Self::Changes(changes) => changes.tell(on_disk),
            Self::WipedLog(reply) => drop(reply.send(on_disk.map(|()| false))),
        }
    }
}

/// Decisions of one caller.
struct Payments {
    commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    made: Vec<Result<Written<Authorization>>>,
    reply: SyncSender<Vec<Result<Written<Authorization>>>>,
}

impl Payments {
    fn make(&mut self, desk: &Desk, turn: &mut Turn) {
        for ((commit, write), made) in self.commits.drain(..).zip(&mut self.made) {
            *made = desk.decide(turn, commit, write);
        }
    }
}

/// Changes of one caller that work on the tables.
trait Changes: Send {
    /// Makes them, each in a savepoint of its own.
    ///
    /// # Errors
    /// SQLite has given the whole transaction up by itself, as it may when a disk is full or does not answer:
    /// then the savepoint is gone too.
    fn make(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    /// Tells the caller what came of them, now that it is known whether the transaction is on the disk.
    fn tell(self: Box<Self>, on_disk: std::result::Result<(), StorageError>);
}

/// What a caller wants, what came of it, and where the caller waits.
struct Jobs<J, T> {
    jobs: Vec<J>,
    made: Vec<Result<T>>,
    reply: SyncSender<Vec<Result<T>>>,
}

impl<T: Send, J: FnOnce(&Connection) -> Result<T> + Send> Changes for Jobs<J, T> {
    fn make(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (job, made) in self.jobs.drain(..).zip(&mut self.made) {
            *made = one_change(connection, job)?;
        }
        Ok(())
    }

    fn tell(self: Box<Self>, on_disk: std::result::Result<(), StorageError>) {
        tell(self.made, &self.reply, on_disk);
    }
}

fn tell<T>(
    mut made: Vec<Result<T>>,
    reply: &SyncSender<Vec<Result<T>>>,
    on_disk: std::result::Result<(), StorageError>,
) {
    if let Err(error) = on_disk
        && !is_skipped(Control::LostCommitTold)
    {
        // Refusals, too, rest on changes that are not there.
        made.iter_mut()
            .filter(|made| !matches!(made, Err(StorageError::Database(_))))
            .for_each(|made| *made = Err(error.clone().not_synced()));
    }
    // Nobody listens any more if the caller's thread is gone; the changes stand.
    let _ = reply.send(made);
}

/// One change, which leaves nothing if it fails.
pub(super) fn one_change<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T>,
) -> rusqlite::Result<Result<T>> {
    let say = |words| connection.prepare_cached(words)?.execute([]).map(drop);
    say("SAVEPOINT one_change")?;
    // One that panics is rolled back; the changes beside it are not to suffer for it.
    let made = catch_unwind(AssertUnwindSafe(|| job(connection))).unwrap_or_else(|_| {
        tracing::error!("a change was given up half-way and rolled back");
        Err(StorageError::Abandoned)
    });
    if made.is_err() {
        say("ROLLBACK TO one_change")?;
    }
    say("RELEASE one_change")?;
    Ok(made)
}

type Queue = SyncSender<Wanted>;

#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when the store closes: the queue ends, the thread finishes what waits and stops.
    open: Mutex<Option<(Queue, JoinHandle<()>)>>,
    /// Changes that were given in and have no answer yet.
    waiting: AtomicUsize,
    /// Transactions that went to the disk.
    commits: Arc<AtomicU64>,
}

impl Writer {
    /// Brings the tables up to the journal, and starts the thread.
    pub(super) fn start(mut desk: Desk, queue_length: usize, faults: SharedFaults) -> Result<Self> {
        let mut disk = Disk { faults, is_full: false };
        while desk.is_ahead() {
            catch_up(&mut desk, &mut disk, AT_ONCE)?;
        }
        let (sender, queue) = sync_channel(queue_length.max(1));
        let commits = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&commits);
        let thread = std::thread::Builder::new()
            .name("tapfer-writer".to_owned())
            .spawn(move || work(desk, queue, &counted, disk))
            .map_err(|_| StorageError::Closed)?;
        let open = Mutex::new(Some((sender, thread)));
        Ok(Self { open, waiting: AtomicUsize::new(0), commits })
    }

    /// Makes a change and waits until it is on the disk. `job` runs in a transaction, and is undone if it fails.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run_all(vec![job]).pop().unwrap_or(Err(StorageError::Abandoned))
    }

    /// Makes changes in one transaction, each for itself: one that fails is undone, and the others stand. What came
    /// of each, in their order.
    pub(super) fn run_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Send + 'static>,
    ) -> Vec<Result<T>> {
        if jobs.is_empty() {
            return Vec::new();
        }
        let _waiting = Waiting::more(&self.waiting, jobs.len());
        let (count, (reply, answer)) = (jobs.len(), sync_channel(1));
        match self.put(jobs, reply) {
            Ok(()) => answer.recv().unwrap_or_else(|_| of_each(count, &StorageError::Abandoned)),
            Err(refused) => of_each(count, &refused),
        }
    }

    /// Writes decisions down together, each for itself. What came of each, in their order.
    pub(super) fn decide(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        if commits.is_empty() {
            return Vec::new();
        }
        let _waiting = Waiting::more(&self.waiting, commits.len());
        let (count, (reply, answer)) = (commits.len(), sync_channel(1));
        let made = of_each(count, &StorageError::Abandoned);
        match self.send(Wanted::Payments(Payments { commits, made, reply })) {
            Ok(()) => answer.recv().unwrap_or_else(|_| of_each(count, &StorageError::Abandoned)),
            Err(refused) => of_each(count, &refused),
        }
    }

    /// Leaves nothing in the log of what stood there; whether that could be done.
    pub(super) fn wipe_log(&self) -> Result<bool> {
        let (reply, answer) = sync_channel(1);
        self.send(Wanted::WipedLog(reply))?;
        answer.recv().unwrap_or(Err(StorageError::Abandoned))
    }

    fn put<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Send + 'static>,
        reply: SyncSender<Vec<Result<T>>>,
    ) -> Result<()> {
        let made = of_each(jobs.len(), &StorageError::Abandoned);
        self.send(Wanted::Changes(Box::new(Jobs { jobs, made, reply })))
    }

    fn send(&self, wanted: Wanted) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, _) = open.as_ref().ok_or(StorageError::Closed)?;
        sender.try_send(wanted).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Busy,
            TrySendError::Disconnected(_) => StorageError::Closed,
        })
    }

    /// Whether the thread is there.
    ///
    /// # Errors
    /// [`StorageError::Closed`]
    pub(super) fn check(&self) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = open.as_ref().is_some_and(|(_, thread)| !thread.is_finished());
        if lives { Ok(()) } else { Err(StorageError::Closed) }
    }

    /// How many changes have no answer yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many transactions went to the disk since the start.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
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

/// Counts changes for as long as it lives, however their caller leaves.
struct Waiting<'a>(&'a AtomicUsize, usize);

impl<'a> Waiting<'a> {
    fn more(count: &'a AtomicUsize, changes: usize) -> Self {
        count.fetch_add(changes, Ordering::Relaxed);
        Self(count, changes)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn work(mut desk: Desk, queue: Receiver<Wanted>, commits: &AtomicU64, mut disk: Disk) {
    let (payments, changes, wipes) = (VecDeque::new(), VecDeque::new(), Vec::new());
    let mut line = Line { queue, payments, changes, wipes };
    while line.wait(&mut desk, &mut disk) {
        for reply in line.wipes.drain(..) {
            // Nobody listens any more if the caller's thread is gone.
            let _ = reply.send(desk.wipe_log());
        }
        if line.is_empty() {
            continue;
        }
        let mut made = Vec::new();
        let turn =
            catch_unwind(AssertUnwindSafe(|| together(&mut desk, &mut line, &mut made, &mut disk)));
        let on_disk = turn.unwrap_or_else(|_| {
            tracing::error!("a transaction was given up half-way and rolled back");
            Err(StorageError::Abandoned)
        });
        let on_disk = disk.over(on_disk);
        desk.note_end(on_disk.as_ref().copied());
        match on_disk {
            Ok(()) => drop(commits.fetch_add(1, Ordering::Relaxed)),
            Err(_) => {
                desk.roll_back();
                // Who has waited for it hears of it, and does not wait for ever.
                made.extend(if made.is_empty() { line.next() } else { None });
            }
        }
        if let Some(payments @ 1..) = disk.faults.catches_up() {
            caught_up(&mut desk, &mut disk, payments);
        }
        for one in made {
            one.tell(on_disk.clone());
        }
    }
    let mut caught_up = Ok(());
    while caught_up.is_ok() && desk.is_ahead() {
        caught_up = catch_up(&mut desk, &mut disk, AT_ONCE);
    }
    let at = |moment| {
        disk.faults.at(moment);
    };
    let closed = desk.close(|| at(Moment::Folded), || at(Moment::Unmarked));
    if let Err(error) = closed.and(caught_up) {
        tracing::warn!(%error, "the database did not close cleanly; its log is read at next start");
    }
}

/// Who waits: in the queue, and before them those that were taken from it and are in no transaction yet.
struct Line {
    queue: Receiver<Wanted>,
    payments: VecDeque<Payments>,
    changes: VecDeque<Box<dyn Changes>>,
    wipes: Vec<SyncSender<Result<bool>>>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.payments.is_empty() && self.changes.is_empty()
    }

    /// Waits for something to do; whether there is. Meanwhile the tables catch up with the journal.
    fn wait(&mut self, desk: &mut Desk, disk: &mut Disk) -> bool {
        if !self.is_empty() || !self.wipes.is_empty() {
            return true;
        }
        let mut quiet = QUIET;
        while desk.is_ahead() && disk.faults.catches_up().is_none() {
            match self.queue.recv_timeout(quiet) {
                Ok(wanted) => return self.put(wanted),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => quiet = caught_up(desk, disk, AT_ONCE),
            }
        }
        if desk.is_to_fold() && disk.faults.catches_up().is_none() {
            match self.queue.recv_timeout(REST) {
                Ok(wanted) => return self.put(wanted),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => desk.fold(),
            }
        }
        self.queue.recv().is_ok_and(|wanted| self.put(wanted))
    }

    fn put(&mut self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Payments(payments) => self.payments.push_back(payments),
            Wanted::Changes(changes) => self.changes.push_back(changes),
            Wanted::WipedLog(reply) => self.wipes.push(reply),
        }
        true
    }

    /// Takes in what is in the queue at this moment.
    fn take_in(&mut self) {
        while self.payments.len() < MOST_TOGETHER
            && self.changes.len() < MOST_ASIDE
            && let Ok(wanted) = self.queue.try_recv()
        {
            self.put(wanted);
        }
    }

    /// Whose payments come next at this moment.
    fn next_payments(&mut self) -> Option<Payments> {
        if self.payments.is_empty() {
            self.take_in();
        }
        self.payments.pop_front()
    }

    /// Whose changes come next at this moment: nobody's as long as payments wait that came meanwhile.
    fn next_changes(&mut self) -> Option<Box<dyn Changes>> {
        if self.changes.is_empty() {
            self.take_in();
            if !self.payments.is_empty() {
                return None;
            }
        }
        self.changes.pop_front()
    }

    fn next(&mut self) -> Option<Wanted> {
        let payments = self.payments.pop_front().map(Wanted::Payments);
        payments.or_else(|| self.changes.pop_front().map(Wanted::Changes))
    }
}

/// How long to wait before the next part: not at all, unless the disk does not do what it should.
fn caught_up(desk: &mut Desk, disk: &mut Disk, payments: usize) -> Duration {
    match catch_up(desk, disk, payments) {
        Ok(()) => Duration::ZERO,
        Err(error) => {
            // That they do not take an entry is said once, by the desk.
            if !matches!(error, StorageError::TablesBehind { .. }) {
                tracing::warn!(%error, "the tables do not catch up with the journal; it is tried again");
            }
            Duration::from_secs(1)
        }
    }
}

/// Brings the tables so many payments further, if they are behind the journal.
fn catch_up(desk: &mut Desk, disk: &mut Disk, payments: usize) -> Result<()> {
    if !desk.is_ahead() {
        return Ok(());
    }
    let begun = disk.begins(Moment::CatchUpBegins, desk.connection());
    let caught_up =
        begun.and_then(|()| desk.catch_up(payments, || disk.is_lost(Moment::CatchUpMade)));
    disk.faults.at(Moment::CatchUpOver);
    caught_up
}

/// One transaction with all that wait at this moment, payments first. What is in it stands in `made`, whatever becomes of
/// it; what is not stays in the line.
fn together(
    desk: &mut Desk,
    line: &mut Line,
    made: &mut Vec<Wanted>,
    disk: &mut Disk,
) -> Result<()> {
    disk.begins(Moment::Begins, desk.connection())?;
    let mut turn = desk.begin()?;
    line.take_in();
    while made.len() < MOST_TOGETHER
        && !turn.is_full()
        && let Some(mut payments) = line.next_payments()
    {
        payments.make(desk, &mut turn);
        made.push(Wanted::Payments(payments));
    }
    let are_wanted = !line.changes.is_empty();
    if are_wanted && !desk.is_far_ahead(&turn) {
        desk.write_all(&mut turn)?;
        change(desk, line, made)?;
        desk.look_at_changes(&mut turn)?;
    } else {
        desk.append(&mut turn, are_wanted)?;
    }
    disk.made(made)?;
    desk.commit(turn)
}

/// Makes changes, and those that come meanwhile. A payment that comes now waits for what these change of memory.
fn change(desk: &Desk, line: &mut Line, made: &mut Vec<Wanted>) -> Result<()> {
    let most = made.len().saturating_add(MOST_TOGETHER);
    while made.len() < most
        && let Some(mut change) = line.next_changes()
    {
        let done = change.make(desk.connection());
        made.push(Wanted::Changes(change));
        done?;
    }
    Ok(())
}

/// What a simulation does to transactions; in service nothing.
struct Disk {
    faults: SharedFaults,
    /// Whether there is no room for more pages.
    is_full: bool,
}

impl Disk {
    fn begins(&mut self, moment: Moment, connection: &Connection) -> Result<()> {
        let is_full = self.faults.at(moment) == Some(Fault::DiskFull);
        if is_full != self.is_full {
            // No fewer than there are; and as many as SQLite can count.
            let most_pages = if is_full { 1_u32 } else { u32::MAX - 1 };
            connection.pragma_update(None, "max_page_count", most_pages)?;
            self.is_full = is_full;
        }
        Ok(())
    }

    fn made(&self, made: &mut Vec<Wanted>) -> Result<()> {
        if is_skipped(Control::AnswerAfterCommit) {
            made.drain(..).for_each(|one| one.tell(Ok(())));
        }
        self.is_lost(Moment::Made)
    }

    fn is_lost(&self, moment: Moment) -> Result<()> {
        self.faults.at(moment).map_or(Ok(()), |_| Err(nobody_knows().into()))
    }

    fn over(&self, on_disk: Result<()>) -> Result<()> {
        let fault = self.faults.at(Moment::Over { synced: on_disk.is_ok() });
        match fault {
            None => on_disk,
            Some(_) => on_disk.and_then(|()| Err(nobody_knows().into())),
        }
    }
}

fn nobody_knows() -> rusqlite::Error {
    let error = ffi::Error::new(ffi::SQLITE_IOERR);
    rusqlite::Error::SqliteFailure(error, Some("as a simulation wanted it".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

    use super::{MOST_TOGETHER, Writer};
    use crate::StorageError;
    use crate::faults::NoFaults;
    use crate::sqlite::desk::{Desk, Shared};
    use crate::sqlite::touched;
    use rusqlite::Connection;

    struct Told<T>(Receiver<Vec<Result<T, StorageError>>>);

    impl<T> Told<T> {
        fn wait(&self) -> Result<T, StorageError> {
            self.0.recv().unwrap().pop().unwrap()
        }
    }

    fn writer(queue_length: usize) -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
        start(connection, queue_length)
    }

    /// A writer of changes alone.
    fn start(connection: Connection, queue_length: usize) -> Writer {
        touched::begin(&connection).unwrap();
        let desk = Desk::bare(connection, Shared::new(1)).unwrap();
        Writer::start(desk, queue_length, Arc::new(NoFaults)).unwrap()
    }

    fn insert(connection: &Connection, number: i64) -> Result<i64, StorageError> {
        connection.execute("INSERT INTO numbers (number) VALUES (?1)", [number])?;
        Ok(number)
    }

    fn numbers(connection: &Connection) -> Result<Vec<i64>, StorageError> {
        let mut rows = connection.prepare("SELECT number FROM numbers ORDER BY number")?;
        let numbers = rows.query_map([], |row| row.get(0))?;
        Ok(numbers.collect::<Result<_, _>>()?)
    }

    /// Puts a change into the queue and does not wait for it.
    fn put<T: Send + 'static>(
        writer: &Writer,
        job: impl FnOnce(&Connection) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<Told<T>, StorageError> {
        let (reply, answer) = sync_channel(1);
        writer.put(vec![job], reply).map(|()| Told(answer))
    }

    /// Keeps the writer busy with one change until it is told to go on.
    fn hold(writer: &Writer) -> Sender<()> {
        let (started, has_started) = channel();
        let (go_on, may_go_on) = channel::<()>();
        let held = put(writer, move |_| {
            started.send(()).unwrap();
            may_go_on.recv().unwrap();
            Ok(())
        });
        drop(held.unwrap());
        has_started.recv().unwrap();
        go_on
    }

    #[test]
    fn a_job_that_fails_or_panics_leaves_nothing() {
        let writer = writer(4);
        let failed = writer.run::<()>(move |connection| {
            insert(connection, 1)?;
            Err(StorageError::Conflict)
        });
        assert!(matches!(failed, Err(StorageError::Conflict)));
        let panicked = writer.run::<()>(move |connection| {
            insert(connection, 1).unwrap();
            panic!("on purpose");
        });
        assert!(matches!(panicked, Err(StorageError::Abandoned)));
        assert_eq!(writer.run(numbers).unwrap(), [0; 0]);
        writer.run(|connection| insert(connection, 1)).unwrap();
        assert_eq!(writer.run(numbers).unwrap(), [1]);
    }

    #[test]
    fn what_waits_shares_a_commit_and_no_fault() {
        let writer = writer(MOST_TOGETHER);
        let go_on = hold(&writer);
        let waiting = [0, 1, 2, 3, 4, 5].map(|number| {
            let job = move |connection: &Connection| {
                insert(connection, number)?;
                match number % 3 {
                    0 => Err(StorageError::Conflict),
                    1 => panic!("on purpose"),
                    _ => Ok(number),
                }
            };
            put(&writer, job).unwrap()
        });
        go_on.send(()).unwrap();
        for (number, told) in (0..).zip(waiting) {
            match (number % 3, told.wait()) {
                (0, Err(StorageError::Conflict)) | (1, Err(StorageError::Abandoned)) => {}
                (2, Ok(made)) => assert_eq!(made, number),
                (_, told) => panic!("{number}: {told:?}"),
            }
        }
        assert_eq!(writer.commits(), 1, "for seven changes");
        assert_eq!(writer.run(numbers).unwrap(), [2, 5]);
    }

    #[test]
    fn changes_of_one_caller_stand_or_fall_each_for_itself() {
        let writer = writer(1);
        let job = |number: i64| {
            move |connection: &Connection| {
                insert(connection, number)?;
                if number == 2 { Err(StorageError::Conflict) } else { Ok(number) }
            }
        };
        let made = writer.run_all(vec![job(1), job(2), job(3)]);
        assert!(matches!(made[..], [Ok(1), Err(StorageError::Conflict), Ok(3)]), "{made:?}");
        assert_eq!(writer.commits(), 1);
        assert_eq!(writer.run(numbers).unwrap(), [1, 3]);
        writer.close();
        let refused = writer.run_all(vec![job(1), job(2)]);
        assert!(matches!(refused[..], [Err(StorageError::Closed), Err(StorageError::Closed)]));
    }

    #[test]
    fn no_change_waits_for_more_than_so_many() {
        let writer = writer(2 * MOST_TOGETHER);
        let go_on = hold(&writer);
        let waiting: Vec<_> = (0..2 * i64::try_from(MOST_TOGETHER).unwrap())
            .map(|number| put(&writer, move |connection| insert(connection, number)).unwrap())
            .collect();
        go_on.send(()).unwrap();
        for told in waiting {
            told.wait().unwrap();
        }
        assert_eq!(writer.commits(), 3);
    }

    #[test]
    fn a_full_disk_acknowledges_what_is_there_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("numbers.db");
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE numbers (number INTEGER, more BLOB)").unwrap();
        connection.pragma_update(None, "max_page_count", 16).unwrap();
        let writer = start(connection, MOST_TOGETHER);
        let row = |number: i64| {
            move |connection: &Connection| {
                // Every fourth is more than the rest of the disk takes.
                let length = if number % 4 == 3 { 1 << 20 } else { 10 };
                let row = "INSERT INTO numbers VALUES (?1, zeroblob(?2))";
                Ok(connection.execute(row, [number, length])?)
            }
        };
        // SQLite gives up a transaction that the disk is too full for, with all in it: that is the forty's. What comes
        // before and behind has room.
        assert_eq!(writer.run(row(-1)).unwrap(), 1);
        let go_on = hold(&writer);
        let waiting: Vec<_> =
            (0..41_i64).map(|number| (number, put(&writer, row(number)).unwrap())).collect();
        go_on.send(()).unwrap();
        let is_acknowledged =
            |(number, told): (i64, Told<usize>)| told.wait().is_ok().then_some(number);
        let acknowledged: Vec<i64> = waiting.into_iter().filter_map(is_acknowledged).collect();
        writer.close();
        let there = numbers(&Connection::open(&file).unwrap()).unwrap();
        assert_eq!(there, [&[-1], &acknowledged[..]].concat());
        assert_eq!(acknowledged.last(), Some(&40), "{acknowledged:?}");
        assert!(there.iter().all(|number| number % 4 != 3));
    }

    #[test]
    fn a_transaction_that_is_lost_is_told_to_all_who_were_in_it() {
        let writer = writer(MOST_TOGETHER);
        let go_on = hold(&writer);
        let before = put(&writer, |connection| insert(connection, 1)).unwrap();
        // What SQLite does by itself when a disk does not answer.
        let gives_up =
            put(&writer, |connection| Ok(connection.execute_batch("ROLLBACK")?)).unwrap();
        let behind = put(&writer, |connection| insert(connection, 2)).unwrap();
        go_on.send(()).unwrap();
        assert!(matches!(before.wait(), Err(StorageError::NotSynced(_))));
        assert!(matches!(gives_up.wait(), Err(StorageError::NotSynced(_))));
        assert_eq!(behind.wait().unwrap(), 2);
        assert_eq!(writer.run(numbers).unwrap(), [2]);
    }

    #[test]
    fn a_full_queue_says_so_and_closing_finishes_what_waits() {
        let writer = writer(1);
        let go_on = hold(&writer);
        let waits = put(&writer, |connection| insert(connection, 1)).unwrap();
        assert!(matches!(writer.run(|_| Ok(())), Err(StorageError::Busy)));
        go_on.send(()).unwrap();
        writer.close();
        assert_eq!(waits.wait().unwrap(), 1);
        assert!(matches!(writer.run(|_| Ok(())), Err(StorageError::Closed)));
    }
}
