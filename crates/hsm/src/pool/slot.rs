//! Where one caller waits for what comes of its questions.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

/// What came of one question.
pub(super) enum Event {
    /// The worker's answer, still encoded.
    Answered {
        /// Which worker.
        worker: usize,
        /// The message.
        message: Zeroizing<Vec<u8>>,
    },
    /// The worker is gone.
    Lost {
        /// Why.
        cause: String,
    },
}

/// A caller's place.
#[derive(Default)]
pub(super) struct Slot {
    events: Mutex<Vec<Event>>,
    arrived: Condvar,
}

impl Slot {
    /// Something came of a question.
    pub(super) fn put(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.arrived.notify_one();
    }

    /// Waits for something, at most this long.
    pub(super) fn take(&self, at_most: Duration) -> Option<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(events, at_most, |events| events.is_empty());
        let (mut events, _) = waited.unwrap_or_else(PoisonError::into_inner);
        // Two answers at once are rare, and either will do.
        events.pop()
    }
}
