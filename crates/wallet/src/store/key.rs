//! The key that seals the store, and the two halves it is made from.

use core::num::NonZeroU32;

use hkdf::Hkdf;
use sha2::Sha256;
use tapfer_payment_types::Secret;

use super::StoreError;

/// Label of the derivation; the epoch follows it.
const LABEL: &[u8; 14] = b"tapfer-store-2";
/// Length of each half.
const HALF: usize = 32;

/// What the device keeps for the store: 32 bytes from its key store, or a random secret where there is
/// none. A key store that gives no key away gives a MAC by that key over a text of the app's choice.
pub struct DeviceSecret(Secret<[u8; HALF]>);

impl DeviceSecret {
    /// Takes the device's secret.
    #[must_use]
    pub const fn new(secret: [u8; HALF]) -> Self {
        Self(Secret::new(secret))
    }
}

/// What the platform keeps for the store, in one epoch. The phone holds it in memory only.
pub struct StoreShare {
    epoch: NonZeroU32,
    share: Secret<[u8; HALF]>,
}

impl StoreShare {
    /// Takes the platform's share of an epoch.
    #[must_use]
    pub const fn new(epoch: NonZeroU32, share: [u8; HALF]) -> Self {
        Self { epoch, share: Secret::new(share) }
    }

    /// Its epoch.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch.get()
    }
}

/// The key that seals the store in one epoch: HKDF-SHA-256 (RFC 5869, no salt) of device secret ‖ share,
/// with `tapfer-store-2` ‖ epoch (4 bytes, big endian) as the info. Neither half tells anything about it
/// without the other. In epoch 0, before the phone is registered, there is no share.
pub struct StoreKey {
    epoch: u32,
    key: Secret<[u8; 32]>,
}

impl StoreKey {
    /// The key of epoch 0.
    ///
    /// # Errors
    /// [`StoreError::Sealing`] if the derivation fails, which it does for no input of this length.
    pub fn without_share(device: &DeviceSecret) -> Result<Self, StoreError> {
        derive(0, device.0.expose())
    }

    /// The key of the share's epoch.
    ///
    /// # Errors
    /// As [`Self::without_share`].
    pub fn with_share(device: &DeviceSecret, share: &StoreShare) -> Result<Self, StoreError> {
        let mut material = Secret::new([0_u8; HALF + HALF]);
        let halves = device.0.expose().iter().chain(share.share.expose());
        for (place, byte) in material.expose_mut().iter_mut().zip(halves) {
            *place = *byte;
        }
        derive(share.epoch(), material.expose())
    }

    /// The epoch it seals for; 0: without a share.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }
}

fn derive(epoch: u32, material: &[u8]) -> Result<StoreKey, StoreError> {
    let mut key = Secret::new([0_u8; 32]);
    Hkdf::<Sha256>::new(None, material)
        .expand_multi_info(&[LABEL, &epoch.to_be_bytes()], key.expose_mut())
        .map_err(|_| StoreError::Sealing)?;
    Ok(StoreKey { epoch, key })
}

#[cfg(test)]
mod tests {
    use super::{DeviceSecret, StoreKey, StoreShare};
    use core::num::NonZeroU32;

    /// Recomputed with Python's `hmac` alone: extract with 32 zero bytes, then one block of expand.
    #[test]
    fn the_derivation_is_the_published_one() {
        let device = DeviceSecret::new([0x33; 32]);
        let share = StoreShare::new(NonZeroU32::new(7).unwrap(), [0x44; 32]);
        let hex = |key: StoreKey| data_encoding::HEXLOWER.encode(key.expose());
        assert_eq!(
            hex(StoreKey::without_share(&device).unwrap()),
            "05ac15a9ab2abcfbd69a23bf0995285f47ab40003b8f0793da24b4bba60b0f38"
        );
        assert_eq!(
            hex(StoreKey::with_share(&device, &share).unwrap()),
            "b30d25c094a6cff4474da0d087ed5b939dd335473384e8dca7bb0a77100773f2"
        );
    }
}
