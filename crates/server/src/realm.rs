//! A realm: one platform with its keys, its database and its certificates, in one directory.
//!
//! | file | what |
//! |---|---|
//! | `realm.json` | what kind of realm this is, and the version of this layout |
//! | `keystore` | the software HSM's keys, sealed |
//! | `tapfer.db` | the database, with `-wal` and `-shm` beside it |
//! | `tls/` | the realm's CA and server certificate with their keys |
//! | `operator.key` | the operator's API key |
//!
//! The directory is for its owner only (mode 0700). A backup needs the first three; what keeps the
//! keystore sealed is not in the directory.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tapfer_hsm::{HsmError, PaymentHsm, SoftwareHsm, Unlock};
use tapfer_payment_types::Timestamp;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{Storage, StorageError};

pub use tapfer_hsm::Realm as RealmKind;

/// Version of the directory's layout.
const LAYOUT: u32 = 1;

/// Why a realm cannot be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum RealmError {
    /// There is one already.
    #[error("there is a realm in {0} already; open it, or name another directory")]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no realm in {0}; create one, or name the right directory")]
    Missing(PathBuf),
    /// The description is not one that this program reads.
    #[error(
        "{0} does not describe a realm that this program can open; use the program that made it"
    )]
    Unreadable(PathBuf),
    /// The keystore is of another kind than the realm says.
    #[error("the keystore in {0} is of another kind than the realm; restore both from one backup")]
    Mixed(PathBuf),
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
    /// The keystore.
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where the parts of a realm lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmPaths {
    home: PathBuf,
}

impl RealmPaths {
    /// The parts of the realm in a directory.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The description of the realm.
    #[must_use]
    pub fn description(&self) -> PathBuf {
        self.home.join("realm.json")
    }

    /// The software HSM's keys.
    #[must_use]
    pub fn keystore(&self) -> PathBuf {
        self.home.join("keystore")
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.home.join("tapfer.db")
    }

    /// Certificates and their keys.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.home.join("tls")
    }

    /// The certificate that clients of the realm trust, PEM.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        crate::tls::authority_certificate_file(&self.tls())
    }

    /// The operator's API key, one line of text.
    #[must_use]
    pub fn operator_key(&self) -> PathBuf {
        self.home.join("operator.key")
    }

    /// Whether there is a realm.
    #[must_use]
    pub fn is_realm(&self) -> bool {
        self.description().exists()
    }
}

/// What `realm.json` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    layout: u32,
    kind: RealmKind,
    created_at: Timestamp,
}

/// An open realm. Only one process at a time can have it open: the keystore is locked.
pub struct Realm {
    paths: RealmPaths,
    kind: RealmKind,
    pub(crate) hsm: Arc<dyn PaymentHsm>,
    pub(crate) storage: Arc<dyn Storage>,
}

impl Realm {
    /// Makes a new realm in a directory that is empty or does not exist, and opens it.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn create(
        home: &Path,
        kind: RealmKind,
        unlock: &Unlock,
        now: Timestamp,
    ) -> Result<Self, RealmError> {
        let paths = RealmPaths::new(home);
        if paths.is_realm() {
            return Err(RealmError::Exists(home.to_owned()));
        }
        make_private_directory(home)?;
        // A crash after this leaves a keystore without keys of any issuer; it is taken over as it is.
        let hsm = if paths.keystore().exists() {
            SoftwareHsm::open(&paths.keystore(), unlock)?
        } else {
            SoftwareHsm::create(&paths.keystore(), unlock, kind)?
        };
        let realm = Self::assemble(paths, kind, hsm)?;
        // Last, so that whatever has a description is whole.
        let description = Description { layout: LAYOUT, kind, created_at: now };
        let path = realm.paths.description();
        let text = serde_json::to_vec_pretty(&description).unwrap_or_default();
        crate::private_file::write(&path, &text).map_err(|source| RealmError::File {
            action: "write",
            path,
            source,
        })?;
        Ok(realm)
    }

    /// Opens the realm in a directory.
    ///
    /// # Errors
    /// [`RealmError`].
    pub fn open(home: &Path, unlock: &Unlock) -> Result<Self, RealmError> {
        let paths = RealmPaths::new(home);
        let path = paths.description();
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => RealmError::Missing(home.to_owned()),
            _ => RealmError::File { action: "read", path: path.clone(), source },
        })?;
        let description: Option<Description> = serde_json::from_slice(&text).ok();
        let description = description
            .filter(|found| found.layout == LAYOUT)
            .ok_or(RealmError::Unreadable(path))?;
        let hsm = SoftwareHsm::open(&paths.keystore(), unlock)?;
        Self::assemble(paths, description.kind, hsm)
    }

    fn assemble(paths: RealmPaths, kind: RealmKind, hsm: SoftwareHsm) -> Result<Self, RealmError> {
        // The keystore's kind is authenticated, the description's is not.
        if hsm.describe().realm != kind {
            return Err(RealmError::Mixed(paths.home));
        }
        let storage = SqliteStorage::open(&paths.database(), &SqliteOptions::default())?;
        Ok(Self { paths, kind, hsm: Arc::new(hsm), storage: Arc::new(storage) })
    }

    /// Where its parts lie.
    #[must_use]
    pub const fn paths(&self) -> &RealmPaths {
        &self.paths
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> RealmKind {
        self.kind
    }

    /// Its security module.
    #[must_use]
    pub fn hsm(&self) -> Arc<dyn PaymentHsm> {
        Arc::clone(&self.hsm)
    }
}

fn make_private_directory(path: &Path) -> Result<(), RealmError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| RealmError::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::{Realm, RealmError, RealmKind, RealmPaths};
    use std::fs;
    use tapfer_hsm::Unlock;
    use tapfer_payment_types::Timestamp;

    fn unlock() -> Unlock {
        Unlock::key_from_hex(&"5a".repeat(32)).unwrap()
    }

    #[test]
    fn is_made_once_and_opened_again() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().join("realm");
        let now = Timestamp::from_unix_millis(1);
        assert!(matches!(Realm::open(&home, &unlock()), Err(RealmError::Missing(_))));
        drop(Realm::create(&home, RealmKind::Demo, &unlock(), now).unwrap());
        let again = Realm::create(&home, RealmKind::Demo, &unlock(), now);
        assert!(matches!(again, Err(RealmError::Exists(_))));
        assert_eq!(Realm::open(&home, &unlock()).unwrap().kind(), RealmKind::Demo);
    }

    #[test]
    fn a_demo_realm_cannot_be_relabelled() {
        let home = tempfile::tempdir().unwrap();
        let now = Timestamp::from_unix_millis(1);
        drop(Realm::create(home.path(), RealmKind::Demo, &unlock(), now).unwrap());
        let file = RealmPaths::new(home.path()).description();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("demo", "production")).unwrap();
        assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Mixed(_))));
        fs::write(&file, "{}").unwrap();
        assert!(matches!(Realm::open(home.path(), &unlock()), Err(RealmError::Unreadable(_))));
    }
}
