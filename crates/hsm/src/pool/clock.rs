//! The one clock of the pool. It only goes forward, and tells how long, never when.

use std::time::{Duration, Instant};

/// A stopwatch that was started with the pool. What decides by time is told the time, so that tests bring
/// their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the single home of the pool's clock")]
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(super) fn now(self) -> Duration {
        self.0.elapsed()
    }
}
