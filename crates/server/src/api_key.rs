//! API keys as text: `tapfer_<role>_<secret>`. The platform keeps only the SHA-256 of the secret.
//!
//! A plain hash is enough, because the secret is 256 random bits and no word a person chose.

use aws_lc_rs::digest::{SHA256, digest};
use tapfer_payment_types::{ApiKeyId, Secret, Timestamp};
use tapfer_payments::access::{ApiKey, Principal, Role};

use crate::entropy::{self, Entropy, EntropyError};

/// Letters and digits of base64url that 256 bits take.
const SECRET_LENGTH: usize = 43;

/// A key as a caller presents it.
pub(crate) struct PresentedKey {
    role: Role,
    secret: Secret<String>,
}

impl PresentedKey {
    /// The role that stands in the text.
    pub(crate) const fn role(&self) -> Role {
        self.role
    }

    /// What the key is found by.
    pub(crate) fn secret_hash(&self) -> [u8; 32] {
        hash(&self.secret)
    }
}

/// Reads a key. `None` if the text is none.
pub(crate) fn parse(text: &str) -> Option<PresentedKey> {
    let (role, secret) = text.strip_prefix("tapfer_")?.split_once('_')?;
    let is_secret = secret.len() == SECRET_LENGTH
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let role = role.parse().ok()?;
    is_secret.then(|| PresentedKey { role, secret: Secret::new(secret.to_owned()) })
}

/// A new key: what is kept once it is signed, and the text that is shown once.
///
/// # Errors
/// [`EntropyError`].
pub(crate) fn generate(
    principal: Principal,
    now: Timestamp,
    source: &dyn Entropy,
) -> Result<(ApiKey, Secret<String>), EntropyError> {
    let secret = entropy::secret_text(source)?;
    let key = ApiKey {
        id: ApiKeyId::new(now, entropy::bytes(source)?),
        principal,
        secret_hash: hash(&secret),
        created_at: now,
        revoked_at: None,
        signature: None,
    };
    let text = format!("tapfer_{}_{}", principal.role(), secret.expose());
    Ok((key, Secret::new(text)))
}

fn hash(secret: &Secret<String>) -> [u8; 32] {
    let digest = digest(&SHA256, secret.expose().as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::{generate, parse};
    use crate::entropy::SystemEntropy;
    use proptest::prelude::*;
    use tapfer_payment_types::Timestamp;
    use tapfer_payments::access::{Principal, Role};

    #[test]
    fn what_is_made_is_read_back() {
        let now = Timestamp::from_unix_millis(1);
        for _ in 0..50 {
            let (key, text) = generate(Principal::Operator, now, &SystemEntropy).unwrap();
            let read = parse(text.expose()).unwrap();
            assert_eq!(read.role(), Role::Operator);
            assert_eq!(read.secret_hash(), key.secret_hash);
        }
    }

    #[test]
    fn nothing_else_is_a_key() {
        for text in ["", "tapfer", "tapfer_operator_", "tapfer_operator_short", "tapfer__x"] {
            assert!(parse(text).is_none(), "{text}");
        }
        assert!(parse(&format!("tapfer_king_{}", "a".repeat(43))).is_none());
        assert!(parse(&format!("tapfer_operator_{}", "ä".repeat(43))).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = parse(&text);
        }
    }
}
