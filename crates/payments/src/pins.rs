//! PINs: which person's key a token has, and how many wrong PINs are left, on a phone and of a card.
//!
//! A wrong PIN on the phone gives a wrong cryptogram, and nobody but the platform notices. So here is the
//! only place where guesses are counted, and what is counted is written down in the transaction of the
//! decision that it belongs to.

use core::fmt;

use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::policy::{LastVerified, PinRules, Requirement, SinceVerified};

/// Why a PIN is not set or reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The generation is not the next one.
    #[error(
        "the next person's key of this token has generation {expected}; ask for the PIN's status"
    )]
    Generation {
        /// What it should be.
        expected: u32,
    },
    /// Too many wrong PINs.
    #[error("the PIN is blocked after too many wrong ones; the issuer can grant a reset")]
    Blocked,
    /// There is nothing to reset.
    #[error("this token has no PIN yet; it is set on the phone")]
    NotSet,
}

/// The person's key of a token, without the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersonKeyState {
    /// Number of the key in force, from 1.
    pub generation: u32,
    /// Wrong PINs in a row.
    pub failed: u8,
    /// Whether the next key needs no proof of this one.
    pub reset_granted: bool,
}

/// What a phone that sends a new person's key has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofDemand {
    /// Nothing: it is the first key, or the issuer granted a reset.
    Nothing,
    /// That it knows the key in force.
    OfOldKey,
}

impl PersonKeyState {
    /// A key that was just taken.
    #[must_use]
    pub const fn fresh(generation: u32) -> Self {
        Self { generation, failed: 0, reset_granted: false }
    }

    /// Whether no PIN is believed any more.
    #[must_use]
    pub const fn is_blocked(&self, rules: &PinRules) -> bool {
        self.failed >= rules.tries
    }

    /// After one more PIN, right or wrong.
    #[must_use]
    pub const fn after(self, right: bool) -> Self {
        Self { failed: if right { 0 } else { self.failed.saturating_add(1) }, ..self }
    }

    /// After the issuer granted a reset. It stays blocked until the new PIN is there.
    #[must_use]
    pub const fn with_reset(self) -> Self {
        Self { reset_granted: true, ..self }
    }
}

/// What a phone or hotline is told.
#[must_use]
pub fn status(state: Option<PersonKeyState>, rules: &PinRules) -> PinStatus {
    let Some(state) = state else {
        let tries_left = rules.tries;
        return PinStatus { generation: 0, tries_left, blocked: false, reset_granted: false };
    };
    PinStatus {
        generation: state.generation,
        tries_left: rules.tries.saturating_sub(state.failed),
        blocked: state.is_blocked(rules),
        reset_granted: state.reset_granted,
    }
}

/// Whether a token may get a person's key of this generation now, and against which proof.
///
/// # Errors
/// [`PinError`].
pub fn may_set(
    state: Option<PersonKeyState>,
    generation: u32,
    rules: &PinRules,
) -> Result<ProofDemand, PinError> {
    let expected = state.map_or(1, |state| state.generation.saturating_add(1));
    if generation != expected {
        return Err(PinError::Generation { expected });
    }
    match state {
        None | Some(PersonKeyState { reset_granted: true, .. }) => Ok(ProofDemand::Nothing),
        Some(state) if state.is_blocked(rules) => Err(PinError::Blocked),
        Some(_) => Ok(ProofDemand::OfOldKey),
    }
}

/// A card's PIN for terminals: what it is compared with, and wrong ones in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CardPin {
    /// Verification value, of use to the security module only.
    pub value: [u8; 32],
    /// Wrong PINs in a row.
    pub failed: u8,
}

impl fmt::Debug for CardPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardPin(redacted, {} failed)", self.failed)
    }
}

impl CardPin {
    /// Whether no PIN is believed any more.
    #[must_use]
    pub const fn is_blocked(&self, rules: &PinRules) -> bool {
        self.failed >= rules.tries
    }

    /// After one more PIN, right or wrong.
    #[must_use]
    pub const fn after(self, right: bool) -> Self {
        Self { failed: if right { 0 } else { self.failed.saturating_add(1) }, ..self }
    }
}

/// What the security module says of a PIN that was entered at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TerminalPin {
    /// None was entered, or the card has none.
    #[default]
    Absent,
    /// It is the card's.
    Right,
    /// It is not.
    Wrong,
}

/// How the person of a token was verified so far, as the platform found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerificationHistory {
    /// Payments since.
    pub since: SinceVerified,
    /// The last payment that was verified.
    pub last: Option<LastVerified>,
    /// Payments since the last login at the issuer.
    pub since_login: u32,
}

impl VerificationHistory {
    /// Behind one more payment whose cryptogram was right.
    #[must_use]
    pub fn after(
        self,
        policy: &tapfer_payment_types::policy::VerificationPolicy,
        charge_minor: i64,
        application_transaction_counter: u16,
        reached: Requirement,
    ) -> Self {
        let is_verified = reached >= Requirement::Unlocked;
        let this = LastVerified { application_transaction_counter, reached };
        Self {
            since: self.since.after(policy, charge_minor, reached),
            last: if is_verified { Some(this) } else { self.last },
            since_login: self.since_login.saturating_add(1),
        }
    }

    /// Behind one more payment that verified nobody, by whatever rule.
    #[must_use]
    pub fn after_unverified(self, charge_minor: i64) -> Self {
        Self {
            since: self.since.and_one_more(charge_minor),
            last: self.last,
            since_login: self.since_login.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PersonKeyState, PinError, ProofDemand, may_set, status};
    use tapfer_payment_types::policy::PinRules;

    const RULES: PinRules = PinRules { length: 4, tries: 3, refuse_easy: true };

    #[test]
    fn wrong_ones_block_and_a_right_one_starts_again() {
        let mut state = PersonKeyState::fresh(1);
        for left in (0..3).rev() {
            state = state.after(false);
            let told = status(Some(state), &RULES);
            assert_eq!((told.tries_left, told.blocked), (left, left == 0));
        }
        assert_eq!(PersonKeyState::fresh(1).after(false).after(true), PersonKeyState::fresh(1));
        assert_eq!(status(None, &RULES).tries_left, 3);
        let full = PersonKeyState { failed: u8::MAX, ..state };
        assert_eq!(full.after(false).failed, u8::MAX);
    }

    #[test]
    fn a_new_key_needs_the_old_one_unless_the_issuer_says_otherwise() {
        let first = PersonKeyState::fresh(1);
        let blocked = PersonKeyState { failed: 3, ..first };
        for (state, generation, expected) in [
            (None, 1, Ok(ProofDemand::Nothing)),
            (None, 2, Err(PinError::Generation { expected: 1 })),
            (Some(first), 1, Err(PinError::Generation { expected: 2 })),
            (Some(first), 2, Ok(ProofDemand::OfOldKey)),
            (Some(first), 3, Err(PinError::Generation { expected: 2 })),
            (Some(blocked), 2, Err(PinError::Blocked)),
            (Some(blocked.with_reset()), 2, Ok(ProofDemand::Nothing)),
            (Some(first.with_reset()), 2, Ok(ProofDemand::Nothing)),
        ] {
            assert_eq!(may_set(state, generation, &RULES), expected, "{state:?} {generation}");
        }
        assert!(status(Some(blocked.with_reset()), &RULES).blocked, "until the new PIN is there");
    }
}
