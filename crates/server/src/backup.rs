//! A realm's backup: everything but what is in the custodians' hands, as files in one directory.
//!
//! | file | what |
//! |---|---|
//! | `backup.json` | what the backup holds: realm, time, length and SHA-256 of every file. Written last |
//! | `realm.json`, `tapfer.db` | as in the realm |
//! | `keys.json`, `keystore`, `hsm.toml` | as in the realm, as far as they are there |
//! | `tls/...` | certificates and their keys, so that clients know the platform again |
//!
//! The database is copied first, from under the running platform; the catalogue of keys after it, so that
//! it has every key that the database names. The operator's key is not in it: a new one can be made.
//! Somebody who has a backup can pretend to be the platform's TLS server, and reads what the database
//! holds in clear; the keys of cards and money stay closed without the root keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::{RealmId, Timestamp};
use tapfer_storage::{StorageError, sqlite};

use crate::private_file;
use crate::realm::{RealmKind, RealmPaths, describe};

/// The list of what a backup holds.
const LIST: &str = "backup.json";
const DATABASE: &str = "tapfer.db";
/// Files beside the database, in the order they are copied; those that are not there are not needed.
const FILES: [&str; 5] = ["keys.json", "keystore", "hsm.toml", "realm.json", "demo-unlock.key"];
const CERTIFICATES: &str = "tls";
/// Version of the list.
const FORMAT: u32 = 1;

/// Why no backup is made, or none restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is where the backup or the realm should go.
    #[error("{0} is not empty; nothing is overwritten: name a directory that does not exist yet")]
    Occupied(PathBuf),
    /// No list.
    #[error(
        "{0} is no backup, or one that was not finished: its backup.json is missing or not readable"
    )]
    NotABackup(PathBuf),
    /// There is no realm to back up.
    #[error("there is no realm in {0}, or its realm.json is damaged; name the right directory")]
    NoRealm(PathBuf),
    /// Files are not what they were when the backup was made.
    #[error("the backup in {path} is damaged: {}; take another one", .damages.join("; "))]
    Damaged {
        /// Where it lies.
        path: PathBuf,
        /// Each damaged file and what is wrong with it.
        damages: Vec<String>,
    },
    /// The list names a file that no backup has.
    #[error("the backup lists {0:?}, which no realm has; do not trust it")]
    Foreign(String),
    /// The file system.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    format: u32,
    /// Which realm.
    pub realm: RealmId,
    /// Of what kind.
    pub kind: RealmKind,
    /// When it was begun: what was acknowledged until then is in it.
    pub made_at: Timestamp,
    /// The program that made it.
    pub software: String,
    /// Its files.
    pub files: Vec<BackedUpFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUpFile {
    /// Path below the directory.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

type Result<T> = std::result::Result<T, BackupError>;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { action, path, source }
}

/// Backs up the realm in `home`, which may be in use, into a new directory.
///
/// # Errors
/// [`BackupError`]. What was written until then stays, without a list: it is no backup.
pub fn back_up(home: &Path, to: &Path, now: Timestamp) -> Result<Backup> {
    let paths = RealmPaths::new(home);
    let (realm, kind) = describe(&paths).ok_or_else(|| BackupError::NoRealm(home.to_owned()))?;
    claim(to)?;
    sqlite::back_up(&paths.database(), realm, &to.join(DATABASE))?;
    let mut names = vec![DATABASE.to_owned()];
    for name in FILES.into_iter().map(str::to_owned).chain(certificates(&paths)?) {
        let from = home.join(&name);
        if from.exists() {
            write(&to.join(&name), &read(&from)?)?;
            names.push(name);
        }
    }
    let files = names.into_iter().map(|name| describe_file(to, name)).collect::<Result<_>>()?;
    let software = concat!("tapfer ", env!("CARGO_PKG_VERSION")).to_owned();
    let backup = Backup { format: FORMAT, realm, kind, made_at: now, software, files };
    write(&to.join(LIST), &serde_json::to_vec_pretty(&backup).unwrap_or_default())?;
    Ok(backup)
}

