//! A vault in a PKCS#11 module: the root keys are objects on a token, and keys are used inside.
//!
//! The token holds two keys of a realm and nothing else. Every other key comes out of the catalogue,
//! wrapped, is unwrapped into a session object when it is first used, and ends with the session. A
//! cryptogram is verified with derivations and a CMAC that the module makes; with the limited-use key
//! cached it takes three calls.
//!
//! Invariants:
//! - No handle outlives the login it was made in: all of them are in [`link::Link`], which is dropped
//!   as a whole when session, login or device are gone. What callers keep ([`Pkcs11Key`]) is the wrapped
//!   key, which any login opens again.
//! - What is gone is opened again once for each kind of loss, within the call that noticed: sessions and
//!   login first, then the library. A refused PIN is never tried a second time, by no process ([`LoginRecord`]).
//! - Which mechanism does what is found out by a known-answer test when the module is opened
//!   ([`capability`]), not by its name in a list.
//! - One call at a time. A module that hangs is the pool's matter: it kills the process.

mod at_hand;
mod capability;
mod card_keys;
mod drill;
mod guard;
mod link;
mod login;
mod login_record;
mod objects;
mod roots;
mod vault;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Secret};
use tapfer_pkcs11::{Blame, Calls, Error, Module, Session, Token};

use self::capability::Negotiated;
pub use self::capability::{Capability, Operation, Place};
use self::link::Link;
pub use self::login_record::{LoginRecord, refused_pin};
pub use self::objects::Pkcs11Key;
use self::roots::Whose;
pub use self::roots::{InstalledRoots, RootFingerprints, RootsOnToken};
use crate::HsmError;
use crate::software::RootKeys;

/// Which token holds a realm's roots, and how much is kept at hand.
pub struct Pkcs11Configuration {
    /// The vendor's library.
    pub module: PathBuf,
    /// Label of the token, or its serial number.
    pub token: String,
    /// PIN of the token's user. Not used where the token asks for none.
    pub pin: Secret<String>,
    /// Where it is remembered which PIN the token took, and which it refused. Without it, this process alone
    /// remembers.
    pub login_record: Option<LoginRecord>,
    /// The realm.
    pub realm: RealmId,
    /// Bounds of what is cached inside.
    pub limits: CacheLimits,
    /// Time since some moment in the past; it only goes forward.
    pub stopwatch: Box<dyn Fn() -> Duration + Send + Sync>,
}

/// Bounds of what is kept inside a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// At most so many limited-use keys.
    pub limited_use_keys: usize,
    /// At most so many keys of the catalogue.
    pub catalogue_keys: usize,
    /// None of them is kept longer than this.
    pub age: Duration,
    /// Session keys that are used up are cleared away when there are so many.
    pub used_up: usize,
}

impl Default for CacheLimits {
    /// 512 keys of each kind, one hour, 32 used up. SoftHSM2 looks through all session objects at every call: with 16 of
    /// them an authorization takes 23 µs, with 256 four times as long (docs/adr/0018-pkcs11.md).
    fn default() -> Self {
        Self {
            limited_use_keys: 512,
            catalogue_keys: 512,
            age: Duration::from_secs(3600),
            used_up: 32,
        }
    }
}

/// What a module is and does, as found out when it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleReport {
    /// Who made the module, what it calls itself, and its version of PKCS#11.
    pub module: String,
    /// The token: slot, label, serial number, maker, model.
    pub token: String,
    /// To compare the roots of several members by eye.
    pub roots: RootFingerprints,
    /// What is done where.
    pub capabilities: Vec<Capability>,
}

/// How much a module has been asked, and what is kept in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pkcs11Status {
    /// Calls of the module since it was opened.
    pub calls: u64,
    /// Those of them that cleared away, since the last login.
    pub housekeeping_calls: u64,
    /// Limited-use keys at hand.
    pub cached_keys: usize,
    /// Keys of the catalogue at hand.
    pub catalogue_keys: usize,
    /// How often the token was logged in to.
    pub logins: u64,
}

