//! A storage that is ready: one file in a directory of the app.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{StorageError, WalletStorage};

/// Name of the file.
const FILE: &str = "wallet.sealed";
/// Where the next content is written before it takes the file's place.
const FRESH: &str = "wallet.sealed.new";

/// The sealed wallet in a directory that this process alone uses.
struct FileStorage {
    directory: PathBuf,
    /// Released by the operating system when the process ends, however it ends.
    _lock: File,
}

/// Keeps the sealed wallet in `directory`, which is made if it is not there and belongs to the wallet
/// alone. On Android: a directory below `Context.getNoBackupFilesDir()`.
///
/// # Errors
/// [`StorageError`] if it cannot be made, or if another process, or another storage of this one, has
/// it: two wallets at once would use a counter twice.
#[uniffi::export]
pub fn file_storage(directory: String) -> Result<Arc<dyn WalletStorage>, StorageError> {
    let directory = PathBuf::from(directory);
    create_private(&directory).map_err(|error| failed("make", &directory, &error))?;
    let lock = File::open(&directory).map_err(|error| failed("open", &directory, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(Arc::new(FileStorage { directory, _lock: lock })),
        Err(TryLockError::WouldBlock) => Err(StorageError::Failed {
            reason: format!(
                "the wallet in {} is open already, here or in another process: close that one first",
                directory.display()
            ),
        }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &directory, &error)),
    }
}

impl FileStorage {
    fn replace_file(&self, sealed: &[u8]) -> io::Result<()> {
        let fresh = self.directory.join(FRESH);
        // What lies there already is not written through: left over from a crash, or planted.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_file().open(&fresh)?;
        file.write_all(sealed)?;
        // The content first: a name that is durable before its content leads to an empty file.
        file.sync_all()?;
        fs::rename(&fresh, self.directory.join(FILE))?;
        File::open(&self.directory)?.sync_all()
    }
}

impl WalletStorage for FileStorage {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        let file = self.directory.join(FILE);
        match fs::read(&file) {
            Ok(sealed) => Ok(Some(sealed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &file, &error)),
        }
    }

    fn replace(&self, sealed: Vec<u8>) -> Result<(), StorageError> {
        self.replace_file(&sealed)
            .map_err(|error| failed("replace", &self.directory.join(FILE), &error))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::Failed { reason: format!("cannot {what} {}: {error}", path.display()) }
}

/// A new file that only its owner can read.
fn private_file() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// A directory that only its owner may enter.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{FILE, FRESH, file_storage};

    fn text(directory: &std::path::Path) -> String {
        directory.to_str().unwrap().to_owned()
    }

    #[test]
    fn keeps_what_was_stored_last_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("wallet");
        let storage = file_storage(text(&directory)).unwrap();
        assert_eq!(storage.load().unwrap(), None);
        storage.replace(vec![1; 100]).unwrap();
        storage.replace(vec![2; 7]).unwrap();
        assert_eq!(storage.load().unwrap(), Some(vec![2; 7]));
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&directory) & 0o077, 0);
        assert_eq!(mode(&directory.join(FILE)) & 0o077, 0);
        drop(storage);
        assert_eq!(file_storage(text(&directory)).unwrap().load().unwrap(), Some(vec![2; 7]));
    }

    #[test]
    fn a_directory_that_is_in_use_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let storage = file_storage(text(home.path())).unwrap();
        let error = file_storage(text(home.path())).err().unwrap();
        assert!(error.to_string().contains("open already"), "{error}");
        drop(storage);
        file_storage(text(home.path())).unwrap();
    }

    #[test]
    fn a_planted_link_is_not_written_through() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, home.path().join(FRESH)).unwrap();
        let storage = file_storage(text(home.path())).unwrap();
        storage.replace(vec![7]).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(storage.load().unwrap(), Some(vec![7]));
    }

    /// Nothing was replaced, so nothing may be believed to be durable; and what was there stays.
    #[test]
    fn a_replacement_that_fails_says_so_and_keeps_the_old_content() {
        let home = tempfile::tempdir().unwrap();
        let storage = file_storage(text(home.path())).unwrap();
        storage.replace(vec![1]).unwrap();
        std::fs::create_dir(home.path().join(FRESH)).unwrap();
        let error = storage.replace(vec![2]).unwrap_err();
        assert!(error.to_string().contains("cannot replace"), "{error}");
        assert_eq!(storage.load().unwrap(), Some(vec![1]));
    }

    /// "Nothing" would make a new wallet over the old one.
    #[test]
    fn what_cannot_be_read_is_an_error_and_not_nothing() {
        let home = tempfile::tempdir().unwrap();
        let storage = file_storage(text(home.path())).unwrap();
        std::fs::create_dir(home.path().join(FILE)).unwrap();
        assert!(storage.load().is_err());
    }
}
