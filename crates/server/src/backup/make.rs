//! Making a backup of a realm that may be in use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_storage::{StorageError, sqlite};

use super::files::{self, CATALOGUE, DATABASE, failed};
use super::{Backup, BackupError, FORMAT, LIST, Result, verify};
use crate::private_file;
use crate::realm::{RealmPaths, database_reader, described};

/// Backs up the realm in `home`, which may be in use, into a new directory. Everything that was
/// acknowledged before this is called is in it.
///
/// # Errors
/// [`BackupError`]. What was written until then stays, under another name.
pub fn back_up(home: &Path, to: &Path, now: Timestamp) -> Result<Backup> {
    let paths = RealmPaths::new(home);
    let (kind, realm) = described(&paths).ok_or_else(|| BackupError::NoRealm(home.to_owned()))?;
    let to = without_trailing_slash(to);
    if files::is_taken(&to) {
        return Err(BackupError::Occupied(to));
    }
    let unfinished = files::unfinished(&to);
    if files::is_taken(&unfinished) {
        return Err(BackupError::Torn(unfinished));
    }
    let mut listed = Vec::new();
    let database_schema = match paths.embedded_database() {
        Ok(database) => {
            files::make_directory(&unfinished)?;
            // The database first, the keys behind it: see above.
            let schema = sqlite::back_up(&database, realm, &unfinished.join(DATABASE))?;
            listed.push(files::describe(&unfinished, DATABASE)?);
            schema
        }
        // PostgreSQL's own tools have backed it up, before this.
        Err(_) => {
            let schema = schema_elsewhere(&paths, realm)?;
            files::make_directory(&unfinished)?;
            schema
        }
    };
    for name in files::beside_the_database(&paths, kind)? {
        listed.push(files::copy(home, &unfinished, &name)?);
    }
    let catalogue = unfinished.join(CATALOGUE);
    let (_, catalogue_version) = verify::read_catalogue(&unfinished)
        .map_err(|what| failed("read", &catalogue)(io::Error::other(what)))?;
    let software = concat!("tapfer ", env!("CARGO_PKG_VERSION")).to_owned();
    let backup = Backup {
        format: FORMAT,
        realm,
        kind,
        made_at: now,
        software,
        database_schema,
        catalogue_version,
        files: listed,
    };
    let list = unfinished.join(LIST);
    private_file::write(&list, &serde_json::to_vec_pretty(&backup).unwrap_or_default())
        .map_err(failed("write", &list))?;
    // Somebody may have put something there meanwhile; a directory that is not empty is not replaced.
    fs::rename(&unfinished, &to).map_err(failed("give its name to", &to))?;
    files::sync_directory(&to)?;
    Ok(backup)
}

/// The schema of the PostgreSQL database, which must be this realm's.
fn schema_elsewhere(paths: &RealmPaths, realm: RealmId) -> Result<u32> {
    let database = database_reader(paths)?;
    if database.realm() != realm {
        let path = paths.database_configuration().display().to_string();
        return Err(StorageError::OtherRealm { path, realm }.into());
    }
    Ok(database.schema()?)
}

/// The name beside which the unfinished one lies.
fn without_trailing_slash(path: &Path) -> PathBuf {
    path.components().collect()
}
