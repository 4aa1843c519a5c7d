//! The calls of a POSIX system behind the wallet's [`Directory`]: where the sealed wallet is a file.
//!
//! The order of the steps of a replacement is the wallet's ([`tapfer_wallet::store::FileMedium`],
//! [`tapfer_wallet::store::replace_file`]), which has no operating system. The bindings for apps and the
//! command line use this.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tapfer_wallet::store::Directory;

/// A directory whose files only their owner can read.
#[derive(Debug, Clone)]
pub struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// This directory, which is made if it is not there, with those above it: then only its owner may enter it, and
    /// it is durable when this returns.
    ///
    /// # Errors
    /// It is not there and cannot be made.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = directory.ancestors().take_while(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // A new directory is durable once the one that it lies in is.
        for made in missing {
            let above = made.parent().filter(|above| !above.as_os_str().is_empty());
            File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(Self::at(directory))
    }

    /// This directory, which is there.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }
}

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
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.0.join(name))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tapfer_wallet::store::{Directory as _, replace_file};

    use super::PrivateDirectory;

    #[test]
    fn directory_and_files_are_their_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b");
        let directory = PrivateDirectory::create(&path).unwrap();
        PrivateDirectory::create(&path).unwrap();
        replace_file(&directory, "secret", &[1]).unwrap();
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path) & 0o077, 0);
        assert_eq!(mode(&path.join("secret")) & 0o077, 0);
    }

    #[test]
    fn a_planted_link_is_not_written_through() {
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, home.path().join("secret.new")).unwrap();
        symlink(&victim, home.path().join("secret")).unwrap();
        let directory = PrivateDirectory::at(home.path());
        replace_file(&directory, "secret", &[7]).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(directory.read("secret").unwrap(), Some(vec![7]));
        assert!(!fs::symlink_metadata(home.path().join("secret")).unwrap().is_symlink());
    }

    #[test]
    fn none_is_none_and_unreadable_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let directory = PrivateDirectory::at(home.path());
        assert_eq!(directory.read("secret").unwrap(), None);
        directory.remove("secret").unwrap();
        fs::create_dir(home.path().join("secret")).unwrap();
        assert!(directory.read("secret").is_err());
    }
}
