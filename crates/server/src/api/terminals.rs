//! Terminals of merchants.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{MerchantId, PaymentIntentId, TerminalId, Timestamp};
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
    /// When it was registered.
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
            created_at: terminal.created_at,
        }
    }
}
