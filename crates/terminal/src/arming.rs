//! Arming: a terminal answers a card only for one payment that the till asked for.
//!
//! [`Terminal`](crate::Terminal) has no method that speaks to a card unless it is armed, and an
//! [`Arming`] cannot be copied: it is spent when the payment is decided. A card that has to be
//! presented again keeps it; an approval, a decline, a cancellation or its expiry takes it away.

use tapfer_payment_types::{Currency, Money, PaymentIntentId, Timestamp};

use crate::kernel8::bcd_amount;

/// The till's order for one payment. Good once.
#[derive(Debug)]
pub struct Arming {
    payment_intent: PaymentIntentId,
    amount: Money,
    expires_at: Timestamp,
}

/// Why a terminal is not armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArmingError {
    /// Less than nothing, or more than twelve digits.
    #[error("an amount is not negative and has at most twelve digits of minor units: {0}")]
    Amount(Money),
    /// Nothing to pay, and no application may be tapped for that (Book B 3.1.1.2).
    #[error("there is nothing to pay, and this terminal takes no tap for nothing")]
    ZeroAmount,
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
    /// The limits are in another currency: none of them could be compared with the amount.
    #[error(
        "the terminal's limits are in {limits} and say nothing about {amount}: ask for {limits}, or set \
         the terminal up with limits in {}",
        amount.currency
    )]
    Currency {
        /// What was asked for.
        amount: Money,
        /// The currency of the terminal's limits.
        limits: Currency,
    },
    /// No application is configured.
    #[error("the terminal takes no application: configure one")]
    NoApplication,
}

impl Arming {
    /// An order to take `amount` for `payment_intent` from a card that comes before `expires_at`.
    ///
    /// # Errors
    /// [`ArmingError::Amount`] if no card can be asked for it.
    pub fn new(
        payment_intent: PaymentIntentId,
        amount: Money,
        expires_at: Timestamp,
    ) -> Result<Self, ArmingError> {
        match bcd_amount(amount.minor) {
            Ok(_) => Ok(Self { payment_intent, amount, expires_at }),
            Err(_) => Err(ArmingError::Amount(amount)),
        }
    }

    /// The first instant at which no card is asked any more.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
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
