//! The store in a file: replaced as a whole, so that a loss of power at any moment leaves the old
//! content or the new.
//!
//! The order of the steps is the whole of it, and is written once, here; a system's own calls stand
//! behind [`Directory`]. The tests put a disk behind it that loses whatever it may lose.

use alloc::format;
use alloc::vec::Vec;

use super::StoreMedium;

/// A directory of a file system, in the steps that a replacement takes. POSIX gives all of them; a
/// system that cannot flush a directory returns from [`Directory::sync_directory`] at once, and says
/// so to its users.
pub trait Directory {
    /// What can go wrong.
    type Error;
    /// A file that was created and is open for writing.
    type File;

    /// Content of a file; `None` if there is no such file.
    ///
    /// # Errors
    /// It can't be read.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Self::Error>;
    /// Removes a file, or a link of that name; none is no error.
    ///
    /// # Errors
    /// It can't be removed.
    fn remove(&self, name: &str) -> Result<(), Self::Error>;
    /// Creates a file that only its owner can read. There must not be one, nor a link.
    ///
    /// # Errors
    /// It can't be created, or is there.
    fn create(&self, name: &str) -> Result<Self::File, Self::Error>;
    /// Writes all of the bytes to the end of a file.
    ///
    /// # Errors
    /// Not all could be written.
    fn write(&self, file: &mut Self::File, bytes: &[u8]) -> Result<(), Self::Error>;
    /// Returns when the content of the file is durable.
    ///
    /// # Errors
    /// It is not known to be.
    fn sync(&self, file: &mut Self::File) -> Result<(), Self::Error>;
    /// Gives a file another name, in the place of the file that had it, in one step.
    ///
    /// # Errors
    /// It could not be renamed.
    fn rename(&self, from: &str, to: &str) -> Result<(), Self::Error>;
    /// Returns when all names in the directory are durable.
    ///
    /// # Errors
    /// They are not known to be.
    fn sync_directory(&self) -> Result<(), Self::Error>;
}

/// Replaces a file in one step; durable when it returns. Uses the name with `.new` behind it for the
/// meantime.
///
/// # Errors
/// What the directory says. The file is the old one or the new then.
pub fn replace_file<D: Directory>(
    directory: &D,
    name: &str,
    content: &[u8],
) -> Result<(), D::Error> {
    let fresh = format!("{name}.new");
    // A file or link that lies there already is not written through: left over, or planted.
    directory.remove(&fresh)?;
    let mut file = directory.create(&fresh)?;
    directory.write(&mut file, content)?;
    // The content first: a name that is durable before its content leads to an empty file.
    directory.sync(&mut file)?;
    drop(file);
    directory.rename(&fresh, name)?;
    directory.sync_directory()
}

/// The sealed wallet in one file of a directory.
pub struct FileMedium<D> {
    directory: D,
}

impl<D: Directory> FileMedium<D> {
    /// Name of the file.
    pub const NAME: &str = "wallet.sealed";

    /// Keeps the wallet in this directory, which no other process may use meanwhile.
    #[must_use]
    pub const fn new(directory: D) -> Self {
        Self { directory }
    }
}

impl<D: Directory> StoreMedium for FileMedium<D> {
    type Error = D::Error;

    fn load(&self) -> Result<Option<Vec<u8>>, D::Error> {
        // A process that was killed after renaming left a name that a loss of power can still undo,
        // after the platform was told of what it leads to.
        self.directory.sync_directory()?;
        self.directory.read(Self::NAME)
    }

    fn replace(&self, sealed: &[u8]) -> Result<(), D::Error> {
        replace_file(&self.directory, Self::NAME, sealed)
    }
}
