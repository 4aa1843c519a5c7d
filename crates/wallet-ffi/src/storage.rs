//! Where the app keeps the sealed wallet.

use std::fmt;

/// The place where the sealed wallet is kept, as the app brings it. [`file_storage`](crate::file_storage)
/// is one that is ready.
///
/// What passes through is sealed; it needs no further encryption, and no backup: a copy that is put
/// back later is noticed, and refused.
#[uniffi::export(with_foreign)]
pub trait WalletStorage: Send + Sync {
    /// What was stored last, nothing if nothing ever was.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be read. Say so, and never "nothing": a new wallet would be made.
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError>;

    /// Replaces what is stored, as a whole, and returns when it would survive a loss of power: write a
    /// new file, flush it, rename it over the old one, flush the directory. After a crash at any moment
    /// either the old bytes are there or the new ones. A payment's reply leaves the phone when
    /// this has returned, and not before.
    ///
    /// # Errors
    /// [`StorageError`] if that is not certain; the reply is then not sent.
    fn replace(&self, sealed: Vec<u8>) -> Result<(), StorageError>;
}

/// Why storage failed, in the app's own words.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Error)]
pub enum StorageError {
    /// It could not be read or replaced.
    Failed {
        /// What, why, and what to do.
        reason: String,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Failed { reason } = self;
        f.write_str(reason)
    }
}

impl std::error::Error for StorageError {}

/// The app's storage threw something of its own.
impl From<uniffi::UnexpectedUniFFICallbackError> for StorageError {
    fn from(error: uniffi::UnexpectedUniFFICallbackError) -> Self {
        Self::Failed { reason: error.reason }
    }
}
