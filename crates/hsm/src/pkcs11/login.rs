//! The login: the one act that a token counts, and locks itself after. No PIN is tried twice that was refused once,
//! by whichever process.
//!
//! All processes of a realm that log in to a member hold the lock of one file while they do ([`LoginRecord`]): whoever
//! comes second sees what became of the first.

use tapfer_payment_types::Secret;
use tapfer_pkcs11::{LoginVerdict, Module, PinTries, Session, Token};

use super::Fault;
use super::login_record::{LoginRecord, refuse};
use crate::HsmError;

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
    match record {
        Some(record) => log_in_remembered(module, token, &session, pin, record)?,
        None => {
            still_has_tries(token.description.pin_tries)?;
            session.login(pin).or_else(|error| match error.login_verdict() {
                LoginVerdict::Refused => refuse(error.to_string()),
                _ => Err(error.into()),
            })?;
        }
    }
    Ok(session)
}

fn log_in_remembered(
    module: &Module,
    token: &Token,
    session: &Session,
    pin: &Secret<String>,
    record: &LoginRecord,
) -> Result<(), Fault> {
    let mut attempt = record.attempt(token.description.serial.as_bytes(), pin)?;
    // Behind the lock, because a sister may have used one up.
    let before = module.pin_tries(token)?;
    still_has_tries(before)?;
    attempt.begin(before)?;
    let Err(error) = session.login(pin) else { return attempt.was_taken() };
    let verdict = match error.login_verdict() {
        // What the token counted, it has judged.
        LoginVerdict::Unclear if module.pin_tries(token).is_ok_and(|now| now > before) => {
            LoginVerdict::Refused
        }
        verdict => verdict,
    };
    Err(attempt.was_not_taken(verdict, error))
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
