//! Security modules in processes of their own: several of them, as one [`PaymentHsm`](crate::PaymentHsm).
//!
//! ```text
//! callers ──► HsmPool ──► member "north" ──► worker process ──► PKCS#11 module ──► HSM
//!                │                      └──► worker process
//!                └──────► member "south" ──► ...
//! ```
//!
//! A module that crashes takes its worker along and nobody else; one that hangs is killed; and several processes
//! use several cores, which threads in one process do not, because modules hold a lock around all they do.
//!
//! | file | what |
//! |---|---|
//! | `plan`, `order`, `breaker` | the decisions, as plain functions of the time: when to ask again, whom, and whether at all |
//! | `call`, `making`, `slot` | calls on their way |
//! | `launch`, `worker`, `keeper`, `watch` | how a process starts, a process, the thread that keeps it, the thread that looks after all |
//! | `wire`, `serve` | what goes over the socket, and the worker's side of it |
//! | `verbs` | the verbs, as questions |
//!
//! Invariants:
//! - Callers write their own requests, under a lock that is never held while something is waited for; a write
//!   that would wait ends the worker that does not read.
//! - What only reads may be asked of several modules. What makes keys is asked again only when it is seen that
//!   nothing was made, with whoever might still be at it ended.
//! - Before a change of the catalogue is answered, every living worker has been told to read it, ahead of
//!   whatever it is asked from then on.

mod breaker;
mod call;
mod clock;
mod config;
mod keeper;
mod launch;
mod making;
mod member;
mod order;
mod plan;
mod remarks;
mod serve;
mod shared;
mod slot;
mod status;
mod verbs;
mod watch;
pub mod wire;
mod worker;

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use tapfer_payment_types::{CatalogueMark, RealmId};

pub use self::config::{ConfigError, Limits, MemberConfig, PinSource, PoolConfig};
pub use self::launch::{Assignment, Launcher, Listener, take_assignment};
pub use self::serve::{ServeError, realm_of_catalogue, seclude_process, serve, take_socket};
use self::shared::Shared;
pub use self::status::{MemberStatus, PoolStatus, WorkerStatus};
use crate::{HsmDescription, HsmError, Realm};

/// Why a pool was not launched: no member serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no security module serves ({cause})")]
pub struct NoneServes {
    /// Each member's reason.
    pub cause: String,
    /// Every worker waits until a person has acted: launched again without that, none would serve.
    pub waits_for_people: bool,
}

impl From<NoneServes> for HsmError {
    fn from(NoneServes { cause, .. }: NoneServes) -> Self {
        Self::Down { cause }
    }
}

/// Several security modules as one. See the [module](self).
pub struct HsmPool {
    shared: Arc<Shared>,
    description: HsmDescription,
    threads: Vec<JoinHandle<()>>,
}

impl HsmPool {
    /// Starts the workers of all members and waits until one serves. `command` makes the command of a member's
    /// worker, which calls [`serve`] on the socket that it finds as its standard input; `realm` is the one whose
    /// keys the members must hold, where that is known.
    ///
    /// # Errors
    /// [`HsmError::Down`] if none serves: each member's reason.
    pub fn open(
        config: PoolConfig,
        realm: Option<(Realm, RealmId)>,
        command: impl Fn(&MemberConfig) -> Command + Send + Sync + 'static,
    ) -> Result<Self, HsmError> {
        Ok(Self::launch(config, realm, None, launch::Commands(command))?)
    }

    /// As [`HsmPool::open`], with workers that are told their PIN, and that serve only what comes from the version
    /// of the catalogue that is `known`, where one is.
    ///
    /// # Errors
    /// [`NoneServes`].
    pub fn launch(
        config: PoolConfig,
        realm: Option<(Realm, RealmId)>,
        known: Option<CatalogueMark>,
        launch: impl Launcher,
    ) -> Result<Self, NoneServes> {
        let shared = Shared::new(config.pool, config.members, realm, known, Box::new(launch));
        let shared = Arc::new(shared);
        let mut threads = Vec::new();
        for place in 0..shared.workers.len() {
            let shared = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || keeper::keep(&shared, place)));
        }
        let watched = Arc::clone(&shared);
        threads.push(std::thread::spawn(move || watch::watch(&watched)));
        shared.wait(shared.limits.start(), || {
            shared.description.get().is_some() || shared.all_failed()
        });
        let Some(description) = shared.description.get().copied() else {
            let cause = shared.causes().join("; ");
            let halted = |worker: &worker::Worker| worker.state().phase == worker::Phase::Halted;
            let waits_for_people = shared.workers.iter().all(halted);
            stop(&shared, threads);
            return Err(NoneServes { cause, waits_for_people });
        };
        Ok(Self { shared, description, threads })
    }

    /// How the pool stands.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// Waits until the pool stands as `is_so` says, at most so long. Gives whether it does.
    pub fn wait_until(
        &self,
        at_most: std::time::Duration,
        is_so: impl Fn(&PoolStatus) -> bool,
    ) -> bool {
        self.shared.wait(at_most, || is_so(&self.shared.status()))
    }
}

impl Drop for HsmPool {
    fn drop(&mut self) {
        stop(&self.shared, core::mem::take(&mut self.threads));
    }
}

impl fmt::Debug for HsmPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HsmPool({} members)", self.shared.members.len())
    }
}

fn stop(shared: &Shared, threads: Vec<JoinHandle<()>>) {
    shared.stop();
    for thread in threads {
        // A thread that panicked has nothing left to end.
        let _ended = thread.join();
    }
}
