//! A realm's backup: everything but what is in the custodians' hands, as files in one directory.
//!
//! | file | what |
//! |---|---|
//! | `backup.json` | what the backup holds: realm, time, versions, length and SHA-256 of every file |
//! | `realm.json`, `tapfer.db` | as in the realm |
//! | `database.toml` | in the place of `tapfer.db`: the database is PostgreSQL's, whose own tools back it up |
//! | `keys.json`, `keystore`, `hsm.toml` | as in the realm, as far as they are there |
//! | `tls/...` | certificates and their keys, so that clients know the platform again |
//!
//! It grows in a directory `....unfinished`, gets its list last, and its name behind that: whatever has
//! the name is whole, and a backup that was torn off is seen to be one.
//!
//! The database is copied first, from under the running platform, and the keys behind it. A key is
//! written down before anything is sealed under it, so the keys of the later moment are all that the
//! database of the earlier one names. The other way round a card could be in it whose key is not.
//!
//! The list tells damage, not malice: who can write the backup can write a list for it. The keystore and
//! the catalogue are authenticated by the keys themselves, the audit log by its signed heads. Somebody who
//! has a backup can pretend to be the platform's TLS server, and reads what the database holds in clear;
//! the numbers of cards stay closed without the root keys. The operator's key is not in it: a new one is made.

mod files;
mod make;
mod restoring;
mod verify;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_storage::StorageError;

use crate::realm::{RealmError, RealmKind};

pub use make::back_up;
pub use restoring::{Restored, restore};
pub use verify::verify;

/// The list of what a backup holds.
const LIST: &str = "backup.json";
/// Version of the list.
const FORMAT: u32 = 2;

/// Why no backup is made, or none restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is where the backup or the realm should go.
    #[error(
        "{0} is there already, and not empty; nothing is overwritten: name a directory that is empty or does not exist yet"
    )]
    Occupied(PathBuf),
    /// What an earlier backup left behind, or one that is being made.
    #[error(
        "{0} is what a backup left that was torn off, or is just being made: if none is being made, remove \
         it and start again"
    )]
    Torn(PathBuf),
    /// No list.
    #[error(
        "{0} is no backup, or one that was torn off before it was whole: its backup.json is missing or not \
         readable. Take another one"
    )]
    NotABackup(PathBuf),
    /// A list of another format.
    #[error(
        "the backup in {path} has format {format}, and this program reads {FORMAT}; use the program that made it"
    )]
    Format {
        /// Where it lies.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// There is no realm to back up.
    #[error("there is no realm in {0}, or its realm.json is damaged; name the right directory")]
    NoRealm(PathBuf),
    /// Files are not what they were when the backup was made.
    #[error("the backup in {path} is damaged: {}; nothing was restored. Take another one", .damages.join("; "))]
    Damaged {
        /// Where it lies.
        path: PathBuf,
        /// Each damaged file and what is wrong with it.
        damages: Vec<String>,
    },
    /// The list names a file that no backup has.
    #[error("the backup lists {0:?}, which no realm has; do not trust it")]
    Foreign(String),
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Which database it is, or how it is reached.
    #[error(transparent)]
    Realm(#[from] RealmError),
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    format: u32,
    /// Which realm.
    pub realm: RealmId,
    /// Of what kind.
    pub kind: RealmKind,
    /// When it was begun: what was acknowledged until then is in it.
    pub made_at: Timestamp,
    /// The program that made it.
    pub software: String,
    /// Version of the database's schema.
    pub database_schema: u32,
    /// Version of the catalogue of keys.
    pub catalogue_version: u64,
    /// Its files.
    pub files: Vec<BackedUpFile>,
}

impl Backup {
    /// Whether the database is not in it: PostgreSQL's own tools have backed it up.
    #[must_use]
    pub fn is_kept_in_postgres(&self) -> bool {
        self.files.iter().any(|file| file.name == files::DATABASE_CONFIGURATION)
    }
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUpFile {
    /// Path below the directory.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

type Result<T> = std::result::Result<T, BackupError>;

#[cfg(test)]
mod tests;
