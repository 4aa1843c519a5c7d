//! A machine that runs the platform: it is started over files, asked, dies, and is started again over what is left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapfer_hsm::Unlock;
use tapfer_payment_types::{Currency, Timestamp};
use tapfer_server::Realm;
use tapfer_server::clock::{Clock as _, SharedClock};
use tapfer_server::in_process::{Answer, Call, InProcess, Surroundings};
use tapfer_storage::faults::SharedFaults;
use tapfer_storage::sqlite::simulated::{SimulatedNode, SimulatedServer};
use tapfer_storage::{StandInLimits, StandInStatus, Storage};

use crate::SimulationError;
use crate::chance::{Chance, SeededEntropy};
use crate::clock::MachineClock;
use crate::disk;
use crate::faults::{Death, Died, Loss, Machine, Work};

/// The key of every simulated realm's keystore: it protects nothing, and needs no Argon2.
const UNLOCK: [u8; 32] = [0x42; 32];

/// What a node of several may decide alone: so little that it is reached.
pub(crate) const LIMITS: StandInLimits = StandInLimits {
    currency: Currency::EUR,
    payment_minor: 1_200,
    token_payments: 1,
    token_minor: 1_200,
    node_payments: 2,
    node_minor: 1_500,
    minutes: 1,
    known_minutes: 2,
};

/// Opens the keystore of a simulated realm.
pub(crate) const fn unlock() -> Unlock {
    Unlock::Key(tapfer_payment_types::Secret::new(UNLOCK))
}

/// What came of asking.
pub(crate) enum Asked {
    /// An answer to each.
    Answered(Vec<Answer>),
    /// The machine died between these steps. Nobody hears anything.
    Died(String),
}

/// What came of switching a machine on.
pub(crate) enum Started {
    /// It serves.
    Serves,
    /// It died between these steps.
    Died(String),
    /// What it has decided alone is not booked yet: it does not serve before.
    Waits,
}

/// The machine with the platform on it.
pub(crate) struct Node {
    directory: PathBuf,
    seed: u64,
    /// Which of several.
    number: u64,
    /// The database that it shares with others, if it has none of its own.
    server: Option<Arc<SimulatedServer>>,
    /// Its own store there, while it is up.
    database: Option<Arc<SimulatedNode>>,
    is_away: bool,
    /// Whether it decided alone what it was asked last.
    was_alone: bool,
    /// Whether it has asked for all that it did not hear.
    has_caught_up: bool,
    life: u64,
    clock: MachineClock,
    platform: Option<InProcess>,
    machine: Arc<Machine>,
    hsm_is_down: bool,
    disk_is_full: bool,
}

