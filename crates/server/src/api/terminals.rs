//! Terminals of merchants.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{
    MerchantId, PaymentIntentId, TerminalCertificateId, TerminalId, Timestamp,
};
use utoipa::{IntoParams, ToSchema};

use crate::api::ShortText;

/// A new terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTerminal {
    /// Whose terminal it is.
    #[schema(value_type = String)]
    pub merchant: MerchantId,
    /// What people call it.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub label: ShortText,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terminal {
    /// The terminal's id.
    #[schema(value_type = String)]
    pub id: TerminalId,
    /// Whose terminal it is.
    #[schema(value_type = String)]
    pub merchant: MerchantId,
    /// What people call it.
    pub label: String,
    /// Terminal identification `9F1C`: eight letters and digits.
    pub terminal_identification: String,
    /// The payment it is armed for, if any. An unarmed terminal takes no card.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub armed_for: Option<PaymentIntentId>,
    /// When it was revoked, if it was: it takes no payment any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_reason: Option<String>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A terminal is to end for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeTerminal {
    /// Why, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// A terminal wants its key certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTerminalCertificate {
    /// The terminal's public key on P-256: x and y, 64 bytes. The private key stays in the terminal.
    #[schema(value_type = String, pattern = "^[0-9a-fA-F]{128}$")]
    pub public_key: HexBytes,
    /// Shows that the terminal holds the private key: ECDSA with SHA-256, r and s, 64 bytes, over
    /// `tapfer-terminal-key-1`, the terminal's id as text, and `public_key`.
    #[schema(value_type = String, pattern = "^[0-9a-fA-F]{128}$")]
    pub possession: HexBytes,
    /// How long the certificate lives, in seconds; a day if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 600, maximum = 604_800)]
    pub lifetime_seconds: Option<i64>,
}

/// A certificate with which a terminal proves to phones whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalCertificate {
    /// The certificate's id.
    #[schema(value_type = String)]
    pub id: TerminalCertificateId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub terminal: TerminalId,
    /// Serial number, 6 bytes.
    #[schema(value_type = String)]
    pub serial: HexBytes,
    /// The certificate as it goes to phones (`A2 00`, docs/adr/0008-merchant-proof.md).
    #[schema(value_type = String)]
    pub certificate: HexBytes,
    /// From then on it is good no more.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was revoked before its end, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was given out.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A new terminal and the key that opens the interface to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedTerminal {
    /// The terminal.
    #[serde(flatten)]
    pub terminal: Terminal,
    /// The terminal's API key. It is shown this once.
    pub api_key: String,
}

/// Which terminals are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TerminalQuery {
    /// Only those of this merchant.
    #[param(value_type = Option<String>)]
    pub merchant: Option<MerchantId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::terminals::Terminal> for Terminal {
    fn from(terminal: &tapfer_payments::terminals::Terminal) -> Self {
        Self {
            id: terminal.id,
            merchant: terminal.merchant,
            label: terminal.label.clone(),
            terminal_identification: terminal.identification.to_string(),
            armed_for: None,
            revoked_at: terminal.revocation.as_ref().map(|ended| ended.at),
            revocation_reason: terminal.revocation.as_ref().map(|ended| ended.reason.clone()),
            created_at: terminal.created_at,
        }
    }
}

impl From<&tapfer_payments::terminals::TerminalCertificate> for TerminalCertificate {
    fn from(certificate: &tapfer_payments::terminals::TerminalCertificate) -> Self {
        Self {
            id: certificate.id,
            terminal: certificate.terminal,
            serial: HexBytes(certificate.serial.to_vec()),
            certificate: HexBytes(certificate.certificate.clone()),
            expires_at: certificate.expires_at,
            revoked_at: certificate.revoked_at,
            created_at: certificate.created_at,
        }
    }
}
