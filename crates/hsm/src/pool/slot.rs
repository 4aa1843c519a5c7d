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

/// A caller's place. To wake a thread costs more than anything else that is done for a call, so that who has many
/// questions on their way is woken when enough has come of them.
#[derive(Default)]
pub(super) struct Slot {
    arrivals: Mutex<Arrivals>,
    enough: Condvar,
}

#[derive(Default)]
struct Arrivals {
    events: Vec<Event>,
    wanted: usize,
}

impl Arrivals {
    /// Whether the caller is to be woken: what was lost has to be asked elsewhere at once.
    fn are_enough(&self) -> bool {
        let is_lost = |event: &Event| matches!(event.what, What::Lost { .. });
        self.events.len() >= self.wanted.max(1) || self.events.iter().any(is_lost)
    }
}

impl Slot {
    /// Something came of questions.
    pub(super) fn put(&self, news: impl IntoIterator<Item = Event>) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.events.extend(news);
        let are_enough = arrivals.are_enough();
        drop(arrivals);
        if are_enough {
            self.enough.notify_one();
        }
    }

    /// Waits until something came of so many questions, at most this long, and takes all there is.
    pub(super) fn take(&self, wanted: usize, at_most: Duration) -> Vec<Event> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.wanted = wanted;
        let goes_on = |arrivals: &mut Arrivals| !arrivals.are_enough();
        let waited = self.enough.wait_timeout_while(arrivals, at_most, goes_on);
        let (mut arrivals, _) = waited.unwrap_or_else(PoisonError::into_inner);
        core::mem::take(&mut arrivals.events)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::{Arrivals, Event, Slot, What};

    fn answered(question: usize) -> Event {
        let what = What::Answered { worker: 0, message: Zeroizing::default() };
        Event { question, what }
    }

    #[test]
    fn who_waits_for_many_is_woken_when_all_are_there_or_one_is_lost() {
        let mut arrivals = Arrivals { events: Vec::new(), wanted: 3 };
        for question in 0..3 {
            assert!(!arrivals.are_enough(), "{question}");
            arrivals.events.push(answered(question));
        }
        assert!(arrivals.are_enough());

        let lost = Event { question: 1, what: What::Lost { cause: "ended".to_owned() } };
        assert!(Arrivals { events: vec![answered(0), lost], wanted: 3 }.are_enough());
        assert!(!Arrivals { events: Vec::new(), wanted: 0 }.are_enough(), "nothing is not news");
    }

    #[test]
    fn what_has_come_is_taken_when_the_time_is_over() {
        let slot = Slot::default();
        slot.put([answered(0), answered(1)]);
        assert_eq!(slot.take(5, Duration::ZERO).len(), 2);
        assert_eq!(slot.take(5, Duration::ZERO).len(), 0);
    }
}
