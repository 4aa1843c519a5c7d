//! Refunds: money back after a payment, in parts or whole, never more than was captured.

use tapfer_payment_types::{Money, PaymentIntentId, RefundId, Timestamp};

use crate::intents::{IntentStatus, PaymentIntent};

/// Why nothing is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefundError {
    /// Nothing was captured, or the payment was undone.
    #[error("a payment intent that is \"{0}\" has nothing to give back; only \"succeeded\" has")]
    NotPaid(IntentStatus),
    /// More than is left, or nothing.
    #[error("between one minor unit and {left} can be given back")]
    Amount {
        /// What was captured and not yet given back.
        left: Money,
    },
}

/// Money given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// Its id.
    pub id: RefundId,
    /// Of which payment.
    pub payment_intent: PaymentIntentId,
    /// How much.
    pub amount: Money,
    /// When.
    pub created_at: Timestamp,
}

impl PaymentIntent {
    /// What was captured and not yet given back.
    #[must_use]
    pub const fn refundable(&self) -> Money {
        Money::new(self.captured_minor.saturating_sub(self.refunded_minor), self.amount.currency)
    }

    /// Gives a part back, or all that is left.
    ///
    /// # Errors
    /// [`RefundError`].
    pub fn refund(mut self, minor: Option<i64>) -> Result<(Self, Money), RefundError> {
        if self.status != IntentStatus::Succeeded {
            return Err(RefundError::NotPaid(self.status));
        }
        let left = self.refundable();
        let minor = minor.unwrap_or(left.minor);
        if minor < 1 || minor > left.minor {
            return Err(RefundError::Amount { left });
        }
        self.refunded_minor = self.refunded_minor.saturating_add(minor);
        Ok((self, Money::new(minor, left.currency)))
    }
}
