//! The person at the wallet: chooses a level, sets, changes and enters a PIN.

use rand_core::CryptoRng;
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::messages::{PinStatus, SetPersonKeyRequest};
use tapfer_payment_types::policy::Requirement;
use tapfer_payment_types::{Pin, Timestamp, TokenId};

use crate::enrolment::{GrantedKeys, PersonNews};
use crate::keys::SessionKeys;
use crate::pin::change::NewPin;
use crate::pin::{EnterPinError, PinHardness, SetPinError};
use crate::store::{Snapshot, StoreError};
use crate::token::Token;
use crate::wallet::{UnknownToken, Wallet};

/// Why a level can't be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChooseLevelError {
    /// No such token.
    #[error(transparent)]
    UnknownToken(#[from] UnknownToken),
    /// The issuer does not offer it.
    #[error("the issuer of this card does not offer this level")]
    NotOffered,
    /// The new state can't be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Wallet {
    /// The person chooses what payments up to the limit need. Persist the snapshot.
    ///
    /// # Errors
    /// [`ChooseLevelError`]; nothing is changed.
    pub fn choose_level(
        &mut self,
        token: TokenId,
        level: Requirement,
    ) -> Result<Snapshot, ChooseLevelError> {
        let token = self.token_mut(token).ok_or(UnknownToken)?;
        if !token.policy.person_may_choose.contains(&level) {
            return Err(ChooseLevelError::NotOffered);
        }
        token.chosen_level = Some(level);
        Ok(self.snapshot()?)
    }

    /// Sets the wallet's PIN of a token, or changes it. Persist the snapshot, then send the request to
    /// `POST /v1/tokens/{id}/pin`, and give the answer to [`Self::pin_answered`] or
    /// [`Self::pin_refused`]. Until then the old PIN stays.
    ///
    /// `old` is needed when there is a PIN and the issuer has not granted a reset. Whether it is right,
    /// the platform says. The calculation takes as long as `hardness` makes it.
    ///
    /// # Errors
    /// [`SetPinError`]; nothing is changed.
    pub fn set_pin(
        &mut self,
        token: TokenId,
        pin: &Pin,
        old: Option<&Pin>,
        hardness: PinHardness,
        rng: &mut impl CryptoRng,
    ) -> Result<(SetPersonKeyRequest, Snapshot), SetPinError> {
        let state = self.token_mut(token).ok_or(UnknownToken)?;
        let rules = state.policy.pin;
        state.pin.set(&NewPin { token, pin, old, rules: &rules, hardness }, rng)?;
        let request = state.pin.request().ok_or(SetPinError::Unconfirmed)?;
        Ok((request, self.snapshot()?))
    }

    /// The request for a new PIN whose answer is outstanding: send it again when the phone is online.
    #[must_use]
    pub fn pin_request(&self, token: TokenId) -> Option<SetPersonKeyRequest> {
        self.token(token)?.pin.request()
    }

    /// The platform's answer to [`Self::pin_request`], which is settled by it: the new PIN is taken if the
    /// answer's generation is the request's, and refused if it is lower; then the old one stays. Persist the
    /// snapshot, and replenish if the PIN is a new one: keys under the old one are erased.
    ///
    /// Not for what a `GET` says while a request is on its way: that may be about the time before.
    ///
    /// # Errors
    /// [`SetPinError`]; [`SetPinError::Store`] alone comes after the change.
    pub fn pin_answered(
        &mut self,
        token: TokenId,
        status: PinStatus,
    ) -> Result<Snapshot, SetPinError> {
        let state = self.token_mut(token).ok_or(UnknownToken)?;
        if state.pin.settled(status) {
            state.verified = SessionKeys::default();
        }
        Ok(self.snapshot()?)
    }

    /// The platform has refused the new PIN for good, and, asked after that, says how it stands: the old PIN
    /// was wrong, say. The old one stays. Persist the snapshot.
    ///
    /// # Errors
    /// As [`Self::pin_answered`].
    pub fn pin_refused(
        &mut self,
        token: TokenId,
        status: PinStatus,
    ) -> Result<Snapshot, SetPinError> {
        self.pin_answered(token, status)
    }

    /// The person enters the PIN for the next payment: it is good for one, within a minute
    /// ([`crate::pin::ENTERED_FOR_SECONDS`]). Whether it is right, only the issuer will notice.
    ///
    /// Nothing of it is stored; a restart forgets it.
    ///
    /// # Errors
    /// [`EnterPinError`] if there is no PIN to enter.
    pub fn enter_pin(
        &mut self,
        token: TokenId,
        pin: &Pin,
        now: Timestamp,
    ) -> Result<(), EnterPinError> {
        self.token_mut(token).ok_or(UnknownToken)?.pin.enter(pin, now)
    }

    /// Until when a PIN that was entered for this token is good; then call [`Self::forget_pins`].
    #[must_use]
    pub fn pin_entered_until(&self, token: TokenId, now: Timestamp) -> Option<Timestamp> {
        self.token(token)?.pin.entered_until(now)
    }

    /// Wipes every PIN's key that was not used: when its minute is over, the app goes to the background,
    /// or the person changes her mind.
    pub fn forget_pins(&mut self) {
        self.tokens.iter_mut().for_each(|token| token.pin.forget());
    }
}

impl Token {
    /// All key indices that the token holds.
    pub(crate) fn key_indices(&self) -> impl Iterator<Item = KeyIndex> {
        self.keys.indices().chain(self.single_use.indices()).chain(self.verified.indices())
    }

    /// Puts new keys in the place of the old ones, and hears what the platform says about the person.
    pub(crate) fn install_keys(&mut self, keys: GrantedKeys, person: PersonNews) {
        self.keys.apply(keys.limited_use);
        self.single_use = keys.single_use;
        self.pin.set_recipient(person.recipient);
        if let Some(status) = person.pin {
            self.pin.agree(status);
        }
        // Keys under a person's key that this phone has not got, or has replaced, would open to nothing.
        let fits = person.pin.is_some_and(|status| status.generation == self.pin.generation());
        self.verified = if fits { keys.verified } else { SessionKeys::default() };
        // What was paid since the request was sent has used up its counters.
        self.erase_to(self.application_transaction_counter);
        self.history.confirmed(&self.policy, &person.confirmation);
    }
}
