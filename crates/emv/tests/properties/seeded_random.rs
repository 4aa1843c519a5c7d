//! Randomness that is the same in every run.

use std::convert::Infallible;

use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use tapfer_emv::curve::PrivateKey;

/// SHA-256 in counter mode over a seed: repeatable, and as good as random for these tests.
pub(crate) struct SeededRandom {
    seed: u64,
    blocks: u64,
}

impl SeededRandom {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, blocks: 0 }
    }
}

impl TryRng for SeededRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(32) {
            self.blocks += 1;
            let counter = [self.seed.to_be_bytes(), self.blocks.to_be_bytes()].concat();
            chunk.copy_from_slice(&Sha256::digest(counter)[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRandom {}

/// Certification authority, issuer and card.
pub(crate) fn three_keys(seed: u64) -> (PrivateKey, PrivateKey, PrivateKey) {
    let mut rng = SeededRandom::new(seed);
    (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng))
}
