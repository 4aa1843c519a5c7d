//! The wallet as an app sees it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use serde_json::json;
use tapfer_payment_types::TokenId;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_wallet::StoreKey;
use zeroize::Zeroizing;

use crate::opened::Opened;
use crate::surroundings::{now, random};
use crate::{DeviceState, TapReply, TokenStatus, WalletError, WalletStorage};

/// The cards on a phone, ready to be held to a terminal.
///
/// An app has one of these, for as long as it runs: two over the same storage would use a counter twice.
/// [`file_storage`](crate::file_storage) refuses the second.
#[derive(uniffi::Object)]
pub struct TapferWallet {
    /// Empty when something broke off.
    opened: Mutex<Option<Opened>>,
}

#[uniffi::export]
impl TapferWallet {
    /// Opens the wallet that is stored, or makes a new one where nothing is.
    ///
    /// `device_secret` is 32 bytes that this device alone has: what its key store gives out or computes;
    /// where there is none, random bytes that the app keeps. A wallet opens with its own secret only.
    ///
    /// # Errors
    /// [`WalletError::Storage`] if storage fails, [`WalletError::Stored`] if what is there does not open.
    #[uniffi::constructor]
    pub fn open(
        storage: Arc<dyn WalletStorage>,
        device_secret: Vec<u8>,
    ) -> Result<Self, WalletError> {
        let key = store_key(Zeroizing::new(device_secret))?;
        let opened = catch_unwind(AssertUnwindSafe(|| Opened::open(storage, key)))
            .map_err(|_| WalletError::Closed)??;
        Ok(Self { opened: Mutex::new(Some(opened)) })
    }

    /// What makes this phone known to the platform: the body of `POST /v1/devices`, which the issuer
    /// sends. It holds the public key that everything for this phone is sealed to.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn registration_request(
        &self,
        issuer: String,
        label: String,
    ) -> Result<String, WalletError> {
        let public_key = self.with(|opened| Ok(opened.wallet().device_public_key()))?;
        let public_key = HEXLOWER.encode(&public_key);
        Ok(json!({ "issuer": issuer, "label": label, "public_key": public_key }).to_string())
    }

    /// Begins an enrolment or a replenishment: the body of `POST /v1/tokens/{token}/replenish`, to be
    /// sent with the device's API key. The answer to an earlier request is refused from now on.
    ///
    /// # Errors
    /// [`WalletError::Argument`] if `token` is no token id.
    pub fn replenish_request(&self, token: String) -> Result<String, WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| {
            let request = opened.wallet_mut().replenish_request(token, &mut random());
            serde_json::to_string(&request)
                .map_err(|_| WalletError::Argument("the request could not be written down"))
        })
    }

    /// Takes the platform's answer to a [`Self::replenish_request`] and stores the wallet. A token that
    /// was not there is there now.
    ///
    /// # Errors
    /// [`WalletError::AnswerRefused`] if it is not what was asked for; then nothing has changed.
    /// [`WalletError::Storage`] if the wallet could not be stored: the new keys are used from now on,
    /// and are lost if the process ends before the next payment.
    pub fn accept(&self, token: String, answer: String) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        let sealed: SealedPayload = serde_json::from_str(&answer)
            .map_err(|_| WalletError::Argument("the platform's answer holds no sealed keys"))?;
        self.with(|opened| {
            let snapshot = opened.wallet_mut().accept(token, &sealed, now())?;
            opened.keep(&snapshot)
        })
    }

    /// The tokens, in the order a terminal is offered them.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn tokens(&self) -> Result<Vec<TokenStatus>, WalletError> {
        self.with(|opened| Ok(TokenStatus::all(opened.wallet(), now())))
    }

    /// Chooses the token that a terminal is offered first.
    ///
    /// # Errors
    /// [`WalletError::UnknownToken`].
    pub fn set_default_token(&self, token: String) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| opened.change(|wallet| wallet.set_default_token(token)))
    }

    /// Forgets a token and wipes its keys. The issuer should delete it as well.
    ///
    /// # Errors
    /// [`WalletError::UnknownToken`].
    pub fn forget_token(&self, token: String) -> Result<(), WalletError> {
        let token = token_id(&token)?;
        self.with(|opened| opened.change(|wallet| wallet.remove_token(token)))
    }

    /// Answers one command of a terminal: `command` is a whole command APDU. Send the response at once;
    /// it depends on nothing that is not stored.
    ///
    /// # Errors
    /// [`WalletError::Storage`] if the wallet could not be stored: send nothing, the dialogue is over.
    pub fn handle_apdu(
        &self,
        command: Vec<u8>,
        device: DeviceState,
    ) -> Result<TapReply, WalletError> {
        self.with(|opened| opened.answer(&command, &device.into()))
    }

    /// The field is gone: forgets the dialogue and wipes its session keys.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn deselect(&self) -> Result<(), WalletError> {
        self.with(|opened| {
            opened.deselect();
            Ok(())
        })
    }
}

impl TapferWallet {
    /// Works on the open wallet. It is taken out meanwhile: if the work breaks off in the middle, what
    /// it leaves behind is wiped, and nobody goes on with it.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Opened) -> Result<T, WalletError>,
    ) -> Result<T, WalletError> {
        let mut place = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let mut opened = place.take().ok_or(WalletError::Closed)?;
        let worked = catch_unwind(AssertUnwindSafe(|| work(&mut opened)));
        match worked {
            Ok(result) => {
                *place = Some(opened);
                result
            }
            Err(_) => Err(WalletError::Closed),
        }
    }
}

/// Says nothing of what it holds.
impl fmt::Debug for TapferWallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapferWallet").finish_non_exhaustive()
    }
}

fn store_key(secret: Zeroizing<Vec<u8>>) -> Result<StoreKey, WalletError> {
    let secret = <[u8; 32]>::try_from(secret.as_slice())
        .map_err(|_| WalletError::Argument("the device secret has 32 bytes"))?;
    Ok(StoreKey::new(secret))
}

fn token_id(text: &str) -> Result<TokenId, WalletError> {
    text.parse().map_err(|_| WalletError::Argument("a token id begins with tok_"))
}
