//! Certificates of issuers that no terminal is to trust any more, although they have not expired: the
//! revocation list of Kernel 8 (Book E annex B.2).

use alloc::string::String;
use alloc::vec::Vec;

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
    /// The certificate itself: whoever tells of this entry sees by it whether an authority has signed what is revoked. None in
    /// entries from before they had one.
    pub certificate: Option<Vec<u8>>,
    /// Why, for the record.
    pub reason: String,
    /// Since when.
    pub revoked_at: Timestamp,
}

impl RevokedIssuerCertificate {
    /// The entry that takes this certificate out of use.
    #[must_use]
    pub fn of(
        issuer: IssuerId,
        certificate: &IssuerCertificate,
        reason: String,
        now: Timestamp,
    ) -> Self {
        let IssuerCertificate { rid, ca_index, serial, .. } = *certificate;
        let certificate = Some(certificate.encode());
        Self { issuer, rid, ca_index, serial, certificate, reason, revoked_at: now }
    }
}
