//! What a module answered, and whose fault it is.

use std::fmt;
use std::path::PathBuf;

use cryptoki::context::Function;
use cryptoki::error::RvError;

use crate::module::TokenDescription;

/// Why a module did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The library does not load.
    #[error(
        "cannot open the PKCS#11 module {path:?}: {reason}; give the path of the vendor's .so file"
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A function of the module answered something else than `CKR_OK`.
    #[error("{function} answered {code} ({blame})", blame = .code.blame())]
    Refused {
        /// The function, such as `C_Login`.
        function: &'static str,
        /// Its answer.
        code: Code,
    },
    /// No token has the label.
    #[error("no slot holds a token labelled {wanted:?}; found: {}", list(.found))]
    NoSuchToken {
        /// The label that was asked for.
        wanted: String,
        /// What there is.
        found: Vec<TokenDescription>,
    },
    /// Several tokens have the label.
    #[error(
        "several tokens are labelled {wanted:?}; name one by its serial number instead. Found: {}",
        list(.found)
    )]
    SeveralTokens {
        /// The label that was asked for.
        wanted: String,
        /// Those that have it.
        found: Vec<TokenDescription>,
    },
    /// The module answered `CKR_OK` and something that makes no sense.
    #[error("{function} answered CKR_OK and {what}; the module does not keep to PKCS#11")]
    Senseless {
        /// The function.
        function: &'static str,
        /// What it answered.
        what: &'static str,
    },
}

/// Who has to act when a function fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The session, or an object that lived in it, is gone: open another one.
    SessionGone,
    /// Nobody is logged in any more: log in again.
    LoginGone,
    /// The device or the library is gone: initialise the library again, or go elsewhere.
    DeviceGone,
    /// The module is well and refuses: a wrong PIN, a key that may not do this, malformed input.
    Refused,
    /// The module does not know the function, the mechanism or the curve.
    Unsupported,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionGone => "the session or its objects are gone",
            Self::LoginGone => "the login is gone",
            Self::DeviceGone => "the device does not serve",
            Self::Refused => "refused",
            Self::Unsupported => "not supported by this module",
        })
    }
}

/// What a failed `C_Login` says about the PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginVerdict {
    /// The token has judged the PIN, and counted it where it counts.
    Refused,
    /// The PIN was not looked at: the device or the session is gone.
    NotJudged,
    /// Nobody can tell. Some modules have nothing better than `CKR_FUNCTION_FAILED` for a wrong PIN.
    Unclear,
}

/// A return value of PKCS#11 other than `CKR_OK`. Displayed by its name in the specification.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub(crate) RvError);

impl Code {
    /// Whose fault it is.
    ///
    /// What is not known counts as the device's: to open it again does no harm, to take a broken device
    /// for a refusal would.
    #[must_use]
    pub const fn blame(self) -> Blame {
        use RvError as R;
        match self.0 {
            R::SessionHandleInvalid
            | R::SessionClosed
            | R::ObjectHandleInvalid
            | R::KeyHandleInvalid
            | R::WrappingKeyHandleInvalid
            | R::UnwrappingKeyHandleInvalid
            | R::OperationActive
            | R::OperationNotInitialized => Blame::SessionGone,
            R::UserNotLoggedIn => Blame::LoginGone,
            R::FunctionNotSupported
            | R::MechanismInvalid
            | R::MechanismParamInvalid
            | R::CurveNotSupported
            | R::KeySizeRange
            | R::AttributeTypeInvalid => Blame::Unsupported,
            R::PinIncorrect
            | R::PinInvalid
            | R::PinLenRange
            | R::PinExpired
            | R::PinLocked
            | R::UserPinNotInitialized
            | R::UserTypeInvalid
            | R::UserAlreadyLoggedIn
            | R::UserAnotherAlreadyLoggedIn
            | R::UserTooManyTypes
            | R::ArgumentsBad
            | R::AttributeReadOnly
            | R::AttributeSensitive
            | R::AttributeValueInvalid
            | R::ActionProhibited
            | R::BufferTooSmall
            | R::DataInvalid
            | R::DataLenRange
            | R::DomainParamsInvalid
            | R::EncryptedDataInvalid
            | R::EncryptedDataLenRange
            | R::InformationSensitive
            | R::KeyChanged
            | R::KeyFunctionNotPermitted
            | R::KeyIndigestible
            | R::KeyNeeded
            | R::KeyNotNeeded
            | R::KeyNotWrappable
            | R::KeyTypeInconsistent
            | R::KeyUnextractable
            | R::SessionReadOnly
            | R::SignatureInvalid
            | R::SignatureLenRange
            | R::TemplateIncomplete
            | R::TemplateInconsistent
            | R::TokenWriteProtected
            | R::UnwrappingKeySizeRange
            | R::UnwrappingKeyTypeInconsistent
            | R::WrappedKeyInvalid
            | R::WrappedKeyLenRange
            | R::WrappingKeySizeRange
            | R::WrappingKeyTypeInconsistent => Blame::Refused,
            _ => Blame::DeviceGone,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let RvError::VendorDefined(number) | RvError::UnknownErrorCode(number) = self.0 {
            return write!(f, "{number:#010X}");
        }
        // The binding's names are the specification's in another spelling: `PinIncorrect` is
        // `CKR_PIN_INCORRECT`.
        f.write_str("CKR")?;
        for letter in format!("{:?}", self.0).chars() {
            if letter.is_ascii_uppercase() {
                f.write_str("_")?;
            }
            write!(f, "{}", letter.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Refused { code, .. } => code.blame(),
            // A token that is not there may come back, as a partition that is being restarted does.
            Self::Library { .. } | Self::NoSuchToken { .. } | Self::Senseless { .. } => {
                Blame::DeviceGone
            }
            Self::SeveralTokens { .. } => Blame::Refused,
        }
    }

    /// The module's answer, where it gave one.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether a module may say this of an operation that it does not offer or of input that it does not
    /// take, though it is well: some have nothing better than `CKR_GENERAL_ERROR` for that.
    #[must_use]
    pub const fn may_be_a_refusal(&self) -> bool {
        matches!(self.blame(), Blame::Refused | Blame::Unsupported)
            || matches!(
                self,
                Self::Refused {
                    code: Code(
                        RvError::GeneralError
                            | RvError::FunctionFailed
                            | RvError::ObjectHandleInvalid
                            | RvError::KeyHandleInvalid
                            | RvError::WrappingKeyHandleInvalid
                            | RvError::UnwrappingKeyHandleInvalid
                            | RvError::VendorDefined(_)
                            | RvError::UnknownErrorCode(_)
                    ),
                    ..
                }
            )
    }

    /// Whether the PIN was refused. Whoever sees this must not try again by himself: a few more tries
    /// and the token locks.
    #[must_use]
    pub const fn is_about_the_pin(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code(
                    RvError::PinIncorrect
                        | RvError::PinInvalid
                        | RvError::PinLenRange
                        | RvError::PinExpired
                        | RvError::PinLocked
                        | RvError::UserPinNotInitialized
                ),
                ..
            }
        )
    }

