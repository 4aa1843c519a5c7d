//! OAuth 2 access tokens (RFC 6749, client credentials): what a merchant's or an issuer's server shows in place of its
//! API key, for a quarter of an hour and for no more than it asked for (docs/adr/0022-access.md).
//!
//! A token is a statement about an API key, signed as API keys are with the key of audit heads, so that every node knows
//! it and none keeps it. It ends with its API key, which is looked at with every request.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::{ApiKeyId, RealmId, Timestamp};
use tapfer_payments::access::{ApiKey, Role};

use crate::service::signed_api_keys::PURPOSE;
use crate::service::{Service, ServiceError};

/// How long a token is good, in seconds.
pub(crate) const LIFE_SECONDS: i64 = 900;
/// Before the two parts of a token.
const PREFIX: &str = "tapfer_token_";
/// None of ours is longer.
const MAXIMUM_LENGTH: usize = 4_096;
/// What it is, so that no other statement under the same key is taken for one.
const FORMAT: &str = "tapfer-access-token-1";

/// What a token says. The realm is its audience.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    format: String,
    realm: RealmId,
    api_key: ApiKeyId,
    /// What it may be used for; everything that its API key may, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    issued_at: Timestamp,
    expires_at: Timestamp,
}

/// What a token is found to be.
pub(crate) enum Token {
    /// Good: the API key that it stands for, and what it may be used for.
    Good(ApiKey, Option<String>),
    /// This platform's, and good no more: it has ended, or its API key was taken back. Whoever shows it has guessed nothing.
    Over,
    /// None of this platform's.
    Foreign,
}

/// Whether a bearer's text is meant to be a token.
pub(crate) fn is_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Its two parts.
fn parts(text: &str) -> Option<(Vec<u8>, [u8; 64])> {
    let text = text.strip_prefix(PREFIX).filter(|text| text.len() <= MAXIMUM_LENGTH)?;
    let (statement, signature) = text.split_once('.')?;
    let statement = BASE64URL_NOPAD.decode(statement.as_bytes()).ok()?;
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
    Some((statement, signature.try_into().ok()?))
}

impl Service {
    /// A token in the name of an API key. `None` if such callers have none: terminals and phones have certificates, and
    /// the operator's key is not for servers.
    ///
    /// # Errors
    /// [`ServiceError`] of the security module.
    pub(crate) fn issue_token(
        &self,
        key: &ApiKey,
        scope: Option<String>,
    ) -> Result<Option<String>, ServiceError> {
        if !matches!(key.principal.role(), Role::Merchant | Role::Issuer) {
            return Ok(None);
        }
        let now = self.now();
        let statement = Statement {
            format: FORMAT.to_owned(),
            realm: self.hsm.describe().realm_id,
            api_key: key.id,
            scope,
            issued_at: now,
            expires_at: now.plus_seconds(LIFE_SECONDS),
        };
        let (_, signed) = self.sign(PURPOSE, &statement)?;
        let statement = BASE64URL_NOPAD.encode(signed.document.as_bytes());
        let signature = BASE64URL_NOPAD.encode(&signed.signature.0);
        tracing::info!(target: "tapfer::security", event = "access_token_issued", key = %key.id, "an access token was issued");
        Ok(Some(format!("{PREFIX}{statement}.{signature}")))
    }

    /// What a token is worth now.
    ///
    /// # Errors
    /// [`ServiceError`] of the store; of the security module, if it has to say which keys sign now.
    pub(crate) fn find_token(&self, text: &str) -> Result<Token, ServiceError> {
        let Some((bytes, signature)) = parts(text) else { return Ok(Token::Foreign) };
        if !self.is_signed_here(&bytes, &signature)? {
            return Ok(Token::Foreign);
        }
        let statement = serde_json::from_slice::<Statement>(&bytes).ok().filter(|statement| {
            statement.format == FORMAT && statement.realm == self.hsm.describe().realm_id
        });
        let Some(statement) = statement else { return Ok(Token::Foreign) };
        if self.now() >= statement.expires_at {
            return Ok(Token::Over);
        }
        let key = self.api_key_in_force(statement.api_key)?;
        Ok(key.map_or(Token::Over, |key| Token::Good(key, statement.scope)))
    }
}

#[cfg(test)]
mod tests {
    use super::parts;
    use proptest::prelude::*;

    #[test]
    fn a_token_has_two_parts() {
        let signature = "A".repeat(86);
        assert!(parts(&format!("tapfer_token_e30.{signature}")).is_some());
        for text in ["", "tapfer_token_", "tapfer_token_e30", "tapfer_token_e30.AA", "e30.AA"] {
            assert!(parts(text).is_none(), "{text}");
        }
        assert!(parts(&format!("tapfer_token_{}.{signature}", "A".repeat(5_000))).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,200}") {
            prop_assert!(parts(&text).is_none());
            let _any = parts(&format!("tapfer_token_{text}.{text}"));
        }
    }
}
