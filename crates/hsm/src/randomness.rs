//! Random bytes from the operating system, by way of aws-lc-rs' generator.

use std::convert::Infallible;

use aws_lc_rs::rand;
use rand_core::{TryCryptoRng, TryRng};
use tapfer_payment_types::Secret;

use crate::HsmError;

/// Fills `out`.
pub(super) fn fill(out: &mut [u8]) -> Result<(), HsmError> {
    rand::fill(out).map_err(|_| HsmError::Randomness)
}

/// A fresh public value, such as a nonce or a salt.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], HsmError> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// A fresh secret value.
pub(super) fn secret<const N: usize>() -> Result<Secret<[u8; N]>, HsmError> {
    let mut out = Secret::new([0; N]);
    fill(out.expose_mut())?;
    Ok(out)
}

/// Runs `draw` with a generator of the kind that cannot report failure, and reports failure for it:
/// whatever was drawn while the source failed is thrown away.
pub(super) fn with_generator<T>(draw: impl FnOnce(&mut Generator) -> T) -> Result<T, HsmError> {
    let mut generator = Generator { failed: false };
    let drawn = draw(&mut generator);
    if generator.failed { Err(HsmError::Randomness) } else { Ok(drawn) }
}

/// See [`with_generator`]. After a failure it yields a constant that is a valid scalar, so that whoever
/// draws comes to an end.
pub(super) struct Generator {
    failed: bool,
}

impl TryRng for Generator {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut out = [0; 4];
        self.try_fill_bytes(&mut out)?;
        Ok(u32::from_le_bytes(out))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut out = [0; 8];
        self.try_fill_bytes(&mut out)?;
        Ok(u64::from_le_bytes(out))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        if self.failed || rand::fill(out).is_err() {
            self.failed = true;
            out.fill(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Generator {}

#[cfg(test)]
mod tests {
    use super::{Generator, bytes, with_generator};
    use crate::HsmError;
    use rand_core::Rng;

    #[test]
    fn what_was_drawn_from_a_failing_source_is_thrown_away() {
        let drawn = with_generator(|generator| {
            *generator = Generator { failed: true };
            generator.next_u64()
        });
        assert!(matches!(drawn, Err(HsmError::Randomness)));
    }

    #[test]
    fn draws_differ() {
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
        let (one, other) = with_generator(|rng| (rng.next_u64(), rng.next_u64())).unwrap();
        assert_ne!(one, other);
    }
}
