//! All randomness of a simulated world, from one seed.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use rand_core::{TryCryptoRng, TryRng};
use tapfer_server::entropy::{Entropy, EntropyError};

/// A generator that gives the same numbers for the same seed (`SplitMix64`, Steele, Lea and Flood 2014).
///
/// It stands in for secure randomness too, because a seed has to tell the same story again: nothing that a simulated
/// world makes is a secret of anybody.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The generator of one use: of the same seed, different uses draw independently.
    pub(crate) const fn new(seed: u64, what_for: u64) -> Self {
        Self(
            seed.wrapping_mul(0xA24B_AED4_963E_E407) ^ what_for.wrapping_mul(0x9FB2_1C65_1E98_DF25),
        )
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero if there is none.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        match self.next().checked_rem(end) {
            Some(number) => number,
            None => 0,
        }
    }

    /// A number from `first` to `last`.
    pub(crate) fn between(&mut self, first: i64, last: i64) -> i64 {
        let width = u64::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(1);
        first.saturating_add(i64::try_from(self.below(width)).unwrap_or(0))
    }

    /// Yes, in so many of a hundred cases.
    pub(crate) const fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    /// One of these; the index for anything of that length.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(0))).unwrap_or(0)
    }
}

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [a, b, c, d, ..] = self.next().to_le_bytes();
        Ok(u32::from_le_bytes([a, b, c, d]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.iter_mut().zip(self.next().to_le_bytes()).for_each(|(out, byte)| *out = byte);
        }
        Ok(())
    }
}

impl TryCryptoRng for Chance {}

/// The same for the platform's names.
#[derive(Debug)]
pub(crate) struct SeededEntropy(Mutex<Chance>);

impl SeededEntropy {
    pub(crate) const fn new(chance: Chance) -> Self {
        Self(Mutex::new(chance))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let mut chance = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(()) = chance.try_fill_bytes(buffer);
        Ok(())
    }
}
