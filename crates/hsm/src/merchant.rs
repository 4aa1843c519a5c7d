//! What is asked of the merchant CA's key.

use tapfer_emv::curve::PublicPoint;
use tapfer_emv::merchant::{AcquirerId, MerchantIdentifier, MerchantName, TerminalIdentifier};
use tapfer_payment_types::Timestamp;

/// What goes into a terminal's certificate (`tapfer_emv::merchant::MerchantCertificate`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerchantCertificateRequest {
    /// Who pays the merchant, `9F01`.
    pub acquirer: AcquirerId,
    /// Who is paid, `9F16`.
    pub merchant: MerchantIdentifier,
    /// Where, `9F1C`.
    pub terminal: TerminalIdentifier,
    /// What tills and phones show.
    pub name: MerchantName,
    /// The terminal's key. That it holds the private half is for the caller to see.
    pub public_key: PublicPoint,
    /// Serial number, the authority's choice.
    pub serial: [u8; 6],
    /// End of life. The certificate is good to the end of the minute this falls in.
    pub expires_at: Timestamp,
    /// The time now.
    pub now: Timestamp,
}
