//! The database's memory of the catalogue of keys: what was used once is not taken back, whoever changes the file.

use std::fs;
use std::path::Path;

use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_payment_types::CatalogueMark;
use tapfer_storage::{Storage, StorageError};

use crate::realm::{RealmError, RealmPaths, database, described};

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

/// Why no platform starts with the catalogue and the database of a directory, be it a realm's or a backup's: the one is
/// an old copy, or does not come from what the other knows. Asks no key, so that it finds mistakes, and not
/// who means to lie. `None` where one of the two is not there or cannot be read at all: others say that.
#[must_use]
pub fn catalogue_refusal(directory: &Path) -> Option<String> {
    let paths = RealmPaths::new(directory);
    let (_, realm) = described(&paths)?;
    let catalogue = paths.catalogue();
    // Before the file: a platform that runs may make keys in between, and changes the file first.
    let database = database::reader(&paths);
    let known = database.and_then(|database| match database.realm() == realm {
        true => Ok(database.newest_catalogue()?),
        false => Ok(None),
    });
    let known = match known {
        Ok(known) => known?,
        Err(RealmError::Storage(
            error @ (StorageError::Inconsistent(_) | StorageError::ChangedSchema { .. }),
        )) => return Some(error.to_string()),
        Err(_) => return None,
    };
    let bytes = fs::read(&catalogue).ok()?;
    let found = UnverifiedCatalogue::parse(&bytes).ok()?;
    found.demand_descent(&known, &catalogue).err().map(|error| error.to_string())
}
