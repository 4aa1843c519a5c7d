//! Lines of the log that anybody can cause, so many a second. What is left out is counted, and told by the next line.

use core::time::Duration;

use super::rate::{Buckets, Rate};

/// One kind of lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bucket: Buckets<()>,
    left_out: u64,
}

impl Lines {
    /// Whether one more may be written, and how many were left out before it.
    pub(super) fn take(&mut self, rate: Rate, now: Duration) -> Option<u64> {
        if self.bucket.take((), rate, now).is_err() {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        Some(core::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Rate};
    use core::time::Duration;

    #[test]
    fn what_is_left_out_is_counted() {
        let rate = Rate { a_second: 1, burst: 2 };
        let mut lines = Lines::default();
        let taken: Vec<_> = (0..5).map(|_| lines.take(rate, Duration::ZERO)).collect();
        assert_eq!(taken, [Some(0), Some(0), None, None, None]);
        assert_eq!(lines.take(rate, Duration::from_secs(1)), Some(3));
        assert_eq!(lines.take(rate, Duration::from_secs(2)), Some(0));
    }
}
