//! How the security modules stand.

use serde::Serialize;
use tapfer_hsm::HsmDescription;
use tapfer_hsm::pkcs11::ModuleReport;
use tapfer_hsm::pool::{MemberStatus, PoolStatus, WorkerStatus};
use utoipa::ToSchema;

/// The security module, or the pool of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct HsmState {
    /// Whether it can be asked now.
    pub serves: bool,
    /// Why not.
    pub cause: Option<String>,
    /// Name of the backend.
    #[schema(example = "software")]
    pub backend: &'static str,
    /// Whether every module calls itself hardware: their own word, no certificate. `false` if one of them is
    /// software, or has not been asked yet.
    pub says_it_is_hardware: bool,
    /// What a person should know about it.
    pub notice: &'static str,
    /// The pool, if it is one.
    pub pool: Option<Pool>,
}

/// Several modules as one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HsmPool)]
pub struct Pool {
    /// Calls that wait for an answer.
    pub waiting: usize,
    /// Questions that went to another member because the first was slow.
    pub hedges: u64,
    /// Questions that went to another worker because the first had failed.
    pub retries: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// The members, in the order of `hsm.toml`.
    pub members: Vec<Member>,
}

/// One module of a pool.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HsmMember)]
pub struct Member {
    /// Its name in `hsm.toml`.
    pub name: String,
    /// `closed`: it is asked; `open`: it is not; `half_open`: it is being tried.
    #[schema(example = "closed")]
    pub breaker: &'static str,
    /// How often that changed.
    pub breaker_transitions: u64,
    /// Questions that it answered.
    pub answered: u64,
    /// Questions that came to nothing through its fault.
    pub failed: u64,
    /// What it said when it failed last.
    pub cause: Option<String>,
    /// What it says of itself.
    pub notice: Option<&'static str>,
    /// What was found out about it when it was opened.
    pub report: Option<Report>,
    /// Its processes.
    pub workers: Vec<Worker>,
}

/// What a PKCS#11 module is and does, tried with published keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HsmReport)]
pub struct Report {
    /// Who made the library, what it calls itself, and its version of PKCS#11.
    pub module: String,
    /// The token: slot, label, serial number, maker, model.
    pub token: String,
    /// Three bytes of what each root key does: members of a realm show the same.
    #[schema(example = "sealing 7F30A1, releasing 0C44E9")]
    pub roots: String,
    /// What is done where.
    pub capabilities: Vec<Capability>,
}

/// One operation of a module.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HsmCapability)]
pub struct Capability {
    /// What is done.
    #[schema(example = "cryptograms (AES-CMAC)")]
    pub operation: String,
    /// `inside`, `in locked memory`, or `missing`.
    #[schema(example = "inside")]
    pub place: String,
    /// By which mechanism, or why not inside.
    #[schema(example = "CKM_AES_CMAC")]
    pub how: String,
}

/// One process of a module.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HsmWorker)]
pub struct Worker {
    /// `starting`, `serving`, `waiting` to be started again, or `halted` until a person has acted.
    #[schema(example = "serving")]
    pub state: &'static str,
    /// Its process id.
    pub process: Option<u32>,
    /// Whether its memory is kept out of the swap; not known of one that never served.
    pub is_memory_locked: Option<bool>,
    /// Calls that it owes an answer.
    pub waiting: usize,
    /// Questions that it answered.
    pub answered: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How long it takes for a call, in microseconds; not known before the first.
    pub latency_micros: Option<u64>,
    /// Why it ended last, or does not start.
    pub cause: Option<String>,
}

impl HsmState {
    /// What is shown of a module.
    #[must_use]
    pub fn new(
        description: HsmDescription,
        cause: Option<String>,
        pool: Option<PoolStatus>,
    ) -> Self {
        let HsmDescription { backend, says_it_is_hardware, notice, .. } = description;
        let pool = pool.map(Pool::from);
        Self { serves: cause.is_none(), cause, backend, says_it_is_hardware, notice, pool }
    }
}

impl From<PoolStatus> for Pool {
    fn from(status: PoolStatus) -> Self {
        let PoolStatus { serves: _, waiting, hedges, retries, refused, members } = status;
        let members = members.into_iter().map(Member::from).collect();
        Self { waiting, hedges, retries, refused, members }
    }
}

impl From<MemberStatus> for Member {
    fn from(status: MemberStatus) -> Self {
        Self {
            name: status.name,
            breaker: status.breaker,
            breaker_transitions: status.breaker_transitions,
            answered: status.answered,
            failed: status.failed,
            cause: status.cause,
            notice: status.notice,
            report: status.report.map(Report::from),
            workers: status.workers.into_iter().map(Worker::from).collect(),
        }
    }
}

impl From<ModuleReport> for Report {
    fn from(report: ModuleReport) -> Self {
        let capabilities = report.capabilities.into_iter().map(|one| Capability {
            operation: one.operation.to_string(),
            place: one.place.to_string(),
            how: one.how,
        });
        Self {
            module: report.module,
            token: report.token,
            roots: report.roots.to_string(),
            capabilities: capabilities.collect(),
        }
    }
}

impl From<WorkerStatus> for Worker {
    fn from(status: WorkerStatus) -> Self {
        Self {
            state: status.state,
            process: status.process,
            is_memory_locked: status.is_memory_locked,
            waiting: status.waiting,
            answered: status.answered,
            restarts: status.restarts,
            latency_micros: status.latency_micros,
            cause: status.cause,
        }
    }
}
