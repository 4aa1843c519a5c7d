//! The directory of a drill, and what drills left that were killed.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

const PREFIX: &str = "tapfer-drill-";

/// A directory that is gone with it. Its lock tells other drills that somebody works here.
pub(super) struct Place {
    directory: TempDir,
    _lock: File,
}

impl Place {
    /// Makes one among the system's temporary directories.
    ///
    /// # Errors
    /// The file system.
    pub(super) fn make() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let lock = File::open(directory.path())?;
        let is_ours = lock.try_lock().is_ok() && directory.path().exists();
        ensure!(is_ours, "another drill took this one's directory for a leftover; start again");
        Ok(Self { directory, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories of drills that no longer run; how many there were.
///
/// # Errors
/// One of this user cannot be removed.
pub(super) fn wipe_leftovers() -> anyhow::Result<usize> {
    let mut wiped: usize = 0;
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let is_drill = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if !is_drill || !entry.file_type()?.is_dir() {
            continue;
        }
        // What is another user's is not ours to judge.
        let Ok(directory) = File::open(entry.path()) else { continue };
        if directory.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        match directory.try_lock() {
            Ok(()) => {
                let path = entry.path();
                fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
                wiped = wiped.saturating_add(1);
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Ok(wiped)
}
