//! Who may call the platform: API keys and the one thing each of them speaks for.

use tapfer_payment_types::{ApiKeyId, DeviceId, IssuerId, MerchantId, TerminalId, Timestamp};

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
/// owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}