/// Reads a whole backup and compares it with its list, and the database with itself.
///
/// # Errors
/// [`BackupError::Damaged`] names every file that is not as it was.
pub fn check(backup: &Path) -> Result<Backup> {
    let not_a_backup = || BackupError::NotABackup(backup.to_owned());
    let text = fs::read(backup.join(LIST)).map_err(|_| not_a_backup())?;
    let list: Backup = serde_json::from_slice(&text).map_err(|_| not_a_backup())?;
    if list.format != FORMAT {
        return Err(not_a_backup());
    }
    if let Some(foreign) = list.files.iter().find(|file| !is_known(&file.name)) {
        return Err(BackupError::Foreign(foreign.name.clone()));
    }
    let listed = |name: &str| list.files.iter().any(|file| file.name == name);
    let missing = [DATABASE, "realm.json"].into_iter().filter(|name| !listed(name));
    let mut damages: Vec<String> =
        missing.map(|name| format!("{name} is not in its list")).collect();
    damages.extend(list.files.iter().filter_map(|file| damage(backup, file)));
    if damages.is_empty()
        && let Err(error) = sqlite::check(&backup.join(DATABASE), list.realm)
    {
        damages.push(error.to_string());
    }
    if damages.is_empty() {
        Ok(list)
    } else {
        Err(BackupError::Damaged { path: backup.to_owned(), damages })
    }
}

/// Puts a backup into a directory that is empty or does not exist. Whoever goes on with it must be sure
/// that the realm it was made of never runs again: there would be two that both take payments.
///
/// # Errors
/// As [`check`]; [`BackupError::Occupied`].
pub fn restore(backup: &Path, home: &Path) -> Result<Backup> {
    let list = check(backup)?;
    claim(home)?;
    // The description last: until it is there, the directory holds no realm.
    let (last, first): (Vec<_>, Vec<_>) =
        list.files.iter().partition(|file| file.name == "realm.json");
    for file in first.into_iter().chain(last) {
        write(&home.join(&file.name), &read(&backup.join(&file.name))?)?;
    }
    Ok(list)
}

/// Takes a directory that is empty or does not exist.
fn claim(path: &Path) -> Result<()> {
    let occupied = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("look into", path)(error)),
    };
    if occupied {
        return Err(BackupError::Occupied(path.to_owned()));
    }
    match private_file::claim_directory(path).map_err(failed("make", path))? {
        Ok(()) => Ok(()),
        Err(_) => Err(failed("trust", path)(io::Error::other("others may write into it"))),
    }
}

/// Names below the realm's directory.
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
    names.retain(|name| is_known(name));
    names.sort();
    Ok(names)
}

/// Whether a name is one of a realm's files, and leads nowhere else.
fn is_known(name: &str) -> bool {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    name == DATABASE
        || FILES.contains(&name)
        || name.split_once('/').is_some_and(|(above, name)| above == CERTIFICATES && plain(name))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(failed("read", path))
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(directory) = path.parent()
        && !directory.exists()
    {
        let claimed = private_file::claim_directory(directory);
        let _mode = claimed.map_err(failed("make", directory))?;
    }
    private_file::write(path, content).map_err(failed("write", path))
}

fn describe_file(directory: &Path, name: String) -> Result<BackedUpFile> {
    let content = read(&directory.join(&name))?;
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    Ok(BackedUpFile { name, length, sha256: sha256(&content) })
}

/// What is wrong with a file of a backup.
fn damage(backup: &Path, file: &BackedUpFile) -> Option<String> {
    let name = &file.name;
    let content = match fs::read(backup.join(name)) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!("{name} is missing"));
        }
        Err(error) => return Some(format!("{name} cannot be read ({error})")),
    };
    if u64::try_from(content.len()) != Ok(file.length) {
        return Some(format!("{name} has {} bytes and had {}", content.len(), file.length));
    }
    (sha256(&content) != file.sha256).then(|| format!("{name} was changed"))
}

fn sha256(content: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, content).as_ref())
}

