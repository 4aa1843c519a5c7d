//! Idempotency keys of one command, so that a command whose end nobody saw can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock;

/// The keys under which one command asks: `first`, `first-2`, `first-3` and so on. The same command,
/// repeated with the same first key, asks under the same keys in the same order: what was done is
/// not done again.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKeys {
    first: String,
    used: Arc<AtomicUsize>,
}

impl IdempotencyKeys {
    /// Keys that begin with a given one.
    pub(crate) fn new(first: String) -> Self {
        Self { first, used: Arc::default() }
    }

    /// What to repeat the command with.
    pub(crate) fn first(&self) -> &str {
        &self.first
    }

    /// The key of the next request.
    pub(crate) fn next(&self) -> String {
        match self.used.fetch_add(1, Ordering::Relaxed).saturating_add(1) {
            1 => self.first.clone(),
            number => format!("{}-{number}", self.first),
        }
    }
}

impl Default for IdempotencyKeys {
    /// Keys that nobody has used.
    fn default() -> Self {
        Self::new(clock::random_hex::<16>())
    }
}

#[cfg(test)]
mod tests {
    use super::IdempotencyKeys;

    #[test]
    fn a_repeated_command_asks_under_the_same_keys() {
        let (once, again) =
            (IdempotencyKeys::new("k".to_owned()), IdempotencyKeys::new("k".to_owned()));
        let clone = once.clone();
        assert_eq!([once.next(), clone.next(), once.next()], ["k", "k-2", "k-3"]);
        assert_eq!([again.next(), again.next()], ["k", "k-2"]);
        assert_ne!(IdempotencyKeys::default().next(), IdempotencyKeys::default().next());
    }
}
