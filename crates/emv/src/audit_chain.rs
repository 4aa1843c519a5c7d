//! The platform's audit chain as its witnesses see it: hashes, and heads that never go back.
//!
//! ```text
//! hash 0 = SHA-256("tapfer-audit-genesis-1" ‖ realm id)
//! hash n = SHA-256("tapfer-audit-link-1" ‖ hash n-1 ‖ n as 8 bytes ‖ hash of event n)
//! hash of event = SHA-256("tapfer-audit-event-1" ‖ event)
//! ```
//!
//! Who knows the hash of link n knows all events up to it, and no event: what an event says goes in as a
//! hash, and every event has an id with random bits in it, so that nobody guesses it from its hash.

use alloc::format;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tapfer_payment_types::RealmId;
use tapfer_payment_types::configuration::{AuditHead, Restoration, SignedDocument};
use tapfer_payment_types::messages::HexBytes;

use crate::document::{DocumentError, DocumentKey, DocumentPurpose};

/// SHA-256 of a link or of an event.
pub type AuditHash = [u8; 32];

/// The hash before the first event.
#[must_use]
pub fn genesis(realm: RealmId) -> AuditHash {
    let realm = format!("{realm}");
    Sha256::new().chain_update(b"tapfer-audit-genesis-1").chain_update(realm).finalize().into()
}

/// The hash of an event, from its bytes (`tapfer_payments::audit::AuditEvent::encode`).
#[must_use]
pub fn event(encoded: &[u8]) -> AuditHash {
    Sha256::new().chain_update(b"tapfer-audit-event-1").chain_update(encoded).finalize().into()
}

/// The hash of event number `sequence`, from 1, behind `previous`.
#[must_use]
pub fn link(previous: &AuditHash, sequence: u64, event: &AuditHash) -> AuditHash {
    Sha256::new()
        .chain_update(b"tapfer-audit-link-1")
        .chain_update(previous)
        .chain_update(sequence.to_be_bytes())
        .chain_update(event)
        .finalize()
        .into()
}

/// Why a head is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Its signature or its text.
    #[error("the audit head cannot be trusted: {0}")]
    Document(#[from] DocumentError),
    /// It is of another platform.
    #[error("the audit head is of another realm")]
    OtherRealm,
    /// The chain was longer before.
    #[error(
        "the platform's audit chain went back from {known} to {offered} events: records were removed, or an \
         old copy of the platform answers"
    )]
    WentBack {
        /// Events that are known of.
        known: u64,
        /// Events that it has now.
        offered: u64,
    },
    /// There are two chains.
    #[error(
        "the platform's audit chain has two different records in place {sequence}: it was rewritten"
    )]
    Forked {
        /// Where they differ, or end.
        sequence: u64,
    },
    /// The platform was restored from a backup later than this.
    #[error("the platform speaks as it did before it was restored from a backup")]
    OlderRestoration,
}

/// What a witness remembers of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownHead {
    /// See [`AuditHead::restoration`].
    pub restoration: Restoration,
    /// Number of events.
    pub sequence: u64,
    /// Hash of the last link.
    #[serde(with = "hash")]
    pub hash: AuditHash,
}

impl KnownHead {
    /// The head before the first event of a realm.
    #[must_use]
    pub fn beginning(realm: RealmId) -> Self {
        Self { restoration: Restoration::NEVER, sequence: 0, hash: genesis(realm) }
    }

    /// Reads a signed head.
    ///
    /// # Errors
    /// [`HeadError::Document`] or [`HeadError::OtherRealm`].
    pub fn read(
        signed: &SignedDocument,
        key: &DocumentKey,
        realm: RealmId,
    ) -> Result<Self, HeadError> {
        let head: AuditHead = key.read(DocumentPurpose::AuditHead, signed)?;
        if !head.is_well_formed() {
            return Err(DocumentError::Content.into());
        }
        if head.realm != realm {
            return Err(HeadError::OtherRealm);
        }
        let hash = head.hash.0.as_slice().try_into().map_err(|_| DocumentError::Content)?;
        Ok(Self { restoration: head.restoration, sequence: head.sequence, hash })
    }

    /// Whether `later` may follow this head: not shorter, and not another chain of the same length.
    ///
    /// # Errors
    /// [`HeadError`].
    pub fn allows(&self, later: &Self) -> Result<(), HeadError> {
        if later.restoration < self.restoration {
            return Err(HeadError::OlderRestoration);
        }
        if later.restoration > self.restoration {
            return Ok(());
        }
        if later.sequence < self.sequence {
            return Err(HeadError::WentBack { known: self.sequence, offered: later.sequence });
        }
        if later.sequence == self.sequence && later.hash != self.hash {
            return Err(HeadError::Forked { sequence: self.sequence });
        }
        Ok(())
    }

    /// Whether the events with these hashes, behind this head, lead to `later`: then nothing before was
    /// altered. `restoration` does not matter: a chain that was restored and goes on still has its beginning.
    ///
    /// # Errors
    /// [`HeadError`] if they do not.
    pub fn proves<'a>(
        &self,
        events: impl IntoIterator<Item = &'a AuditHash>,
        later: &Self,
    ) -> Result<(), HeadError> {
        let mut reached = *self;
        events.into_iter().for_each(|event| reached.follow(event));
        reached.is_at(later)
    }

    /// One event further: for a proof that comes in pieces.
    pub fn follow(&mut self, event: &AuditHash) {
        let next = self.sequence.saturating_add(1);
        self.hash = link(&self.hash, next, event);
        self.sequence = next;
    }

    /// Whether this is the same place of the same chain as `later`, where a proof should have come to.
    ///
    /// # Errors
    /// [`HeadError::Forked`] if not.
    pub fn is_at(&self, later: &Self) -> Result<(), HeadError> {
        if (self.sequence, self.hash) == (later.sequence, later.hash) {
            return Ok(());
        }
        Err(HeadError::Forked { sequence: later.sequence })
    }
}

/// For `#[serde(with)]`: a hash as hexadecimal digits.
mod hash {
    use super::{AuditHash, HexBytes};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(hash: &AuditHash, out: S) -> Result<S::Ok, S::Error> {
        HexBytes(hash.to_vec()).serialize(out)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<AuditHash, D::Error> {
        let HexBytes(bytes) = HexBytes::deserialize(input)?;
        bytes.as_slice().try_into().map_err(|_| de::Error::custom("a hash has 32 bytes"))
    }
}
