//! What the wallet has to tell the app, and the app the person.

use tapfer_wallet::Notification;
use tapfer_wallet::policy::{Ask, DeclineReason};

use crate::Amount;

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
    },
    /// The card declined.
    PaymentDeclined {
        /// The token that was asked to pay.
        token: String,
        /// What the terminal asked for.
        amount: Amount,
        /// Why.
        reason: DeclineReason,
    },
    /// The payment waits for the person: ask, and let the phone be tapped again.
    PersonNeeded {
        /// The token that was asked to pay.
        token: String,
        /// What the terminal asked for.
        amount: Amount,
        /// What to ask for.
        ask: Ask,
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
    /// No key is left that could pay this amount now: replenish, then tap again.
    NoKeysLeft {
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
                token, amount, application_transaction_counter, ..
            } => Self::PaymentSent {
                token: token.to_string(),
                amount: amount.into(),
                transaction_counter: application_transaction_counter,
            },
            Notification::PaymentDeclined { token, amount, reason } => {
                Self::PaymentDeclined { token: token.to_string(), amount: amount.into(), reason }
            }
            Notification::PersonNeeded { token, amount, ask } => {
                Self::PersonNeeded { token: token.to_string(), amount: amount.into(), ask }
            }
            Notification::ScreenOff { token } => Self::ScreenOff { token: token.to_string() },
            Notification::ReplenishSoon { token } => {
                Self::ReplenishSoon { token: token.to_string() }
            }
            Notification::NoKeysLeft { token } => Self::NoKeysLeft { token: token.to_string() },
            Notification::CertificateExpired { token } => {
                Self::CertificateExpired { token: token.to_string() }
            }
            Notification::CounterExhausted { token } => {
                Self::CounterExhausted { token: token.to_string() }
            }
        }
    }
}
