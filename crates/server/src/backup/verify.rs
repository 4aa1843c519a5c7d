//! Whether a backup is as it was made.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use tapfer_hsm::catalogue::UnverifiedCatalogue;
use tapfer_payment_types::RealmId;
use tapfer_storage::sqlite;

use super::files::{self, CATALOGUE, DATABASE, DESCRIPTION, KEYSTORE, MODULES};
use super::{BackedUpFile, Backup, BackupError, FORMAT, LIST, Result};
use crate::realm::{RealmKind, RealmPaths, described};

/// Every list of any format has this.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// Reads a whole backup and compares it with its list, its parts with each other, and the database with
/// itself. Opens no key: that a backup can be worked with is shown by using it.
///
/// # Errors
/// [`BackupError::Damaged`] names every file that is not as it was.
pub fn verify(backup: &Path) -> Result<Backup> {
    let list = read_list(backup)?;
    if let Some(foreign) = list.files.iter().find(|file| !files::is_known(&file.name)) {
        return Err(BackupError::Foreign(foreign.name.clone()));
    }
    let mut damages = missing_from(&list);
    damages.extend(list.files.iter().filter_map(|file| damage(backup, file)));
    // Whoever made one file of another realm fit the list is told so here.
    if damages.is_empty() && described(&RealmPaths::new(backup)) != Some((list.kind, list.realm)) {
        damages.push(format!("{DESCRIPTION} is of another realm than the list"));
    }
    if damages.is_empty() {
        let expected = ((list.kind, list.realm), list.catalogue_version);
        damages.extend(match read_catalogue(backup) {
            Ok(found) if found == expected => None,
            Ok(_) => Some(format!("{CATALOGUE} is of another realm or version than the list")),
            Err(what) => Some(format!("{CATALOGUE}: {what}")),
        });
    }
    if damages.is_empty()
        && !list.is_kept_in_postgres()
        && let Err(error) = sqlite::check(&backup.join(DATABASE), list.realm)
    {
        damages.push(error.to_string());
    }
    match damages.is_empty() {
        true => Ok(list),
        false => Err(BackupError::Damaged { path: backup.to_owned(), damages }),
    }
}

fn read_list(backup: &Path) -> Result<Backup> {
    let not_a_backup = || BackupError::NotABackup(backup.to_owned());
    let text = fs::read(backup.join(LIST)).map_err(|_| not_a_backup())?;
    let FormatOnly { format } = serde_json::from_slice(&text).map_err(|_| not_a_backup())?;
    if format != FORMAT {
        return Err(BackupError::Format { path: backup.to_owned(), format });
    }
    serde_json::from_slice(&text).map_err(|_| not_a_backup())
}

/// Whose catalogue lies in a directory and which version it is, by its own words; or what is wrong with it.
pub(super) fn read_catalogue(
    directory: &Path,
) -> std::result::Result<((RealmKind, RealmId), u64), String> {
    let text = fs::read(directory.join(CATALOGUE)).map_err(|error| error.to_string())?;
    let read = UnverifiedCatalogue::parse(&text).map_err(|fault| fault.to_string())?;
    Ok((read.realm(), read.version()))
}

/// What no realm can be without.
fn missing_from(list: &Backup) -> Vec<String> {
    let listed = |name: &str| list.files.iter().any(|file| file.name == name);
    let of_every_realm = [DESCRIPTION, CATALOGUE];
    let database = (!list.is_kept_in_postgres()).then_some(DATABASE);
    let mut missing: Vec<String> = database
        .into_iter()
        .chain(of_every_realm)
        .filter(|name| !listed(name))
        .map(|name| format!("{name} is not in its list"))
        .collect();
    if !listed(KEYSTORE) && !listed(MODULES) {
        missing.push(format!("neither {KEYSTORE} nor {MODULES} is in its list"));
    }
    missing
}

/// What is wrong with a file of a backup.
fn damage(backup: &Path, file: &BackedUpFile) -> Option<String> {
    let name = &file.name;
    match files::describe(backup, name) {
        Ok(found) if found == *file => None,
        Ok(found) if found.length != file.length => {
            Some(format!("{name} has {} bytes and had {}", found.length, file.length))
        }
        Ok(_) => Some(format!("{name} was changed")),
        Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Some(format!("{name} is missing"))
        }
        Err(error) => Some(error.to_string()),
    }
}