/// A vault in a PKCS#11 module. See the [module](self).
pub struct Pkcs11Vault {
    configuration: Pkcs11Configuration,
    whose: Whose,
    calls: Calls,
    is_hardware: bool,
    report: Option<ModuleReport>,
    state: Mutex<State>,
}

struct State {
    connection: Connection,
    /// Why this process does not try its PIN again: the token would lock.
    no_login: Option<NoLogin>,
    /// What the module can do, since it was opened first: one that is breaking must not seem to be a
    /// poorer one.
    negotiated: Option<Negotiated>,
    /// The roots that were found first: a token with others is not this realm's any more.
    roots: Option<RootFingerprints>,
    logins: u64,
}

/// How a login ended that is not tried again by this process.
#[derive(Clone)]
enum NoLogin {
    Refused(String),
    /// Whoever wants to know more starts another process, after a pause.
    Unclear(String),
}

impl NoLogin {
    fn of(fault: &Fault) -> Option<Self> {
        match fault {
            Fault::Told(HsmError::PinRefused { cause }) => Some(Self::Refused(cause.clone())),
            Fault::Told(HsmError::LoginUnclear { cause }) => Some(Self::Unclear(cause.clone())),
            _ => None,
        }
    }
}

impl From<NoLogin> for HsmError {
    fn from(ended: NoLogin) -> Self {
        match ended {
            NoLogin::Refused(cause) => Self::PinRefused { cause },
            NoLogin::Unclear(cause) => Self::LoginUnclear { cause },
        }
    }
}

enum Connection {
    Closed,
    Loaded(Module),
    Open(Box<Link>),
}

/// Why something was not done: by the module, or otherwise.
enum Fault {
    Module(Error),
    Told(HsmError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Module(error)
    }
}

impl From<HsmError> for Fault {
    fn from(error: HsmError) -> Self {
        Self::Told(error)
    }
}

impl Fault {
    fn of(self, operation: &str) -> HsmError {
        match self {
            Self::Told(error) => error,
            Self::Module(error) => {
                HsmError::ModuleFailed { operation: operation.to_owned(), cause: error.to_string() }
            }
        }
    }
}

impl Pkcs11Vault {
    /// Opens a token that holds the realm's roots, and tries what the module can do.
    ///
    /// # Errors
    /// [`HsmError::PinRefused`]; [`HsmError::LoginUnclear`]; [`HsmError::ModuleFailed`] says which step failed and what was found: a library that
    /// does not load, no such token, no root keys of this realm or two of a kind, an operation that the module lacks
    /// and that cannot be done elsewhere.
    pub fn open(configuration: Pkcs11Configuration) -> Result<Self, HsmError> {
        let whose = Whose::platform(configuration.realm);
        Self::open_roots(configuration, whose)
    }

    /// As [`Pkcs11Vault::open`], with the roots that [`Pkcs11Vault::begin_drill`] put there: whatever works outside a
    /// drill does not find them.
    ///
    /// # Errors
    /// As [`Pkcs11Vault::open`].
    pub fn open_in_drill(configuration: Pkcs11Configuration) -> Result<Self, HsmError> {
        let whose = Whose::drill(configuration.realm);
        Self::open_roots(configuration, whose)
    }

    fn open_roots(configuration: Pkcs11Configuration, whose: Whose) -> Result<Self, HsmError> {
        let calls = Calls::default();
        let state = State {
            connection: Connection::Closed,
            no_login: None,
            negotiated: None,
            roots: None,
            logins: 0,
        };
        let state = Mutex::new(state);
        let mut vault =
            Self { configuration, whose, calls, is_hardware: false, report: None, state };
        let (is_hardware, report) =
            vault.ask("opening the token", |link| Ok((link.is_hardware(), link.report()?)))?;
        vault.is_hardware = is_hardware;
        vault.report = Some(report);
        Ok(vault)
    }

    /// Whether a library sees a token, by label or serial number. Nobody logs in.
    ///
    /// # Errors
    /// [`HsmError::ModuleFailed`]: no such library, or what it sees in the token's place.
    pub fn look_for_token(library: &Path, token: &str) -> Result<(), HsmError> {
        let found = Module::load(library, &Calls::default()).and_then(|module| module.token(token));
        found.map(drop).map_err(|error| Fault::from(error).of("looking for the token"))
    }

