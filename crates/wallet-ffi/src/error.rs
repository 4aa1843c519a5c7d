//! What an app has to reckon with, one variant for each thing it can do about it.

use tapfer_wallet::pin::{EnterPinError, SetPinError};
use tapfer_wallet::store::KeepError;
use tapfer_wallet::{AcceptError, ChooseLevelError, StoreError, UnknownToken};

use crate::StorageError;

/// Why the wallet did not do what the app asked for. The texts are for developers; what the person is
/// told is the app's to say, in the person's language.
#[derive(Debug, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum WalletError {
    // What the app brought.
    /// The app gave something that the wallet cannot read.
    #[error("{0}")]
    Argument(&'static str),
    /// The wallet does not hold the token.
    #[error(transparent)]
    UnknownToken(#[from] UnknownToken),

    // What the person did.
    /// It cannot be done; the text says why.
    #[error("{0}")]
    PersonRefused(String),

    // What the platform sent.
    /// The platform's answer is refused; the wallet is unchanged.
    #[error("the platform's answer is refused: {0}")]
    AnswerRefused(AcceptError),

    // What is stored.
    /// The app's storage failed. In a tap: send no reply.
    #[error("the app's storage failed: {0}")]
    Storage(#[from] StorageError),
    /// What is stored does not open.
    #[error(transparent)]
    Stored(#[from] StoreError),

    // This program.
    /// It broke off in the middle of something and wiped what it held.
    #[error("the wallet broke off and is closed: open it again from what was stored last")]
    Closed,
}

impl From<KeepError<StorageError>> for WalletError {
    fn from(error: KeepError<StorageError>) -> Self {
        match error {
            KeepError::Store(error) => Self::Stored(error),
            KeepError::Medium(error) => Self::Storage(error),
        }
    }
}

/// A platform's answer that was taken and could not be written down is no refusal: the wallet has changed.
impl From<AcceptError> for WalletError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Store(error) => Self::Stored(error),
            refused => Self::AnswerRefused(refused),
        }
    }
}

impl From<ChooseLevelError> for WalletError {
    fn from(error: ChooseLevelError) -> Self {
        match error {
            ChooseLevelError::UnknownToken(error) => Self::UnknownToken(error),
            ChooseLevelError::Store(error) => Self::Stored(error),
            ChooseLevelError::NotOffered => Self::PersonRefused(error.to_string()),
        }
    }
}

impl From<SetPinError> for WalletError {
    fn from(error: SetPinError) -> Self {
        match error {
            SetPinError::UnknownToken(error) => Self::UnknownToken(error),
            SetPinError::Store(error) => Self::Stored(error),
            other => Self::PersonRefused(other.to_string()),
        }
    }
}

impl From<EnterPinError> for WalletError {
    fn from(error: EnterPinError) -> Self {
        match error {
            EnterPinError::UnknownToken(error) => Self::UnknownToken(error),
            other => Self::PersonRefused(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WalletError;
    use tapfer_wallet::{AcceptError, StoreError};

    /// "The wallet is unchanged" is said of refusals only.
    #[test]
    fn an_answer_that_was_taken_and_not_stored_is_not_called_refused() {
        let stored = WalletError::from(AcceptError::Store(StoreError::Sealing));
        assert!(matches!(stored, WalletError::Stored(StoreError::Sealing)), "{stored}");
        let refused = WalletError::from(AcceptError::NotRequested);
        assert!(matches!(refused, WalletError::AnswerRefused(_)), "{refused}");
    }
}