    /// What this says about the PIN, as the answer of `C_Login`.
    #[must_use]
    pub const fn login_verdict(&self) -> LoginVerdict {
        use RvError as R;
        match self {
            // No PIN was compared, and none costs a try: SoftHSM2 says so too while another process writes the token's file.
            Self::Refused { code: Code(R::UserPinNotInitialized), .. } => LoginVerdict::Unclear,
            error if error.is_about_the_pin() => LoginVerdict::Refused,
            Self::Refused { code, .. } => match code.0 {
                R::DeviceError
                | R::DeviceMemory
                | R::DeviceRemoved
                | R::HostMemory
                | R::CryptokiNotInitialized
                | R::TokenNotPresent
                | R::TokenNotRecognized
                | R::SessionClosed
                | R::SessionHandleInvalid
                | R::OperationActive
                | R::OperationNotInitialized => LoginVerdict::NotJudged,
                _ => LoginVerdict::Unclear,
            },
            Self::Senseless { .. } => LoginVerdict::Unclear,
            Self::Library { .. } | Self::NoSuchToken { .. } | Self::SeveralTokens { .. } => {
                LoginVerdict::NotJudged
            }
        }
    }

    pub(crate) fn from_binding(function: &'static str, error: cryptoki::error::Error) -> Self {
        use cryptoki::error::Error as E;
        match error {
            E::Pkcs11(code, Function::Initialize) => {
                Self::Refused { function: "C_Initialize", code: Code(code) }
            }
            E::Pkcs11(code, _) => Self::Refused { function, code: Code(code) },
            E::NullFunctionPointer | E::NotSupported => {
                Self::Refused { function, code: Code(RvError::FunctionNotSupported) }
            }
            _ => Self::Senseless { function, what: "a value that cannot be read" },
        }
    }
}

fn list(tokens: &[TokenDescription]) -> String {
    if tokens.is_empty() {
        return "no slot with a token at all".to_owned();
    }
    tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_bear_the_names_of_the_specification() {
        let names = [
            (RvError::PinIncorrect, "CKR_PIN_INCORRECT"),
            (RvError::SessionHandleInvalid, "CKR_SESSION_HANDLE_INVALID"),
            (RvError::RandomNoRng, "CKR_RANDOM_NO_RNG"),
            (RvError::VendorDefined(0x8000_0001), "0x80000001"),
        ];
        for (code, name) in names {
            assert_eq!(Code(code).to_string(), name);
        }
    }

    #[test]
    fn a_failed_login_counts_against_the_pin_unless_the_pin_was_not_looked_at() {
        let verdict =
            |code| Error::Refused { function: "C_Login", code: Code(code) }.login_verdict();
        for code in [RvError::PinIncorrect, RvError::PinLocked, RvError::PinExpired] {
            assert_eq!(verdict(code), LoginVerdict::Refused);
        }
        for code in [RvError::DeviceError, RvError::SessionHandleInvalid, RvError::TokenNotPresent]
        {
            assert_eq!(verdict(code), LoginVerdict::NotJudged);
        }
        for code in [
            RvError::UserPinNotInitialized,
            RvError::FunctionFailed,
            RvError::GeneralError,
            RvError::ArgumentsBad,
            RvError::VendorDefined(0x8000_0001),
            RvError::UnknownErrorCode(7),
        ] {
            assert_eq!(verdict(code), LoginVerdict::Unclear);
        }
    }

    #[test]
    fn what_is_unknown_is_blamed_on_the_device() {
        for code in
            [RvError::VendorDefined(0x8000_0001), RvError::GeneralError, RvError::DeviceError]
        {
            assert_eq!(Code(code).blame(), Blame::DeviceGone);
        }
    }
}
