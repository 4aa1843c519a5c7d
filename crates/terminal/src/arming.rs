//! Arming: a terminal answers a card only for one payment that the till asked for.
//!
//! [`Terminal`](crate::Terminal) has no method that speaks to a card unless it is armed, and an
//! [`Arming`] cannot be copied: it is spent when the payment is decided. A card that has to be
//! presented again keeps it; an approval, a decline or a cancellation takes it away.

use tapfer_payment_types::{Money, PaymentIntentId};

use crate::kernel8::bcd_amount;

/// The till's order for one payment. Good once.
#[derive(Debug)]
pub struct Arming {
    payment_intent: PaymentIntentId,
    amount: Money,
}

/// Why a terminal is not armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmingError {
    /// Nothing to pay, or more than twelve digits.
    #[error("a payment is for more than nothing and has at most twelve digits of minor units: {0}")]
    Amount(Money),
    /// Above what the terminal takes without contact (Book A 5.2, Book B 3.1).
    #[error(
        "{amount} is above {limit}, the most this terminal takes by a tap: use another way to pay"
    )]
    AboveContactlessLimit {
        /// What was asked for.
        amount: Money,
        /// The terminal's contactless transaction limit.
        limit: Money,
    },
    /// The limit is in another currency.
    #[error(
        "the terminal's contactless limit is in another currency than {0}: configure it for it"
    )]
    Currency(Money),
}

impl Arming {
    /// An order to take `amount` for `payment_intent`.
    ///
    /// # Errors
    /// [`ArmingError::Amount`] if no card can be asked for it.
    pub fn new(payment_intent: PaymentIntentId, amount: Money) -> Result<Self, ArmingError> {
        if amount.is_positive() && bcd_amount(amount.minor).is_ok() {
            Ok(Self { payment_intent, amount })
        } else {
            Err(ArmingError::Amount(amount))
        }
    }

    /// What is paid for.
    #[must_use]
    pub const fn payment_intent(&self) -> PaymentIntentId {
        self.payment_intent
    }

    /// How much is to be paid.
    #[must_use]
    pub const fn amount(&self) -> Money {
        self.amount
    }
}
