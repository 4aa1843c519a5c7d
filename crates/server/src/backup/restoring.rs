//! Making a realm of a backup.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::Restoration;
use tapfer_payments::audit::Caller;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{Answer, AuditStore as _, Storage as _, StoredResponse, Write};

use super::files::{self, DATABASE, DESCRIPTION, failed};
use super::{BackedUpFile, Backup, BackupError, Result, verify};

/// A realm that goes on from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// From which.
    pub backup: Backup,
    /// When: phones and terminals that know a later state are told that it was lost, and not that somebody
    /// lowered it. `None` where PostgreSQL has the database: who brings it back knows whether anything was lost, and
    /// says so.
    pub restoration: Option<Restoration>,
}

/// Puts a backup into a directory that is empty or does not exist. Whoever goes on with it must be sure
/// that the realm it was made of never runs again: there would be two that both take payments.
///
/// # Errors
/// As [`verify`](super::verify()), before anything is written; [`BackupError::Occupied`].
pub fn restore(backup: &Path, home: &Path, now: Timestamp) -> Result<Restored> {
    let list = verify(backup)?;
    claim(home)?;
    // The description last: until it is there, the directory holds no realm.
    let (description, parts): (Vec<_>, Vec<_>) =
        list.files.iter().partition(|file| file.name == DESCRIPTION);
    put_all(backup, home, &parts)?;
    let restoration = match list.is_kept_in_postgres() {
        true => None,
        false => Some(say_so(&list, home, now)?),
    };
    put_all(backup, home, &description)?;
    Ok(Restored { backup: list, restoration })
}

/// Writes into the restored database that it is one.
fn say_so(list: &Backup, home: &Path, now: Timestamp) -> Result<Restoration> {
    let reason = format!("goes on from the backup of {} by {}", list.made_at, list.software);
    let options = SqliteOptions::default();
    let storage = SqliteStorage::open(&home.join(DATABASE), list.realm, &options)?;
    let answer = Answer::Known(StoredResponse { status: 200, body: Vec::new() });
    let write = Write { caller: Caller::platform(), claim: None, answer, now };
    let restoration = storage.restore(reason, write)?.value().unwrap_or_default();
    storage.close();
    Ok(restoration)
}

fn put_all(backup: &Path, home: &Path, listed: &[&BackedUpFile]) -> Result<()> {
    for file in listed {
        let copied = files::copy(backup, home, &file.name)?;
        // It was right a moment ago: the medium, or somebody at it.
        if copied != **file {
            let damages = vec![format!("{} changed while it was copied", file.name)];
            return Err(BackupError::Damaged { path: backup.to_owned(), damages });
        }
    }
    Ok(())
}

/// Takes a directory that is empty or does not exist.
fn claim(path: &Path) -> Result<()> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("look into", path)(error)),
    };
    if occupied {
        return Err(BackupError::Occupied(path.to_owned()));
    }
    files::make_directory(path)
}
