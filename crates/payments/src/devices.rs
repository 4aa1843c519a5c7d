//! Devices: the phones that tokens live on.

use alloc::string::String;
use alloc::vec::Vec;
use tapfer_payment_types::{DeviceId, IssuerId, Timestamp};

use crate::store_shares::{DeviceLock, StoreState};

/// The key is not one that payloads can be sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device key is an uncompressed P-256 point: 65 bytes that begin with 04")]
pub struct DeviceKeyError;

/// The public key that provisioning payloads are sealed to: an uncompressed P-256 point. Whether it
/// lies on the curve is checked where it is used, by the HPKE implementation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePublicKey(Vec<u8>);

impl DevicePublicKey {
    /// Checks the form.
    ///
    /// # Errors
    /// [`DeviceKeyError`].
    pub fn new(bytes: &[u8]) -> Result<Self, DeviceKeyError> {
        match bytes {
            [0x04, coordinates @ ..] if coordinates.len() == 64 => Ok(Self(bytes.to_vec())),
            _ => Err(DeviceKeyError),
        }
    }

    /// Whether the phone was erased: no point of the curve, so nothing can be sealed to it.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.0.iter().skip(1).all(|byte| *byte == 0)
    }

    /// The 65 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A phone with a wallet on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// The issuer whose app it runs.
    pub issuer: IssuerId,
    /// What its owner calls it.
    pub label: String,
    /// Payloads are sealed to this key.
    pub public_key: DevicePublicKey,
    /// When it was registered.
    pub created_at: Timestamp,
    /// What is known of its sealed store.
    pub store: StoreState,
    /// Whether its store is kept closed, by whom and why.
    pub lock: Option<DeviceLock>,
}
