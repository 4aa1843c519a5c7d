//! What a node that may stand in does again and again, beside what it is asked: it books what waits, asks what it has not heard, and
//! looks up keys.

use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError};
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
        let started = thread.spawn(move || self.go_on());
        started.map(drop).map_err(|_| StorageError::Closed)
    }

    /// Keys are looked up at each beat; what was set aside is not tried that often, unless there is news.
    fn go_on(&self) {
        let mut left = Duration::ZERO;
        while let Some(node) = self.node.upgrade() {
            let again = if left.is_zero() { node.book() } else { Some(left) };
            node.learn_keys();
            let due = again.or_else(|| node.limits.map(|_| BEAT));
            drop(node);
            let Some(due) = due else {
                match self.woken.recv() {
                    Ok(()) => continue,
                    Err(RecvError) => return,
                }
            };
            let waits = due.min(BEAT);
            left = match self.woken.recv_timeout(waits) {
                Ok(()) => Duration::ZERO,
                Err(RecvTimeoutError::Timeout) => due.saturating_sub(waits),
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
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
            node.book();
            node.learn_keys();
        }
    }
}
