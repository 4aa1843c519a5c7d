//! Files that only their owner may read: keys. And the directory they lie in.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// Writes a file with mode 0600, whole or not at all: a crash in between leaves the old content.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    match fs::remove_file(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_new(unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    sync_directory(path)
}

/// Reads a password or a passphrase from a file that nobody but its owner can read. A pipe has no others.
///
/// # Errors
/// The file system's; [`io::ErrorKind::PermissionDenied`] with the command to type, if others can read the file.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            let advice = format!("others can read it; run chmod 600 {}", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
        }
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a directory that only its owner may enter, or closes one that others may look into. Gives back
/// the mode of one that others may write into: what lies there may be theirs, so it is not taken.
pub(crate) fn claim_directory(path: &Path) -> io::Result<Result<(), u32>> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    close_directory(path)
}

/// As [`claim_directory`], for one that is there.
#[cfg(unix)]
pub(crate) fn close_directory(path: &Path) -> io::Result<Result<(), u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Ok(Err(mode));
    }
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(Ok(()))
}

/// As [`claim_directory`], for one that is there. Rights are the system's business here.
#[cfg(not(unix))]
pub(crate) fn close_directory(_path: &Path) -> io::Result<Result<(), u32>> {
    Ok(Ok(()))
}

/// Never an existing file: its mode might be wider, or it might be a link to somewhere else.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}
