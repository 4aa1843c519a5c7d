//! TLS certificates of terminals and phones.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{ApiKeyId, Timestamp};
use tapfer_payments::access::Principal;
use utoipa::ToSchema;

/// A terminal or a phone wants a TLS certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateClientCertificate {
    /// A certificate signing request (PKCS#10, RFC 2986) in PEM, over a key on P-256, signed with ECDSA and SHA-256. What
    /// it says besides the key is not looked at: the platform knows who asks.
    #[schema(min_length = 1, max_length = 4096)]
    pub certificate_request: String,
}

/// A TLS certificate with which a terminal or a phone proves to the platform who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientCertificate {
    /// Whose it is: the id of a terminal or a device.
    #[schema(value_type = String)]
    pub owner: Principal,
    /// The API key that it stands for. It ends with that one at the latest.
    #[schema(value_type = String)]
    pub api_key: ApiKeyId,
    /// The certificate in PEM. The authority's own need not be sent with it.
    pub certificate: String,
    /// Its serial number.
    #[schema(value_type = String)]
    pub serial: HexBytes,
    /// When it was given out.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From then on it is good no more. Renew it before, over a connection that shows it.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}
