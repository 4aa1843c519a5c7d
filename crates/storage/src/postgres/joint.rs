//! One job for all who want it done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::StorageError;
use crate::relational::Result;

/// Whoever comes while the job runs waits for the next run, since this one may have begun too early for him; it is one for all
/// who came meanwhile. Where it failed last, one at a time tries again, and the others hear that at once.
#[derive(Default)]
pub(crate) struct Joint {
    runs: Mutex<Runs>,
    over: Condvar,
}

#[derive(Default)]
struct Runs {
    begun: u64,
    ended: u64,
    is_running: bool,
    waiting: usize,
    /// What came of the run that ended last.
    last: Option<Result<()>>,
}

impl Joint {
    /// Runs the job, or waits for somebody else who does.
    ///
    /// # Errors
    /// What the job says, also somebody else's.
    pub(crate) fn run(&self, job: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut runs = self.runs();
        let wanted = runs.begun.saturating_add(1);
        while runs.is_running {
            if let Some(Err(error)) = &runs.last {
                return Err(error.clone());
            }
            runs.waiting = runs.waiting.saturating_add(1);
            runs = self.over.wait(runs).unwrap_or_else(PoisonError::into_inner);
            runs.waiting = runs.waiting.saturating_sub(1);
            if runs.ended >= wanted {
                return runs.last.clone().unwrap_or(Err(StorageError::Abandoned));
            }
        }
        runs.begun = wanted;
        runs.is_running = true;
        drop(runs);
        let made = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Err(StorageError::Abandoned));
        let mut runs = self.runs();
        (runs.ended, runs.is_running) = (wanted, false);
        runs.last = Some(made.clone());
        self.over.notify_all();
        made
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::Joint;
    use crate::StorageError;

    #[test]
    fn who_comes_while_it_runs_shares_the_next_run() {
        let (joint, ran) = (Joint::default(), AtomicUsize::new(0));
        let (go, gone) = channel::<()>();
        thread::scope(|scope| {
            let (joint, ran) = (&joint, &ran);
            let first = scope.spawn(move || {
                joint.run(|| {
                    gone.recv().unwrap();
                    ran.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                })
            });
            while !joint.runs().is_running {
                thread::yield_now();
            }
            let run = || {
                joint.run(|| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    Err(StorageError::Busy)
                })
            };
            let others: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            while joint.runs().waiting < 8 {
                thread::yield_now();
            }
            go.send(()).unwrap();
            assert!(first.join().unwrap().is_ok());
            for other in others {
                assert!(matches!(other.join().unwrap(), Err(StorageError::Busy)));
            }
        });
        assert_eq!(ran.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn where_it_failed_one_tries_and_nobody_else_waits() {
        let joint = Joint::default();
        assert!(joint.run(|| Err(StorageError::Busy)).is_err());
        let (go, gone) = channel::<()>();
        thread::scope(|scope| {
            let of_thread = &joint;
            let tries = scope
                .spawn(move || of_thread.run(|| gone.recv().map_err(|_| StorageError::Closed)));
            while !joint.runs().is_running {
                thread::yield_now();
            }
            assert!(matches!(joint.run(|| Ok(())), Err(StorageError::Busy)));
            go.send(()).unwrap();
            assert!(tries.join().unwrap().is_ok());
        });
        assert!(joint.run(|| Ok(())).is_ok());
    }
}
