//! Files for their owner only, replaced as a whole or not at all.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is larger than this is something else.
const MAXIMUM_LENGTH: u64 = 64 * 1024 * 1024;
/// Owner reads and writes.
const MODE: u32 = 0o600;

/// What is wrong with a file. Each kind of file says in its own words what to do.
pub(crate) enum FileFault {
    /// There is none.
    Missing(PathBuf),
    /// There is one already.
    Exists(PathBuf),
    /// Others could read or write it.
    Permissions { path: PathBuf, mode: u32 },
    /// The file system.
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileFault {
    let path = path.to_owned();
    move |source| FileFault::Io { action, path, source }
}

/// Tells one content of a file from another without reading it: each replacement is a file of its own. Another mode counts,
/// too: what others could read may be good now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
    mode: u32,
}

impl FileStamp {
    /// Of what lies there now.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            mode: metadata.mode(),
        }
    }
}

/// The stamp of what lies there now.
pub(crate) fn stamp(path: &Path) -> Result<FileStamp, FileFault> {
    FileStamp::of(path).map_err(|error| missing(path, error))
}

fn missing(path: &Path, error: io::Error) -> FileFault {
    match error.kind() {
        io::ErrorKind::NotFound => FileFault::Missing(path.to_owned()),
        _ => failed("open", path)(error),
    }
}

/// Reads the whole file, if nobody else can.
pub(crate) fn read(path: &Path) -> Result<(Vec<u8>, FileStamp), FileFault> {
    let file = File::open(path).map_err(|error| missing(path, error))?;
    read_open(path, &file)
}

/// Reads a file that is open already, from its beginning.
pub(crate) fn read_open(path: &Path, file: &File) -> Result<(Vec<u8>, FileStamp), FileFault> {
    let metadata = file.metadata().map_err(failed("look at", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileFault::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(MAXIMUM_LENGTH).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok((bytes, FileStamp::from(&metadata)))
}

/// Makes a file where there is none, durably.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    let temporary = beside(path, ".new");
    write_durably(&temporary, bytes)?;
    // A link, unlike a renaming, does not take another file's place.
    let linked = fs::hard_link(&temporary, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => FileFault::Exists(path.to_owned()),
        _ => failed("create", path)(error),
    });
    // Left behind it would be in nobody's way.
    let _ = fs::remove_file(&temporary);
    linked.and_then(|()| sync_directory(path))
}

/// Replaces the file: after a crash at any moment it holds the old content or the new one. The caller
/// holds the [`lock`].
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
    let temporary = beside(path, ".new");
    let written = write_durably(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(failed("replace", path)));
    if written.is_err() {
        // Nothing can be done if even this fails, and the first error says more.
        let _ = fs::remove_file(&temporary);
    }
    written.and_then(|()| sync_directory(path))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), FileFault> {
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

/// Without this the new name may be lost in a power cut.
fn sync_directory(path: &Path) -> Result<(), FileFault> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", directory))
}

/// How often the lock is asked for, and how long it is waited in between: ten seconds, which is less than a pool gives
/// to a worker that makes keys.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until this is the one that may replace the file, for as long as the answer lives. Not for ever: who holds the
/// lock may hang, and is named then.
///
/// The file itself is locked, because a lock file beside it could be removed, and would then let a second
/// one in. What was locked may have been replaced meanwhile: then the lock is taken on what took its place.
pub(crate) fn lock(path: &Path) -> Result<File, FileFault> {
    lock_within(path, TRIES)
}

fn lock_within(path: &Path, tries: u32) -> Result<File, FileFault> {
    loop {
        let file = File::open(path).map_err(|error| missing(path, error))?;
        wait_for(&file, tries).map_err(failed("lock", path))?;
        let locked = file.metadata().map_err(failed("look at", path))?;
        if stamp(path)?.inode == locked.ino() {
            return Ok(file);
        }
    }
}

fn wait_for(file: &File, tries: u32) -> io::Result<()> {
    for _ in 0..tries {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            // `flock` knows no deadline.
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    let holder = holder(file).unwrap_or_else(|| "another process".to_owned());
    let seconds = PAUSE.saturating_mul(tries).as_secs();
    let why = format!(
        "{holder} has held it for {seconds} seconds, which no change of a key takes: see whether it hangs in its \
         security module, end it, and try again; nothing was changed"
    );
    Err(io::Error::new(io::ErrorKind::TimedOut, why))
}

/// Who has locked a file, as Linux tells in `/proc/locks`: kind, mode, access, process, device and inode.
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let of_this = |line: &str| -> Option<String> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, _, process, place, ..] = fields.as_slice() else { return None };
        let (_, found) = place.rsplit_once(':')?;
        (found == inode).then(|| (*process).to_owned())
    };
    let process = locks.lines().find_map(of_this)?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("process {process} ({})", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::{FileFault, create, lock, lock_within};

    #[test]
    fn who_holds_the_lock_for_too_long_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        create(&path, b"content").map_err(|_| "created").unwrap();
        let held = lock(&path).map_err(|_| "locked").unwrap();
        let Err(FileFault::Io { source, .. }) = lock_within(&path, 2) else {
            panic!("locked twice");
        };
        let own = format!("process {} (", std::process::id());
        assert!(source.to_string().starts_with(&own), "{source}");
        drop(held);
        assert!(lock_within(&path, 1).is_ok());
    }
}
