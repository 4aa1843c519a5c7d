//! What goes wrong inside a machine that runs the platform, and when.
//!
//! A machine that dies is not torn out of its work: at the moment of its death its files are copied as the disk has
//! them, and whatever it still does afterwards happens to files that nobody will read, and is heard by nobody. So it can
//! die between any two steps, and everything stays in order for whoever repeats it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tapfer_server::in_process::{HsmFault, HsmFaults};
use tapfer_storage::faults::{Fault, Faults, Moment};

use crate::disk::{self, SyncedLog, Tail};

/// Where a transaction that was made may still have been on its way to the disk.
const OVER: &str = "behind a transaction, before anybody was told";

/// A death that is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// So many moments are survived.
    pub(crate) moments_left: u32,
    /// What had reached the disk, if it comes between a commit and its answer.
    pub(crate) tail: Tail,
}

/// What becomes of the next transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is lost, and its caller hears that nobody knows.
    Transaction,
    /// It stands, and its caller hears the same.
    Answer,
    /// It stands, and what the tables learn behind it is lost. Nobody waits for that.
    CatchUp,
}

/// A machine that died.
#[derive(Debug)]
pub(crate) struct Died {
    /// Between which steps.
    pub(crate) when: String,
    /// Whether its files could be copied.
    pub(crate) files: io::Result<()>,
}

#[derive(Debug, Default)]
struct State {
    home: PathBuf,
    next_home: PathBuf,
    hsm_is_down: bool,
    disk_is_full: bool,
    loss: Option<Loss>,
    death: Option<Death>,
    /// The log as it was synced last, if something may have been written behind that since.
    synced: Option<SyncedLog>,
    died: Option<Died>,
    in_transaction: bool,
    /// Somebody looks, and nothing happens to the machine.
    is_looked_at: bool,
    /// By how many payments the store's tables catch up with its journal behind the next transactions.
    catches_up: usize,
    /// Its database is a server's, which goes on when it dies.
    is_at_server: bool,
    /// It does not reach that.
    is_away: bool,
    /// It does not any more behind the transaction that is lost, or whose answer is.
    goes_away: bool,
}

/// What somebody else does while this machine waits for its security module.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Meanwhile(Mutex<Option<Work>>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// The faults of one machine, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    state: Mutex<State>,
    changed: Condvar,
    meanwhile: Meanwhile,
}

