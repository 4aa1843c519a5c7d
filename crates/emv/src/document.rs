//! Documents that the platform signs for those who were given its keys: what phones and terminals are
//! to do, and how far the audit trail has come.
//!
//! ECDSA over P-256 with SHA-256, because every HSM has it. Each purpose has a key of its own and a label
//! in what is signed, so that a signature for one purpose is none for another even if keys were mixed up.

use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXUPPER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use tapfer_payment_types::configuration::{MAXIMUM_DOCUMENT_LENGTH, SignedDocument};
use tapfer_payment_types::messages::HexBytes;

use crate::curve::{CurveError, PublicPoint};
use crate::merchant::is_signed_by;

/// r ‖ s, 32 bytes each, big endian (FIPS 186-5).
pub type DocumentSignature = [u8; 64];

/// What a document is signed for, and with that under which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentPurpose {
    /// What a phone or terminal is to do.
    Configuration,
    /// The end of the audit trail.
    AuditHead,
}

impl DocumentPurpose {
    /// Every purpose.
    pub const ALL: [Self; 2] = [Self::Configuration, Self::AuditHead];

    /// No label begins another, so that no document of one purpose reads as one of the other.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Configuration => b"tapfer-signed-configuration-1\0",
            Self::AuditHead => b"tapfer-signed-audit-head-1\0",
        }
    }

    /// What is signed: the purpose's label, then the document.
    #[must_use]
    pub fn message(self, document: &[u8]) -> Vec<u8> {
        [self.label(), document].concat()
    }

    /// Whether `signature` over a document of this purpose is the key's. Variable time: nothing here is
    /// secret.
    #[must_use]
    pub fn is_signed_by(
        self,
        key: &PublicPoint,
        document: &[u8],
        signature: &DocumentSignature,
    ) -> bool {
        is_signed_by(key, &self.message(document), signature)
    }
}

/// Why a document is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Longer than any honest one.
    #[error("the document is longer than {MAXIMUM_DOCUMENT_LENGTH} bytes")]
    TooLong,
    /// Another key's, or altered.
    #[error(
        "the document is not signed with the key that is known here, or was altered on the way"
    )]
    Signature,
    /// Signed, but not understood.
    #[error("the document is signed, but its content makes no sense to this version: update")]
    Content,
}

/// A public key that signs documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DocumentKey(PublicPoint);

impl DocumentKey {
    /// Takes x ‖ y.
    ///
    /// # Errors
    /// [`CurveError::Point`] if it is not on the curve.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, CurveError> {
        PublicPoint::from_bytes(bytes).map(Self)
    }

    /// x ‖ y.
    #[must_use]
    pub fn bytes(&self) -> [u8; 64] {
        self.0.bytes()
    }

    /// What people compare.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digest: [u8; 32] = Sha256::digest(self.bytes()).into();
        Fingerprint(digest.first_chunk().copied().unwrap_or_default())
    }

    /// Reads a document that this key signed for this purpose. Nothing of its text is parsed before the
    /// signature was verified.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn read<T: DeserializeOwned>(
        &self,
        purpose: DocumentPurpose,
        signed: &SignedDocument,
    ) -> Result<T, DocumentError> {
        if signed.document.len() > MAXIMUM_DOCUMENT_LENGTH {
            return Err(DocumentError::TooLong);
        }
        if !self.has_signed(purpose, signed) {
            return Err(DocumentError::Signature);
        }
        serde_json::from_str(&signed.document).map_err(|_| DocumentError::Content)
    }

    fn has_signed(&self, purpose: DocumentPurpose, signed: &SignedDocument) -> bool {
        let signature = signed.signature.0.as_slice().try_into();
        signature.is_ok_and(|signature| {
            purpose.is_signed_by(&self.0, signed.document.as_bytes(), signature)
        })
    }
}

impl From<PublicPoint> for DocumentKey {
    fn from(point: PublicPoint) -> Self {
        Self(point)
    }
}

impl From<DocumentKey> for PublicPoint {
    fn from(key: DocumentKey) -> Self {
        key.0
    }
}

/// What people compare of a key: the first eight bytes of SHA-256 over x ‖ y, in four groups.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, pair) in self.0.chunks(2).enumerate() {
            let separator = if position == 0 { "" } else { "-" };
            write!(f, "{separator}{}", HEXUPPER.encode(pair))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocumentKey({})", self.fingerprint())
    }
}

impl Serialize for DocumentKey {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        HexBytes(self.bytes().to_vec()).serialize(out)
    }
}

impl<'de> Deserialize<'de> for DocumentKey {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let HexBytes(bytes) = HexBytes::deserialize(input)?;
        key(&bytes).ok_or_else(|| de::Error::custom("not x and y of a point on P-256"))
    }
}

/// A key as documents name it: x ‖ y, 64 bytes. `None` if that is no key.
#[must_use]
pub fn key(bytes: &[u8]) -> Option<DocumentKey> {
    DocumentKey::from_bytes(bytes.try_into().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::DocumentPurpose;

    #[test]
    fn no_label_begins_another() {
        for one in DocumentPurpose::ALL {
            for other in DocumentPurpose::ALL {
                assert_eq!(one.label().starts_with(other.label()), one == other);
            }
        }
    }
}
