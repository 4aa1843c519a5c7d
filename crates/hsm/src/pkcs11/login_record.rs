//! What is remembered of the logins to a member's token, by all processes of a realm and across starts: which PIN it
//! took last, and which one it did not take. PINs are remembered as salted Argon2id hashes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tapfer_payment_types::Secret;
use tapfer_payment_types::messages::HexBytes;
use tapfer_pkcs11::{Error, LoginVerdict, PinTries};

use super::Fault;
use crate::{HsmError, randomness};

/// So many logins with a PIN that was never taken may end without an answer that says something: less than the tries
/// of the strictest tokens. With one that was taken, what comes behind so many comes with pauses.
const UNCLEAR_ANSWERS: u8 = 2;
/// What is said of a login that has no answer yet.
const BEGUN: &str = "a login was begun, and its process ended before the token had answered";
/// From one login to the next, by whichever process, where the PIN was taken and many in a row had no clear end.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What is said where the token's own flags tell what became of such a login.
const COUNTED: &str = "a login had no clear end, and the token says that it counted one since \
                       (CKF_USER_PIN_COUNT_LOW): its PIN may have been changed there";
/// So many PINs that were not taken are remembered.
const MOST_DOUBTED: usize = 4;
/// Longest record that is read.
const LONGEST_RECORD: u64 = 4096;
/// Shortest record that is written.
const USUAL_LENGTH: usize = 1024;
/// Owner reads and writes.
const MODE: u32 = 0o600;

/// The file that remembers the logins to a member's token.
#[derive(Debug)]
pub struct LoginRecord {
    path: PathBuf,
    is_overruled: bool,
}

/// What the file holds, as JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    salt: HexBytes,
    /// The PIN that the token took last. What is unclear about that one is not the PIN's fault.
    taken: Option<HexBytes>,
    /// Logins with that PIN of late which had no clear end. An outage ends so; a token whose PIN was changed may have
    /// counted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without_end: Option<WithoutEnd>,
    /// PINs that it did not take since, the newest last: a server's file and an administrator's terminal may hold two.
    #[serde(default)]
    doubted: Vec<Doubted>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithoutEnd {
    /// So many in a row.
    logins: u8,
    /// Before the first of them the token said that no try was used up.
    had_all_tries: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Doubted {
    hash: HexBytes,
    /// Logins of which no answer has said whether the PIN was wrong. None: one said that it was.
    unclear: u8,
    /// What the module said.
    cause: String,
}

impl Kept {
    fn new() -> Result<Self, HsmError> {
        let salt = HexBytes(randomness::bytes::<16>()?.to_vec());
        Ok(Self { salt, taken: None, without_end: None, doubted: Vec::new() })
    }

    /// `None`: nothing was written yet.
    ///
    /// # Errors
    /// It cannot be read; or, inside, it is no record.
    fn read(file: &mut File) -> io::Result<Option<serde_json::Result<Self>>> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(LONGEST_RECORD).read_to_end(&mut bytes)?;
        Ok((!bytes.is_empty()).then(|| serde_json::from_slice(&bytes)))
    }
}

impl Doubted {
    /// Whether the token is not to hear this PIN again.
    const fn is_refused(&self) -> bool {
        self.unclear == 0 || self.unclear >= UNCLEAR_ANSWERS
    }
}

impl WithoutEnd {
    /// From the last of them to the next login.
    fn pause(self) -> Duration {
        let doubled = 2_u64.saturating_pow(u32::from(self.logins).saturating_add(1));
        match self.logins {
            ..UNCLEAR_ANSWERS => Duration::ZERO,
            _ => Duration::from_secs(doubled).min(LONGEST_PAUSE),
        }
    }
}

