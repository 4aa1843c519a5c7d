//! What is wrong with a catalogue. No text holds keys, wrapped or not.

use std::io;
use std::path::{Path, PathBuf};

use crate::private_file::FileFault;

/// Why a catalogue is not used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// There is none.
    #[error(
        "there is no catalogue of keys at {0}: without it the root keys open nothing. Put the newest keys.json there \
         (backups and the other site have copies)"
    )]
    NotFound(PathBuf),
    /// There is one already.
    #[error("there is a catalogue of keys at {0} already; use it, or name another file")]
    Exists(PathBuf),
    /// Others could read or write it.
    #[error("{path} can be read or written by others (mode {mode:04o}); run: chmod 600 {path:?}")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not read as a catalogue.
    #[error("{path}: {fault}")]
    Fault {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: CatalogueFault,
    },
    /// The key of its MAC does not open.
    #[error(
        "the catalogue {0} was made under other root keys than this security module has; restore root keys and \
         catalogue of one realm"
    )]
    OtherRoots(PathBuf),
    /// The root keys' file and the catalogue say different realms.
    #[error("the catalogue {0} is another realm's than the keystore; restore both from one backup")]
    OtherRealm(PathBuf),
    /// It was changed by somebody without the root keys.
    #[error(
        "the catalogue {0} is damaged or was tampered with. Put the newest whole keys.json in its place (backups and \
         the other site have copies)"
    )]
    Tampered(PathBuf),
    /// The releasing root is another one than the catalogue's.
    #[error(
        "this security module has another releasing root than the catalogue {0} was made under: its keys would \
         open nowhere else. Take its root keys away, and install those of the realm: tapfer keys ceremony install"
    )]
    OtherReleasingRoot(PathBuf),
    /// It was not made from the one that was used last.
    #[error(
        "the catalogue {path} is version {version}, and was not made from version {known}, which was used \
         already: somebody went on with an old copy. Put the newest keys.json there (backups and the other site have copies). Only if there is none, \
         the custodians accept this one: tapfer keys ceremony accept-catalogue (docs/disaster-recovery.md). tapfer restore \
         comes last: it takes the database back as well, and payments since are forgotten"
    )]
    Forked {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
        /// The version that is known.
        known: u64,
    },
    /// It is older than one that was used already.
    #[error(
        "the catalogue {path} is version {version}, and version {known} was used already: an old copy was put in \
         its place. Put the newest keys.json there (backups and the other site have copies). Only if there is none, \
         the custodians accept this one: tapfer keys ceremony accept-catalogue (docs/disaster-recovery.md). tapfer restore \
         comes last: it takes the database back as well, and payments since are forgotten"
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
        /// The version that is known.
        known: u64,
    },
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<FileFault> for CatalogueError {
    fn from(fault: FileFault) -> Self {
        match fault {
            FileFault::Missing(path) => Self::NotFound(path),
            FileFault::Exists(path) => Self::Exists(path),
            FileFault::Permissions { path, mode } => Self::Permissions { path, mode },
            FileFault::Io { action, path, source } => Self::Io { action, path, source },
        }
    }
}

/// Why bytes are no catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueFault {
    /// Some other kind of file, or a damaged one.
    #[error(
        "this is not a catalogue of keys, or it is damaged; put the newest whole keys.json in its place"
    )]
    NotACatalogue,
    /// Written by another version.
    #[error(
        "the catalogue has format {format}, this program reads format {supported}; use the tapfer that goes with it"
    )]
    Format {
        /// Its format.
        format: u64,
        /// The format this program reads.
        supported: u64,
    },
    /// As many versions before it as its number says are not named in it.
    #[error(
        "the catalogue's history does not fit its version; put the newest whole keys.json in its place"
    )]
    History,
    /// A record that no catalogue would have.
    #[error(
        "key {number} of the catalogue cannot be ({what}); put the newest whole keys.json in its place"
    )]
    Record {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl CatalogueFault {
    pub(crate) fn of(self, path: &Path) -> CatalogueError {
        CatalogueError::Fault { path: path.to_owned(), fault: self }
    }
}
