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

    fn go_on(&self) {
        let mut pace = Pace::default();
        while let Some(node) = self.node.upgrade() {
            pace.round(|| node.book());
            node.learn_keys();
            let waits = pace.waits(node.limits.is_some());
            drop(node);
            let Some(waits) = waits else {
                match self.woken.recv() {
                    Ok(()) => continue,
                    Err(RecvError) => return,
                }
            };
            match self.woken.recv_timeout(waits) {
                Ok(()) => pace.hears_news(),
                Err(RecvTimeoutError::Timeout) => pace.has_waited(waits),
                Err(RecvTimeoutError::Disconnected) => return,
            }
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

/// When it is tried again to book what waits. There is a round at each beat, since keys are looked up then; what was set aside is not
/// tried that often, unless there is news.
#[derive(Debug, Default)]
struct Pace {
    /// Until it is tried again; `None` if nothing waits.
    left: Option<Duration>,
}

impl Pace {
    /// Books what waits, if it is time, with what says after how long to try it again.
    fn round(&mut self, book: impl FnOnce() -> Option<Duration>) {
        if self.left.is_none_or(|left| left.is_zero()) {
            self.left = book();
        }
    }

    /// How long until the next round; `None`: until there is news.
    fn waits(&self, looks_keys_up: bool) -> Option<Duration> {
        let left = self.left.map(|left| left.min(BEAT));
        left.or_else(|| looks_keys_up.then_some(BEAT))
    }

    fn has_waited(&mut self, waited: Duration) {
        self.left = self.left.map(|left| left.saturating_sub(waited));
    }

    fn hears_news(&mut self) {
        self.left = None;
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use std::time::Duration;

    use super::Pace;
    use crate::stand_in::booking::{BEAT, LATER};

    /// Rounds until so many seconds have passed; in each of these seconds there is news. Gives the seconds at which it was tried to book,
    /// and how many rounds there were.
    fn tried(until: u64, news: &[u64], answer: Option<Duration>) -> (Vec<u64>, usize) {
        let (mut pace, mut now, mut tried, mut rounds) = (Pace::default(), 0, Vec::new(), 0);
        while now < until {
            rounds += 1;
            pace.round(|| {
                tried.push(now);
                answer
            });
            let waits = pace.waits(true).unwrap();
            now += waits.as_secs();
            match news.contains(&now) {
                true => pace.hears_news(),
                false => pace.has_waited(waits),
            }
        }
        (tried, rounds)
    }

    #[test]
    fn what_was_set_aside_is_tried_every_five_minutes_and_keys_are_looked_up_each_second() {
        assert_eq!(LATER, Duration::from_mins(5));
        assert_eq!(tried(901, &[], Some(LATER)), (vec![0, 300, 600, 900], 901));
        assert_eq!(tried(700, &[10, 100], Some(LATER)), (vec![0, 10, 100, 400], 700));
    }

    #[test]
    fn what_waits_for_the_database_is_tried_at_each_beat() {
        assert_eq!(tried(4, &[], Some(BEAT)).0, [0, 1, 2, 3]);
        // Where nothing waits somebody looks all the same.
        assert_eq!(tried(4, &[], None).0, [0, 1, 2, 3]);
    }

    #[test]
    fn who_has_nothing_to_do_waits_for_news() {
        let mut pace = Pace::default();
        pace.round(|| None);
        assert_eq!(pace.waits(false), None);
        pace.round(|| Some(LATER));
        assert_eq!(pace.waits(false), Some(BEAT));
    }
}
