//! Many seeds at once: worlds know nothing of each other.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use crate::{Length, Prepared, SimulationError, Told, run};

/// Tells the stories of many seeds, on so many threads, and hands each over as soon as it is at its end; no new one is
/// begun once `hears` says that it has heard enough.
///
/// # Errors
/// [`SimulationError`]
pub fn run_many(
    prepared: &Prepared,
    seeds: RangeInclusive<u64>,
    length: Length,
    threads: usize,
    mut hears: impl FnMut(Told) -> Go,
) -> Result<(), SimulationError> {
    let (next, last) = (AtomicU64::new(*seeds.start()), *seeds.end());
    let (told, stories) = channel();
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (told, next) = (told.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    // Nobody listens any more when enough was heard.
                    if seed > last || told.send(run(prepared, seed, length)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(told);
        for story in &stories {
            if hears(story?) == Go::Stop {
                break;
            }
        }
        drop(stories);
        Ok(())
    })
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// With the next seed.
    On,
    /// Enough was heard.
    Stop,
}
