//! Keeping a process that holds keys to itself: no core files, no look from other processes of its user, no swap.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Why memory is not kept out of the swap.
#[derive(Debug, thiserror::Error)]
pub enum NotLocked {
    /// A process that locks all its memory under a limit dies when it needs more than that.
    #[error(
        "only {kib} KiB may be locked; allow all of it: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the \
         service's unit"
    )]
    Limit {
        /// The limit.
        kib: u64,
    },
    /// The system refuses.
    #[error("the system does not lock it: {0}")]
    System(#[from] io::Error),
}

/// Keeps other processes of the same user, debuggers and core files away from this process's memory and
/// environment. Root still reads both.
///
/// # Errors
/// The system refuses.
pub fn forbid_looking() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    Ok(())
}

/// Keeps this process's memory out of the swap, what it has and what it will have.
///
/// # Errors
/// [`NotLocked`]: then nothing is locked.
pub fn lock_memory() -> Result<(), NotLocked> {
    let limit = getrlimit(Resource::Memlock);
    // Whoever may raise the limit, such as root, locks without one.
    let _raised = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })
        .or_else(|_| setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, ..limit }));
    if let Some(bytes) = getrlimit(Resource::Memlock).current
        && !is_above_the_limit()
    {
        return Err(NotLocked::Limit { kib: bytes.checked_div(1024).unwrap_or_default() });
    }
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE;
    // Pages are locked when they are first used: stacks of threads are mostly never used.
    #[cfg(target_os = "linux")]
    let everything = everything | MlockAllFlags::ONFAULT;
    mlockall(everything).map_err(|error| NotLocked::System(error.into()))
}

/// Whether the limit does not count for this process: it has `CAP_IPC_LOCK` (capabilities(7)), as root mostly has.
fn is_above_the_limit() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|effective| effective & CAP_IPC_LOCK != 0)
}
