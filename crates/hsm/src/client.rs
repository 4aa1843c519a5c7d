//! What is asked of the authority of clients.

use tapfer_emv::curve::PublicPoint;
use tapfer_payment_types::{ApiKeyId, DeviceId, TerminalId, Timestamp};

/// Who may have a TLS certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A terminal.
    Terminal(TerminalId),
    /// A phone.
    Device(DeviceId),
}

/// What goes into a client's TLS certificate. Its subject is the realm (O), the client's id (CN) and the API
/// key's id (serialNumber); its own serial number is random.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificateRequest {
    /// Whose.
    pub client: Client,
    /// The API key that it stands for, and ends with.
    pub api_key: ApiKeyId,
    /// The client's key. That it holds the private half is for the caller to see.
    pub public_key: PublicPoint,
    /// End of life, to the second.
    pub expires_at: Timestamp,
    /// The time now.
    pub now: Timestamp,
}
