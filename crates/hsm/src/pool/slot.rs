//! Where one caller waits for what comes of its questions.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

/// What came of one question.
pub(super) struct Event {
    /// Which one of the caller's.
    pub(super) question: usize,
    pub(super) what: What,
}

pub(super) enum What {
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
    /// Something came of questions. The caller is woken once for all of it: to wake a thread costs more than anything
    /// else that is done for a call.
    pub(super) fn put(&self, news: impl IntoIterator<Item = Event>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).extend(news);
        self.arrived.notify_one();
    }

    /// Waits for something, at most this long, and takes all there is.
    pub(super) fn take(&self, at_most: Duration) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.arrived.wait_timeout_while(events, at_most, |events| events.is_empty());
        let (mut events, _) = waited.unwrap_or_else(PoisonError::into_inner);
        core::mem::take(&mut *events)
    }
}
