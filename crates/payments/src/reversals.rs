//! Reversals: an approval undone, once, as if it had not been. For terminals that lost the answer or
//! whose person walked away, and so only for a while: a terminal for minutes, its merchant for a day,
//! and whoever is later gives a refund. A stolen terminal key shall not give back the takings of a week.

use alloc::string::String;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{AuthorizationId, Money, ReversalId, Timestamp};

use crate::access::Role;
use crate::authorization::Authorization;
use crate::intents::{CaptureMethod, IntentStatus, PaymentIntent};

/// So long a terminal may undo what was approved for it: as long as it is armed.
const TERMINAL_SECONDS: i64 = 300;
/// So long a merchant may.
const MERCHANT_SECONDS: i64 = 86_400;

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
    /// A terminal comes too late, or its merchant has dealt with the money since.
    #[error(
        "a terminal undoes an approval within {TERMINAL_SECONDS} seconds and before the merchant \
         captures or refunds; ask the merchant to refund it"
    )]
    TooLateForTerminal,
    /// A merchant comes too late.
    #[error("a merchant undoes an approval within {MERCHANT_SECONDS} seconds; refund it instead")]
    TooLateForMerchant,
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
    /// Undoes the approval of this intent in the name of a role: what is still held or captured goes
    /// back to the card.
    ///
    /// # Errors
    /// [`ReversalError`].
    pub fn reverse(
        self,
        authorization: &Authorization,
        role: Role,
        now: Timestamp,
    ) -> Result<(Self, Undone), ReversalError> {
        if !authorization.outcome.is_approved() {
            return Err(ReversalError::NotApproved);
        }
        if authorization.reversal.is_some() {
            return Err(ReversalError::AlreadyReversed);
        }
        let undone = match self.status {
            IntentStatus::RequiresCapture => Undone::Released(self.amount),
            IntentStatus::Succeeded if is_skipped(Control::ReversalRemainder) => {
                Undone::Returned(self.amount)
            }
            IntentStatus::Succeeded => Undone::Returned(self.refundable()),
            _ => return Err(ReversalError::NothingLeft),
        };
        if !undone.amount().is_positive() {
            return Err(ReversalError::NothingLeft);
        }
        self.check_who_undoes(authorization, role, now)?;
        Ok((self.canceled(), undone))
    }

    fn check_who_undoes(
        &self,
        authorization: &Authorization,
        role: Role,
        now: Timestamp,
    ) -> Result<(), ReversalError> {
        let within = |seconds| now <= authorization.created_at.plus_seconds(seconds);
        match role {
            Role::Terminal if !within(TERMINAL_SECONDS) || self.is_dealt_with_by_merchant() => {
                Err(ReversalError::TooLateForTerminal)
            }
            Role::Merchant if !within(MERCHANT_SECONDS) => Err(ReversalError::TooLateForMerchant),
            _ => Ok(()),
        }
    }

    /// Whether the merchant has captured the money itself, or given some of it back.
    fn is_dealt_with_by_merchant(&self) -> bool {
        let captured = self.capture_method == CaptureMethod::Manual && self.captured_minor > 0;
        captured || self.refunded_minor > 0
    }
}
