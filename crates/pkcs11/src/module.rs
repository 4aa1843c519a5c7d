//! A library, its slots and its tokens.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::RvError;
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tapfer_payment_types::Secret;

use crate::error::Error;
use crate::raw::Raw;
use crate::{Calls, Mechanism, Session};

/// A PKCS#11 library that has been loaded and initialised.
///
/// All [`Session`]s end before [`Module::finalize`]: a library that is initialised again gives the same
/// handles out anew.
pub struct Module {
    binding: Pkcs11,
    raw: Arc<Raw>,
}

/// What a library says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleDescription {
    /// Who made it.
    pub manufacturer: String,
    /// What it calls itself, and its version.
    pub library: String,
    /// The version of PKCS#11 that it offers.
    pub pkcs11: String,
}

/// What a slot and the token in it say about themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenDescription {
    /// Number of the slot, which may be another one after a restart.
    pub slot: u64,
    /// Label of the token; empty if it has not been initialised.
    pub label: String,
    /// Serial number of the token.
    pub serial: String,
    /// Who made it.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Whether it has been initialised.
    pub is_initialized: bool,
    /// Whether the user has to log in. A token whose keys are protected by the HSM alone asks for no PIN
    /// and refuses one (nShield's `accelerator`).
    pub needs_login: bool,
    /// Whether the module calls the slot hardware (`CKF_HW_SLOT`). Its word, no proof.
    pub is_hardware: bool,
    /// How many tries the user's PIN has left, as far as the token tells.
    pub pin_tries: PinTries,
}

/// What a token tells about the tries that its user's PIN has left. Not every module tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinTries {
    /// None is known to be used up.
    Plenty,
    /// A wrong PIN came since the last right one (`CKF_USER_PIN_COUNT_LOW`).
    Fewer,
    /// One more wrong PIN and it locks (`CKF_USER_PIN_FINAL_TRY`).
    Last,
    /// It is locked (`CKF_USER_PIN_LOCKED`).
    Locked,
}

impl fmt::Display for TokenDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}: ", self.slot)?;
        if !self.is_initialized {
            return f.write_str("a token that is not initialised");
        }
        write!(
            f,
            "{:?}, serial {:?}, {} {}",
            self.label, self.serial, self.manufacturer, self.model
        )
    }
}

/// A token that was found.
#[derive(Debug, Clone)]
pub struct Token {
    slot: Slot,
    /// What it says about itself.
    pub description: TokenDescription,
}

impl Module {
    /// Loads a library and initialises it. One that this process has initialised already is taken as it
    /// is.
    ///
    /// # Errors
    /// [`Error::Library`] if it is no PKCS#11 library; what `C_Initialize` answers.
    pub fn load(path: &Path, calls: &Calls) -> Result<Self, Error> {
        let raw = Raw::open(path, calls.clone())?;
        // The binding asks for the function list too, or for an interface of PKCS#11 3.
        calls.add(1);
        let binding = Pkcs11::new(path)
            .map_err(|error| Error::Library { path: path.to_owned(), reason: error.to_string() })?;
        let module = Self { binding, raw: Arc::new(raw) };
        module.initialize()?;
        Ok(module)
    }

    fn initialize(&self) -> Result<(), Error> {
        self.raw.calls.add(1);
        match self.binding.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(())
            | Err(cryptoki::error::Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            Err(error) => Err(Error::from_binding("C_Initialize", error)),
        }
    }

    /// Ends the library's work and begins it again: what helps when the device was away. The library stays
    /// mapped: vendors' threads may still run in it.
    ///
    /// # Errors
    /// What `C_Initialize` answers. What `C_Finalize` says of a library that is broken helps nobody.
    pub fn restart(&self) -> Result<(), Error> {
        self.raw.calls.add(1);
        let _ = self.binding.clone().finalize();
        self.initialize()
    }

    /// Ends the library's work for this process: sessions, logins and session objects are gone.
    ///
    /// # Errors
    /// What `C_Finalize` answers.
    pub fn finalize(self) -> Result<(), Error> {
        self.raw.calls.add(1);
        self.binding.finalize().map_err(|error| Error::from_binding("C_Finalize", error))
    }

    /// What the library says about itself.
    ///
    /// # Errors
    /// What `C_GetInfo` answers.
    pub fn describe(&self) -> Result<ModuleDescription, Error> {
        self.raw.calls.add(1);
        let info = self
            .binding
            .get_library_info()
            .map_err(|error| Error::from_binding("C_GetInfo", error))?;
        Ok(ModuleDescription {
            manufacturer: info.manufacturer_id().trim().to_owned(),
            library: format!("{} {}", info.library_description().trim(), info.library_version()),
            pkcs11: info.cryptoki_version().to_string(),
        })
    }

    /// All tokens, those that are not initialised too.
    ///
    /// # Errors
    /// What the module answers.
    pub fn tokens(&self) -> Result<Vec<Token>, Error> {
        // The binding asks for the number first.
        self.raw.calls.add(2);
        let slots = self
            .binding
            .get_slots_with_token()
            .map_err(|error| Error::from_binding("C_GetSlotList", error))?;
        slots.into_iter().map(|slot| self.token_in(slot)).collect()
    }

