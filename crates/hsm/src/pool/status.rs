//! How a pool stands, for people and for metrics. Counters only go up while the process lives.

use serde::Serialize;

use crate::pkcs11::ModuleReport;

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolStatus {
    /// Whether some member can be asked.
    pub serves: bool,
    /// Calls that wait for an answer.
    pub waiting: usize,
    /// Questions that went to another member because the first was slow.
    pub hedges: u64,
    /// Questions that went to another worker because the first had failed.
    pub retries: u64,
    /// Calls that were refused because too many waited, nobody served, or the time was over.
    pub refused: u64,
    /// The members, in the order of `hsm.toml`.
    pub members: Vec<MemberStatus>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its name in `hsm.toml`.
    pub name: String,
    /// `closed`: it is asked; `open`: it is not; `half_open`: it is being tried.
    pub breaker: &'static str,
    /// How often that changed.
    pub breaker_transitions: u64,
    /// Questions that it answered.
    pub answered: u64,
    /// Questions that came to nothing through its fault.
    pub failed: u64,
    /// What it said when it failed last.
    pub cause: Option<String>,
    /// What its module says of itself, once it was open.
    pub notice: Option<&'static str>,
    /// What was found out about its module when it was opened first.
    pub report: Option<ModuleReport>,
    /// Its processes.
    pub workers: Vec<WorkerStatus>,
}

/// One worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerStatus {
    /// `starting`, `serving`, `waiting` to be started again, or `halted` until a person has acted.
    pub state: &'static str,
    /// Its process, while there is one.
    pub process: Option<u32>,
    /// Whether its memory is kept out of the swap; not known of one that never served.
    pub is_memory_locked: Option<bool>,
    /// Calls that it owes an answer.
    pub waiting: usize,
    /// Questions that it answered, all its lives together.
    pub answered: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How long it takes for a call, in microseconds; not known before the first.
    pub latency_micros: Option<u64>,
    /// Why it ended last, or does not start.
    pub cause: Option<String>,
}
