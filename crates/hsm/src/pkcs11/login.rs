//! The login: the one act that a token counts, and locks itself after. No PIN is tried twice that was refused once,
//! by whichever process.
//!
//! All processes of a realm that log in to a member hold the lock of one file while they do: whoever comes second
//! sees what became of the first. The file remembers the refused PIN as a salted Argon2id hash, across starts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tapfer_payment_types::Secret;
use tapfer_payment_types::messages::HexBytes;
use tapfer_pkcs11::{Error, LoginVerdict, Module, PinTries, Session, Token};

use super::Fault;
use crate::{HsmError, randomness};

/// A module that answers a wrong PIN with a code that says nothing is asked so often with one PIN: less often than
/// the strictest tokens count.
const UNCLEAR_ANSWERS: u8 = 2;
/// Longest record that is read.
const LONGEST_RECORD: u64 = 4096;
/// Owner reads and writes.
const MODE: u32 = 0o600;

/// The file that remembers which PIN a member's token has refused.
#[derive(Debug)]
pub struct LoginRecord {
    path: PathBuf,
    is_overruled: bool,
}

/// What the file holds, as JSON; nothing while no PIN is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    salt: HexBytes,
    /// Of token and PIN. A refused PIN may be the right one of tomorrow, so guessing it from here is made slow.
    hash: HexBytes,
    /// Answers of the module that did not say whether the PIN was wrong.
    unclear: u8,
    /// What the module said.
    cause: String,
}

impl LoginRecord {
    /// The file of this path, which is made when it is needed.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path, is_overruled: false }
    }

    /// A person says that a PIN which was refused is to be tried again.
    #[must_use]
    pub const fn overruled(mut self) -> Self {
        self.is_overruled = true;
        self
    }

    /// Waits until nobody else logs in. A module that hangs at it keeps others waiting, until the pool ends its
    /// process.
    fn lock(&self) -> Result<LockedRecord, HsmError> {
        let open = || -> io::Result<LockedRecord> {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(MODE);
            let file = options.open(&self.path)?;
            file.lock()?;
            Ok(LockedRecord { file, path: self.path.clone() })
        };
        open().map_err(|error| HsmError::ModuleFailed {
            operation: format!("logging in, of which {} keeps a record", self.path.display()),
            cause: error.to_string(),
        })
    }
}

/// What the record of a member says, without waiting: why its PIN is not tried.
///
/// # Errors
/// It cannot be read.
pub fn refused_pin(path: &Path) -> io::Result<Option<String>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => {
            let mut record = LockedRecord { file, path: path.to_owned() };
            Ok(record.read()?.map(|refused| match refused {
                Ok(refused) => refused.cause,
                Err(why) => why,
            }))
        }
    }
}

/// The record, while nobody else logs in.
struct LockedRecord {
    file: File,
    path: PathBuf,
}

impl LockedRecord {
    /// The refused PIN, if there is one; or why nobody can tell which.
    fn read(&mut self) -> io::Result<Option<Result<Refused, String>>> {
        let mut bytes = Vec::new();
        self.file.rewind()?;
        (&self.file).take(LONGEST_RECORD).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        // Half a record is left by a loss of power behind a refusal: which PIN it was is lost, that it was is not.
        let unreadable = |_| {
            format!(
                "a PIN was refused, and {} is damaged and does not say which",
                self.path.display()
            )
        };
        Ok(Some(serde_json::from_slice(&bytes).map_err(unreadable)))
    }

    fn write(&mut self, refused: &Refused) -> io::Result<()> {
        let bytes = serde_json::to_vec(refused)?;
        self.file.rewind()?;
        self.file.write_all(&bytes)?;
        self.file.set_len(u64::try_from(bytes.len()).map_err(io::Error::other)?)?;
        self.file.sync_all()
    }

    fn clear(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > 0 {
            self.file.set_len(0)?;
            self.file.sync_all()?;
        }
        Ok(())
    }
}

/// What has happened with this PIN so far.
enum Past {
    Nothing,
    Unclear(u8),
    Refused(String),
}

