//! What goes wrong inside a machine that runs the platform, and when.
//!
//! A machine that dies is not torn out of its work: at the moment of its death its files are copied as the disk has
//! them, and whatever it still does afterwards happens to files that nobody will read, and is heard by nobody. So it can
//! die between any two steps, and everything stays in order for whoever repeats it.

use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tapfer_server::in_process::{HsmFault, HsmFaults};
use tapfer_storage::faults::{Fault, Faults, Moment};

use crate::disk::{self, SyncedLog, Tail};

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
}

/// A machine that died.
#[derive(Debug)]
pub(crate) struct Died {
    /// Between which steps.
    pub(crate) when: &'static str,
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
    synced: SyncedLog,
    died: Option<Died>,
    in_transaction: bool,
    /// Somebody looks, and nothing happens to the machine.
    is_looked_at: bool,
    /// Whether the store's tables catch up with its journal behind the next transactions.
    catches_up: bool,
}

/// The faults of one machine, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    state: Mutex<State>,
    changed: Condvar,
}

impl Machine {
    /// A machine whose files are in `home`, and will be in `next_home` if it dies.
    pub(crate) fn new(home: PathBuf, next_home: PathBuf) -> Self {
        let state = State { home, next_home, ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
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

    /// Whether the store's tables catch up with its journal from here on.
    pub(crate) fn set_catches_up(&self, catches_up: bool) {
        self.state().catches_up = catches_up;
    }

    /// The work is done: if the machine was to die and has not, it does before anybody hears of it.
    pub(crate) fn work_is_done(&self) -> Option<Died> {
        let state = self.state();
        let mut state = self
            .changed
            .wait_while(state, |state| state.in_transaction)
            .unwrap_or_else(PoisonError::into_inner);
        if state.death.take().is_some() {
            state.dies("when its work was done and nobody had heard of it", Tail::Whole);
        }
        state.loss = None;
        state.died.take()
    }
}

impl State {
    /// One moment further: whether the machine dies here.
    fn passes(&mut self, when: &'static str, may_be_torn: bool) {
        match &mut self.death {
            Some(Death { moments_left: 0, tail }) => {
                let tail = if may_be_torn { *tail } else { Tail::Whole };
                let when = match tail {
                    Tail::Whole => when,
                    Tail::Cut(_) => "while it synced a transaction; the end of the log is missing",
                    Tail::Sectors(_) => {
                        "while it synced a transaction; sectors of the log are missing"
                    }
                };
                self.dies(when, tail);
            }
            Some(death) => death.moments_left = death.moments_left.saturating_sub(1),
            None => {}
        }
    }

    fn dies(&mut self, when: &'static str, tail: Tail) {
        self.death = None;
        let files = disk::after_power_loss(&self.home, &self.next_home, &self.synced, tail);
        self.died = Some(Died { when, files });
    }
}

impl Faults for Machine {
    fn at(&self, moment: Moment) -> Option<Fault> {
        let mut state = self.state();
        if state.is_looked_at {
            return None;
        }
        match moment {
            Moment::Begins => {
                state.in_transaction = true;
                if state.death.is_some() {
                    state.synced = SyncedLog::of(&state.home).unwrap_or_default();
                }
                state.passes("before a transaction", false);
                state.disk_is_full.then_some(Fault::DiskFull)
            }
            Moment::Made => {
                state.passes("in a transaction, before it was written", false);
                state.loss.take_if(|loss| *loss == Loss::Transaction).map(|_| Fault::Lost)
            }
            Moment::Over { synced } => {
                let when = "behind a transaction, before anybody was told";
                state.passes(when, synced);
                state.in_transaction = false;
                self.changed.notify_all();
                let lost = state.loss.take_if(|loss| synced && *loss == Loss::Answer);
                lost.map(|_| Fault::Lost)
            }
        }
    }

    fn catches_up(&self) -> Option<bool> {
        Some(self.state().catches_up)
    }
}

impl HsmFaults for Machine {
    fn before_call(&self) -> HsmFault {
        let mut state = self.state();
        state.passes("before it asked the security module", false);
        state.fault()
    }

    fn behind_call(&self) -> HsmFault {
        let mut state = self.state();
        state.passes("when the security module had answered", false);
        state.fault()
    }
}

impl State {
    const fn fault(&self) -> HsmFault {
        if self.hsm_is_down { HsmFault::Down } else { HsmFault::None }
    }
}