impl Machine {
    /// A machine whose files are in `home`, and will be in `next_home` if it dies.
    pub(crate) fn new(home: PathBuf, next_home: PathBuf, is_at_server: bool) -> Self {
        let state = State { home, next_home, is_at_server, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// Whether its database's server is out of reach.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    pub(crate) fn is_away(&self) -> bool {
        self.state().is_away
    }

    /// Loses the next transaction, or the word of it, and the server with it.
    pub(crate) fn fails_over(&self, loss: Loss) {
        let mut state = self.state();
        (state.loss, state.goes_away) = (Some(loss), true);
    }

    /// Whether it has died in what it does now.
    pub(crate) fn has_died(&self) -> bool {
        self.state().died.is_some()
    }

    /// Somebody else is to do this as soon as this machine has asked its security module.
    pub(crate) fn meanwhile(&self, work: Work) {
        *self.meanwhile.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    }

    /// Now at the latest.
    pub(crate) fn meanwhile_is_over(&self) {
        let work = self.meanwhile.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            // Its thread is another's: it waits for its own answers.
            let _ended = thread::spawn(work).join();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_hsm_down(&self, is_down: bool) {
        self.state().hsm_is_down = is_down;
    }

    pub(crate) fn set_disk_full(&self, is_full: bool) {
        self.state().disk_is_full = is_full;
    }

    /// Loses the next transaction, or the word of it.
    pub(crate) fn lose(&self, loss: Loss) {
        self.state().loss = Some(loss);
    }

    /// Lets the machine die in what it does next.
    pub(crate) fn will_die(&self, death: Death) {
        self.state().death = Some(death);
    }

    /// Somebody begins to look at the store, or has done so.
    pub(crate) fn look(&self, is_looked_at: bool) {
        self.state().is_looked_at = is_looked_at;
    }

    /// By how many payments the store's tables catch up with its journal behind each transaction from here on.
    pub(crate) fn set_catches_up(&self, payments: usize) {
        self.state().catches_up = payments;
    }

    /// The work is done: if the machine was to die and has not, it does before anybody hears of it.
    pub(crate) fn work_is_done(&self) -> Option<Died> {
        let state = self.state();
        let mut state = self
            .changed
            .wait_while(state, |state| state.in_transaction)
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(death) = state.death.take() {
            state.dies("when its work was done and nobody had heard of it", death.tail);
        }
        (state.loss, state.goes_away) = (None, false);
        state.died.take()
    }
}

impl State {
    /// Whether no server hears it: what it does behind its death is nobody's.
    const fn is_cut_off(&self) -> bool {
        self.is_at_server && (self.is_away || self.died.is_some())
    }

    /// One moment further: whether the machine dies here.
    fn passes(&mut self, when: &'static str) {
        match &mut self.death {
            Some(Death { moments_left: 0, tail }) => {
                let tail = *tail;
                self.dies(when, tail);
            }
            Some(death) => death.moments_left = death.moments_left.saturating_sub(1),
            None => {}
        }
    }

    /// From here on something is written that is not synced: of interest if the machine is to die.
    fn writes(&mut self) {
        let is_of_interest = self.death.is_some();
        self.synced = is_of_interest.then(|| SyncedLog::of(&self.home).unwrap_or_default());
    }

    fn dies(&mut self, when: &'static str, tail: Tail) {
        self.death = None;
        let synced = self.synced.take();
        let torn = disk::after_power_loss(&self.home, &self.next_home, synced.as_ref(), tail);
        let missing = match tail {
            Tail::Whole => "nothing is missing",
            Tail::Cut(_) => "the end of the log is missing",
            Tail::Sectors(_) => "sectors of the log are missing",
        };
        let when = match torn {
            Ok(true) if when == OVER => format!("while it synced a transaction; {missing}"),
            Ok(true) => format!("{when}; {missing}"),
            _ => when.to_owned(),
        };
        self.died = Some(Died { when, files: torn.map(drop) });
    }
}

impl Faults for Machine {
    fn at(&self, moment: Moment) -> Option<Fault> {
        let mut state = self.state();
        if state.is_looked_at {
            return None;
        }
        match moment {
            Moment::Asked => state.is_cut_off().then_some(Fault::Away),
            Moment::Begins => {
                state.in_transaction = true;
                state.passes("before a transaction");
                state.writes();
                match state.is_cut_off() {
                    true => Some(Fault::Away),
                    false => state.disk_is_full.then_some(Fault::DiskFull),
                }
            }
            Moment::Made => {
                state.passes("in a transaction, before it was written");
                // Its connection ends with it, and what it had not committed.
                if state.is_cut_off() {
                    return Some(Fault::Lost);
                }
                let lost = state.loss.take_if(|loss| *loss == Loss::Transaction);
                state.is_away |= lost.is_some() && state.goes_away;
                lost.map(|_| Fault::Lost)
            }
            Moment::Over { synced } => {
                state.passes(OVER);
                state.synced = None;
                state.in_transaction = false;
                self.changed.notify_all();
                let lost = state.loss.take_if(|loss| synced && *loss == Loss::Answer);
                state.is_away |= lost.is_some() && state.goes_away;
                lost.map(|_| Fault::Lost)
            }
            Moment::CatchUpBegins => {
                state.passes("before its tables caught up with its journal");
                state.writes();
                state.disk_is_full.then_some(Fault::DiskFull)
            }
            Moment::CatchUpMade => {
                state.passes("while its tables caught up with its journal");
                state.loss.take_if(|loss| *loss == Loss::CatchUp).map(|_| Fault::Lost)
            }
            // What lies there then is tried by the store's own tests, with a copy of each.
            Moment::LogBegun | Moment::Marked | Moment::Folded | Moment::Unmarked => None,
            // In what order they come is tried there as well.
            Moment::TornCopied | Moment::FileSynced | Moment::FolderSynced => None,
            Moment::NoteBegins => {
                state.passes("before it noted what it decides alone");
                state.writes();
                state.disk_is_full.then_some(Fault::DiskFull)
            }
            Moment::NoteWritten => {
                state.passes("while it noted what it decides alone");
                state.loss.take_if(|loss| *loss != Loss::CatchUp).map(|_| Fault::Lost)
            }
            Moment::NoteKept => {
                state.passes("when it had noted what it decides alone");
                state.synced = None;
                None
            }
            Moment::NotesBooked => {
                state.passes("when all was booked, with its notes still there");
                state.writes();
                None
            }
            Moment::NotesGone => {
                state.passes("when all was booked, and its notes were taken away");
                state.synced = None;
                None
            }
            Moment::CatchUpOver => {
                state.passes("when its tables had caught up with its journal");
                state.synced = None;
                None
            }
        }
    }

    fn catches_up(&self) -> Option<usize> {
        Some(self.state().catches_up)
    }
}

impl HsmFaults for Machine {
    fn before_call(&self) -> HsmFault {
        let mut state = self.state();
        state.passes("before it asked the security module");
        state.fault()
    }

    fn behind_call(&self) -> HsmFault {
        let mut state = self.state();
        state.passes("when the security module had answered");
        let fault = state.fault();
        drop(state);
        self.meanwhile_is_over();
        fault
    }
}

impl State {
    const fn fault(&self) -> HsmFault {
        if self.hsm_is_down { HsmFault::Down } else { HsmFault::None }
    }
}
