//! One question for all who ask the like at the same moment.

use std::collections::HashMap;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::StorageError;
use crate::relational::Result;

/// What is asked while another question is on its way waits for its end, and is asked together then: each answer is of a question
/// that was sent behind its caller. Who comes alone waits for nobody.
pub(super) struct Gather<K, V> {
    open: Mutex<Arc<Round<K, V>>>,
    /// Held by whoever asks.
    turn: Mutex<()>,
}

struct Round<K, V> {
    state: Mutex<State<K, V>>,
    told: Condvar,
}

struct State<K, V> {
    keys: Vec<K>,
    answers: Option<Result<HashMap<K, V>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can stop half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Default for Round<K, V> {
    fn default() -> Self {
        let state = Mutex::new(State { keys: Vec::new(), answers: None });
        Self { state, told: Condvar::new() }
    }
}

impl<K, V> Default for Gather<K, V> {
    fn default() -> Self {
        Self { open: Mutex::default(), turn: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Gather<K, V> {
    /// What is found under a key, if anything is. `job` looks up all that it is given; somebody else's may do it.
    ///
    /// # Errors
    /// What the job says, also somebody else's.
    pub(super) fn ask(
        &self,
        key: K,
        job: impl FnOnce(&[K]) -> Result<HashMap<K, V>>,
    ) -> Result<Option<V>> {
        let (round, leads) = {
            let open = lock(&self.open);
            let mut state = lock(&open.state);
            state.keys.push(key.clone());
            (Arc::clone(&open), state.keys.len() == 1)
        };
        if leads {
            self.lead(&round, job);
        }
        let is_open = |state: &mut State<K, V>| state.answers.is_none();
        let told = round.told.wait_while(lock(&round.state), is_open);
        let told = told.unwrap_or_else(PoisonError::into_inner);
        match &told.answers {
            Some(Ok(found)) => Ok(found.get(&key).cloned()),
            Some(Err(error)) => Err(error.clone()),
            None => Err(StorageError::Abandoned),
        }
    }

    /// Waits until nobody asks, closes the round, asks, and tells those who are in it.
    fn lead(&self, round: &Round<K, V>, job: impl FnOnce(&[K]) -> Result<HashMap<K, V>>) {
        let turn = lock(&self.turn);
        *lock(&self.open) = Arc::default();
        let keys = std::mem::take(&mut lock(&round.state).keys);
        let answers = catch_unwind(AssertUnwindSafe(|| job(&keys)));
        drop(turn);
        lock(&round.state).answers = Some(answers.unwrap_or(Err(StorageError::Abandoned)));
        round.told.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::{Gather, lock};
    use crate::StorageError;

    fn squares(asked: &[u32]) -> HashMap<u32, u32> {
        asked.iter().filter(|key| **key % 2 == 0).map(|key| (*key, key.pow(2))).collect()
    }

    #[test]
    fn who_comes_while_one_asks_is_asked_for_together() {
        let (gather, asked) = (Gather::<u32, u32>::default(), AtomicUsize::new(0));
        let (go, gone) = channel::<()>();
        let (begun, has_begun) = channel();
        thread::scope(|scope| {
            let (gather, asked) = (&gather, &asked);
            let first = scope.spawn(move || {
                gather.ask(2, |keys| {
                    begun.send(()).unwrap();
                    gone.recv().unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                    Ok(squares(keys))
                })
            });
            has_begun.recv().unwrap();
            let ask = move |key| {
                gather.ask(key, |keys| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    Ok(squares(keys))
                })
            };
            let others: Vec<_> = (3..9).map(|key| (key, scope.spawn(move || ask(key)))).collect();
            while lock(&lock(&gather.open).state).keys.len() < 6 {
                thread::yield_now();
            }
            go.send(()).unwrap();
            assert_eq!(first.join().unwrap().unwrap(), Some(4));
            for (key, other) in others {
                let expected = (key % 2 == 0).then(|| key.pow(2));
                assert_eq!(other.join().unwrap().unwrap(), expected, "each hears of its own");
            }
        });
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_failure_and_a_panic_are_told_and_the_next_one_asks_again() {
        let gather = Gather::<u32, u32>::default();
        let failed = gather.ask(1, |_| Err(StorageError::Busy));
        assert!(matches!(failed, Err(StorageError::Busy)));
        let panicked = gather.ask(1, |_| panic!("a defect"));
        assert!(matches!(panicked, Err(StorageError::Abandoned)));
        assert_eq!(gather.ask(2, |keys| Ok(squares(keys))).unwrap(), Some(4));
    }
}
