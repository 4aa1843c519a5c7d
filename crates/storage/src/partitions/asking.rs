//! Asking partitions side by side, and none of them longer than payments of the others can wait.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use super::{Opened, PAUSE, PartitionedStorage, look_for, state};
use crate::StorageError;
use crate::postgres::PostgresStorage;
use crate::relational::{Engine as _, Result};

/// So long payments of all partitions wait for one of them. It is asked nothing more then, until it commits again.
const WAIT: Duration = Duration::from_secs(5);

/// What is said of a partition whose commits do not end, its standbys being gone, or that has not answered in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "partition {0} does not end what it is asked: are its standbys there? Its cards are refused until it commits again"
)]
struct Stalled(usize);

pub(super) fn stalled(partition: usize) -> StorageError {
    StorageError::Unreachable(Arc::new(Stalled(partition)))
}

/// What became of a question so far.
enum Begun<Q, A> {
    Here(Q),
    There(usize, Arc<PostgresStorage>, Receiver<Vec<Result<A>>>),
    Not(StorageError),
}

impl PartitionedStorage {
    /// Asks several partitions at once; for each its answers in their order, or why there are none.
    pub(super) fn side_by_side<Q: Send + 'static, A: Send + 'static>(
        &self,
        asked: Vec<(usize, Q)>,
        ask: impl Fn(&PostgresStorage, Q) -> Vec<Result<A>> + Clone + Send + 'static,
    ) -> Vec<Result<Vec<Result<A>>>> {
        let begun = asked.into_iter().map(|(partition, question)| match partition {
            0 => Begun::Here(question),
            _ => self.begin_at(partition, question, ask.clone()),
        });
        // All are under way before the first is waited for.
        let begun: Vec<_> = begun.collect();
        let answers = begun.into_iter().map(|begun| match begun {
            Begun::Here(question) => Ok(ask(&self.home, question)),
            Begun::There(partition, store, said) => self.wait_for(partition, &store, &said),
            Begun::Not(error) => Err(error),
        });
        answers.collect()
    }

    /// Does one thing at one partition.
    pub(super) fn within<T: Send + 'static>(
        &self,
        partition: usize,
        job: impl FnOnce(&PostgresStorage) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if partition == 0 {
            return job(&self.home);
        }
        match self.begin_at(partition, (), move |store, ()| vec![job(store)]) {
            Begun::There(partition, store, said) => {
                let said = self.wait_for(partition, &store, &said)?;
                said.into_iter().next().unwrap_or(Err(StorageError::Abandoned))
            }
            Begun::Not(error) => Err(error),
            Begun::Here(()) => Err(StorageError::Abandoned),
        }
    }

    fn begin_at<Q: Send + 'static, A: Send + 'static>(
        &self,
        partition: usize,
        question: Q,
        ask: impl FnOnce(&PostgresStorage, Q) -> Vec<Result<A>> + Send + 'static,
    ) -> Begun<Q, A> {
        let store = match self.at(partition) {
            Ok(store) => store,
            Err(error) => return Begun::Not(error),
        };
        let (say, said) = channel();
        let of_thread = Arc::clone(&store);
        // Nobody may listen any more.
        let job = move || drop(say.send(ask(&of_thread, question)));
        match Builder::new().name("tapfer-asks".to_owned()).spawn(job) {
            Ok(_) => Begun::There(partition, store, said),
            Err(_) => Begun::Not(StorageError::Busy),
        }
    }

    fn wait_for<A>(
        &self,
        partition: usize,
        store: &Arc<PostgresStorage>,
        said: &Receiver<Vec<Result<A>>>,
    ) -> Result<Vec<Result<A>>> {
        let said = match said.recv_timeout(WAIT) {
            Ok(said) => said,
            Err(RecvTimeoutError::Disconnected) => return Err(StorageError::Abandoned),
            Err(RecvTimeoutError::Timeout) => {
                self.stall(partition, store);
                return Err(StorageError::NotSynced(Arc::new(Stalled(partition))));
            }
        };
        if said.iter().any(|said| matches!(said, Err(StorageError::Moved(_)))) {
            self.leave(partition, store);
        }
        if said.iter().any(|said| matches!(said, Err(StorageError::NotSynced(_)))) {
            self.stall(partition, store);
        }
        Ok(said)
    }

    /// Asks a partition nothing more until it commits again.
    fn stall(&self, partition: usize, found: &Arc<PostgresStorage>) {
        let place = partition.checked_sub(1).and_then(|place| self.others.get(place));
        let Some(place) = place else { return };
        let mut opened = state(place);
        if !matches!(&*opened, Opened::Store(store) if Arc::ptr_eq(store, found)) {
            return;
        }
        *opened = Opened::Stalled(Arc::clone(found));
        drop(opened);
        tracing::error!(
            partition,
            "a partition does not end what it is asked: its cards are refused until it commits again"
        );
        let (store, open, of_thread) =
            (Arc::clone(found), Arc::clone(&self.open), Arc::downgrade(place));
        let probe = move || {
            let (_silent, said) = channel::<()>();
            loop {
                let committed = store.write(|connection| connection.vouch());
                let Some(place) = of_thread.upgrade() else { return };
                let mut opened = state(&place);
                match committed {
                    _ if matches!(*opened, Opened::Closed) => return,
                    Ok(()) => {
                        tracing::info!(partition, "a partition commits again");
                        *opened = Opened::Store(store);
                        return;
                    }
                    Err(error @ StorageError::Moved(_)) => {
                        *opened = Opened::Away(error);
                        drop(opened);
                        return look_for(partition, &open, &of_thread);
                    }
                    Err(_) => {}
                }
                drop(opened);
                drop(place);
                let _nothing = said.recv_timeout(PAUSE);
            }
        };
        if Builder::new().name("tapfer-partition".to_owned()).spawn(probe).is_err() {
            // Whoever comes next tries it.
            *state(place) = Opened::Store(Arc::clone(found));
        }
    }
}
