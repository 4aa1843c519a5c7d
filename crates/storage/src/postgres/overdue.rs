//! Lines of the audit log that wait for their links for too long: nothing is signed over them, and phones that need keys wait as well.

use super::pool::Pool;
use super::session::SNAPSHOT;
use crate::relational::Result;
use crate::relational::rows::{Columns, first};
use crate::relational::sql::{Row, params};

/// Whoever links does it within a second: one that waits for so long, in seconds, will not be linked by itself. It is said as often.
const LONG: i64 = 60;
/// The oldest line that waits, and what time it is there, in seconds.
const OLDEST: &str = "SELECT coalesce((SELECT min(number) FROM audit_inbox), 0) AS number,
    date_part('epoch', clock_timestamp())::BIGINT AS at";

/// What was seen of the oldest line that waits, by the database's clock.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    oldest: i64,
    since: i64,
    said: i64,
}

impl Overdue {
    /// All was linked.
    pub(super) fn nothing_waits(&mut self) -> u64 {
        *self = Self::default();
        0
    }

    /// Looks what waits, and says so if it waits for long; for how many seconds it does.
    pub(super) fn look(&mut self, pool: &Pool) -> u64 {
        let Ok(Some((oldest, now))) = oldest(pool) else { return self.waits(self.said) };
        if self.see(oldest, now) {
            tracing::error!(
                event = "audit_lines_wait",
                seconds = now.saturating_sub(self.since),
                number = oldest,
                "lines of the audit log are not linked: no head is signed, and phones get no keys. The warnings before say why; who holds \
                 locks: tapfer doctor"
            );
        }
        self.waits(now)
    }

    /// Whether it is time to say that it waits.
    fn see(&mut self, oldest: i64, now: i64) -> bool {
        if oldest == 0 || oldest != self.oldest {
            *self = Self { oldest, since: now, said: now };
            return false;
        }
        let is_due = now.saturating_sub(self.said) >= LONG;
        if is_due {
            self.said = now;
        }
        is_due
    }

    fn waits(&self, now: i64) -> u64 {
        let seconds = now.saturating_sub(self.since);
        if self.oldest == 0 { 0 } else { u64::try_from(seconds).unwrap_or(0) }
    }
}

fn oldest(pool: &Pool) -> Result<Option<(i64, i64)>> {
    pool.repeat(SNAPSHOT, |session, _| {
        let found = first(session, OLDEST, params![], |row: &Row<'_>| {
            let columns = Columns::keyed(row, "audit_inbox", "number");
            Ok((columns.get("number")?, columns.get("at")?))
        });
        session.roll_back();
        found
    })
}

#[cfg(test)]
mod tests {
    use super::Overdue;

    #[test]
    fn what_waits_for_long_is_said_now_and_then() {
        let mut overdue = Overdue::default();
        let said: Vec<i64> = (1_000..1_200).filter(|now| overdue.see(7, *now)).collect();
        assert_eq!(said, [1_060, 1_120, 1_180]);
        assert_eq!(overdue.waits(1_200), 200);
        // Another line is the oldest: it goes on.
        assert!(!overdue.see(8, 1_300));
        assert_eq!(overdue.waits(1_310), 10);
        assert!(!overdue.see(0, 1_400) && !overdue.see(0, 1_500), "nothing waits");
        assert_eq!((overdue.waits(1_500), overdue.nothing_waits()), (0, 0));
    }
}
