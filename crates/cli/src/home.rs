//! The home directory on the client's side: where the certificate and the operator key of the
//! platform are, and what this command line remembers between calls (API keys that are shown only
//! once, and the latest issuer, card, merchant, ... so that short commands suffice).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tapfer_payment_types::TerminalId;
use tapfer_server::RealmPaths;
use tapfer_wallet::store::replace_file;
use tapfer_wallet_file::PrivateDirectory;

/// Where the platform is asked if nobody says otherwise.
pub(crate) const DEFAULT_SERVER: &str = "https://127.0.0.1:8443";

/// A home directory; it need not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    directory: PathBuf,
    /// Where the CA's certificate lies, if not in the directory.
    ca_certificate: Option<PathBuf>,
}

/// What the command line remembers, `client.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// Address of the platform, as `serve` last wrote it.
    pub(crate) server: Option<String>,
    /// The latest id of each kind: `issuer`, `card`, `device`, `token`, `merchant`, `terminal`.
    pub(crate) latest: BTreeMap<String, String>,
    /// API keys by the id of their owner (`mer_...`, `term_...`, `dev_...`).
    pub(crate) keys: BTreeMap<String, String>,
}

impl Home {
    /// The directory given, else `~/.tapfer`.
    pub(crate) fn new(given: Option<PathBuf>) -> Self {
        let default =
            || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default().join(".tapfer");
        Self { directory: given.unwrap_or_else(default), ca_certificate: None }
    }

    /// The same; the platform's certificate comes from a CA of this file, if one is given.
    pub(crate) fn trusting(self, ca_certificate: Option<PathBuf>) -> Self {
        Self { ca_certificate, ..self }
    }

    /// PEM of each CA that the platform's certificate may come from.
    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.ca_certificate.clone().unwrap_or_else(|| self.realm().ca_certificate())
    }

    /// Whether commands find it without being told.
    fn is_default(&self) -> bool {
        *self.directory == *Self::new(None).directory
    }

    /// A command that works on this directory, for people to copy.
    pub(crate) fn command(&self, command: &str) -> String {
        match self.is_default() {
            true => command.to_owned(),
            false => format!("{command} --home {}", self.directory.display()),
        }
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Where the platform keeps its own files.
    pub(crate) fn realm(&self) -> RealmPaths {
        RealmPaths::new(&self.directory)
    }

    /// Where a terminal of this machine has its TLS key and certificate.
    pub(crate) fn tls_identity_of(&self, terminal: TerminalId) -> PathBuf {
        self.directory.join("terminals").join(terminal.to_string()).join("tls.json")
    }

    /// Where `wallet enrol` puts the phone's store.
    pub(crate) fn wallet(&self) -> PathBuf {
        self.directory.join("wallet")
    }

    fn memory_file(&self) -> PathBuf {
        self.directory.join("client.json")
    }

    /// What was remembered; nothing if there is no file yet.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let file = self.memory_file();
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged. It holds API keys: restore it, or remove it and make them anew with `tapfer api-key create`", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Memory::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Changes what is remembered.
    pub(crate) fn remember(&self, change: impl FnOnce(&mut Memory)) -> anyhow::Result<()> {
        // Two commands at a time would each write down what they had read, and one of them forget an
        // API key that is shown only once.
        let _lock = self.lock()?;
        let mut memory = self.memory()?;
        change(&mut memory);
        write_private(&self.memory_file(), &serde_json::to_vec_pretty(&memory)?)
    }

    /// Waits until no other process changes what is remembered.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        create_private_directory(&self.directory)?;
        let file = self.directory.join("client.lock");
        let lock = || -> io::Result<File> {
            let mut options = fs::OpenOptions::new();
            let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&file)?;
            lock.lock()?;
            Ok(lock)
        };
        lock().with_context(|| format!("cannot lock {}", file.display()))
    }

    /// The latest id of a kind, or what to do to get one.
    pub(crate) fn latest(&self, kind: &str) -> anyhow::Result<String> {
        self.memory()?.latest.get(kind).cloned().ok_or_else(|| {
            crate::failure::UsageError(format!(
                "no {kind} known here: give --{kind} ID, or run `tapfer init` for a first set"
            ))
            .into()
        })
    }
}

/// Replaces a file in one step, readable only by its owner; durable when it returns.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // The parent of a plain name is an empty path, which no system call takes for the directory we are in.
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = create_private_directory(parent.unwrap_or_else(|| Path::new(".")))?;
    let name = file.file_name().and_then(OsStr::to_str).context("a file has a name")?;
    replace_file(&directory, name, bytes)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// A directory whose files are their owner's alone; made if it is not there.
pub(crate) fn create_private_directory(directory: &Path) -> anyhow::Result<PrivateDirectory> {
    PrivateDirectory::create(directory)
        .with_context(|| format!("cannot create {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::Home;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn remembers_in_a_file_only_the_owner_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().join("home")));
        assert!(home.latest("card").is_err());
        home.remember(|memory| {
            memory.latest.insert("card".to_owned(), "card_1".to_owned());
        })
        .unwrap();
        assert_eq!(home.latest("card").unwrap(), "card_1");
        let mode = std::fs::metadata(home.memory_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }

    #[test]
    fn commands_at_the_same_time_forget_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().join("home")));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let home = &home;
                scope.spawn(move || {
                    for number in 0..5 {
                        let remember = |memory: &mut super::Memory| {
                            memory.keys.insert(format!("{writer}-{number}"), "key".to_owned());
                        };
                        home.remember(remember).unwrap();
                    }
                });
            }
        });
        assert_eq!(home.memory().unwrap().keys.len(), 20);
    }
}
