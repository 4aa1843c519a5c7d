//! The wallet's PIN of one token: how the person's key is kept, lent for one payment, and changed.
//!
//! Nothing here can tell a right PIN from a wrong one, and nothing may: see `docs/threat-model.md`.

pub(crate) mod change;
mod choice;
mod lock;

use serde::{Deserialize, Serialize};
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{HexBytes, PinStatus, SealedPayload};
use tapfer_payment_types::{Pin, Timestamp};

pub use change::SetPinError;
pub use choice::{PinChoiceError, check_choice};
pub use lock::PinHardness;
use lock::PinLock;

use crate::policy::PinStanding;

/// So long is a PIN good for a payment after it was entered.
pub const ENTERED_FOR_SECONDS: i64 = 60;

/// A person's key as the phone keeps it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptKey {
    generation: u32,
    lock: PinLock,
}

/// A person's key that is on its way to the platform. The request is kept as it was sealed: sent again,
/// byte for byte, it does no harm.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingKey {
    kept: KeptKey,
    request: SealedPayload,
}

/// A PIN that was entered: the person's key for the next payment. Never stored.
struct Entered {
    key: PersonKey,
    at: Timestamp,
}

/// How a token stands to its PIN.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenPin {
    recipient: Option<HexBytes>,
    status: Option<PinStatus>,
    kept: Option<KeptKey>,
    pending: Option<PendingKey>,
    #[serde(skip)]
    entered: Option<Entered>,
}

/// Why a PIN can't be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterPinError {
    /// No such token.
    #[error(transparent)]
    UnknownToken(#[from] crate::UnknownToken),
    /// There is no PIN to enter.
    #[error("this token has no PIN yet: choose one first")]
    NotSet,
    /// Too many were wrong.
    #[error("the PIN is blocked: ask your issuer for a reset")]
    Blocked,
    /// The stored parameters are not ones that Argon2id takes.
    #[error("the stored PIN parameters are unusable: choose a new PIN")]
    Hardness,
}

impl TokenPin {
    /// How it stands at this moment.
    pub(crate) fn standing(&self, now: Timestamp) -> PinStanding {
        let status = self.status.as_ref();
        let is_reset = status.is_some_and(|status| status.reset_granted);
        if self.kept.is_none() || is_reset {
            return PinStanding::NotSet;
        }
        if status.is_some_and(|status| status.blocked) {
            return PinStanding::Blocked;
        }
        if self.entered_until(now).is_some() { PinStanding::Entered } else { PinStanding::Set }
    }

    /// The platform's last word about the PIN.
    pub(crate) const fn status(&self) -> Option<&PinStatus> {
        self.status.as_ref()
    }

    /// Generation of the person's key that the phone can open; 0 for none.
    pub(crate) fn generation(&self) -> u32 {
        self.kept.as_ref().map_or(0, |kept| kept.generation)
    }

    /// Opens the person's key with a PIN, right or wrong, for the next payment.
    pub(crate) fn enter(&mut self, pin: &Pin, now: Timestamp) -> Result<(), EnterPinError> {
        self.entered = None;
        match self.standing(now) {
            PinStanding::NotSet => return Err(EnterPinError::NotSet),
            PinStanding::Blocked => return Err(EnterPinError::Blocked),
            PinStanding::Set | PinStanding::Entered => {}
        }
        let kept = self.kept.as_ref().ok_or(EnterPinError::NotSet)?;
        let key = kept.lock.open(pin).map_err(|_| EnterPinError::Hardness)?;
        self.entered = Some(Entered { key, at: now });
        Ok(())
    }

    /// Until when a PIN that was entered is good.
    pub(crate) fn entered_until(&self, now: Timestamp) -> Option<Timestamp> {
        let entered = self.entered.as_ref()?;
        // A clock that was set back must not make the minute longer.
        let age = now.millis_since(entered.at);
        let until = entered.at.plus_seconds(ENTERED_FOR_SECONDS);
        (age >= 0 && now < until).then_some(until)
    }

    /// Wipes a PIN's key whose minute is over.
    pub(crate) fn forget_if_over(&mut self, now: Timestamp) {
        if self.entered_until(now).is_none() {
            self.forget();
        }
    }

    /// Wipes the key that a PIN has opened.
    pub(crate) fn forget(&mut self) {
        self.entered = None;
    }

    /// Lends the person's key, if a PIN was entered less than a minute ago.
    pub(crate) fn entered_key(&self, now: Timestamp) -> Option<&PersonKey> {
        self.entered_until(now)?;
        self.entered.as_ref().map(|entered| &entered.key)
    }
}
