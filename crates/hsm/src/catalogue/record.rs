//! What the catalogue knows about a key.

use std::fmt;

use serde::{Deserialize, Serialize};
use tapfer_emv::curve::PublicPoint;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::SignedDocument;

use super::name::KeyName;
use crate::vault::{Custody, KeyAlgorithm, NewKey};
use crate::{HsmError, Realm};

/// Where a key is in its life. It only goes on, never back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// The newest active generation makes what is new.
    Active,
    /// Verifies and opens what was made under it, and makes nothing.
    Retired,
    /// Gone for good; that it was there stays on record.
    Destroyed,
}

/// A key of the catalogue, without its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Which key.
    pub name: KeyName,
    /// What it computes.
    pub algorithm: KeyAlgorithm,
    /// Which root it lies under.
    pub custody: Custody,
    /// Where it is in its life.
    pub state: KeyState,
    /// When it was made or imported.
    pub created_at: Timestamp,
    /// End of its cryptoperiod: a newer generation should make what is new from here on. Nothing stops
    /// by itself.
    pub use_until: Option<Timestamp>,
    /// To tell keys apart by eye ([`NewKey::check_value`]).
    pub check_value: [u8; 3],
    /// Whether it may leave as a key block; not if it came in one that forbids it.
    pub exportable: bool,
    /// The public side of a P-256 key.
    pub public: Option<PublicPoint>,
    /// What the key of configurations before this one signed for it, for devices to follow: public, and here for good,
    /// so that it comes with the keys to a database that is older than they are.
    pub succession: Option<SignedDocument>,
    /// The key under its root; empty once it is destroyed.
    pub(crate) wrapped: Vec<u8>,
}

impl KeyRecord {
    /// The record of a key that has just been made.
    pub(crate) fn new(name: KeyName, realm: Realm, key: NewKey, now: Timestamp) -> Self {
        let period = name.purpose.cryptoperiod_seconds();
        Self {
            name,
            algorithm: name.purpose.algorithm(),
            custody: name.purpose.custody(realm),
            state: KeyState::Active,
            created_at: now,
            use_until: period.map(|seconds| now.plus_seconds(seconds)),
            check_value: key.check_value,
            exportable: true,
            public: key.public,
            succession: None,
            wrapped: key.wrapped,
        }
    }

    /// Takes it on in its life.
    pub(crate) fn advance(&mut self, state: KeyState) -> Result<(), HsmError> {
        use KeyState::{Active, Destroyed, Retired};
        match (self.state, state) {
            (Active, Retired) | (Retired, Destroyed) => {}
            (from, to) => return Err(HsmError::KeyLife { name: self.name, from, to }),
        }
        if state == Destroyed {
            self.wrapped = Vec::new();
        }
        self.state = state;
        Ok(())
    }
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRecord({}, {:?})", self.name, self.state)
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
        })
    }
}
