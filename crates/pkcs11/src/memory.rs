//! Memory that neither the swap device nor a core dump gets to see.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Why the memory of this process could not be protected.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The system does not lock so much memory.
    #[error(
        "cannot lock this process's memory: {0}; allow it with `ulimit -l unlimited`, systemd's \
         LimitMEMLOCK=infinity, or the capability CAP_IPC_LOCK"
    )]
    Lock(#[source] std::io::Error),
    /// The process stays readable.
    #[error("cannot keep this process from being dumped: {0}")]
    Dumpable(#[source] std::io::Error),
}

/// Keeps all memory of this process, present and future, out of swap (`mlockall`), and the process out of
/// core dumps and other processes' `ptrace` (`PR_SET_DUMPABLE`). Whoever is root reads it all the same.
///
/// # Errors
/// The system refuses; what to allow is in the text.
pub fn lock_process_memory() -> Result<(), MemoryError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| MemoryError::Dumpable(error.into()))?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|error| MemoryError::Lock(error.into()))
}
