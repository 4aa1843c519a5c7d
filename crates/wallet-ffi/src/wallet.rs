//! The wallet as an app sees it.

use std::fmt;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::json;
use tapfer_payment_types::TokenId;
use tapfer_payment_types::messages::{SealedPayload, attestation_challenge};
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};
use tapfer_wallet::store::{DeviceSecret, StoreHeader, StoreShare};
use zeroize::Zeroizing;

use crate::opened::{Medium, Opened};
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
    /// where there is none, random bytes that the app keeps. `share` is the platform's answer to
    /// [`store_report`], and needed where that says something. It is for memory only.
    ///
    /// # Errors
    /// [`WalletError::Storage`] if storage fails, [`WalletError::Stored`] if what is there does not open:
    /// another secret, another share, or bytes that were changed.
    #[uniffi::constructor]
    pub fn open(
        storage: Arc<dyn WalletStorage>,
        device_secret: Vec<u8>,
        share: Option<String>,
    ) -> Result<Self, WalletError> {
        let secret = secret(&Zeroizing::new(device_secret))?;
        let share = share.map(Zeroizing::new).map(|share| store_share(&share)).transpose()?;
        let open = || Opened::open(Medium(storage), secret, share.as_ref());
        let opened = catch_unwind(AssertUnwindSafe(open)).map_err(|_| WalletError::Closed)??;
        Ok(Self { opened: Mutex::new(Some(opened)) })
    }

    /// What to tell the platform about the store, as the body of `POST
    /// /v1/devices/{device}/store-share/rotate` to get the share of the next epoch, and of `POST
    /// /v1/devices/{device}/store-share` to confirm that it is in use.
    ///
    /// # Errors
    /// [`WalletError::Closed`].
    pub fn store_report(&self) -> Result<String, WalletError> {
        self.with(|opened| to_json(&opened.report()))
    }

    /// Stores the wallet under the platform's share of the next epoch, as `rotate` answered it. Confirm it
    /// afterwards: from then on the old share is gone for ever, and copies of the store with it.
    ///
    /// # Errors
    /// [`WalletError::Stored`] if the share is of another epoch; [`WalletError::Storage`].
    pub fn reseal(&self, share: String) -> Result<(), WalletError> {
        let share = store_share(&Zeroizing::new(share))?;
        self.with(|opened| opened.reseal(&share))
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

    /// What the phone's hardware is to attest (`setAttestationChallenge`) for a challenge of the platform's
    /// (`POST /v1/devices/{device}/integrity/challenges`, 32 bytes): the wallet's own key is part of it, so that
    /// no other phone can attest in this one's place.
    ///
    /// # Errors
    /// [`WalletError::Argument`] if the challenge has another length.
    pub fn attestation_challenge(&self, challenge: Vec<u8>) -> Result<Vec<u8>, WalletError> {
        let question = challenge.as_slice().try_into();
        let question = question.map_err(|_| WalletError::Argument("a challenge has 32 bytes"))?;
        let public_key = self.with(|opened| Ok(opened.wallet().device_public_key()))?;
        Ok(attestation_challenge(question, &public_key))
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
            to_json(&request)
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
    pub(crate) fn with<T>(
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

/// What to tell the platform about a stored wallet before it can be opened: the body of `POST
/// /v1/devices/{device}/store-share`, whose answer [`TapferWallet::open`] takes. Nothing if there is no
/// wallet yet, or one that opens without a share.
///
/// # Errors
/// [`WalletError::Storage`] if storage fails, [`WalletError::Stored`] if what is there is no wallet.
#[uniffi::export]
pub fn store_report(storage: Arc<dyn WalletStorage>) -> Result<Option<String>, WalletError> {
    let Some(sealed) = storage.load()? else { return Ok(None) };
    let StoreHeader { epoch, generation } = StoreHeader::read(&sealed)?;
    let report = (epoch > 0).then_some(StoreReport { epoch, generation });
    report.as_ref().map(to_json).transpose()
}

fn secret(bytes: &[u8]) -> Result<DeviceSecret, WalletError> {
    let bytes = <[u8; 32]>::try_from(bytes)
        .map_err(|_| WalletError::Argument("the device secret has 32 bytes"))?;
    Ok(DeviceSecret::new(bytes))
}

fn store_share(answer: &str) -> Result<StoreShare, WalletError> {
    let unusable = || WalletError::Argument("the platform's answer holds no share of the store");
    let message: StoreShareMessage = serde_json::from_str(answer).map_err(|_| unusable())?;
    let epoch = NonZeroU32::new(message.epoch).ok_or_else(unusable)?;
    let share = <[u8; 32]>::try_from(message.share.expose()).map_err(|_| unusable())?;
    Ok(StoreShare::new(epoch, share))
}

pub(crate) fn to_json(message: &impl Serialize) -> Result<String, WalletError> {
    serde_json::to_string(message)
        .map_err(|_| WalletError::Argument("a message could not be written down"))
}

pub(crate) fn token_id(text: &str) -> Result<TokenId, WalletError> {
    text.parse().map_err(|_| WalletError::Argument("a token id begins with tok_"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use super::TapferWallet;
    use crate::{DeviceState, StorageError, WalletError, WalletStorage};
    use tapfer_payment_types::policy::UnlockMethod;

    const TOKEN: &str = "tok_00000000000000000000000000";

    #[derive(Default)]
    struct Storage {
        sealed: Mutex<Option<Vec<u8>>>,
        panics: AtomicBool,
    }

    impl WalletStorage for Storage {
        fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
            Ok(self.sealed.lock().unwrap().clone())
        }

        fn replace(&self, sealed: Vec<u8>) -> Result<(), StorageError> {
            assert!(!self.panics.load(Ordering::Relaxed), "the storage breaks off");
            *self.sealed.lock().unwrap() = Some(sealed);
            Ok(())
        }
    }

    fn open(storage: &Arc<Storage>) -> Result<TapferWallet, WalletError> {
        TapferWallet::open(storage.clone(), vec![7; 32], None)
    }

    fn device() -> DeviceState {
        DeviceState {
            screen_on: true,
            unlocked: true,
            unlock_method: UnlockMethod::Pin,
            integrity_verdict: 0,
        }
    }

    /// The share makes the wallet write, and the storage panics in the middle of it.
    #[test]
    fn a_panic_stays_inside_and_closes_the_wallet_until_it_is_opened_again() {
        let storage = Arc::new(Storage::default());
        let wallet = open(&storage).unwrap();
        storage.panics.store(true, Ordering::Relaxed);
        let share = format!(r#"{{"epoch":1,"share":"{}"}}"#, "11".repeat(32));
        assert!(matches!(wallet.reseal(share.clone()), Err(WalletError::Closed)));
        storage.panics.store(false, Ordering::Relaxed);
        assert!(matches!(
            wallet.handle_apdu(vec![0, 0xA4, 4, 0], device()),
            Err(WalletError::Closed)
        ));
        assert!(matches!(wallet.reseal(share.clone()), Err(WalletError::Closed)));
        open(&storage).unwrap().reseal(share).unwrap();
    }

    #[test]
    fn an_attestation_names_the_wallet_s_own_key() {
        let wallet = open(&Arc::default()).unwrap();
        let registration = wallet.registration_request("issuer".into(), "phone".into()).unwrap();
        let attested = wallet.attestation_challenge(vec![7; 32]).unwrap();
        let (question, key) = attested.split_at(49);
        assert!(question.ends_with(&[7; 32]) && attested.len() <= 128);
        assert!(registration.contains(&data_encoding::HEXLOWER.encode(key)), "{registration}");
        let short = wallet.attestation_challenge(vec![7; 31]);
        assert!(matches!(short, Err(WalletError::Argument(_))));
    }

    #[test]
    fn a_panic_while_opening_stays_inside_too() {
        let storage = Arc::new(Storage::default());
        storage.panics.store(true, Ordering::Relaxed);
        assert!(matches!(open(&storage), Err(WalletError::Closed)));
    }

    #[test]
    fn the_platforms_share_moves_the_store_on_and_opens_it() {
        let storage = Arc::new(Storage::default());
        let wallet = open(&storage).unwrap();
        assert_eq!(super::store_report(storage.clone()).unwrap(), None);
        let share = |epoch: u32, byte: &str| {
            format!(r#"{{"epoch":{epoch},"share":"{}"}}"#, byte.repeat(32))
        };
        assert!(matches!(wallet.reseal(share(2, "22")), Err(WalletError::Stored(_))));
        assert!(matches!(wallet.reseal(share(0, "22")), Err(WalletError::Argument(_))));
        wallet.reseal(share(1, "11")).unwrap();
        let report = wallet.store_report().unwrap();
        assert_eq!(super::store_report(storage.clone()).unwrap(), Some(report.clone()));
        assert!(report.contains(r#""epoch":1"#), "{report}");
        let public_key = wallet.registration_request("iss_1".into(), "phone".into()).unwrap();
        drop(wallet);
        let with = |share| TapferWallet::open(storage.clone(), vec![7; 32], share);
        assert!(matches!(with(None), Err(WalletError::Stored(_))));
        assert!(matches!(with(Some(share(1, "12"))), Err(WalletError::Stored(_))));
        let again = with(Some(share(1, "11"))).unwrap();
        assert_eq!(again.registration_request("iss_1".into(), "phone".into()).unwrap(), public_key);
    }

    #[test]
    fn nothing_that_is_shown_or_told_holds_a_secret() {
        let storage = Arc::new(Storage::default());
        let wallet = open(&storage).unwrap();
        assert_eq!(format!("{wallet:?}"), "TapferWallet { .. }");
        let secret = "73616d706c65";
        for error in [
            TapferWallet::open(storage, secret.into(), None).unwrap_err(),
            wallet.reseal(format!(r#"{{"epoch":1,"share":"{secret}"}}"#)).unwrap_err(),
            wallet.accept(TOKEN.into(), secret.into()).unwrap_err(),
            wallet.enter_pin(TOKEN.into(), format!("{secret}x")).unwrap_err(),
            wallet.enter_pin(TOKEN.into(), "73616".into()).unwrap_err(),
        ] {
            let told = format!("{error} {error:?}");
            assert!(!told.contains("73616"), "{told}");
        }
    }
}
