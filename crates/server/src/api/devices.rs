//! Devices: phones with a wallet on them.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{DeviceId, IssuerId, Timestamp};
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
        }
    }
}
