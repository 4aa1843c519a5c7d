//! Why the service did not do what was asked, by who has to act.

use tapfer_emv::certificate::CertificateError;
use tapfer_emv::profile::ProfileError;
use tapfer_hsm::HsmError;
use tapfer_storage::StorageError;

use crate::entropy::EntropyError;
use crate::realm::RealmError;
use crate::service::chip_data::ChipDataError;

/// Why the service did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    // The caller.
    /// The API key behind its certificate is not in force: whence it called, and the id of its request.
    #[error("the API key of this certificate is not in force")]
    Unauthenticated { origin: String, request_id: String },
    /// Nothing of that id that the caller may see.
    #[error("there is no {0} of that id that this API key may see")]
    NotFound(&'static str),
    /// The caller's role does not allow it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// What the request says does not hold.
    #[error("{0}")]
    Invalid(String),
    /// The chip data of a payment.
    #[error(transparent)]
    ChipData(#[from] ChipDataError),
    /// The state of things does not allow it.
    #[error("{0}")]
    Conflict(String),

    // The system.
    /// Too much is going on at the same place.
    #[error("{0}")]
    Contention(&'static str),
    /// The store; may also be the caller's fault.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The security module; may also be the caller's fault.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A certificate of ours is not what it should be.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A card profile of ours is not what it should be.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A stored thing cannot be read back.
    #[error("{0} does not read back; restore it from a backup")]
    Damaged(&'static str),
}

/// What can go wrong with the partition map.
impl From<RealmError> for ServiceError {
    fn from(error: RealmError) -> Self {
        match error {
            RealmError::Storage(error) => Self::Storage(error),
            RealmError::Hsm(error) => Self::Hsm(error),
            _ => Self::Damaged("the partition map"),
        }
    }
}