    /// Logs in to a token once, and says which of the realm's root keys are there.
    ///
    /// # Errors
    /// [`HsmError::ModuleFailed`]: no such library or token, a refused PIN, two roots of a kind.
    pub fn look_for_roots(configuration: &Pkcs11Configuration) -> Result<RootsOnToken, HsmError> {
        let whose = Whose::platform(configuration.realm);
        let look = |_: &Module, _: &Token, session: &Session| roots::look(session, whose);
        at_token(configuration, look).map_err(|fault| fault.of("looking for the root keys"))
    }

    /// Makes those of the realm's root keys on a token that are not there yet, from the bytes that a ceremony put
    /// together, and says which were there before: those stay as they are, and what they lack is said.
    ///
    /// # Errors
    /// [`HsmError::ModuleFailed`]: the token has other roots of this realm, or the module failed.
    pub fn install_roots(
        configuration: &Pkcs11Configuration,
        keys: &RootKeys,
    ) -> Result<InstalledRoots, HsmError> {
        let install = |module: &Module, token: &Token, session: &Session| {
            // What a killed drill left on a token that is put to work now. It is in nobody's way who works here.
            let stays = drill::wipe(session, configuration.realm)? == drill::Left::Stays;
            let choices = capability::negotiate(module, token)?.choices;
            let place = (session, token.description.needs_login);
            let whose = Whose::platform(configuration.realm);
            let before = roots::install(place, whose, keys, &choices)?;
            let now = (roots::find(session, whose)?, whose);
            let lacking = guard::lacking((module, token), session, now, &choices)?;
            let lacks = lacking.iter().map(guard::in_words).collect();
            Ok(InstalledRoots { before, lacks, beside: stays.then(|| drill::STAYS.to_owned()) })
        };
        at_token(configuration, install).map_err(|fault| fault.of("installing the root keys"))
    }

    /// As [`Pkcs11Vault::install_roots`], for a drill: [`Pkcs11Vault::end_drill`] takes them away again, and so
    /// does the next drill, if this one is killed.
    ///
    /// # Errors
    /// [`HsmError::ModuleFailed`]: the token has roots of this realm that no drill put there, or the module
    /// failed.
    pub fn begin_drill(
        configuration: &Pkcs11Configuration,
        keys: &RootKeys,
    ) -> Result<(), HsmError> {
        let begin = |module: &Module, token: &Token, session: &Session| {
            let negotiated = capability::negotiate(module, token)?;
            let place = (session, token.description.needs_login);
            drill::begin(place, configuration.realm, keys, &negotiated.choices)
        };
        at_token(configuration, begin)
            .map_err(|fault| fault.of("putting a drill's root keys there"))
    }

    /// Takes away what a drill put on a token; whether there was anything. Nothing else is touched.
    ///
    /// # Errors
    /// [`HsmError::ModuleFailed`].
    pub fn end_drill(configuration: &Pkcs11Configuration) -> Result<bool, HsmError> {
        let end =
            |_: &Module, _: &Token, session: &Session| drill::end(session, configuration.realm);
        at_token(configuration, end).map_err(|fault| fault.of("taking a drill's root keys away"))
    }

    /// How much the module has been asked. Opens the token if it is not open.
    ///
    /// # Errors
    /// The module does not serve.
    pub fn status(&self) -> Result<Pkcs11Status, HsmError> {
        let (cached_keys, catalogue_keys, housekeeping_calls) = self
            .ask("asking for its state", |link| {
                Ok((link.cards.cached(), link.loaded(), link.cards.housekeeping_calls()))
            })?;
        let logins = self.state().logins;
        let calls = self.calls.total();
        Ok(Pkcs11Status { calls, housekeeping_calls, cached_keys, catalogue_keys, logins })
    }

    /// Every call of the module so far.
    #[must_use]
    pub const fn calls(&self) -> &Calls {
        &self.calls
    }