impl LoginRecord {
    /// The file of this path, which is made when it is needed.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path, is_overruled: false }
    }

    /// A person says that a PIN which was refused is to be tried once more.
    #[must_use]
    pub const fn overruled(mut self) -> Self {
        self.is_overruled = true;
        self
    }

    /// Waits until nobody else logs in, and sees what became of this PIN (`who`: the token's serial number). A module
    /// that hangs at its login keeps others waiting, until the pool ends its process.
    ///
    /// # Errors
    /// [`HsmError::PinRefused`]: it is not to be tried.
    pub(super) fn attempt(&self, who: &[u8], pin: &Secret<String>) -> Result<Attempt, Fault> {
        let open = || -> io::Result<_> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(MODE);
            // A link in its place would have another file written over.
            options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
            let mut file = options.open(&self.path)?;
            file.lock()?;
            let kept = Kept::read(&mut file)?;
            // Of a clock that was set back in between, no more is believed than of one that was set forward.
            let age =
                file.metadata()?.modified()?.elapsed().unwrap_or_else(|ahead| ahead.duration());
            Ok((file, kept, age))
        };
        let (file, kept, age) = open().map_err(|error| failed(&self.path, &error))?;
        let kept = match kept {
            Some(Ok(kept)) => kept,
            Some(Err(_)) if !self.is_overruled => return refuse(damaged(&self.path)),
            _ => Kept::new()?,
        };
        let hash = hash_of(&kept.salt.0, who, pin)?;
        let is = |other: &HexBytes| bool::from(hash.ct_eq(&other.0));
        let is_taken = kept.taken.as_ref().is_some_and(is);
        let before = kept.clone();
        let doubted = kept.doubted.iter().find(|doubted| is(&doubted.hash)).cloned();
        if let Some(refused) = doubted.as_ref().filter(|doubted| doubted.is_refused())
            && !self.is_overruled
        {
            return refuse(format!("{}, as it was found before", refused.cause));
        }
        let (path, is_overruled) = (self.path.clone(), self.is_overruled);
        Ok(Attempt { file, path, age, kept, before, doubted, hash, is_taken, is_overruled })
    }
}

/// What the record of a member says, without waiting: why its PIN is not tried.
///
/// # Errors
/// It cannot be read.
pub fn refused_pin(path: &Path) -> io::Result<Option<String>> {
    let kept = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(mut file) => Kept::read(&mut file)?,
    };
    Ok(match kept {
        None => None,
        Some(Err(_)) => Some(damaged(path)),
        Some(Ok(kept)) => {
            let newest = kept.doubted.into_iter().rev().find(Doubted::is_refused);
            newest.map(|refused| refused.cause)
        }
    })
}

/// One login, while nobody else logs in.
pub(super) struct Attempt {
    file: File,
    path: PathBuf,
    /// Since the file was written.
    age: Duration,
    kept: Kept,
    /// What it held before the login.
    before: Kept,
    /// What was known of this PIN.
    doubted: Option<Doubted>,
    /// Of the PIN that is tried.
    hash: [u8; 32],
    /// The token took it last.
    is_taken: bool,
    is_overruled: bool,
}

impl Attempt {
    /// Remembers that the token is about to hear the PIN: this process may end before it has answered. What the token
    /// says of its `tries`, it says before that.
    ///
    /// # Errors
    /// It cannot be remembered, so the token must not hear it. [`HsmError::LoginUnclear`]: not yet.
    /// [`HsmError::PinRefused`]: the token has counted one that had no end.
    pub(super) fn begin(&mut self, tries: PinTries) -> Result<(), Fault> {
        if self.is_taken {
            return self.begin_again(tries);
        }
        let unclear = match &self.doubted {
            None => 1,
            // Whoever overrules a refusal takes it back when the token takes the PIN, and not before.
            Some(refused) if refused.is_refused() => UNCLEAR_ANSWERS,
            Some(unclear) => unclear.unclear.saturating_add(1),
        };
        self.doubt(unclear, BEGUN.to_owned());
        Ok(self.write()?)
    }

    /// The same with the PIN that was taken last. An outage is not its fault, so no number of logins without an end
    /// refuses it; the token's own word does.
    fn begin_again(&mut self, tries: PinTries) -> Result<(), Fault> {
        let said = WithoutEnd { logins: 0, had_all_tries: tries == PinTries::Plenty };
        let mut so_far = self.kept.without_end.unwrap_or(said);
        if !self.is_overruled {
            if so_far.had_all_tries && tries > PinTries::Plenty {
                self.no_longer_taken(COUNTED.to_owned());
                self.write()?;
                return refuse(COUNTED);
            }
            if self.age < so_far.pause() {
                let cause = format!(
                    "{} logins in a row had no clear end: the next try comes {} seconds after the last one",
                    so_far.logins,
                    so_far.pause().as_secs()
                );
                return Err(Fault::Told(HsmError::LoginUnclear { cause }));
            }
        }
        so_far.logins = so_far.logins.saturating_add(1);
        self.kept.without_end = Some(so_far);
        Ok(self.write()?)
    }

    /// The token does not take it any more.
    fn no_longer_taken(&mut self, cause: String) {
        if self.is_taken {
            (self.kept.taken, self.kept.without_end) = (None, None);
        }
        self.doubt(0, cause);
    }

