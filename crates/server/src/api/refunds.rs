//! Refunds: money given back after a payment.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{Currency, PaymentIntentId, RefundId, Timestamp};
use utoipa::{IntoParams, ToSchema};

use crate::api::Amount;

/// A new refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRefund {
    /// Which payment.
    #[schema(value_type = String)]
    pub payment_intent: PaymentIntentId,
    /// How much, minor units; all that has not been given back yet if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 999_999_999_999_i64)]
    pub amount: Option<Amount>,
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refund {
    /// The refund's id.
    #[schema(value_type = String)]
    pub id: RefundId,
    /// Which payment.
    #[schema(value_type = String)]
    pub payment_intent: PaymentIntentId,
    /// How much, minor units.
    pub amount: i64,
    /// In which currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which refunds are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RefundQuery {
    /// Only those of this payment.
    #[param(value_type = Option<String>)]
    pub payment_intent: Option<PaymentIntentId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::refunds::Refund> for Refund {
    fn from(refund: &tapfer_payments::refunds::Refund) -> Self {
        Self {
            id: refund.id,
            payment_intent: refund.payment_intent,
            amount: refund.amount.minor,
            currency: refund.amount.currency,
            created_at: refund.created_at,
        }
    }
}
