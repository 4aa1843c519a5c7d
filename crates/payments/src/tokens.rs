//! Tokens: one card on one device, and the states in between (`INACTIVE → ACTIVE ⇄ SUSPENDED →
//! DEACTIVATED`).
//!
//! A suspension belongs to the class of actor that made it, and only that class may lift it. Several
//! classes may suspend the same token; it pays again when the last suspension is lifted. So a
//! cardholder who lifts her own suspension does not undo the issuer's.

use alloc::string::String;
use tapfer_payment_types::{CardId, DeviceId, IssuerId, PanSequenceNumber, Timestamp, TokenId};

use crate::words::words;

words! {
    /// Who changes a token, as a class.
    Actor, "actor" {
        /// The person who pays with it.
        Cardholder = "cardholder",
        /// Who gave out the card.
        Issuer = "issuer",
        /// The platform itself: risk, operations.
        Platform = "platform",
    }
}

words! {
    /// What is done to a token.
    TokenAction, "token action" {
        /// It may pay from now on.
        Activate = "activate",
        /// It may not pay until the same class of actor says so.
        Suspend = "suspend",
        /// The actor's own suspension is lifted.
        Unsuspend = "unsuspend",
        /// It never pays again.
        Delete = "delete",
    }
}

words! {
    /// The state of a token without the question who suspended it.
    TokenStatus, "token status" {
        /// Made, but not yet allowed to pay.
        Inactive = "INACTIVE",
        /// It may pay.
        Active = "ACTIVE",
        /// It may not pay for now.
        Suspended = "SUSPENDED",
        /// It never pays again.
        Deactivated = "DEACTIVATED",
    }
}

/// The classes of actors that have suspended a token: never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SuspendedBy(u8);

const fn bit(actor: Actor) -> u8 {
    match actor {
        Actor::Cardholder => 1,
        Actor::Issuer => 2,
        Actor::Platform => 4,
    }
}

impl SuspendedBy {
    /// One actor alone.
    #[must_use]
    pub const fn only(actor: Actor) -> Self {
        Self(bit(actor))
    }

    /// Reads a set: bit 0 cardholder, bit 1 issuer, bit 2 platform. `None` if it is empty or has
    /// other bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits == 0 || bits > 7 { None } else { Some(Self(bits)) }
    }

    /// The set as bits, as [`Self::from_bits`] reads them.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether this class of actor has suspended the token.
    #[must_use]
    pub const fn contains(self, actor: Actor) -> bool {
        self.0 & bit(actor) != 0
    }

    /// The classes of actors in the set.
    pub fn actors(self) -> impl Iterator<Item = Actor> {
        Actor::ALL.iter().copied().filter(move |&actor| self.contains(actor))
    }

    const fn with(self, actor: Actor) -> Self {
        Self(self.0 | bit(actor))
    }

    const fn without(self, actor: Actor) -> Option<Self> {
        Self::from_bits(self.0 & !bit(actor))
    }
}

/// The state of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// Made, but not yet allowed to pay.
    Inactive,
    /// It may pay.
    Active,
    /// It may not pay for now.
    Suspended(SuspendedBy),
    /// It never pays again.
    Deactivated,
}

/// A change of state that the rules forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The action does not start from this state.
    #[error("a token that is {status} cannot be changed by \"{action}\"")]
    NotFrom {
        /// The state it is in.
        status: TokenStatus,
        /// What was asked for.
        action: TokenAction,
    },
    /// The same class of actor has suspended the token already.
    #[error("the {0} has suspended this token already")]
    AlreadySuspended(Actor),
    /// Somebody else suspended it.
    #[error("the {0} has not suspended this token; only who suspended it may lift that")]
    NotSuspendedBy(Actor),
    /// A token that may not pay and is not about to gets no keys.
    #[error("a token that is {0} gets no keys")]
    NoKeys(TokenStatus),
}

impl TokenState {
    /// The state without the question who suspended it.
    #[must_use]
    pub const fn status(self) -> TokenStatus {
        match self {
            Self::Inactive => TokenStatus::Inactive,
            Self::Active => TokenStatus::Active,
            Self::Suspended(_) => TokenStatus::Suspended,
            Self::Deactivated => TokenStatus::Deactivated,
        }
    }

    /// The state after `actor` has done `action`.
    ///
    /// # Errors
    /// [`TokenError`] if the rules forbid it; the state stays what it was.
    pub const fn after(self, action: TokenAction, actor: Actor) -> Result<Self, TokenError> {
        match (self, action) {
            (Self::Inactive, TokenAction::Activate) => Ok(Self::Active),
            (Self::Active, TokenAction::Suspend) => Ok(Self::Suspended(SuspendedBy::only(actor))),
            (Self::Suspended(by), TokenAction::Suspend) => {
                if by.contains(actor) {
                    return Err(TokenError::AlreadySuspended(actor));
                }
                Ok(Self::Suspended(by.with(actor)))
            }
            (Self::Suspended(by), TokenAction::Unsuspend) => {
                if !by.contains(actor) {
                    return Err(TokenError::NotSuspendedBy(actor));
                }
                match by.without(actor) {
                    Some(others) => Ok(Self::Suspended(others)),
                    None => Ok(Self::Active),
                }
            }
            // Giving up a token is never more permissive, so anyone may, whoever suspended it.
            (Self::Inactive | Self::Active | Self::Suspended(_), TokenAction::Delete) => {
                Ok(Self::Deactivated)
            }
            (state, action) => Err(TokenError::NotFrom { status: state.status(), action }),
        }
    }
}

