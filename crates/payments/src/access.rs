//! Who may call the platform: API keys and the one thing each of them speaks for.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{
    ApiKeyId, DeviceId, IssuerId, MerchantId, RealmId, TerminalId, Timestamp,
};

use crate::words::words;

words! {
    /// What kind of caller an API key belongs to.
    Role, "role" {
        /// Runs the platform; may do everything.
        Operator = "operator",
        /// An issuer: its cards, devices, tokens and top-ups.
        Issuer = "issuer",
        /// A merchant: its terminals, payment intents and refunds.
        Merchant = "merchant",
        /// One terminal: its arming and its authorizations.
        Terminal = "terminal",
        /// One phone: renews the keys of its tokens.
        Device = "device",
    }
}

/// Whom an API key speaks for. The role follows from it, so that no key can have a role without its
/// owner. As text it is the owner's id, or `operator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// The operator of the platform.
    Operator,
    /// One issuer.
    Issuer(IssuerId),
    /// One merchant.
    Merchant(MerchantId),
    /// One terminal.
    Terminal(TerminalId),
    /// One phone.
    Device(DeviceId),
}

impl Principal {
    /// The role that comes with speaking for this principal.
    #[must_use]
    pub const fn role(self) -> Role {
        match self {
            Self::Operator => Role::Operator,
            Self::Issuer(_) => Role::Issuer,
            Self::Merchant(_) => Role::Merchant,
            Self::Terminal(_) => Role::Terminal,
            Self::Device(_) => Role::Device,
        }
    }
}

/// A text that names nobody who could have an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give the id of an issuer, a merchant, a terminal or a device, or \"operator\"")]
pub struct UnknownPrincipal;

impl FromStr for Principal {
    type Err = UnknownPrincipal;

    fn from_str(text: &str) -> Result<Self, UnknownPrincipal> {
        let operator = (text == Role::Operator.as_str()).then_some(Self::Operator);
        operator
            .or_else(|| text.parse().map(Self::Issuer).ok())
            .or_else(|| text.parse().map(Self::Merchant).ok())
            .or_else(|| text.parse().map(Self::Terminal).ok())
            .or_else(|| text.parse().map(Self::Device).ok())
            .ok_or(UnknownPrincipal)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => Role::Operator.fmt(f),
            Self::Issuer(id) => id.fmt(f),
            Self::Merchant(id) => id.fmt(f),
            Self::Terminal(id) => id.fmt(f),
            Self::Device(id) => id.fmt(f),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = UnknownPrincipal;

    fn try_from(text: String) -> Result<Self, UnknownPrincipal> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        alloc::format!("{principal}")
    }
}

/// An API key. The secret itself is shown once and never kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id; idempotency keys are scoped to it.
    pub id: ApiKeyId,
    /// Whom it speaks for.
    pub principal: Principal,
    /// SHA-256 of the secret, by which a presented key is found.
    pub secret_hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stopped being good, if it did.
    pub revoked_at: Option<Timestamp>,
    /// The platform's, over its [`ApiKeyStatement`]. None when it was taken back: whoever takes that away from the row has
    /// no key either.
    pub signature: Option<[u8; 64]>,
}

impl ApiKey {
    /// The key after it has been taken back; it stays revoked since the first time.
    #[must_use]
    pub const fn revoked(self, now: Timestamp) -> Self {
        let revoked_at = match self.revoked_at {
            Some(before) => Some(before),
            None => Some(now),
        };
        Self { revoked_at, signature: None, ..self }
    }

    /// What the platform of a realm signs when it makes this key.
    #[must_use]
    pub fn statement(&self, realm: RealmId) -> ApiKeyStatement {
        ApiKeyStatement {
            format: "tapfer-api-key-1",
            realm,
            id: self.id,
            owner: self.principal,
            secret_hash: HexBytes(self.secret_hash.to_vec()),
            created_at: self.created_at,
        }
    }
}

/// Whose an API key is. Signed as JSON, with the key that signs ends of the audit trail; its form is none of theirs. A row
/// that somebody wrote into the database, or changed, is no key without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKeyStatement {
    format: &'static str,
    realm: RealmId,
    id: ApiKeyId,
    owner: Principal,
    secret_hash: HexBytes,
    created_at: Timestamp,
}

/// A TLS certificate with which a terminal or a phone proves who it is. It stands for an API key of that one, and is good
/// for as long as both are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whose it is.
    pub owner: Principal,
    /// The API key.
    pub api_key: ApiKeyId,
    /// Its serial number.
    pub serial: Vec<u8>,
    /// X.509 in DER.
    pub certificate: Vec<u8>,
    /// When it was given out.
    pub created_at: Timestamp,
    /// From then on it is good no more.
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::Principal;
    use std::string::ToString;
    use tapfer_payment_types::{DeviceId, IssuerId, MerchantId, TerminalId, Timestamp};

    #[test]
    fn principals_read_back_and_nothing_else_is_one() {
        let now = Timestamp::from_unix_millis(1);
        let principals = [
            Principal::Operator,
            Principal::Issuer(IssuerId::new(now, [1; 10])),
            Principal::Merchant(MerchantId::new(now, [2; 10])),
            Principal::Terminal(TerminalId::new(now, [3; 10])),
            Principal::Device(DeviceId::new(now, [4; 10])),
        ];
        for principal in principals {
            assert_eq!(principal.to_string().parse(), Ok(principal));
        }
        for text in ["", "operators", "issuer", "iss_", "card_01kaj5m8g0e9z1a2b3c4d5e6f7"] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }
}
