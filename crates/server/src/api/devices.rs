//! Devices: phones with a wallet on them.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{DeviceId, IssuerId, Timestamp};
use tapfer_payments::store_shares::Locker;
use utoipa::{IntoParams, ToSchema};

use crate::api::ShortText;

/// A new device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDevice {
    /// Whose cards it may carry.
    #[schema(value_type = String)]
    pub issuer: IssuerId,
    /// What people call it.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub label: ShortText,
    /// The device's HPKE key: an uncompressed P-256 point, 65 bytes. The private key stays there.
    #[schema(value_type = String, pattern = "^04[0-9a-fA-F]{128}$")]
    pub public_key: HexBytes,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// The device's id.
    #[schema(value_type = String)]
    pub id: DeviceId,
    /// Whose cards it may carry.
    #[schema(value_type = String)]
    pub issuer: IssuerId,
    /// What people call it.
    pub label: String,
    /// The device's HPKE key.
    #[schema(value_type = String)]
    pub public_key: HexBytes,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// What is known of the wallet's sealed store on it.
    pub store: Store,
    /// Whether the store is kept closed.
    pub lock: Option<Lock>,
}

/// What the platform knows of a wallet's sealed store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceStore)]
pub struct Store {
    /// The epoch the phone has confirmed; 0 before its first share.
    pub epoch: u32,
    /// The highest snapshot number it has reported.
    pub generation: u64,
}

/// Who keeps a store closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceLock)]
pub struct Lock {
    /// By whom: `issuer` or `operator`.
    #[schema(value_type = String)]
    pub by: Locker,
    /// Why. The phone itself is not told.
    pub reason: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// Why a device is locked or unlocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockDevice {
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// The store that a phone has at hand.
#[derive(ToSchema)]
#[schema(as = StoreReport)]
#[expect(dead_code, reason = "describes `tapfer_payment_types::store_share::StoreReport`")]
pub(crate) struct StoreReport {
    /// The epoch it is sealed in; 0 before the first share.
    epoch: u32,
    /// Number of the last snapshot that is durable.
    #[schema(maximum = 9_223_372_036_854_775_807_i64)]
    generation: u64,
}

/// The platform's share in the key of a store, in one epoch.
#[derive(ToSchema)]
#[schema(as = StoreShare)]
#[expect(dead_code, reason = "describes `tapfer_payment_types::store_share::StoreShareMessage`")]
pub(crate) struct StoreShare {
    /// The epoch.
    epoch: u32,
    /// The share, 32 bytes. For memory only.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    share: String,
}

/// A new device and the key that opens the interface to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedDevice {
    /// The device.
    #[serde(flatten)]
    pub device: Device,
    /// The device's API key. It is shown this once.
    pub api_key: String,
}

/// Which devices are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceQuery {
    /// Only those of this issuer.
    #[param(value_type = Option<String>)]
    pub issuer: Option<IssuerId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::devices::Device> for Device {
    fn from(device: &tapfer_payments::devices::Device) -> Self {
        Self {
            id: device.id,
            issuer: device.issuer,
            label: device.label.clone(),
            public_key: HexBytes(device.public_key.as_bytes().to_vec()),
            created_at: device.created_at,
            store: Store {
                epoch: device.store.confirmed_epoch,
                generation: device.store.highest_generation,
            },
            lock: device.lock.as_ref().map(|lock| Lock {
                by: lock.by,
                reason: Some(lock.reason.clone()),
                at: lock.at,
            }),
        }
    }
}

impl Device {
    /// As the phone itself sees it, or who has it: without the staff's reason for a lock.
    pub(crate) fn for_the_phone(mut self) -> Self {
        if let Some(lock) = &mut self.lock {
            lock.reason = None;
        }
        self
    }
}
