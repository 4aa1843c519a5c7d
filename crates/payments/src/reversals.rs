//! Reversals: an approval undone, once, as if it had not been. For terminals that lost the answer or
//! whose person walked away.

use alloc::string::String;
use tapfer_payment_types::{AuthorizationId, Money, ReversalId, Timestamp};

use crate::authorization::Authorization;
use crate::intents::{IntentStatus, PaymentIntent};

/// Why an authorization is not undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReversalError {
    /// A declined payment moved nothing.
    #[error("the payment was declined; there is nothing to undo")]
    NotApproved,
    /// It was undone before.
    #[error("the authorization was undone already")]
    AlreadyReversed,
    /// The money went back another way.
    #[error("nothing is left to undo: the hold was released or all of it was refunded")]
    NothingLeft,
}

/// An authorization undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// Its id.
    pub id: ReversalId,
    /// What was undone.
    pub authorization: AuthorizationId,
    /// How much went back to the card.
    pub amount: Money,
    /// Why, as the caller said.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
}

/// Where the money of a reversal comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undone {
    /// It was only held.
    Released(Money),
    /// It was captured; this is what had not been refunded.
    Returned(Money),
}

impl Undone {
    /// How much goes back to the card.
    #[must_use]
    pub const fn amount(self) -> Money {
        match self {
            Self::Released(amount) | Self::Returned(amount) => amount,
        }
    }
}

impl PaymentIntent {
    /// Undoes the approval of this intent: what is still held or captured goes back to the card.
    ///
    /// # Errors
    /// [`ReversalError`].
    pub fn reverse(self, authorization: &Authorization) -> Result<(Self, Undone), ReversalError> {
        if !authorization.outcome.is_approved() {
            return Err(ReversalError::NotApproved);
        }
        if authorization.reversal.is_some() {
            return Err(ReversalError::AlreadyReversed);
        }
        let undone = match self.status {
            IntentStatus::RequiresCapture => Undone::Released(self.amount),
            IntentStatus::Succeeded => Undone::Returned(self.refundable()),
            _ => return Err(ReversalError::NothingLeft),
        };
        if !undone.amount().is_positive() {
            return Err(ReversalError::NothingLeft);
        }
        Ok((self.canceled(), undone))
    }
}
