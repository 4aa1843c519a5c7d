//! What the wallet has to tell the app, and the app the person.

use tapfer_wallet::policy::{Ask, DeclineReason};
use tapfer_wallet::{CredentialFault, Notification, ProvenMerchant};

use crate::Amount;

/// Who asked for a payment, proven to the phone.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Merchant {
    /// The name that the till shows too.
    pub name: String,
    /// Merchant identifier.
    pub merchant_id: String,
    /// Terminal identification.
    pub terminal_id: String,
}

impl From<ProvenMerchant> for Merchant {
    fn from(merchant: ProvenMerchant) -> Self {
        let ProvenMerchant { name, merchant_id, terminal_id } = merchant;
        Self { name, merchant_id, terminal_id }
    }
}

/// News of a tap. The app says it in the person's language.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum News {
    /// A payment has left the phone. Whether it is approved, the issuer decides and the terminal shows.
    PaymentSent {
        /// The token that pays.
        token: String,
        /// What the terminal asked for.
        amount: Amount,
        /// Counter of the payment.
        transaction_counter: u16,
        /// Who is paid, if the terminal has proven that.
        merchant: Option<Merchant>,
    },
    /// The card declined.
    PaymentDeclined {
        /// The token that was asked to pay.
        token: String,
        /// What the terminal asked for.
        amount: Amount,
        /// Why.
        reason: DeclineReason,
        /// Who asked, if the terminal has proven that.
        merchant: Option<Merchant>,
    },
    /// The payment waits for the person: ask, and let the phone be tapped again.
    PersonNeeded {
        /// The token that was asked to pay.
        token: String,
        /// What the terminal asked for.
        amount: Amount,
        /// What to ask for.
        ask: Ask,
        /// Who asks, if the terminal has proven that.
        merchant: Option<Merchant>,
    },
    /// The terminal came with a certificate that is over, and was refused: warn the person.
    MerchantRefused {
        /// The token that was asked to pay.
        token: String,
        /// The name in the certificate; nobody has proven that it is the terminal's.
        name: String,
        /// It was revoked; otherwise it has expired.
        revoked: bool,
    },
    /// The terminal's proof is wrong, and it was refused: warn the person.
    MerchantProofWrong {
        /// The token that was asked to pay.
        token: String,
        /// The name in the certificate, if there was one; most likely not the one who asked.
        name: Option<String>,
    },
    /// A terminal has read a data envelope.
    DataRead {
        /// The token whose envelope it is.
        token: String,
        /// Number of the envelope, 1 to 10.
        envelope: u8,
    },
    /// A terminal has written a data envelope.
    DataWritten {
        /// The token whose envelope it is.
        token: String,
        /// Number of the envelope, 1 to 10.
        envelope: u8,
    },
    /// The issuer advises against the way this phone is unlocked.
    DiscouragedUnlock {
        /// The token that pays.
        token: String,
    },
    /// The policy wants the screen on: turn it on and tap again.
    ScreenOff {
        /// The token that was asked to pay.
        token: String,
    },
    /// Keys run low: replenish at the next occasion.
    ReplenishSoon {
        /// The token that needs keys.
        token: String,
    },
    /// Whether the PIN of an earlier payment was right only the platform knows: replenish at the next occasion to
    /// hear it. Nothing that the person has to be told.
    PinUnconfirmed {
        /// The token whose PIN it is.
        token: String,
    },
    /// No key is left that could pay this amount now: replenish, then tap again.
    NoKeysLeft {
        /// The token that needs keys.
        token: String,
    },
    /// The PIN was entered for a payment that needs it, and no key under it is left: replenish, then tap again.
    NoPinKeysLeft {
        /// The token that needs keys.
        token: String,
    },
    /// The card's certificate has expired: replenish, then tap again.
    CertificateExpired {
        /// The token that needs a certificate.
        token: String,
    },
    /// The token has used its last counter: the issuer has to give another.
    CounterExhausted {
        /// The token that is worn out.
        token: String,
    },
}

impl From<Notification> for News {
    fn from(notification: Notification) -> Self {
        match notification {
            Notification::PaymentSent {
                token,
                amount,
                application_transaction_counter,
                merchant,
                ..
            } => Self::PaymentSent {
                token: token.to_string(),
                amount: amount.into(),
                transaction_counter: application_transaction_counter,
                merchant: merchant.map(Merchant::from),
            },
            Notification::PaymentDeclined { token, amount, reason, merchant } => {
                Self::PaymentDeclined {
                    token: token.to_string(),
                    amount: amount.into(),
                    reason,
                    merchant: merchant.map(Merchant::from),
                }
            }
            Notification::PersonNeeded { token, amount, ask, merchant } => Self::PersonNeeded {
                token: token.to_string(),
                amount: amount.into(),
                ask,
                merchant: merchant.map(Merchant::from),
            },
            Notification::MerchantRefused { token, name, fault } => Self::MerchantRefused {
                token: token.to_string(),
                name,
                revoked: fault == CredentialFault::Revoked,
            },
            Notification::MerchantProofWrong { token, name } => {
                Self::MerchantProofWrong { token: token.to_string(), name }
            }
            Notification::DataRead { token, envelope } => {
                Self::DataRead { token: token.to_string(), envelope }
            }
            Notification::DataWritten { token, envelope } => {
                Self::DataWritten { token: token.to_string(), envelope }
            }
            Notification::DiscouragedUnlock { token, .. } => {
                Self::DiscouragedUnlock { token: token.to_string() }
            }
            Notification::ScreenOff { token } => Self::ScreenOff { token: token.to_string() },
            Notification::ReplenishSoon { token } => {
                Self::ReplenishSoon { token: token.to_string() }
            }
            Notification::PinUnconfirmed { token } => {
                Self::PinUnconfirmed { token: token.to_string() }
            }
            Notification::NoKeysLeft { token } => Self::NoKeysLeft { token: token.to_string() },
            Notification::NoPinKeysLeft { token } => {
                Self::NoPinKeysLeft { token: token.to_string() }
            }
            Notification::CertificateExpired { token } => {
                Self::CertificateExpired { token: token.to_string() }
            }
            Notification::CounterExhausted { token } => {
                Self::CounterExhausted { token: token.to_string() }
            }
        }
    }
}
