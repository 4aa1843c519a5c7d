//! What a node that may stand in does again and again, beside what it is asked: it books what waits, asks what it has not heard, and
//! looks up keys.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use super::StandIn;
use super::booking::BEAT;
use super::limits::StandInRefusal;
use crate::StorageError;
use crate::relational::Result;

/// The rounds of a node, as long as it is there.
pub(crate) struct Rounds {
    node: Weak<StandIn>,
    woken: Receiver<()>,
}

impl StandIn {
    /// One round. After how long the next one is due, if it is.
    fn round(&self) -> Option<Duration> {
        let again = self.book();
        self.learn_keys();
        again.or_else(|| self.limits.map(|_| BEAT))
    }
}

impl Rounds {
    pub(super) fn of(node: &Arc<StandIn>, woken: Receiver<()>) -> Self {
        Self { node: Arc::downgrade(node), woken }
    }

    fn begin(&self, waits: impl Fn() -> Result<()>) -> Result<()> {
        self.node.upgrade().map_or(Ok(()), |node| node.book_before_anything_else(waits))
    }

    /// On a thread of their own, whenever the time or news has come.
    ///
    /// # Errors
    /// As [`StandIn::over`].
    pub(crate) fn on_a_thread(self) -> Result<()> {
        self.begin(|| {
            let _time_or_news = self.woken.recv_timeout(BEAT);
            Ok(())
        })?;
        let thread = Builder::new().name("tapfer-stand-in".to_owned());
        let started = thread.spawn(move || while self.goes_on() {});
        started.map(drop).map_err(|_| StorageError::Closed)
    }

    fn goes_on(&self) -> bool {
        let Some(node) = self.node.upgrade() else { return false };
        let again = node.round();
        drop(node);
        let wakes = match again {
            Some(after) => self.woken.recv_timeout(after.min(BEAT)),
            None => self.woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        wakes != Err(RecvTimeoutError::Disconnected)
    }

    /// When somebody says so ([`Rounds::next`]): what is not booked at once is not waited for.
    ///
    /// # Errors
    /// As [`StandIn::over`].
    pub(crate) fn by_hand(&self) -> Result<()> {
        self.begin(|| Err(StandInRefusal::Booking.into()))
    }

    /// The next round.
    pub(crate) fn next(&self) {
        while self.woken.try_recv().is_ok() {}
        if let Some(node) = self.node.upgrade() {
            node.round();
        }
    }
}