#[cfg(test)]
mod tests {
    use super::{BackupError, back_up, check, restore};
    use crate::realm::{Realm, RealmKind};
    use std::fs;
    use std::path::{Path, PathBuf};
    use tapfer_hsm::Unlock;
    use tapfer_payment_types::Timestamp;
    use tempfile::TempDir;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);

    fn unlock() -> Unlock {
        let key = "5a1c9a07be2d63588e91f0aa37c5d2146b80e9723f5d0c1b2a7e64d98331f6c0";
        Unlock::key_from_hex(key).unwrap()
    }

    /// A realm that is open, and its backup.
    fn backed_up() -> (TempDir, Realm, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        let realm = Realm::create(&home, RealmKind::Demo, &unlock(), NOW).unwrap();
        fs::create_dir(home.join("tls")).unwrap();
        fs::write(home.join("tls/ca.pem"), "certificate").unwrap();
        let backup = directory.path().join("backup");
        back_up(&home, &backup, NOW).unwrap();
        (directory, realm, backup)
    }

    #[test]
    fn a_backup_of_a_realm_in_use_opens_elsewhere() {
        let (directory, realm, backup) = backed_up();
        let elsewhere = directory.path().join("elsewhere");
        let list = restore(&backup, &elsewhere).unwrap();
        assert_eq!(list.realm, realm.hsm().describe().realm_id);
        assert_eq!(fs::read(elsewhere.join("tls/ca.pem")).unwrap(), b"certificate");
        let restored = Realm::open(&elsewhere, &unlock()).unwrap();
        assert_eq!(restored.hsm().describe().realm_id, list.realm);
    }

    #[test]
    fn nothing_is_overwritten() {
        let (directory, realm, backup) = backed_up();
        let home = realm.paths().home();
        for occupied in [home, &backup] {
            assert!(matches!(restore(&backup, occupied), Err(BackupError::Occupied(_))));
            assert!(matches!(back_up(home, occupied, NOW), Err(BackupError::Occupied(_))));
        }
        let nothing = directory.path().join("nothing");
        let refused = back_up(&nothing, &directory.path().join("new"), NOW);
        assert!(matches!(refused, Err(BackupError::NoRealm(_))));
    }

    fn damages(backup: &Path) -> Vec<String> {
        match check(backup) {
            Err(BackupError::Damaged { damages, .. }) => damages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_damaged_file_is_named() {
        let (directory, _realm, backup) = backed_up();
        let database = fs::read(backup.join("tapfer.db")).unwrap();
        let mut changed = database.clone();
        changed[5_000] ^= 1;
        fs::write(backup.join("tapfer.db"), &changed).unwrap();
        fs::write(backup.join("keystore"), "short").unwrap();
        fs::remove_file(backup.join("tls/ca.pem")).unwrap();
        let found = damages(&backup);
        let expected = ["tapfer.db was changed", "keystore has 5 bytes", "tls/ca.pem is missing"];
        assert!(expected.iter().all(|what| found.iter().any(|said| said.starts_with(what))));
        assert_eq!(found.len(), 3, "{found:?}");
        let home = directory.path().join("home-of-damage");
        assert!(restore(&backup, &home).is_err());
        assert!(!home.exists(), "nothing is restored of a damaged backup");
    }

    #[test]
    fn a_backup_that_was_not_finished_is_none() {
        let (_directory, _realm, backup) = backed_up();
        fs::remove_file(backup.join("backup.json")).unwrap();
        assert!(matches!(check(&backup), Err(BackupError::NotABackup(_))));
    }

    #[test]
    fn a_list_cannot_name_files_elsewhere() {
        let (_directory, _realm, backup) = backed_up();
        let list = fs::read_to_string(backup.join("backup.json")).unwrap();
        for name in ["../evil", "tls/../../evil", "tls/", "/etc/passwd", "client.json"] {
            fs::write(backup.join("backup.json"), list.replace("keystore", name)).unwrap();
            assert!(matches!(check(&backup), Err(BackupError::Foreign(_))), "{name}");
        }
    }
}