impl Node {
    /// A machine that is switched off, with a copy of these files, under a directory of its own.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub(crate) fn with_files(
        files: &Path,
        directory: &Path,
        seed: u64,
        now: Timestamp,
    ) -> Result<Self, SimulationError> {
        let node = Self {
            directory: directory.to_owned(),
            seed,
            number: 0,
            server: None,
            database: None,
            is_away: false,
            was_alone: false,
            has_caught_up: true,
            life: 0,
            clock: MachineClock::showing(now),
            platform: None,
            machine: Arc::default(),
            hsm_is_down: false,
            disk_is_full: false,
        };
        disk::copy(files, &node.home(0))?;
        Ok(node)
    }

    /// One of several machines at one database: of the files it has all but that.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub(crate) fn at_server(
        files: &Path,
        directory: &Path,
        (seed, number): (u64, u64),
        now: Timestamp,
        server: &Arc<SimulatedServer>,
    ) -> Result<Self, SimulationError> {
        let directory = directory.join(format!("node-{number}"));
        std::fs::create_dir(&directory)?;
        let node = Self::with_files(files, &directory, seed, now)?;
        std::fs::remove_file(node.home(0).join(disk::DATABASE))?;
        Ok(Self { number, server: Some(Arc::clone(server)), ..node })
    }

    fn home(&self, life: u64) -> PathBuf {
        self.directory.join(format!("life-{life}"))
    }

    /// Whether it does not reach the database that it shares.
    pub(crate) const fn is_away(&self) -> bool {
        self.is_away
    }

    pub(crate) fn set_away(&mut self, is_away: bool) {
        self.is_away = is_away;
        self.machine.set_away(is_away);
        if let (true, Some(database)) = (is_away, &self.database) {
            database.is_cut_off();
        }
    }

    /// Looks whether the database is there, and hears its news from then on. Whether it did not before.
    pub(crate) fn looks_for_database(&mut self) -> bool {
        let Some(database) = &self.database else { return false };
        let listened = database.listens();
        database.looks_for_server();
        self.has_caught_up &= listened;
        !listened && database.listens()
    }

    /// Whether it knows what others have taken out of service.
    pub(crate) fn is_told(&self) -> bool {
        self.has_caught_up && self.database.as_ref().is_some_and(|database| database.listens())
    }

    /// How it stands in for its database; nothing while it is down.
    pub(crate) fn stands_in(&self) -> Option<StandInStatus> {
        self.platform.as_ref()?.storage().stand_in()
    }

    /// Whether it is alone.
    pub(crate) fn is_alone(&self) -> bool {
        self.stands_in().is_some_and(|status| status.since.is_some() && !status.is_booking)
    }

    /// Whether it was alone when it was asked last.
    pub(crate) const fn was_alone(&self) -> bool {
        self.was_alone
    }

    /// Whether everything that it decided alone is booked, and it asks the database.
    pub(crate) fn has_booked(&self) -> bool {
        self.stands_in().is_some_and(|status| status.since.is_none() && status.unbooked == 0)
    }

    /// Whether something that it decided alone is not booked.
    pub(crate) fn has_notes(&self) -> bool {
        self.stands_in().is_some_and(|status| status.unbooked > 0)
    }

    /// Which life it leads: what it has seen in one it does not know in the next.
    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    /// What its clock shows.
    pub(crate) fn time(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does a round of what it does beside its work: books, and asks what it has not heard. How it died, if it did.
    ///
    /// # Errors
    /// Its files cannot be copied.
    pub(crate) fn goes_round(&mut self) -> Result<Option<String>, SimulationError> {
        let Some(database) = self.database.clone().filter(|_| self.is_up()) else {
            return Ok(None);
        };
        database.goes_round();
        self.was_alone = self.is_alone();
        let died = self.machine.work_is_done();
        self.has_caught_up |= died.is_none() && database.listens() && !self.machine.is_away();
        died.map(|died| self.dies(died)).transpose()
    }

    /// Whether its server went with the transaction that it lost, which nobody else knows yet.
    pub(crate) fn has_lost_server(&self) -> bool {
        !self.is_away && self.machine.is_away()
    }

    pub(crate) fn fails_over(&self, loss: Loss) {
        self.machine.fails_over(loss);
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.platform.is_some()
    }

    pub(crate) fn set_clock(&self, time: Timestamp) {
        self.clock.set(time);
    }

    pub(crate) fn set_hsm_down(&mut self, is_down: bool) {
        self.hsm_is_down = is_down;
        self.machine.set_hsm_down(is_down);
    }

    pub(crate) fn set_disk_full(&mut self, is_full: bool) {
        self.disk_is_full = is_full;
        self.machine.set_disk_full(is_full);
    }

    pub(crate) fn lose(&self, loss: Loss) {
        self.machine.lose(loss);
    }

    pub(crate) fn will_die(&self, death: Death) {
        self.machine.will_die(death);
    }

    /// Lets somebody look at the store; nobody does while the machine is down. What is looked up has no fault.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&dyn Storage) -> T) -> Option<T> {
        let platform = self.platform.as_ref()?;
        self.machine.look(true);
        let seen = look(platform.storage());
        self.machine.look(false);
        Some(seen)
    }

    pub(crate) fn set_catches_up(&self, payments: usize) {
        self.machine.set_catches_up(payments);
    }

    /// Switches the machine on. What happens while it starts: a death, and it is down again; a transaction is lost.
    ///
    /// # Errors
    /// The platform does not start over its files, which is for the auditor.
    pub(crate) fn start(
        &mut self,
        death: Option<Death>,
        loss: Option<Loss>,
    ) -> Result<Started, SimulationError> {
        let (home, next) = (self.home(self.life), self.home(self.life.saturating_add(1)));
        self.machine = Arc::new(Machine::new(home.clone(), next, self.server.is_some()));
        // Modules and a disk that do not serve now are waited for: nobody starts a platform without them.
        if let Some(death) = death {
            self.machine.will_die(death);
        }
        if let Some(loss) = loss {
            self.machine.fails_over(loss);
        }
        self.has_caught_up = true;
        let started = self.platform_over(&home);
        let has_died = self.machine.has_died();
        let has_lost_server = self.machine.is_away();
        let is_disturbed = death.is_some() || loss.is_some();
        let died = if is_disturbed { self.machine.work_is_done() } else { None };
        match started {
            Ok(platform) => self.platform = Some(platform),
            // A server hears nothing of a machine that is dead.
            Err(_) if has_died && self.server.is_some() => {}
            Err(_) if has_lost_server => {
                self.database = None;
                return Ok(Started::Waits);
            }
            Err(error) => return Err(error),
        }
        self.machine.set_hsm_down(self.hsm_is_down);
        self.machine.set_disk_full(self.disk_is_full);
        if !has_lost_server {
            self.machine.set_away(self.is_away);
        }
        Ok(match died {
            Some(died) => Started::Died(self.dies(died)?),
            None => Started::Serves,
        })
    }

    fn platform_over(&mut self, home: &Path) -> Result<InProcess, SimulationError> {
        let faults: SharedFaults = Arc::<Machine>::clone(&self.machine);
        let realm = match &self.server {
            None => Realm::open_with_faults(home, &unlock(), faults)?,
            Some(server) => {
                let database = self.database.insert(SimulatedNode::at(server, faults));
                Realm::open_over(home, &unlock(), database, Some(LIMITS))?
            }
        };
        let clock: SharedClock = Arc::new(self.clock.clone());
        let of_life = self.number.saturating_mul(100_000).saturating_add(self.life);
        let entropy = SeededEntropy::new(Chance::new(self.seed, of_life.saturating_add(1_000)));
        let hsm = Arc::<Machine>::clone(&self.machine);
        let surroundings = Surroundings { clock, entropy: Arc::new(entropy), hsm };
        Ok(InProcess::start(realm, surroundings)?)
    }

    /// Hands requests in together; somebody else does his work while this machine waits for its security module, or behind it.
    ///
    /// # Errors
    /// As [`Node::ask`].
    pub(crate) fn ask_meanwhile(
        &mut self,
        calls: Vec<Call>,
        work: Work,
    ) -> Result<Asked, SimulationError> {
        self.machine.meanwhile(work);
        let machine = Arc::clone(&self.machine);
        let asked = self.ask(calls);
        machine.meanwhile_is_over();
        asked
    }

    /// Hands requests in together.
    ///
    /// # Errors
    /// The machinery of the simulation failed.
    pub(crate) fn ask(&mut self, calls: Vec<Call>) -> Result<Asked, SimulationError> {
        let Some(platform) = &self.platform else {
            return Ok(Asked::Died("before it was asked".to_owned()));
        };
        let answers = platform.ask(calls)?;
        self.was_alone = self.is_alone();
        match self.machine.work_is_done() {
            None => Ok(Asked::Answered(answers)),
            Some(died) => self.dies(died).map(Asked::Died),
        }
    }

    /// Stops the platform as its operator does, so that its files are as it wants them, and another life may begin.
    pub(crate) fn stop(&mut self) {
        self.database = None;
        if let Some(platform) = self.platform.take() {
            platform.stop();
        }
    }

    fn dies(&mut self, died: Died) -> Result<String, SimulationError> {
        died.files?;
        self.stop();
        std::fs::remove_dir_all(self.home(self.life))?;
        self.life = self.life.saturating_add(1);
        Ok(died.when)
    }
}
