//! What phone and platform say to each other about the phone's sealed store: the platform keeps a share
//! of its key, and knows how new it is.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::messages::HexSecret;

/// Length of a share in bytes.
pub const STORE_SHARE_LENGTH: usize = 32;

/// What a phone says of the store it has at hand: the body of `POST /v1/devices/{id}/store-share` and of
/// `.../store-share/rotate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreReport {
    /// The epoch it is sealed in; 0 before the first share.
    pub epoch: u32,
    /// Number of the last snapshot that is durable.
    pub generation: u64,
}

/// The platform's answer: its share of one epoch. Never to be written down on the phone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreShareMessage {
    /// The epoch that the share is for: the one that was reported, or, after `rotate`, the one that
    /// follows the confirmed one.
    pub epoch: u32,
    /// 32 bytes.
    pub share: HexSecret,
}

impl StoreShareMessage {
    /// Puts an answer together.
    #[must_use]
    pub fn new(epoch: u32, share: &Secret<[u8; STORE_SHARE_LENGTH]>) -> Self {
        Self { epoch, share: HexSecret::new(Vec::from(share.expose().as_slice())) }
    }
}
