//! Which version of a realm's catalogue of keys: what those remember who must not be shown an older one.

use serde::{Deserialize, Serialize};

/// A version of the catalogue of keys, told from every other that there was or could be. Nothing of it is
/// secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueMark {
    /// Counts up from 1 with every change.
    pub version: u64,
    /// The MAC over this version, HMAC-SHA-256.
    pub mac: [u8; 32],
    /// SHA-256 over the wrapped key of the MAC, which stays the same for as long as the realm lives.
    pub key: [u8; 32],
}