    fn token_in(&self, slot: Slot) -> Result<Token, Error> {
        self.raw.calls.add(2);
        let is_hardware = self
            .binding
            .get_slot_info(slot)
            .map_err(|error| Error::from_binding("C_GetSlotInfo", error))?
            .hardware_slot();
        let info = self
            .binding
            .get_token_info(slot)
            .map_err(|error| Error::from_binding("C_GetTokenInfo", error))?;
        let is_initialized = info.token_initialized();
        let text = |text: &str| text.trim_matches([' ', '\0']).to_owned();
        let description = TokenDescription {
            slot: slot.id(),
            label: if is_initialized { text(info.label()) } else { String::new() },
            serial: text(info.serial_number()),
            manufacturer: text(info.manufacturer_id()),
            model: text(info.model()),
            is_initialized,
            needs_login: info.login_required(),
            is_hardware,
            pin_tries: match () {
                () if info.user_pin_locked() => PinTries::Locked,
                () if info.user_pin_final_try() => PinTries::Last,
                () if info.user_pin_count_low() => PinTries::Fewer,
                () => PinTries::Plenty,
            },
        };
        Ok(Token { slot, description })
    }

    /// The token with this label, or else with this serial number.
    ///
    /// # Errors
    /// [`Error::NoSuchToken`] and [`Error::SeveralTokens`] say what was found.
    pub fn token(&self, name: &str) -> Result<Token, Error> {
        let tokens: Vec<Token> =
            self.tokens()?.into_iter().filter(|token| token.description.is_initialized).collect();
        let all = tokens.iter().map(|token| token.description.clone()).collect::<Vec<_>>();
        let (mut labelled, others): (Vec<_>, Vec<_>) =
            tokens.into_iter().partition(|token| token.description.label == name);
        if labelled.len() > 1 {
            let found = labelled.into_iter().map(|token| token.description).collect();
            return Err(Error::SeveralTokens { wanted: name.to_owned(), found });
        }
        let by_serial = || others.into_iter().find(|token| token.description.serial == name);
        labelled
            .pop()
            .or_else(by_serial)
            .ok_or_else(|| Error::NoSuchToken { wanted: name.to_owned(), found: all })
    }

    /// How many tries the user's PIN has left now.
    ///
    /// # Errors
    /// What the module answers.
    pub fn pin_tries(&self, token: &Token) -> Result<PinTries, Error> {
        self.token_in(token.slot).map(|token| token.description.pin_tries)
    }

    /// Those of the mechanisms that tapfer uses which the token offers.
    ///
    /// # Errors
    /// What the module answers.
    pub fn mechanisms(&self, token: &Token) -> Result<Vec<Mechanism>, Error> {
        let offered = self.raw.mechanisms(token.slot.into())?;
        Ok(Mechanism::ALL.into_iter().filter(|one| offered.contains(&one.number())).collect())
    }

    /// Opens a session. `writes`: token objects can be made in it.
    ///
    /// # Errors
    /// What `C_OpenSession` answers.
    pub fn open_session(&self, token: &Token, writes: bool) -> Result<Session, Error> {
        self.raw.calls.add(1);
        let session = if writes {
            self.binding.open_rw_session(token.slot)
        } else {
            self.binding.open_ro_session(token.slot)
        };
        let session = session.map_err(|error| Error::from_binding("C_OpenSession", error))?;
        Ok(Session::new(session, Arc::clone(&self.raw)))
    }

    /// Initialises a token: what was on it is lost, it gets this label, and the PINs of the security
    /// officer and the user. For modules without tools of their own, and for tests.
    ///
    /// # Errors
    /// [`Error::NoSuchToken`] if every token is initialised already; what the module answers.
    pub fn initialize_token(
        &self,
        label: &str,
        officer_pin: &Secret<String>,
        user_pin: &Secret<String>,
    ) -> Result<(), Error> {
        let tokens = self.tokens()?;
        let Some(blank) = tokens.iter().find(|token| !token.description.is_initialized) else {
            let found = tokens.into_iter().map(|token| token.description).collect();
            return Err(Error::NoSuchToken { wanted: "(a blank one)".to_owned(), found });
        };
        self.raw.calls.add(1);
        self.binding
            .init_token(blank.slot, &pin(officer_pin), label)
            .map_err(|error| Error::from_binding("C_InitToken", error))?;
        // Some modules give an initialised token another slot and another serial number: it is the one
        // that was not there before.
        let is_new = |token: &Token| {
            token.description.is_initialized
                && tokens.iter().all(|known| {
                    !known.description.is_initialized
                        || known.description.serial != token.description.serial
                })
        };
        let Some(token) = self.tokens()?.into_iter().find(is_new) else {
            return Err(Error::Senseless { function: "C_InitToken", what: "no new token" });
        };
        let session = self.open_session(&token, true)?;
        session.login_as(UserType::So, officer_pin)?;
        session.initialize_pin(user_pin)
    }
}

/// A copy in the binding's type, which is wiped too.
pub(crate) fn pin(pin: &Secret<String>) -> AuthPin {
    AuthPin::from(pin.expose().as_str())
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").finish_non_exhaustive()
    }
}
