//! Tokens: one card on one device.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{CardId, DeviceId, IssuerId, Timestamp, TokenId};
use tapfer_payments::tokens::{Actor, TokenState, TokenStatus};
use utoipa::{IntoParams, ToSchema};

use crate::api::{ShortText, actor_schema, token_status_schema};

/// A new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Which card.
    #[schema(value_type = String)]
    pub card: CardId,
    /// On which device.
    #[schema(value_type = String)]
    pub device: DeviceId,
}

fn actors_schema() -> utoipa::openapi::schema::Array {
    utoipa::openapi::schema::ArrayBuilder::new().items(actor_schema()).build()
}

/// A change of a token's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeToken {
    /// Who wants it. Only the class of actor that suspended a token may resume it.
    #[schema(schema_with = actor_schema)]
    pub actor: Actor,
    /// Why, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The token's id.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// The card it stands for.
    #[schema(value_type = String)]
    pub card: CardId,
    /// The device it lives on.
    #[schema(value_type = String)]
    pub device: DeviceId,
    /// The card's issuer.
    #[schema(value_type = String)]
    pub issuer: IssuerId,
    /// Where it is in its life.
    #[schema(schema_with = token_status_schema)]
    pub status: TokenStatus,
    /// Who has suspended it. It pays again when each of them has lifted that.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    #[schema(schema_with = actors_schema)]
    pub suspended_by: Vec<Actor>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The phone asks for its profile (the first time) and for fresh keys.
///
/// The shape of [`tapfer_payment_types::messages::ReplenishRequest`], for the interface's description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct ReplenishRequest {
    /// x of the phone's new ICC key, 32 bytes. The private key stays on the phone.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    icc_public_key: String,
    /// The application transaction counter of the phone's last transaction, 0 before the first.
    application_transaction_counter: u16,
}

/// A payload that only the device can open (HPKE, RFC 9180).
///
/// The shape of [`tapfer_payment_types::messages::SealedPayload`], for the interface's description.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct SealedPayload {
    /// HPKE encapsulated key: an uncompressed P-256 point, 65 bytes.
    encapsulated_key: String,
    /// HPKE ciphertext with its tag.
    ciphertext: String,
}

/// Why somebody has to see a card number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detokenize {
    /// The reason, for the audit trail.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// A card number in clear. The one answer of the interface that holds one.
#[derive(Serialize, ToSchema)]
pub struct Detokenized {
    /// The card number.
    pub pan: String,
}

impl Drop for Detokenized {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.pan);
    }
}

/// Which tokens are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// Only those of this card.
    #[param(value_type = Option<String>)]
    pub card: Option<CardId>,
    /// Only those on this device.
    #[param(value_type = Option<String>)]
    pub device: Option<DeviceId>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::tokens::Token> for Token {
    fn from(token: &tapfer_payments::tokens::Token) -> Self {
        let suspended_by = match token.state {
            TokenState::Suspended(by) => by.actors().collect(),
            TokenState::Inactive | TokenState::Active | TokenState::Deactivated => Vec::new(),
        };
        Self {
            id: token.id,
            card: token.card,
            device: token.device,
            issuer: token.issuer,
            status: token.state.status(),
            suspended_by,
            created_at: token.created_at,
        }
    }
}
