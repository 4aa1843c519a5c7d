//! PINs: of phones and of cards.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::SealedPayload;
use utoipa::ToSchema;

use crate::api::ShortText;
use crate::api::tokens::SealedPayload as SealedPayloadSchema;

/// A phone gives the platform a new person's key.
///
/// The shape of [`tapfer_payment_types::messages::SetPersonKeyRequest`], for the interface's description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct SetPersonKeyRequest {
    /// Number of the new key: one more than the one in force, 1 for the first.
    #[schema(minimum = 1)]
    generation: u32,
    /// New key and proof of the old one, sealed to the issuer (`tapfer-person-key-1`).
    #[schema(inline)]
    sealed_key: SealedPayloadSchema,
}

/// How a token stands to its PIN.
///
/// The shape of [`tapfer_payment_types::messages::PinStatus`], for the interface's description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct PinStatus {
    /// Number of the person's key in force; 0 before the first PIN.
    generation: u32,
    /// How many wrong PINs are left.
    tries_left: u8,
    /// Whether the PIN is blocked.
    blocked: bool,
    /// Whether the next PIN needs no proof of this one.
    reset_granted: bool,
}

/// Why the issuer does something for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinReason {
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// The person has logged in at the issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Login {
    /// When the platform heard of it.
    #[schema(value_type = String, format = DateTime)]
    pub logged_in_at: Timestamp,
}

/// A card's PIN for terminals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCardPin {
    /// The PIN in a block of ISO 9564-1 format 4, sealed to the issuer's `pin_key` with `info`
    /// `tapfer-card-pin-1` and the card's id as associated data.
    #[schema(inline, value_type = SealedPayloadSchema)]
    pub sealed_pin: SealedPayload,
}

/// The PIN is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CardPinSet {
    /// Wrong ones in a row: none any more.
    pub failed: u8,
}