    /// The token took the PIN.
    ///
    /// # Errors
    /// It cannot be remembered.
    pub(super) fn was_taken(mut self) -> Result<(), Fault> {
        self.kept.taken = Some(HexBytes(self.hash.to_vec()));
        self.kept.without_end = None;
        self.kept.doubted.clear();
        // Who waits for a person sees by the time of the file that somebody has acted.
        Ok(self.write()?)
    }

    /// The token did not take the PIN. Gives the error to go on with.
    pub(super) fn was_not_taken(mut self, verdict: LoginVerdict, error: Error) -> Fault {
        let cause = error.to_string();
        let remembered = match verdict {
            LoginVerdict::Refused => {
                self.no_longer_taken(cause.clone());
                self.write()
            }
            // It stays one without a clear end.
            LoginVerdict::Unclear if self.is_taken => Ok(()),
            LoginVerdict::Unclear => {
                if let Some(doubted) = self.doubted() {
                    doubted.cause.clone_from(&cause);
                }
                self.write()
            }
            LoginVerdict::NotJudged => {
                self.kept = self.before.clone();
                self.write()
            }
        };
        let is_refused = self.doubted().is_some_and(|doubted| doubted.is_refused());
        match (verdict, remembered) {
            // What was written when it was begun is there.
            (_, Err(unwritten)) => pin_refused(format!("{cause}; and {unwritten}")),
            (LoginVerdict::NotJudged, _) if !self.is_overruled => Fault::Module(error),
            // Not as the module's own error: for that the library would be started again, and the PIN tried at once.
            (LoginVerdict::NotJudged, _) => {
                let operation = "logging in".to_owned();
                Fault::Told(HsmError::ModuleFailed { operation, cause })
            }
            (LoginVerdict::Unclear, _) if !is_refused => {
                Fault::Told(HsmError::LoginUnclear { cause })
            }
            _ => pin_refused(cause),
        }
    }

    fn doubt(&mut self, unclear: u8, cause: String) {
        self.trust();
        self.kept.doubted.push(Doubted { hash: HexBytes(self.hash.to_vec()), unclear, cause });
        let too_many = self.kept.doubted.len().saturating_sub(MOST_DOUBTED);
        self.kept.doubted.drain(..too_many);
    }

    /// What is doubted of this PIN.
    fn doubted(&mut self) -> Option<&mut Doubted> {
        let hash = self.hash;
        let mut doubted = self.kept.doubted.iter_mut();
        doubted.find(|doubted| bool::from(hash.ct_eq(&doubted.hash.0)))
    }

    /// Nothing is doubted of this PIN any more.
    fn trust(&mut self) {
        let hash = self.hash;
        self.kept.doubted.retain(|doubted| !bool::from(hash.ct_eq(&doubted.hash.0)));
    }

    fn write(&mut self) -> Result<(), HsmError> {
        let mut write = || -> io::Result<()> {
            let mut bytes = serde_json::to_vec(&self.kept)?;
            // So that no loss of power leaves the end of an older one behind it.
            bytes.resize(bytes.len().max(USUAL_LENGTH), b' ');
            self.file.rewind()?;
            self.file.write_all(&bytes)?;
            self.file.set_len(u64::try_from(bytes.len()).map_err(io::Error::other)?)?;
            self.file.sync_all()
        };
        write().map_err(|error| failed(&self.path, &error))
    }
}

/// Half a record is left by a loss of power: which PIN it was is lost, that one may have been refused is not.
fn damaged(path: &Path) -> String {
    format!("a PIN was refused, and {} is damaged and does not say which", path.display())
}

fn hash_of(salt: &[u8], who: &[u8], pin: &Secret<String>) -> Result<[u8; 32], HsmError> {
    let internal = |_| HsmError::Internal { operation: "hashing a PIN" };
    let parameters = Params::new(19_456, 2, 1, Some(32)).map_err(internal)?;
    let salt: Vec<u8> = salt.iter().chain(who).copied().collect();
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(pin.expose().as_bytes(), &salt, &mut hash)
        .map_err(internal)?;
    Ok(hash)
}

fn failed(path: &Path, error: &io::Error) -> HsmError {
    HsmError::ModuleFailed {
        operation: format!("logging in, of which {} keeps a record", path.display()),
        cause: error.to_string(),
    }
}

fn pin_refused(cause: impl Into<String>) -> Fault {
    Fault::Told(HsmError::PinRefused { cause: cause.into() })
}

pub(super) fn refuse<T>(cause: impl Into<String>) -> Result<T, Fault> {
    Err(pin_refused(cause))
}
