//! One security module as the pool sees it: whether it is asked, and what became of that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::config::MemberConfig;
use super::status::{MemberStatus, WorkerStatus};
use super::wire::Module;
use crate::HsmDescription;

pub(super) struct Member {
    pub(super) config: MemberConfig,
    breaker: Mutex<Breaker>,
    answered: AtomicU64,
    failed: AtomicU64,
    /// As the worker found it that opened it last.
    module: Mutex<Option<Module>>,
}

impl Member {
    pub(super) fn new(config: MemberConfig) -> Self {
        Self {
            config,
            breaker: Mutex::default(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            module: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// Only what follows from a short look or a few words is done under this lock.
    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It answered a call.
    pub(super) fn succeeded(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.breaker().succeeded();
    }

    /// A call came to nothing through its fault.
    pub(super) fn failed(&self, now: Duration, cause: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.breaker().failed(now, cause);
    }

    /// A worker opened its module.
    pub(super) fn opened(&self, module: &Module) {
        *self.module() = Some(module.clone());
    }

    fn module(&self) -> MutexGuard<'_, Option<Module>> {
        self.module.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says of itself, once a worker has opened it.
    pub(super) fn description(&self) -> Option<HsmDescription> {
        self.module().as_ref().map(Module::description)
    }

    pub(super) fn status(&self, workers: Vec<WorkerStatus>) -> MemberStatus {
        let breaker = self.breaker();
        MemberStatus {
            name: self.name().to_owned(),
            breaker: breaker.name(),
            breaker_transitions: breaker.transitions(),
            answered: self.answered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            cause: breaker.cause().map(str::to_owned),
            notice: self.description().map(|description| description.notice),
            report: self.module().as_ref().and_then(|module| module.report.clone()),
            workers,
        }
    }
}
