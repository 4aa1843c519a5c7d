//! Which worker is asked next: the one that will be done first, as far as its measured time tells, and in
//! turn where that makes no difference. Pure: time comes in.

use std::time::Duration;

/// Time constant of forgetting: a worker that is not asked looks twice as fast after each such time, until
/// it is asked and measured again.
const HALF_LIFE: Duration = Duration::from_millis(200);
/// What a worker is taken for before it has answered anything.
const UNKNOWN: Duration = Duration::from_micros(100);

/// How long a worker takes for one call, a moving mean over about eight of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Latency {
    mean: Duration,
    measured_at: Duration,
}

impl Latency {
    pub(super) const fn new(now: Duration) -> Self {
        Self { mean: UNKNOWN, measured_at: now }
    }

    /// `count` calls took `each`.
    pub(super) fn measured(&mut self, now: Duration, each: Duration, count: usize) {
        // What was forgotten stays forgotten.
        self.mean = self.expected(now);
        for _ in 0..count.min(8) {
            let more = each.saturating_sub(self.mean).checked_div(8).unwrap_or_default();
            let less = self.mean.saturating_sub(each).checked_div(8).unwrap_or_default();
            self.mean = self.mean.saturating_add(more).saturating_sub(less);
        }
        self.measured_at = now;
    }

    /// The mean, as measured.
    pub(super) const fn mean(&self) -> Duration {
        self.mean
    }

    fn expected(&self, now: Duration) -> Duration {
        let silence = now.saturating_sub(self.measured_at).as_nanos();
        let halvings = silence.checked_div(HALF_LIFE.as_nanos()).unwrap_or(0);
        let divisor = 1_u32.checked_shl(u32::try_from(halvings).unwrap_or(31).min(31)).unwrap_or(1);
        self.mean.checked_div(divisor).unwrap_or_default().max(Duration::from_nanos(1))
    }
}

/// A worker that may be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// How many calls it has not answered yet.
    pub(super) waiting: usize,
    pub(super) latency: Latency,
    /// Another member than those that were asked for this call already.
    pub(super) is_elsewhere: bool,
}

impl Candidate {
    /// When it will be done with one more.
    fn cost(&self, now: Duration) -> u128 {
        let waiting = u128::try_from(self.waiting).unwrap_or(u128::MAX).saturating_add(1);
        self.latency.expected(now).as_nanos().saturating_mul(waiting)
    }
}

/// The place of the candidate to ask. Other members come before other workers of the same member. Whoever
/// is within a quarter of the best is as good; among those it goes by `turn`.
pub(super) fn choose(candidates: &[Candidate], now: Duration, turn: usize) -> Option<usize> {
    let somewhere_else = candidates.iter().any(|candidate| candidate.is_elsewhere);
    let eligible = || {
        let numbered = candidates.iter().enumerate();
        numbered.filter(move |(_, candidate)| candidate.is_elsewhere || !somewhere_else)
    };
    let best = eligible().map(|(_, candidate)| candidate.cost(now)).min()?;
    let limit = best.saturating_add(best.checked_div(4).unwrap_or(0));
    let as_good = || eligible().filter(move |(_, candidate)| candidate.cost(now) <= limit);
    let place = turn.checked_rem(as_good().count()).unwrap_or(0);
    as_good().nth(place).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Candidate, Latency, choose};

    const NOW: Duration = Duration::from_secs(60);

    fn candidate(micros: u64, waiting: usize) -> Candidate {
        let mut latency = Latency::new(NOW);
        for _ in 0..50 {
            latency.measured(NOW, Duration::from_micros(micros), 8);
        }
        Candidate { waiting, latency, is_elsewhere: true }
    }

    fn shares(candidates: &[Candidate], turns: usize) -> Vec<usize> {
        let mut shares = vec![0; candidates.len()];
        for turn in 0..turns {
            let share: &mut usize = &mut shares[choose(candidates, NOW, turn).unwrap()];
            *share = share.saturating_add(1);
        }
        shares
    }

    #[test]
    fn equals_take_turns() {
        assert_eq!(shares(&[candidate(100, 0), candidate(110, 0)], 100), [50, 50]);
        assert_eq!(
            shares(&[candidate(100, 3), candidate(90, 3), candidate(100, 3)], 99),
            [33, 33, 33]
        );
    }

    #[test]
    fn the_faster_is_asked_until_its_queue_makes_up_for_it() {
        assert_eq!(shares(&[candidate(100, 0), candidate(400, 0)], 10), [10, 0]);
        assert_eq!(shares(&[candidate(100, 2), candidate(400, 0)], 10), [10, 0]);
        assert_eq!(shares(&[candidate(100, 3), candidate(400, 0)], 10), [5, 5]);
        assert_eq!(shares(&[candidate(100, 9), candidate(400, 0)], 10), [0, 10]);
    }

    #[test]
    fn another_member_comes_before_another_worker() {
        let same = Candidate { is_elsewhere: false, ..candidate(10, 0) };
        assert_eq!(shares(&[same, candidate(900, 9)], 10), [0, 10]);
        assert_eq!(shares(&[same, same], 10), [5, 5], "where there is no other");
        assert_eq!(choose(&[], NOW, 1), None);
    }

    #[test]
    fn who_was_slow_once_is_tried_again() {
        let (fast, slow) = (candidate(100, 0), candidate(10_000, 0));
        let after = |millis| {
            let (later, mut fast) = (NOW + Duration::from_millis(millis), fast);
            fast.latency.measured(later, Duration::from_micros(100), 8);
            choose(&[fast, slow], later, 1)
        };
        assert_eq!(after(500), Some(0));
        assert_eq!(after(1_500), Some(1));

        let (later, mut well_again) = (NOW + Duration::from_millis(1_500), slow);
        well_again.latency.measured(later, Duration::from_micros(100), 1);
        assert!(
            well_again.latency.mean() < Duration::from_micros(200),
            "and believed when it is well"
        );
    }
}
