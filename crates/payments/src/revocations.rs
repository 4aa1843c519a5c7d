//! Certificates of issuers that no terminal is to trust any more, although they have not expired: the
//! revocation list of Kernel 8 (Book E annex B.2).

use alloc::string::String;

use tapfer_emv::certificate::{IssuerCertificate, Rid};
use tapfer_payment_types::{IssuerId, Timestamp};

/// One entry. For good: what was revoked once is never trusted again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedIssuerCertificate {
    /// Whose certificate it is.
    pub issuer: IssuerId,
    /// The provider identifier of the authority that signed.
    pub rid: Rid,
    /// Which of the authority's keys signed.
    pub ca_index: u8,
    /// Serial number under that authority.
    pub serial: [u8; 3],
    /// Why, for the record.
    pub reason: String,
    /// Since when.
    pub revoked_at: Timestamp,
}

impl RevokedIssuerCertificate {
    /// The entry that takes this certificate out of use.
    #[must_use]
    pub const fn of(
        issuer: IssuerId,
        certificate: &IssuerCertificate,
        reason: String,
        now: Timestamp,
    ) -> Self {
        let IssuerCertificate { rid, ca_index, serial, .. } = *certificate;
        Self { issuer, rid, ca_index, serial, reason, revoked_at: now }
    }
}
