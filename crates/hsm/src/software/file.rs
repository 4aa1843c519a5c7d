//! The keystore on disk: readable by its owner only, replaced as a whole or not at all, and written by
//! one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::KeystoreError;

/// A keystore is a few kilobytes; what is larger than this is something else.
const MAXIMUM_LENGTH: u64 = 64 * 1024 * 1024;
/// Owner reads and writes.
const MODE: u32 = 0o600;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeystoreError {
    let path = path.to_owned();
    move |source| KeystoreError::Io { action, path, source }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Reads the whole file, if nobody else can.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeystoreError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeystoreError::NotFound(path.to_owned()),
        _ => failed("open", path)(error),
    })?;
    let mode = file.metadata().map_err(failed("look at", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeystoreError::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAXIMUM_LENGTH).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(bytes)
}

/// Replaces the file: after a crash at any moment it holds the old content or the new one. The caller
/// holds the [`lock`].
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    let temporary = beside(path, ".new");
    let written = write_durably(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(failed("replace", path)));
    if written.is_err() {
        // Nothing can be done if even this fails, and the first error says more.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_directory(path))
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), KeystoreError> {
    // What is there is left over from a crash; making the file anew gives it our mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", path)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Without this the new name may be lost in a power cut.
fn sync_directory(path: &Path) -> Result<(), KeystoreError> {
    let directory = directory_of(path);
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", directory))
}

/// Makes this the one process that writes the keystore, for as long as the answer lives.
pub(super) fn lock(path: &Path) -> Result<File, KeystoreError> {
    // Its directory: the keystore itself is replaced, and a file beside it could be removed, which would
    // let a second process in.
    let directory = directory_of(path);
    let file = File::open(directory).map_err(failed("open", directory))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(KeystoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed("lock", directory)(error)),
    }
}
