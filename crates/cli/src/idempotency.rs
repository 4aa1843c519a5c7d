//! Idempotency keys of one command, so that a command whose end nobody saw can be repeated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock;

/// The keys under which one command asks. They follow from the command's own key, the path, and how
/// often the command has asked there: the same command, repeated with the same key, asks under the
/// same keys, also if it can leave out what it did before.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKeys {
    command: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl IdempotencyKeys {
    /// Keys of a command that is known by this key.
    pub(crate) fn new(command: String) -> Self {
        Self { command, asked: Arc::default() }
    }

    /// What to repeat the command with.
    pub(crate) fn command(&self) -> &str {
        &self.command
    }

    /// The key of the next request to a path.
    pub(crate) fn next(&self, path: &str) -> String {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let times = asked.entry(path.to_owned()).or_default();
        *times = times.saturating_add(1);
        format!("{}:{path}:{times}", self.command)
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
        let once = IdempotencyKeys::new("k".to_owned());
        let again = IdempotencyKeys::new("k".to_owned());
        let first = [once.next("/a"), once.clone().next("/b"), once.next("/b")];
        assert_eq!(first, ["k:/a:1", "k:/b:1", "k:/b:2"]);
        assert_eq!([again.next("/b"), again.next("/b")], first[1..]);
        assert_ne!(IdempotencyKeys::default().next("/a"), IdempotencyKeys::default().next("/a"));
    }
}