    fn now(&self) -> Duration {
        (self.configuration.stopwatch)()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves a connection that still tells by its errors what is wrong with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does some work at the module. What is gone is opened again, and the work done again, once for
    /// each kind of loss.
    fn ask<T>(
        &self,
        operation: &str,
        work: impl Fn(&mut Link) -> Result<T, Fault>,
    ) -> Result<T, HsmError> {
        let mut state = self.state();
        let mut is_reopened = false;
        loop {
            let error = match self.ready(&mut state).and_then(&work) {
                Ok(done) => return Ok(done),
                Err(Fault::Told(error)) => return Err(error),
                Err(Fault::Module(error)) => error,
            };
            match error.blame() {
                Blame::Refused | Blame::Unsupported => {
                    return Err(Fault::Module(error).of(operation));
                }
                Blame::SessionGone | Blame::LoginGone if !is_reopened => {
                    is_reopened = true;
                    state.close_sessions();
                }
                Blame::SessionGone | Blame::LoginGone | Blame::DeviceGone => {
                    let restarted = state.restart_library();
                    let last = restarted.and_then(|()| self.ready(&mut state)).and_then(&work);
                    return last.map_err(|fault| fault.of(operation));
                }
            }
        }
    }

    /// The open connection, opened if it is not.
    fn ready<'a>(&self, state: &'a mut State) -> Result<&'a mut Link, Fault> {
        if let Some(ended) = &state.no_login {
            return Err(Fault::Told(ended.clone().into()));
        }
        let connection = std::mem::replace(&mut state.connection, Connection::Closed);
        let module = match connection {
            Connection::Open(link) => {
                state.connection = Connection::Open(link);
                return open_link(&mut state.connection);
            }
            Connection::Loaded(module) => module,
            Connection::Closed => Module::load(&self.configuration.module, &self.calls)?,
        };
        let known = state.negotiated.as_ref();
        match Link::open(module, (&self.configuration, self.whose), known, &self.calls) {
            Ok(link) if state.roots.is_some_and(|known| known != link.fingerprints()) => {
                state.connection = Connection::Loaded(link.into_module());
                Err(Fault::Told(HsmError::ModuleFailed {
                    operation: "opening the token again".to_owned(),
                    cause: "it has other root keys than before; put the realm's token back"
                        .to_owned(),
                }))
            }
            Ok(link) => {
                state.roots = Some(link.fingerprints());
                state.logins = state.logins.saturating_add(1);
                state.negotiated = Some(link.negotiated().clone());
                state.connection = Connection::Open(Box::new(link));
                open_link(&mut state.connection)
            }
            Err((module, fault)) => {
                state.connection = Connection::Loaded(module);
                state.no_login = NoLogin::of(&fault);
                Err(fault)
            }
        }
    }
}

/// Opens a token and logs in, for work that ends with it.
fn at_token<T>(
    configuration: &Pkcs11Configuration,
    work: impl FnOnce(&Module, &Token, &Session) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let module = Module::load(&configuration.module, &Calls::default())?;
    let token = module.token(&configuration.token)?;
    let record = configuration.login_record.as_ref();
    let session = login::log_in(&module, &token, &configuration.pin, record)?;
    work(&module, &token, &session)
}

impl State {
    /// The library, without its sessions.
    fn take_module(&mut self) -> Option<Module> {
        match std::mem::replace(&mut self.connection, Connection::Closed) {
            Connection::Open(link) => Some(link.into_module()),
            Connection::Loaded(module) => Some(module),
            Connection::Closed => None,
        }
    }

    fn close_sessions(&mut self) {
        if let Some(module) = self.take_module() {
            self.connection = Connection::Loaded(module);
        }
    }

    fn restart_library(&mut self) -> Result<(), Fault> {
        if let Some(module) = self.take_module() {
            let restarted = module.restart();
            self.connection = Connection::Loaded(module);
            restarted?;
        }
        Ok(())
    }
}

fn open_link(connection: &mut Connection) -> Result<&mut Link, Fault> {
    match connection {
        Connection::Open(link) => Ok(link),
        _ => Err(Fault::Told(HsmError::Internal { operation: "keeping a connection" })),
    }
}

impl fmt::Debug for Pkcs11Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Vault")
            .field("module", &self.configuration.module)
            .field("token", &self.configuration.token)
            .finish_non_exhaustive()
    }
}
