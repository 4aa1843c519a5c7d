//! Documents that the platform signs for those who were given its keys: what phones and terminals are
//! to do, and how far the audit trail has come.
//!
//! ECDSA over P-256 with SHA-256, because every HSM has it. Each purpose has a key of its own and a label
//! in what is signed, so that a signature for one purpose is none for another even if keys were mixed up.

use alloc::vec::Vec;

use crate::curve::PublicPoint;
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
