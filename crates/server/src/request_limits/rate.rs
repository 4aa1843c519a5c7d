//! A bucket of tokens for each caller, kept as the time at which it will be full again (the generic cell rate algorithm,
//! ITU-T I.371): one number a caller, and nothing to refill.

use core::hash::Hash;
use core::time::Duration;
use std::collections::HashMap;

/// So many callers are remembered; then those whose buckets are full, which is as good as not to be known, are forgotten.
const REMEMBERED: usize = 100_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, in the long run; at least one is taken for none.
    pub a_second: u32,
    /// Requests at once, behind a pause.
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Duration {
        let second = Duration::from_secs(1);
        second.checked_div(self.a_second).unwrap_or(second)
    }

    /// How long an empty bucket takes to be full.
    pub(crate) fn window(self) -> Duration {
        self.interval().saturating_mul(self.burst)
    }
}

/// Buckets by whom they belong to.
#[derive(Debug)]
pub(super) struct Buckets<K>(HashMap<K, Duration>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Takes a token, or says when there will be one.
    pub(super) fn take(&mut self, key: K, rate: Rate, now: Duration) -> Result<(), Duration> {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, full_at| *full_at > now);
        }
        let full_at = self.0.entry(key).or_default();
        let next = (*full_at).max(now).saturating_add(rate.interval());
        let early = next.saturating_sub(now).saturating_sub(rate.window());
        if early > Duration::ZERO {
            return Err(early);
        }
        *full_at = next;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers, in a macro that hides the test")]
mod tests {
    use super::{Buckets, Rate};
    use core::time::Duration;
    use proptest::prelude::*;

    const RATE: Rate = Rate { a_second: 10, burst: 3 };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut buckets = Buckets::default();
        for _ in 0..3 {
            assert_eq!(buckets.take("a", RATE, at(0)), Ok(()));
        }
        assert_eq!(buckets.take("a", RATE, at(0)), Err(at(100)), "it says when to come");
        assert_eq!(buckets.take("b", RATE, at(0)), Ok(()), "others have buckets of their own");
        assert_eq!(buckets.take("a", RATE, at(99)), Err(at(1)));
        assert_eq!(buckets.take("a", RATE, at(100)), Ok(()));
        assert_eq!(buckets.take("a", RATE, at(100)), Err(at(100)));
        for _ in 0..3 {
            assert_eq!(buckets.take("a", RATE, at(10_000)), Ok(()), "and no more than a burst");
        }
        assert!(buckets.take("a", RATE, at(10_000)).is_err());
    }

    proptest! {
        /// In any window no more passes than a burst and what came in meanwhile, however it is asked.
        #[test]
        fn no_more_than_the_rate_passes(pauses in proptest::collection::vec(0_u64..400, 1..60)) {
            let mut buckets = Buckets::default();
            let (mut now, mut passed) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                if buckets.take((), RATE, at(now)).is_ok() {
                    passed.push(now);
                }
            }
            for (index, first) in passed.iter().enumerate() {
                for (count, last) in passed[index..].iter().enumerate() {
                    let allowed = 3 + (last - first) / 100;
                    prop_assert!(u64::try_from(count).unwrap() < allowed.max(1) + 1);
                    prop_assert!(u64::try_from(count + 1).unwrap() <= allowed);
                }
            }
        }

        /// Who comes when he was told to is let in.
        #[test]
        fn the_time_that_was_told_is_right(times in proptest::collection::vec(0_u64..50, 1..40)) {
            let mut buckets = Buckets::default();
            let mut now = Duration::ZERO;
            for pause in times {
                now += at(pause);
                if let Err(after) = buckets.take((), RATE, now) {
                    now += after;
                    prop_assert_eq!(buckets.take((), RATE, now), Ok(()));
                }
            }
        }
    }
}
