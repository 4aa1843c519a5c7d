//! The database's memory of the catalogue of keys: what was used once is not taken back, whoever changes the file.

use tapfer_payment_types::CatalogueMark;
use tapfer_storage::{Storage, StorageError};

/// Others may note what they have made meanwhile; each time one of them has got further.
const ATTEMPTS: usize = 16;

/// Sees that the catalogue is the one that the database knows, or was made from it, and notes it. `follow` asks
/// the security module ([`tapfer_hsm::PaymentHsm::follow_catalogue`]).
///
/// # Errors
/// The catalogue does not come from what is known; the module or the database failed.
pub(crate) fn follow<E: From<StorageError>>(
    storage: &dyn Storage,
    follow: impl Fn(Option<&CatalogueMark>) -> Result<CatalogueMark, E>,
) -> Result<(), E> {
    for _ in 0..ATTEMPTS {
        let known = storage.newest_catalogue()?;
        let newest = follow(known.as_ref())?;
        if storage.note_catalogue(known, newest)? {
            return Ok(());
        }
    }
    Err(StorageError::Busy.into())
}
