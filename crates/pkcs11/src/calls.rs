//! How many calls a module was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts every `C_` function that was called, with those that ask for a length. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<AtomicU64>);

impl Calls {
    /// How many calls there were since the module was first loaded.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, calls: u64) {
        self.0.fetch_add(calls, Ordering::Relaxed);
    }
}
