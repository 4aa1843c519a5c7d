//! Authorizations: the platform's answer to a card at a terminal.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::{HexBytes, SealedPayload};
use tapfer_payment_types::{
    AuthorizationId, Currency, PaymentIntentId, ReversalId, TerminalId, Timestamp,
};
use tapfer_payments::authorization::Language;
use utoipa::{IntoParams, ToSchema};

use crate::api::tokens::SealedPayload as SealedPayloadSchema;
use crate::api::{ShortText, reason_schema};

/// A card at a terminal asks to pay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAuthorization {
    /// The payment that the terminal is armed for.
    #[schema(value_type = String)]
    pub payment_intent: PaymentIntentId,
    /// Chip data as BER-TLV (field 55): `9F02 9F03 9F1A 95 5F2A 9A 9C 9F37 82 9F36 9F10 9F26 9F27`, the
    /// card's `5A`, `5F34`, `84`, and whatever else the kernel's data record adds.
    #[schema(value_type = String, pattern = "^([0-9a-fA-F]{2}){1,2048}$")]
    pub chip_data: HexBytes,
    /// The card's PIN, if the terminal asked for it: a block of ISO 9564-1 format 4, sealed to the issuer's
    /// `pin_key` (`GET /v1/trust`) with `info` `tapfer-online-pin-1` and the ids of payment intent and
    /// terminal, one after the other, as associated data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(inline, value_type = Option<SealedPayloadSchema>)]
    pub online_pin: Option<SealedPayload>,
}

/// Chip data holds the token's number: not for logs.
impl core::fmt::Debug for CreateAuthorization {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CreateAuthorization({}, {} bytes)", self.payment_intent, self.chip_data.0.len())
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The payment is good.
    Approved,
    /// It is not.
    Declined,
}

/// One decision. Being declined is an answer and no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authorization {
    /// The transaction id that stands on the receipt.
    #[schema(value_type = String)]
    pub id: AuthorizationId,
    /// The payment.
    #[schema(value_type = String)]
    pub payment_intent: PaymentIntentId,
    /// What was decided.
    pub outcome: Outcome,
    /// Why: a stable name, such as `approved`, `replay`, `insufficient_funds`.
    #[schema(schema_with = reason_schema)]
    pub reason: String,
    /// Why, in words.
    pub reason_text: String,
    /// Whether the phone signed that the terminal had proven to it whose it is.
    pub merchant_proven: bool,
    /// How much, minor units.
    pub amount: i64,
    /// In which currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// The terminal that took the card.
    #[schema(value_type = String)]
    pub terminal: TerminalId,
    /// The reversal that undid it, if it was undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reversal: Option<ReversalId>,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which authorizations are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuthorizationQuery {
    /// Only those for this payment.
    #[param(value_type = Option<String>)]
    pub payment_intent: Option<PaymentIntentId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// An approved authorization is to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReversal {
    /// Why, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// An authorization undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reversal {
    /// The reversal's id.
    #[schema(value_type = String)]
    pub id: ReversalId,
    /// What was undone.
    #[schema(value_type = String)]
    pub authorization: AuthorizationId,
    /// How much went back, minor units.
    pub amount: i64,
    /// In which currency.
    #[schema(value_type = String)]
    pub currency: Currency,
    /// Why.
    pub reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl Authorization {
    /// With the reason in words of this language.
    #[must_use]
    pub fn in_language(
        authorization: &tapfer_payments::authorization::Authorization,
        language: Language,
    ) -> Self {
        let outcome = authorization.outcome;
        Self {
            id: authorization.id,
            payment_intent: authorization.payment_intent,
            outcome: if outcome.is_approved() { Outcome::Approved } else { Outcome::Declined },
            reason: outcome.slug().to_owned(),
            reason_text: outcome.text(language).to_owned(),
            merchant_proven: authorization.merchant_proven,
            amount: authorization.amount.minor,
            currency: authorization.amount.currency,
            terminal: authorization.terminal,
            reversal: authorization.reversal,
            created_at: authorization.created_at,
        }
    }
}

impl From<&tapfer_payments::authorization::Authorization> for Authorization {
    fn from(authorization: &tapfer_payments::authorization::Authorization) -> Self {
        Self::in_language(authorization, Language::default())
    }
}

impl From<&tapfer_payments::reversals::Reversal> for Reversal {
    fn from(reversal: &tapfer_payments::reversals::Reversal) -> Self {
        Self {
            id: reversal.id,
            authorization: reversal.authorization,
            amount: reversal.amount.minor,
            currency: reversal.amount.currency,
            reason: reversal.reason.clone(),
            created_at: reversal.created_at,
        }
    }
}
