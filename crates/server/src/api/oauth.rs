//! OAuth 2 (RFC 6749, client credentials; RFC 8414, metadata). What travels here has the RFCs' form, not ours.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A server wants an access token. Its client id is the id of its API key, its client secret the API key itself; they may stand
/// in the header `authorization: Basic` instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRequest {
    /// `client_credentials`.
    pub grant_type: String,
    /// What the token is wanted for, separated by spaces, such as `payment-intents:write refunds:write`; everything that the API key may,
    /// if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The id of the API key, unless it stands in the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The API key, unless it stands in the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessToken {
    /// The token; to be shown as a bearer's, and not to be looked into.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds that it is good, unless its API key is revoked before.
    pub expires_in: i64,
    /// What it may be used for, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Why there is no token (RFC 6749, 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenError {
    /// `invalid_request`, `invalid_client`, `unauthorized_client`, `unsupported_grant_type` or `invalid_scope`.
    pub error: String,
    /// What, why, and what to do.
    pub error_description: String,
}

/// Where and how tokens are to be had (RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationServerMetadata {
    /// Who issues tokens: the address that was asked, one of the names of the platform's certificate.
    pub issuer: String,
    /// Where.
    pub token_endpoint: String,
    /// `client_credentials`.
    pub grant_types_supported: Vec<String>,
    /// None: there is no endpoint for persons.
    pub response_types_supported: Vec<String>,
    /// `client_secret_basic` and `client_secret_post`.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Every scope there is.
    pub scopes_supported: Vec<String>,
}
