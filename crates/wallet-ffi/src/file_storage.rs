//! A storage that is ready: one file in a directory of the app.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tapfer_wallet::store::{Directory, FileMedium, StoreMedium as _};

use crate::{StorageError, WalletStorage};

/// The sealed wallet in a directory that this process alone uses.
struct FileStorage {
    directory: PathBuf,
    file: FileMedium<PrivateDirectory>,
    /// Released by the operating system when the process ends, however it ends.
    _lock: File,
}

/// A directory whose files only their owner can read.
struct PrivateDirectory(PathBuf);

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
        Ok(()) => {
            let file = FileMedium::new(PrivateDirectory(directory.clone()));
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

/// The order of the steps of a replacement is the wallet's ([`FileMedium`]); here are the system's calls
/// behind them.
impl Directory for PrivateDirectory {
    type Error = io::Error;
    type File = File;

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(self.0.join(name))
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &mut File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
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

/// A directory that only its owner may enter.
fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

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
