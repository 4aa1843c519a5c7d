//! A storage that is ready: one file in a directory of the app.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapfer_wallet::store::{FileMedium, StoreMedium as _};
use tapfer_wallet_file::PrivateDirectory;

use crate::{StorageError, WalletStorage};

/// The sealed wallet in a directory that this process alone uses.
struct FileStorage {
    directory: PathBuf,
    file: FileMedium<PrivateDirectory>,
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
    let private = PrivateDirectory::create(&directory);
    let private = private.map_err(|error| failed("make", &directory, &error))?;
    let lock = File::open(&directory).map_err(|error| failed("open", &directory, &error))?;
    match lock.try_lock() {
        Ok(()) => {
            let file = FileMedium::new(private);
            Ok(Arc::new(FileStorage { directory, file, _lock: lock }))
        }
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
    fn failed(&self, what: &str, error: &io::Error) -> StorageError {
        failed(what, &self.directory.join(FileMedium::<PrivateDirectory>::NAME), error)
    }
}

impl WalletStorage for FileStorage {
    fn load(&self) -> Result<Option<Vec<u8>>, StorageError> {
        self.file.load().map_err(|error| self.failed("read", &error))
    }

    fn replace(&self, sealed: Vec<u8>) -> Result<(), StorageError> {
        self.file.replace(&sealed).map_err(|error| self.failed("replace", &error))
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::Failed { reason: format!("cannot {what} {}: {error}", path.display()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::file_storage;

    const FILE: &str = "wallet.sealed";
    const FRESH: &str = "wallet.sealed.new";

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
