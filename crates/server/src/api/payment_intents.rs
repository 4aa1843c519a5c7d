//! Payment intents: what a merchant wants to be paid.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{
    AuthorizationId, Currency, MerchantId, PaymentIntentId, TerminalId, Timestamp,
};
use tapfer_payments::intents::{ArmingState, CaptureMethod, IntentStatus};
use utoipa::{IntoParams, ToSchema};

use crate::api::{
    Amount, ShortText, arming_state_schema, capture_method_schema, intent_status_schema,
};

/// A new payment intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePaymentIntent {
    /// How much, minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 999_999_999_999_i64, example = 1234)]
    pub amount: Amount,
    /// In which currency.
    #[schema(value_type = String, example = "EUR")]
    pub currency: Currency,
    /// The merchant's own name for the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 140)]
    pub reference: Option<ShortText>,
    /// When an approved amount is booked; automatic if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = capture_method_schema, required = false)]
    pub capture_method: Option<CaptureMethod>,
}

/// A payment intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentIntent {
    /// The payment intent's id.
    #[schema(value_type = String)]
    pub id: PaymentIntentId,
    /// Who wants to be paid.
    #[schema(value_type = String)]
    pub merchant: MerchantId,
    /// How much, minor units.
    pub amount: i64,
    /// In which currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// The merchant's own name for the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When an approved amount is booked.
    #[schema(schema_with = capture_method_schema)]
    pub capture_method: CaptureMethod,
    /// Where the payment is.
    #[schema(schema_with = intent_status_schema)]
    pub status: IntentStatus,
    /// The terminal it was last armed at, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arming: Option<Arming>,
    /// The approval, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub authorization: Option<AuthorizationId>,
    /// How much was captured, minor units.
    pub captured: i64,
    /// How much was given back, minor units.
    pub refunded: i64,
    /// How much of what was captured went back because the approval was undone, minor units.
    pub reversed: i64,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// One terminal, ready for one tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Arming {
    /// Which terminal.
    #[schema(value_type = String)]
    pub terminal: TerminalId,
    /// Whether it still waits for the tap.
    #[schema(schema_with = arming_state_schema)]
    pub state: ArmingState,
    /// From then on it waits no more.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Which terminal shall take the card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmTerminal {
    /// A terminal of the same merchant.
    #[schema(value_type = String)]
    pub terminal: TerminalId,
}

/// How much of an approved amount is booked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// How much, minor units; all of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 999_999_999_999_i64)]
    pub amount: Option<Amount>,
}

/// Nothing to say: the route says it all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which payment intents are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PaymentIntentQuery {
    /// Only those of this merchant.
    #[param(value_type = Option<String>)]
    pub merchant: Option<MerchantId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::intents::PaymentIntent> for PaymentIntent {
    fn from(intent: &tapfer_payments::intents::PaymentIntent) -> Self {
        Self {
            id: intent.id,
            merchant: intent.merchant,
            amount: intent.amount.minor,
            currency: intent.amount.currency,
            reference: intent.reference.clone(),
            capture_method: intent.capture_method,
            status: intent.status,
            arming: intent.arming.map(|arming| Arming {
                terminal: arming.terminal,
                state: arming.state,
                expires_at: arming.expires_at,
            }),
            authorization: intent.authorization,
            captured: intent.captured_minor,
            refunded: intent.refunded_minor,
            reversed: intent.reversed_minor(),
            created_at: intent.created_at,
        }
    }
}