fn past(record: &mut LockedRecord, who: &[u8], pin: &Secret<String>) -> Result<Past, HsmError> {
    let read = record.read().map_err(|error| failed(&error))?;
    Ok(match read {
        None => Past::Nothing,
        Some(Err(why)) => Past::Refused(why),
        Some(Ok(refused)) => {
            let hash = hash_of(&refused.salt.0, who, pin)?;
            match bool::from(hash.ct_eq(&refused.hash.0)) {
                false => Past::Nothing,
                true if refused.unclear > 0 && refused.unclear < UNCLEAR_ANSWERS => {
                    Past::Unclear(refused.unclear)
                }
                true => Past::Refused(refused.cause),
            }
        }
    })
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

fn failed(error: &io::Error) -> HsmError {
    HsmError::ModuleFailed {
        operation: "reading the record of its logins".to_owned(),
        cause: error.to_string(),
    }
}

fn refuse<T>(cause: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Told(HsmError::PinRefused { cause: cause.into() }))
}

/// Opens a session that may write, and logs in where the token asks for it.
pub(super) fn log_in(
    module: &Module,
    token: &Token,
    pin: &Secret<String>,
    record: Option<&LoginRecord>,
) -> Result<Session, Fault> {
    let session = module.open_session(token, true)?;
    if !token.description.needs_login {
        return Ok(session);
    }
    if pin.expose().is_empty() {
        // Whoever looks while the file is being written must not cost the token a try.
        let (operation, cause) = ("logging in".to_owned(), "its PIN is empty".to_owned());
        return Err(Fault::Told(HsmError::ModuleFailed { operation, cause }));
    }
    let Some(kept) = record else {
        still_has_tries(token.description.pin_tries)?;
        return match session.login(pin) {
            Ok(()) => Ok(session),
            Err(error) if error.login_verdict() == LoginVerdict::Refused => {
                refuse(error.to_string())
            }
            Err(error) => Err(error.into()),
        };
    };
    let mut record = kept.lock()?;
    let who = token.description.serial.as_bytes();
    let unclear = match past(&mut record, who, pin)? {
        Past::Nothing => 0,
        Past::Unclear(count) => count,
        Past::Refused(_) if kept.is_overruled => 0,
        Past::Refused(cause) => return refuse(format!("{cause}, as it was found before")),
    };
    // Behind the lock, because a sister may have used one up.
    let before = module.pin_tries(token)?;
    still_has_tries(before)?;
    let error = match session.login(pin) {
        Ok(()) => {
            record.clear().map_err(|error| failed(&error))?;
            return Ok(session);
        }
        Err(error) => error,
    };
    let unclear = match error.login_verdict() {
        LoginVerdict::NotJudged => return Err(error.into()),
        LoginVerdict::Refused => 0,
        // What the token counted, it has judged.
        LoginVerdict::Unclear if module.pin_tries(token).is_ok_and(|now| now > before) => 0,
        LoginVerdict::Unclear => unclear.saturating_add(1),
    };
    remember(&mut record, who, pin, unclear, &error)?;
    if unclear > 0 && unclear < UNCLEAR_ANSWERS {
        // Not as the module's own error: for that the library would be started again, and the PIN tried at once.
        let operation = "logging in".to_owned();
        return Err(Fault::Told(HsmError::ModuleFailed { operation, cause: error.to_string() }));
    }
    refuse(error.to_string())
}

fn remember(
    record: &mut LockedRecord,
    who: &[u8],
    pin: &Secret<String>,
    unclear: u8,
    error: &Error,
) -> Result<(), Fault> {
    let salt = randomness::bytes::<16>()?;
    let hash = hash_of(&salt, who, pin)?;
    let refused = Refused {
        salt: HexBytes(salt.to_vec()),
        hash: HexBytes(hash.to_vec()),
        unclear,
        cause: error.to_string(),
    };
    record.write(&refused).or_else(|fault| {
        refuse(format!("{error}; and {} cannot remember it: {fault}", record.path.display()))
    })
}

fn still_has_tries(tries: PinTries) -> Result<(), Fault> {
    match tries {
        PinTries::Plenty | PinTries::Fewer => Ok(()),
        PinTries::Last => refuse(
            "the token says that one more wrong PIN locks it (CKF_USER_PIN_FINAL_TRY); log in once with the \
             vendor's tool and the right PIN, which gives it its tries back",
        ),
        PinTries::Locked => refuse(
            "the token is locked (CKF_USER_PIN_LOCKED); its security officer has to unlock it with the vendor's tool",
        ),
    }
}
