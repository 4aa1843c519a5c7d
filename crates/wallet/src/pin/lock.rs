//! A person's key under a PIN: Argon2id, then one AES block, and no tag.

use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tapfer_emv::person_key::{PersonKey, PinKey};
use tapfer_payment_types::{Pin, Secret};

use crate::secret_bytes::SecretBytes;

/// The most memory that stored parameters may ask for: 1 GiB. A phone must not be told to take more.
const MAXIMUM_MEMORY_KIB: u32 = 1 << 20;
/// The most passes, for the same reason.
const MAXIMUM_PASSES: u32 = 100;

/// How hard Argon2id (RFC 9106) makes it to get from a PIN to its key.
///
/// It slows down whoever has something to test PINs against, and a PIN has few digits: ten thousand
/// PINs at 25 ms each (one core of a server, November 2026) are four minutes. That nothing to test against is
/// there is what protects the PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinHardness {
    /// Memory in KiB, at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for PinHardness {
    /// 19 MiB, two passes, one lane (OWASP password storage cheat sheet, 2023).
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// Argon2id does not take these parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id takes at least 8 KiB for each lane, one pass and one lane, and here at most 1 GiB"
)]
pub struct PinHardnessError;

impl PinHardness {
    fn params(self) -> Result<Params, PinHardnessError> {
        if self.memory_kib > MAXIMUM_MEMORY_KIB || self.passes > MAXIMUM_PASSES {
            return Err(PinHardnessError);
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(16))
            .map_err(|_| PinHardnessError)
    }

    fn pin_key(self, pin: &Pin, salt: &[u8; 16]) -> Result<PinKey, PinHardnessError> {
        let mut key = Secret::new([0; 16]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?)
            .hash_password_into(pin.expose().as_bytes(), salt, key.expose_mut())
            .map_err(|_| PinHardnessError)?;
        Ok(PinKey::new(key))
    }
}

/// A person's key that any PIN opens, and one opens rightly.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinLock {
    hardness: PinHardness,
    salt: SecretBytes<16>,
    block: SecretBytes<16>,
}

impl PinLock {
    pub(super) fn new(
        key: &PersonKey,
        pin: &Pin,
        hardness: PinHardness,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, PinHardnessError> {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let block = key.under_pin(&hardness.pin_key(pin, &salt)?);
        Ok(Self { hardness, salt: SecretBytes::new(salt), block: SecretBytes::new(block) })
    }

    /// The key that this PIN gives. Whether it is the right one, nobody on the phone can say.
    pub(super) fn open(&self, pin: &Pin) -> Result<PersonKey, PinHardnessError> {
        let pin_key = self.hardness.pin_key(pin, self.salt.expose())?;
        Ok(PersonKey::from_under_pin(*self.block.expose(), &pin_key))
    }
}
