//! How long what has ended is kept, and what it is.

use tapfer_payment_types::Timestamp;

use crate::words::words;

words! {
    /// What ends, and is erased when its limit is over; in the order in which it is.
    EndedKind, "kind of ended data" {
        /// A token that was deleted, with its card or alone: its number, the hash of that, its person's key.
        Token = "token",
        /// A card that was closed and has no money left: its number, the hash of that, its PIN, its holder's reference.
        Card = "card",
        /// A phone older than the limit without a token that is not erased: its name and key, what is known of its integrity.
        Device = "device",
    }
}

/// So many days what has ended is kept.
///
/// Nothing is refunded, disputed or looked up by number after that many days. The schemes let a cardholder dispute a payment for 120
/// days, and for up to 540 where a service was to come later: so half a year is the least, and 540 days are what nobody has to think
/// about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetentionLimit(u16);

/// Not so many days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "what has ended is kept for 180 to 3650 days: refunds and disputes need half a year, and nothing needs it for ever"
)]
pub struct RetentionError;

const SECONDS_OF_A_DAY: i64 = 86_400;

impl RetentionLimit {
    /// The least.
    pub const LEAST: u16 = 180;
    /// The most.
    pub const MOST: u16 = 3_650;
    /// Where nobody said otherwise.
    pub const DEFAULT: Self = Self(540);

    /// Checks the range.
    ///
    /// # Errors
    /// [`RetentionError`].
    pub const fn new(days: u16) -> Result<Self, RetentionError> {
        if days < Self::LEAST || days > Self::MOST {
            return Err(RetentionError);
        }
        Ok(Self(days))
    }

    /// How many days.
    #[must_use]
    pub const fn days(self) -> u16 {
        self.0
    }

    /// What ended before this is past the limit.
    #[must_use]
    pub fn past(self, now: Timestamp) -> Timestamp {
        now.plus_seconds(i64::from(self.0).saturating_mul(SECONDS_OF_A_DAY).saturating_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::{RetentionError, RetentionLimit};

    #[test]
    fn half_a_year_to_ten_years() {
        for (days, is_taken) in
            [(0, false), (179, false), (180, true), (3_650, true), (3_651, false)]
        {
            let limit = RetentionLimit::new(days);
            assert_eq!(
                limit.map(RetentionLimit::days),
                if is_taken { Ok(days) } else { Err(RetentionError) }
            );
        }
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        assert_eq!(RetentionLimit::DEFAULT.past(now), "2025-06-01T03:00:00Z".parse().unwrap());
    }
}
