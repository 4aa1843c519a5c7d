//! The database's memory of the catalogue of keys: what was used once is not taken back, whoever changes the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tapfer_hsm::catalogue::{KeyOwner, KeyState, UnverifiedCatalogue};
use tapfer_payment_types::{CatalogueMark, IssuerId};
use tapfer_storage::{Storage, StorageError};

use crate::private_file;
use crate::realm::{RealmError, RealmPaths, database, described};

/// Others may note what they have made meanwhile; each time one of them has got further.
const ATTEMPTS: usize = 16;

/// Sees that the catalogue is the one that the database knows, or was made from it, and notes it. `follow` asks
/// the security module ([`tapfer_hsm::PaymentHsm::follow_catalogue`]). Where platforms share the database, what another one has
/// made is taken over from there, and what was made here is given to the others.
///
/// # Errors
/// The catalogue does not come from what is known; the module or the database failed.
pub(crate) fn follow<E: From<StorageError>>(
    storage: &dyn Storage,
    paths: &RealmPaths,
    follow: impl Fn(Option<&CatalogueMark>) -> Result<CatalogueMark, E>,
) -> Result<(), E> {
    for _ in 0..ATTEMPTS {
        let known = storage.newest_catalogue()?;
        let newest = match follow(known.as_ref()) {
            Ok(newest) => newest,
            Err(error) => match known {
                Some(known) => take_over(storage, paths, &known, error, || follow(Some(&known)))?,
                None => return Err(error),
            },
        };
        if known == Some(newest) || note(storage, &paths.catalogue(), known, newest)? {
            return Ok(());
        }
    }
    Err(StorageError::Busy.into())
}

/// Puts what another platform has made in the place of the older catalogue here, and lets the module `try_again`. What it does
/// not find to be the realm's does not stay; `refused` is what it said of the one that is here.
pub(crate) fn take_over<T, E: From<StorageError>>(
    storage: &dyn Storage,
    paths: &RealmPaths,
    known: &CatalogueMark,
    refused: E,
    try_again: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let catalogue = &paths.catalogue();
    let Some(copy) = storage.catalogue_copy()? else { return Err(refused) };
    let Ok(older) = fs::read(catalogue) else { return Err(refused) };
    if !is_newer(&copy, &older, known, catalogue) {
        return Err(refused);
    }
    if let Err(error) = private_file::write(catalogue, &copy) {
        tracing::error!(target: "tapfer::keys", %error, "the newer catalogue of keys cannot be written");
        return Err(refused);
    }
    let tried = try_again();
    match &tried {
        Ok(_) => {
            let version = known.version;
            tracing::info!(target: "tapfer::keys", version, "another platform has made keys: they are here now");
        }
        Err(_) => {
            tracing::error!(target: "tapfer::keys",
                "the catalogue of keys in the database is not the realm's, or no module opens it");
            if let Err(error) = private_file::write(catalogue, &older) {
                tracing::error!(target: "tapfer::keys", %error, "the catalogue of before cannot be put back");
            }
        }
    }
    tried
}

/// Whether a copy says that it is the one that is known, and was made from what is here. Nothing of it is proven.
fn is_newer(copy: &[u8], older: &[u8], known: &CatalogueMark, path: &Path) -> bool {
    let (Ok(copy), Ok(older)) =
        (UnverifiedCatalogue::parse(copy), UnverifiedCatalogue::parse(older))
    else {
        return false;
    };
    copy.mark() == *known && copy.demand_descent(&older.mark(), path).is_ok()
}

/// Whether a catalogue says that it is this version.
fn is(catalogue: &[u8], mark: CatalogueMark) -> bool {
    UnverifiedCatalogue::parse(catalogue).is_ok_and(|read| read.mark() == mark)
}

/// Notes the newest, and gives it to the other platforms.
fn note(
    storage: &dyn Storage,
    catalogue: &Path,
    known: Option<CatalogueMark>,
    newest: CatalogueMark,
) -> Result<bool, StorageError> {
    if !storage.is_shared() {
        return storage.note_catalogue(known, newest);
    }
    // Another process of this machine may have changed it since: then it is followed first.
    let copy = fs::read(catalogue).ok().filter(|copy| is(copy, newest));
    copy.map_or(Ok(false), |copy| storage.note_catalogue_with_copy(known, newest, copy))
}

/// Gives the catalogue to the other platforms, if they do not have one yet.
///
/// # Errors
/// The database failed.
pub(crate) fn share(storage: &dyn Storage, paths: &RealmPaths) -> Result<(), StorageError> {
    if storage.is_shared()
        && let Some(known) = storage.newest_catalogue()?
        && !storage.catalogue_copy()?.is_some_and(|copy| is(&copy, known))
    {
        note(storage, &paths.catalogue(), Some(known), known)?;
    }
    Ok(())
}

/// Says which issuers have keys in the catalogue and are none in the database: it may have been exchanged for an older one, or
/// have lost its newest changes. Keys are made first, so one whose making was torn off looks the same.
///
/// # Errors
/// The database failed.
pub(crate) fn say_unknown_owners(
    storage: &dyn Storage,
    paths: &RealmPaths,
) -> Result<(), StorageError> {
    let unknown = unknown_owners(storage, &paths.catalogue())?;
    if !unknown.is_empty() {
        let issuers: Vec<_> = unknown.iter().map(ToString::to_string).collect();
        tracing::error!(
            target: "tapfer::security",
            event = "issuers_unknown",
            issuers = issuers.join(" "),
            "keys.json has keys of issuers that the database does not know. If one of them was ever seen there, the database is an older \
             one, or has lost what was written last: stop the platform (docs/disaster-recovery.md). An issuer whose making was torn off \
             leaves such keys too, and they do no harm"
        );
    }
    Ok(())
}

fn unknown_owners(storage: &dyn Storage, catalogue: &Path) -> Result<Vec<IssuerId>, StorageError> {
    let Ok(bytes) = fs::read(catalogue) else { return Ok(Vec::new()) };
    let Ok(found) = UnverifiedCatalogue::parse(&bytes) else { return Ok(Vec::new()) };
    let issuer = |owner| match owner {
        KeyOwner::Issuer(id) => Some(id),
        KeyOwner::Platform | KeyOwner::Authority { .. } => None,
    };
    let records = found.records().filter(|record| record.state != KeyState::Destroyed);
    let owners: BTreeSet<_> = records.filter_map(|record| issuer(record.name.owner)).collect();
    let mut unknown = Vec::new();
    for id in owners {
        if storage.issuer(id)?.is_none() {
            unknown.push(id);
        }
    }
    Ok(unknown)
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
