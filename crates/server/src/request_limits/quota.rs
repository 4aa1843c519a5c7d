//! How many requests an API key has made since midnight, UTC.

use core::time::Duration;
use std::collections::HashMap;

use tapfer_payment_types::{ApiKeyId, Timestamp};

const DAY_MILLIS: i64 = 86_400_000;

/// Counts of one day.
#[derive(Debug, Default)]
pub(super) struct Quota {
    day: i64,
    counts: HashMap<ApiKeyId, u64>,
}

impl Quota {
    /// Counts one more, or says when the next day begins.
    pub(super) fn count(
        &mut self,
        key: ApiKeyId,
        a_day: u64,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let now = now.unix_millis();
        let day = now.div_euclid(DAY_MILLIS);
        // A clock that is set back a little gives nobody a second day. One that stood far ahead has closed no day for good.
        if day > self.day || day < self.day.saturating_sub(1) {
            *self = Self { day, counts: HashMap::new() };
        }
        let count = self.counts.entry(key).or_default();
        if *count >= a_day {
            let midnight = self.day.saturating_add(1).saturating_mul(DAY_MILLIS);
            let left = u64::try_from(midnight.saturating_sub(now)).unwrap_or(0);
            return Err(Duration::from_millis(left));
        }
        *count = count.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Quota;
    use core::time::Duration;
    use tapfer_payment_types::{ApiKeyId, Timestamp};

    #[test]
    fn a_day_has_so_many_and_the_next_as_many() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let [own, other] = [1, 2].map(|id| ApiKeyId::new(at("2026-11-22T00:00:00Z"), [id; 10]));
        let (evening, next) = (at("2026-11-22T23:59:00Z"), at("2026-11-23T00:00:00Z"));
        let mut quota = Quota::default();
        assert_eq!(quota.count(own, 2, evening), Ok(()));
        assert_eq!(quota.count(own, 2, evening), Ok(()));
        assert_eq!(quota.count(own, 2, evening), Err(Duration::from_secs(60)));
        assert_eq!(quota.count(other, 2, evening), Ok(()), "each key has its own");
        assert_eq!(quota.count(own, 2, next), Ok(()));
        assert_eq!(quota.count(own, 2, evening), Ok(()));
        assert!(quota.count(own, 2, evening).is_err(), "a clock set back gives no second day");
        let far_ahead = at("2027-11-23T00:00:00Z");
        (0..2).for_each(|_| assert_eq!(quota.count(own, 2, far_ahead), Ok(())));
        assert_eq!(
            quota.count(own, 2, evening),
            Ok(()),
            "nor does one that was far ahead take any"
        );
    }
}
