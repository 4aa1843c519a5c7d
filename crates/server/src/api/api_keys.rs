//! API keys: making more of them, and taking them back.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{ApiKeyId, Timestamp};
use tapfer_payments::access::{Principal, Role};
use utoipa::openapi::schema::Object;
use utoipa::{IntoParams, ToSchema};

use crate::api::{ShortText, words};

fn role_schema() -> Object {
    words(Role::ALL.iter().map(|word| word.as_str()))
}

/// One more API key for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKey {
    /// Whom it will speak for: the id of an issuer, a merchant, a terminal or a device, or `operator`.
    #[schema(value_type = String, example = "mer_01kaj5m8g0e9z1a2b3c4d5e6f7")]
    pub owner: Principal,
}

/// A new API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// The key's id, as it stands in logs.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// The key. It is shown this once.
    pub api_key: String,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// The key's id, as it stands in logs.
    #[schema(value_type = String)]
    pub id: ApiKeyId,
    /// What it may do.
    #[schema(schema_with = role_schema)]
    pub role: Role,
    /// Whom it speaks for: an id, or `operator`.
    #[schema(value_type = String)]
    pub owner: Principal,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it stopped being good, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// Why a key is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeApiKey {
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// Which API keys are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiKeyQuery {
    /// Only those that speak for this issuer, merchant, terminal or device, or for the `operator`.
    #[param(value_type = Option<String>)]
    pub owner: Option<Principal>,
    /// Items a page, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl From<&tapfer_payments::access::ApiKey> for ApiKey {
    fn from(key: &tapfer_payments::access::ApiKey) -> Self {
        Self {
            id: key.id,
            role: key.principal.role(),
            owner: key.principal,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}
