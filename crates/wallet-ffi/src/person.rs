//! What the person does at the wallet: chooses a level, sets, changes and enters a PIN, and looks after
//! what terminals have stored on the card.

use std::time::SystemTime;

use tapfer_payment_types::Pin;
use tapfer_payment_types::messages::PinStatus;
use tapfer_payment_types::policy::Requirement;
use tapfer_wallet::UnknownToken;
use tapfer_wallet::pin::PinHardness;
use zeroize::Zeroizing;

use crate::surroundings::{now, random, to_app};
use crate::wallet::{TapferWallet, to_json, token_id};
use crate::{DataEnvelope, WalletError};

#[uniffi::export]
impl TapferWallet {
    /// The person chooses what payments up to the limit need: one of the policy's `person_may_choose`.
    ///
    /// # Errors
    /// [`WalletError::PersonRefused`] if the issuer does not offer it; [`WalletError::Storage`].
    pub fn choose_level(&self, token: String, level: Requirement) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| {
            let snapshot = opened.wallet_mut().choose_level(token, level)?;
            opened.keep(&snapshot)
        })
    }

    /// Sets the PIN of a token, or changes it: the body of `POST /v1/tokens/{token}/pin`, stored before it
    /// is returned. Give the answer to [`Self::pin_answered`], or what `GET` of the same path says to
    /// [`Self::pin_refused`] after a refusal; until then the old PIN stays. `old` is needed when there is
    /// a PIN and the issuer granted no reset.
    ///
    /// Takes as long as the calculation that makes guessing slow: call it in the background.
    ///
    /// # Errors
    /// [`WalletError::PersonRefused`] says what is wrong with the PIN; [`WalletError::Storage`].
    pub fn set_pin(
        &self,
        token: String,
        pin: String,
        old: Option<String>,
    ) -> Result<String, WalletError> {
        let token = token_id(&token)?;
        let pin = entered(pin)?;
        let old = old.map(entered).transpose()?;
        self.with(|opened| {
            let hardness = PinHardness::default();
            let wallet = opened.wallet_mut();
            let (request, snapshot) =
                wallet.set_pin(token, &pin, old.as_ref(), hardness, &mut random())?;
            opened.keep(&snapshot)?;
            to_json(&request)
        })
    }

    /// The request for a new PIN whose answer is outstanding: send it again when the phone is online.
    ///
    /// # Errors
    /// [`WalletError::Argument`] if `token` is no token id.
    pub fn pin_request(&self, token: String) -> Result<Option<String>, WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| opened.wallet().pin_request(token).as_ref().map(to_json).transpose())
    }

    /// The platform's answer to the request, which is settled by it: a generation below the request's says
    /// that the old PIN was wrong; then the old one stays, and nothing is sent again. Replenish afterwards;
    /// keys under the old PIN are erased.
    ///
    /// # Errors
    /// [`WalletError::Argument`] if the answer holds no status; [`WalletError::Storage`].
    pub fn pin_answered(&self, token: String, answer: String) -> Result<(), WalletError> {
        let (token, status) = (token_id(&token)?, pin_status(&answer)?);
        self.with(|opened| {
            let snapshot = opened.wallet_mut().pin_answered(token, status)?;
            opened.keep(&snapshot)
        })
    }

    /// The platform has refused the new PIN for good, and, asked after that, says how it stands. The old one
    /// stays.
    ///
    /// # Errors
    /// As [`Self::pin_answered`].
    pub fn pin_refused(&self, token: String, status: String) -> Result<(), WalletError> {
        let (token, status) = (token_id(&token)?, pin_status(&status)?);
        self.with(|opened| {
            let snapshot = opened.wallet_mut().pin_refused(token, status)?;
            opened.keep(&snapshot)
        })
    }

    /// The person enters the PIN for the next payment: it is good for one, within a minute. Nothing here
    /// can tell whether it is right; the issuer does.
    ///
    /// # Errors
    /// [`WalletError::PersonRefused`] if there is no PIN to enter, or it is blocked.
    pub fn enter_pin(&self, token: String, pin: String) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        let pin = entered(pin)?;
        self.with(|opened| Ok(opened.wallet_mut().enter_pin(token, &pin, now())?))
    }

    /// Until when the PIN is good that was entered for the next payment; nothing if none is waiting. Call
    /// [`Self::forget_pins`] then: nothing here keeps time, and its key stays in memory until somebody
    /// asks.
    ///
    /// # Errors
    /// [`WalletError::Argument`] if `token` is no token id.
    pub fn pin_entered_until(&self, token: String) -> Result<Option<SystemTime>, WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| Ok(opened.wallet().pin_entered_until(token, now()).and_then(to_app)))
    }

    /// Forgets a PIN that was entered and not used: when its minute is over, the app goes to the
    /// background, or the person changes her mind.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn forget_pins(&self) -> Result<(), WalletError> {
        self.with(|opened| {
            opened.wallet_mut().forget_pins();
            Ok(())
        })
    }

    /// The person does not want the payment that she was asked about ([`crate::News`]): the till has
    /// corrected the amount, say. For a minute the next one is asked about at once, and in any case. For a
    /// button; forgets PINs that were entered.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn withdraw_from_question(&self) -> Result<(), WalletError> {
        self.with(|opened| {
            opened.withdraw_from_question();
            Ok(())
        })
    }

    /// What terminals have stored on the card: the envelopes that hold something, by their numbers.
    ///
    /// # Errors
    /// [`WalletError::UnknownToken`].
    pub fn data_envelopes(&self, token: String) -> Result<Vec<DataEnvelope>, WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| {
            let token = opened.wallet().token(token).ok_or(UnknownToken)?;
            Ok(token.data_envelopes().map(DataEnvelope::from).collect())
        })
    }

    /// Empties all data envelopes of a token: they are the person's to keep or to throw away.
    ///
    /// # Errors
    /// [`WalletError::UnknownToken`], [`WalletError::Storage`].
    pub fn erase_data_envelopes(&self, token: String) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| opened.change(|wallet| wallet.erase_data_envelopes(token)))
    }
}

fn entered(digits: String) -> Result<Pin, WalletError> {
    let digits = Zeroizing::new(digits);
    digits.parse().map_err(|_| WalletError::Argument("a PIN has 4 to 12 decimal digits"))
}

fn pin_status(answer: &str) -> Result<PinStatus, WalletError> {
    serde_json::from_str(answer)
        .map_err(|_| WalletError::Argument("the platform's answer holds no PIN status"))
}