impl TokenState {
    /// Whether a phone may be given keys for it: it may pay, or will once it is activated.
    ///
    /// # Errors
    /// [`TokenError::NoKeys`].
    pub const fn may_get_keys(self) -> Result<(), TokenError> {
        match self {
            Self::Inactive | Self::Active => Ok(()),
            Self::Suspended(_) | Self::Deactivated => Err(TokenError::NoKeys(self.status())),
        }
    }
}

/// A token. Its number lies sealed in the vault and is no part of this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Who gave out the card.
    pub issuer: IssuerId,
    /// The card it stands for.
    pub card: CardId,
    /// The phone it lives on.
    pub device: DeviceId,
    /// The last four digits of its number.
    pub last_four: String,
    /// Sequence number that goes into its keys.
    pub sequence_number: PanSequenceNumber,
    /// What it may do.
    pub state: TokenState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One line of a token's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenChange {
    /// Which token.
    pub token: TokenId,
    /// What was done.
    pub action: TokenAction,
    /// By whom.
    pub actor: Actor,
    /// Why, as the actor said.
    pub reason: String,
    /// The state that came of it.
    pub state: TokenState,
    /// When.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{Actor, SuspendedBy, TokenAction, TokenError, TokenState, TokenStatus};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// One row a case: state, action, actor, state after or error.
    #[test]
    fn the_table_of_changes() {
        use Actor::{Cardholder, Issuer};
        use TokenAction::{Activate, Delete, Suspend, Unsuspend};
        use TokenState::{Active, Deactivated, Inactive, Suspended};
        let by_issuer = Suspended(SuspendedBy::only(Issuer));
        let by_cardholder = Suspended(SuspendedBy::only(Cardholder));
        let by_both = Suspended(SuspendedBy::from_bits(3).unwrap());
        let not_from =
            |state: TokenState, action| Err(TokenError::NotFrom { status: state.status(), action });
        let table = [
            (Inactive, Activate, Cardholder, Ok(Active)),
            (Inactive, Suspend, Issuer, not_from(Inactive, Suspend)),
            (Inactive, Unsuspend, Issuer, not_from(Inactive, Unsuspend)),
            (Inactive, Delete, Cardholder, Ok(Deactivated)),
            (Active, Activate, Issuer, not_from(Active, Activate)),
            (Active, Suspend, Issuer, Ok(by_issuer)),
            (Active, Unsuspend, Issuer, not_from(Active, Unsuspend)),
            (Active, Delete, Issuer, Ok(Deactivated)),
            (by_issuer, Activate, Issuer, not_from(by_issuer, Activate)),
            (by_issuer, Suspend, Issuer, Err(TokenError::AlreadySuspended(Issuer))),
            (by_issuer, Suspend, Cardholder, Ok(by_both)),
            (by_issuer, Unsuspend, Issuer, Ok(Active)),
            (by_issuer, Unsuspend, Cardholder, Err(TokenError::NotSuspendedBy(Cardholder))),
            (by_both, Unsuspend, Issuer, Ok(by_cardholder)),
            (by_both, Delete, Cardholder, Ok(Deactivated)),
            (Deactivated, Activate, Issuer, not_from(Deactivated, Activate)),
            (Deactivated, Suspend, Issuer, not_from(Deactivated, Suspend)),
            (Deactivated, Unsuspend, Issuer, not_from(Deactivated, Unsuspend)),
            (Deactivated, Delete, Issuer, not_from(Deactivated, Delete)),
        ];
        for (state, action, actor, expected) in table {
            assert_eq!(state.after(action, actor), expected, "{state:?} {action} by {actor}");
        }
    }

    fn any_change() -> impl Strategy<Value = (TokenAction, Actor)> {
        (prop::sample::select(TokenAction::ALL), prop::sample::select(Actor::ALL))
    }

    proptest! {
        /// Against a model that remembers every suspension as what it is: a set of actors.
        #[test]
        fn a_suspension_is_lifted_only_by_who_made_it(changes in prop::collection::vec(any_change(), 0..40)) {
            let mut state = TokenState::Inactive;
            let mut holding = BTreeSet::new();
            for (action, actor) in changes {
                let before = state;
                let Ok(after) = before.after(action, actor) else { continue };
                prop_assert_ne!(after, before);
                prop_assert_ne!(before, TokenState::Deactivated);
                match action {
                    TokenAction::Suspend => prop_assert!(holding.insert(actor)),
                    TokenAction::Unsuspend => prop_assert!(holding.remove(&actor)),
                    TokenAction::Activate => prop_assert_eq!(before, TokenState::Inactive),
                    TokenAction::Delete => prop_assert_eq!(after, TokenState::Deactivated),
                }
                if let TokenState::Suspended(by) = after {
                    prop_assert_eq!(by.actors().collect::<Vec<_>>(), holding.iter().copied().collect::<Vec<_>>());
                }
                if after.status() == TokenStatus::Active {
                    prop_assert!(holding.is_empty());
                }
                state = after;
            }
        }
    }
}
