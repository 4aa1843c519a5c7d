//! What callers, keepers and the watch have in common.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use super::clock::Stopwatch;
use super::config::{Limits, MemberConfig};
use super::launch::Launcher;
use super::member::Member;
use super::status::PoolStatus;
use super::wire::{self, Request};
use super::worker::{Phase, Purpose, Question, Worker};
use crate::{HsmDescription, Realm};
use tapfer_payment_types::{CatalogueMark, RealmId};

pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) members: Vec<Member>,
    pub(super) workers: Vec<Worker>,
    pub(super) launch: Box<dyn Launcher>,
    /// Which realm the members must hold the keys of.
    pub(super) realm: Option<(Realm, RealmId)>,
    pub(super) description: OnceLock<HsmDescription>,
    pub(super) clock: Stopwatch,
    pub(super) turn: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) hedges: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) refused: AtomicU64,
    /// How often the catalogue was changed through this pool.
    pub(super) changes: AtomicU64,
    lineage: Mutex<Lineage>,
    stopping: AtomicBool,
    /// Held to change what others wait for here.
    gate: Mutex<()>,
    moved: Condvar,
}

/// Versions of the catalogue that were used. No worker serves whose catalogue does not come from both.
struct Lineage {
    /// The one that the platform's database knows, whatever the workers say: they read the file, and the file may be
    /// somebody's.
    told: Option<CatalogueMark>,
    /// The newest that a worker has used.
    newest: Option<CatalogueMark>,
}

impl Shared {
    pub(super) fn new(
        limits: Limits,
        members: Vec<MemberConfig>,
        realm: Option<(Realm, RealmId)>,
        known: Option<CatalogueMark>,
        launch: Box<dyn Launcher>,
    ) -> Self {
        let clock = Stopwatch::start();
        let numbered = members.iter().enumerate();
        let workers = numbered
            .flat_map(|(place, member)| {
                (0..member.workers).map(move |_| Worker::new(place, clock.now()))
            })
            .collect();
        Self {
            limits,
            members: members.into_iter().map(Member::new).collect(),
            workers,
            launch,
            realm,
            description: OnceLock::new(),
            clock,
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            hedges: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            lineage: Mutex::new(Lineage { told: known, newest: known }),
            stopping: AtomicBool::new(false),
            gate: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    pub(super) fn member_of(&self, worker: &Worker) -> Option<&Member> {
        self.members.get(worker.member)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Ends all workers and wakes who waits.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
        for worker in &self.workers {
            worker.state().end("the pool is closed");
        }
    }

    /// Something happened that somebody may wait for.
    pub(super) fn wake(&self) {
        let _gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        self.moved.notify_all();
    }

    /// Waits until `is_there`, the pool stops, or the time is over.
    pub(super) fn wait(&self, at_most: Duration, is_there: impl Fn() -> bool) -> bool {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |(): &mut ()| !self.is_stopping() && !is_there();
        let waited = self.moved.wait_timeout_while(gate, at_most, goes_on);
        drop(waited);
        is_there()
    }

    fn lineage(&self) -> MutexGuard<'_, Lineage> {
        self.lineage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The platform's database knows this version, which may be another one than the workers have used.
    pub(super) fn told_of(&self, known: &CatalogueMark) {
        self.lineage().told = Some(*known);
    }

    /// The version that the platform's database knew last.
    pub(super) fn told(&self) -> Option<CatalogueMark> {
        self.lineage().told
    }

    /// A worker has used a version. An older one is forgotten for it.
    pub(super) fn remember(&self, used: &CatalogueMark) {
        let newest = &mut self.lineage().newest;
        if newest.is_none_or(|newest| newest.version <= used.version) {
            *newest = Some(*used);
        }
    }

    /// Tells every worker but one that the catalogue has changed. Workers do first what they are told first: what
    /// is asked of them from now on, they do with the new catalogue.
    pub(super) fn broadcast_change(&self, maker: Option<usize>) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        for (place, worker) in self.workers.iter().enumerate() {
            if Some(place) != maker {
                // Who is away reads the catalogue when it comes back.
                self.refresh(worker);
            }
        }
    }

    /// Tells a worker to follow the catalogue, ahead of what it is asked from now on.
    pub(super) fn refresh(&self, worker: &Worker) {
        for frame in self.follow_newest().iter().filter_map(framed) {
            let patience = self.limits.deadline();
            let question = Question::new(Purpose::Refresh, self.clock.now(), patience);
            let _told = worker.ask(&frame, question);
        }
    }

    /// What every worker is asked before it serves, and whenever the catalogue has changed: never nothing.
    pub(super) fn follow_newest(&self) -> Vec<Request<'static>> {
        let Lineage { told, newest } = *self.lineage();
        let mut known = vec![told.or(newest)];
        if newest.is_some() && !known.contains(&newest) {
            known.push(newest);
        }
        known.into_iter().map(|known| Request::FollowCatalogue { known }).collect()
    }

    pub(super) fn status(&self) -> PoolStatus {
        let of_member = |(place, member): (usize, &Member)| {
            let workers = self.workers.iter().filter(|worker| worker.member == place);
            member.status(workers.map(Worker::status).collect())
        };
        PoolStatus {
            serves: self.serves(),
            waiting: self.waiting.load(Ordering::Relaxed),
            hedges: self.hedges.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            members: self.members.iter().enumerate().map(of_member).collect(),
        }
    }

    /// Whether some worker can be asked now.
    pub(super) fn serves(&self) -> bool {
        self.workers.iter().any(|worker| {
            let serves = worker.standing(self.clock.now(), &self.limits).is_ok();
            serves && self.member_of(worker).is_some_and(|member| member.breaker().admits())
        })
    }

    /// Why nobody can be asked, for each member once.
    pub(super) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        for worker in &self.workers {
            let Some(member) = self.member_of(worker) else { continue };
            let now = self.clock.now();
            let why = match worker.standing(now, &self.limits) {
                Err(super::worker::Unfit::Away(why)) => why,
                Err(super::worker::Unfit::Full(_)) => "too many calls wait".to_owned(),
                Ok(_) => member.breaker().cause().unwrap_or("it failed too often").to_owned(),
            };
            let cause = format!("{}: {why}", member.name());
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        causes
    }

    /// Whether every worker has tried to start and none serves, or may.
    pub(super) fn all_failed(&self) -> bool {
        let tried = |worker: &Worker| {
            let state = worker.state();
            state.is_kept_out || matches!(state.phase, Phase::Waiting | Phase::Halted)
        };
        self.workers.iter().all(tried)
    }
}

/// A request in a frame, to be sent under any id. `None`: it is too large.
pub(super) fn framed(request: &Request<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let mut frame = Zeroizing::new(Vec::new());
    wire::append(&mut frame, 0, request).ok().map(|()| frame)
}
