//! Random command sequences over the whole life of a phone, and what holds after every answer of it: no
//! panic, no counter twice, no second approval, no key that leaves the wallet; no key under the PIN without
//! it, no more cryptograms than keys, no merchant named that has not proven it.
//!
//! Everything follows from one seed. `TAPFER_SEED` sets it, `TAPFER_SEQUENCES` says how many sequences are
//! played; a failure prints the seed of the life it happened in, and `TAPFER_LIFE` plays that one alone.

use crate::life::{Life, STEPS};

/// What fits `./test`; `scripts/night` plays two million.
const SEQUENCES: u64 = 4_000;
/// Then the phone is thrown away and the next life begins.
const SEQUENCES_IN_A_LIFE: u64 = 100;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn sum(mut sum: [u64; STEPS], reached: [u64; STEPS]) -> [u64; STEPS] {
    sum.iter_mut().zip(reached).for_each(|(sum, count)| *sum += count);
    sum
}

#[test]
fn random_command_sequences_keep_every_promise() {
    if let Some(life) = setting("TAPFER_LIFE") {
        Life::new(life).live(SEQUENCES_IN_A_LIFE);
        return;
    }
    let seed = setting("TAPFER_SEED").unwrap_or(1) << 32;
    let lives = setting("TAPFER_SEQUENCES").unwrap_or(SEQUENCES).div_ceil(SEQUENCES_IN_A_LIFE);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let play = |worker| {
        (worker..lives)
            .step_by(workers as usize)
            .map(|life| Life::new(seed + life).live(SEQUENCES_IN_A_LIFE))
            .fold([0; STEPS], sum)
    };
    let reached = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || play(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold([0; STEPS], sum)
    });
    // A test that is refused at the door shows nothing: every step is answered in many sequences.
    for (step, count) in reached.iter().enumerate() {
        assert!(*count * 50 > lives * SEQUENCES_IN_A_LIFE, "step {step}: {reached:?}");
    }
}
