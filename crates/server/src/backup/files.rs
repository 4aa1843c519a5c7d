//! Which files of a realm a backup has, and how they are copied.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use super::{BackedUpFile, BackupError, Result};
use crate::private_file;
use crate::realm::{RealmKind, RealmPaths};

/// The database.
pub(super) const DATABASE: &str = "tapfer.db";
/// Which realm it is.
pub(super) const DESCRIPTION: &str = "realm.json";
/// All keys but the root keys, wrapped.
pub(super) const CATALOGUE: &str = "keys.json";
/// The software module's root keys, sealed.
pub(super) const KEYSTORE: &str = "keystore";
/// Where the root keys are that are in security modules.
pub(super) const MODULES: &str = "hsm.toml";
/// Which protection keys of key blocks the custodians have accepted.
const PROTECTION_KEYS: &str = "protection-keys.json";
/// What opens the keystore of a demo realm, whose keys protect nothing.
const DEMO_UNLOCK: &str = "demo-unlock.key";
/// Where the database is that is not beside the keys.
pub(super) const DATABASE_CONFIGURATION: &str = "database.toml";
/// Files of keys and the description, in the order they are copied.
const FILES: [&str; 7] = [
    CATALOGUE,
    PROTECTION_KEYS,
    KEYSTORE,
    MODULES,
    DATABASE_CONFIGURATION,
    DESCRIPTION,
    DEMO_UNLOCK,
];
const CERTIFICATES: &str = "tls";
/// Copied so many bytes at a time.
const PIECE: usize = 64 * 1024;

pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { action, path, source }
}

/// The files beside the database that a realm has now, in the order they are to be copied.
pub(super) fn beside_the_database(paths: &RealmPaths, kind: RealmKind) -> Result<Vec<String>> {
    let of_kind = |name: &&str| kind == RealmKind::Demo || *name != DEMO_UNLOCK;
    let is_there = |name: &&str| paths.home().join(name).exists();
    let mut names: Vec<String> =
        FILES.into_iter().filter(of_kind).filter(is_there).map(str::to_owned).collect();
    names.extend(certificates(paths)?);
    Ok(names)
}

fn certificates(paths: &RealmPaths) -> Result<Vec<String>> {
    let directory = paths.tls();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("look into", &directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("look into", &directory))?;
        names.extend(entry.file_name().to_str().map(|name| format!("{CERTIFICATES}/{name}")));
    }
    // Half-written ones are left behind: the server makes a certificate anew that it misses.
    names.retain(|name| is_known(name) && !name.ends_with(".new"));
    names.sort();
    Ok(names)
}

/// Whether a name is one of a realm's files, and leads nowhere else.
pub(super) fn is_known(name: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name == DATABASE
        || FILES.contains(&name)
        || name.split_once('/').is_some_and(|(above, name)| above == CERTIFICATES && plain(name))
}

/// Whether a path is taken by anything, be it a link that leads nowhere.
pub(super) fn is_taken(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// A new directory for its owner only.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    match private_file::claim_directory(path).map_err(failed("make", path))? {
        Ok(()) => Ok(()),
        Err(_) => Err(failed("trust", path)(io::Error::other("others may write into it"))),
    }
}

/// Copies a file of one directory to another where it must not be yet, durable when this returns; tells
/// what was copied.
pub(super) fn copy(from: &Path, to: &Path, name: &str) -> Result<BackedUpFile> {
    let (source, target) = (from.join(name), to.join(name));
    if let Some(directory) = target.parent()
        && !directory.exists()
    {
        make_directory(directory)?;
    }
    let mut file = create_new(&target).map_err(failed("write", &target))?;
    let copied =
        pass_on(&source, name, |piece| file.write_all(piece).map_err(failed("write", &target)))?;
    file.sync_all().map_err(failed("write", &target))?;
    sync_directory(&target)?;
    Ok(copied)
}

/// What a file is, by its bytes.
pub(super) fn describe(directory: &Path, name: &str) -> Result<BackedUpFile> {
    pass_on(&directory.join(name), name, |_| Ok(()))
}

/// Reads a file piece by piece: a database may be larger than memory.
fn pass_on(
    source: &Path,
    name: &str,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<BackedUpFile> {
    let mut file = File::open(source).map_err(failed("read", source))?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut buffer = zeroize::Zeroizing::new(vec![0; PIECE]);
    let mut length = 0_u64;
    loop {
        let count = file.read(&mut buffer).map_err(failed("read", source))?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        digest.update(piece);
        length = length.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        take(piece)?;
    }
    let sha256 = HEXLOWER.encode(digest.finish().as_ref());
    Ok(BackedUpFile { name: name.to_owned(), length, sha256 })
}

/// For its owner only, and never an existing file.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the name of a file or directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    match path.parent() {
        Some(above) if cfg!(unix) => {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            File::open(above).and_then(|file| file.sync_all()).map_err(failed("write", above))
        }
        _ => Ok(()),
    }
}

/// Where a backup grows until it is whole.
pub(super) fn unfinished(backup: &Path) -> PathBuf {
    let mut name = backup.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}
