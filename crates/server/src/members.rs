//! The members of `hsm.toml`: the pool that a realm's server asks, and the worker process of each.
//!
//! A worker is this program again: `tapfer --home DIRECTORY hsm worker NAME`, with a socket as its standard input.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tapfer_hsm::pkcs11::{CacheLimits, Pkcs11Configuration, Pkcs11Vault, RootsOnToken};
use tapfer_hsm::pool::{
    self, ConfigError, HsmPool, MemberConfig, PinSource, PoolConfig, ServeError,
};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, SoftwareHsm, VaultedHsm};
use tapfer_payment_types::{RealmId, Secret};
use zeroize::Zeroize as _;

use crate::clock::Stopwatch;
use crate::realm::{RealmKind, RealmPaths};

/// Secrets of other keepers of keys, which a worker has no use for.
const NOT_FOR_WORKERS: [&str; 3] = ["TAPFER_PASSPHRASE", "TAPFER_UNLOCK_KEY", "TAPFER_KEY"];

/// Why the members of a realm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// `hsm.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no PIN where `hsm.toml` says that it is.
    #[error(
        "member {member}: the environment variable {variable} with the PIN is not set; set it for the server"
    )]
    NoPin {
        /// Whose.
        member: String,
        /// Which.
        variable: String,
    },
    /// Others can read it.
    #[error("the PIN in {path} can be read by others (mode {mode:04o}); run: chmod 600 {path:?}")]
    PinPermissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system does not let this process seclude itself.
    #[error("cannot seclude the worker's process: {0}")]
    Process(io::Error),
    /// The worker.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The security module.
    #[error(transparent)]
    Hsm(#[from] HsmError),
}

/// Reads the realm's `hsm.toml`.
///
/// # Errors
/// [`MemberError::File`], [`MemberError::Config`].
pub fn configuration(paths: &RealmPaths) -> Result<PoolConfig, MemberError> {
    let path = paths.hsm_configuration();
    let text = fs::read_to_string(&path).map_err(|source| MemberError::File { path, source })?;
    Ok(PoolConfig::parse(&text)?)
}

/// Starts the workers of all members.
///
/// # Errors
/// [`HsmError::Down`]: none serves.
pub(crate) fn open(
    paths: &RealmPaths,
    config: PoolConfig,
    realm: Option<(RealmKind, RealmId)>,
) -> Result<HsmPool, HsmError> {
    let home = paths.home().to_owned();
    let program = std::env::current_exe().map_err(|error| HsmError::Down {
        cause: format!("cannot tell which program to start as a worker: {error}"),
    })?;
    HsmPool::open(config, realm, move |member| command(&program, &home, member))
}

fn command(program: &Path, home: &Path, member: &MemberConfig) -> Command {
    let mut command = Command::new(program);
    command.arg("--home").arg(home).args(["hsm", "worker", &member.name]);
    NOT_FOR_WORKERS.iter().for_each(|variable| {
        command.env_remove(variable);
    });
    command
}

/// Serves one member over the socket that is this process's standard input, until the server is gone.
///
/// # Errors
/// [`MemberError`]. What keeps the module from opening is told to the server, too.
pub fn serve(home: &Path, name: &str) -> Result<(), MemberError> {
    let socket = pool::take_socket().map_err(ServeError::from)?;
    let is_memory_locked = pool::seclude_process().map_err(MemberError::Process)?;
    let paths = RealmPaths::new(home);
    let opened = configuration(&paths).and_then(|config| {
        let member = config.member(name)?.clone();
        let pin = pin(home, &member)?;
        Ok((member, pin))
    });
    pool::serve(socket, is_memory_locked, || {
        let (member, pin) = opened.map_err(|error| HsmError::ModuleFailed {
            operation: "reading its configuration".to_owned(),
            cause: error.to_string(),
        })?;
        let realm = pool::realm_of_catalogue(&paths.catalogue())?;
        let vault = Pkcs11Vault::open(module_of(member, pin, realm))?;
        VaultedHsm::over_catalogue(vault, &paths.catalogue())
    })?;
    Ok(())
}

fn module_of(member: MemberConfig, pin: Secret<String>, realm: RealmId) -> Pkcs11Configuration {
    let stopwatch = Stopwatch::start();
    Pkcs11Configuration {
        module: member.module,
        token: member.token,
        pin,
        realm,
        limits: CacheLimits::default(),
        stopwatch: Box::new(move || stopwatch.elapsed()),
    }
}

/// Opens a member in this process, beside a platform that may run: for the people who keep the keys. The
/// member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn open_beside(paths: &RealmPaths, name: &str) -> Result<VaultedHsm<Pkcs11Vault>, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    let pin = pin(paths.home(), &member)?;
    let realm = pool::realm_of_catalogue(&paths.catalogue())?;
    let vault = Pkcs11Vault::open(module_of(member, pin, realm))?;
    Ok(VaultedHsm::over_catalogue(vault, &paths.catalogue())?)
}

/// Logs in to a member's token, and says which root keys of a realm are there. The member's environment has to be
/// this process's.
///
/// # Errors
/// [`MemberError`].
pub fn look_for_roots(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
) -> Result<RootsOnToken, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    let pin = pin(paths.home(), &member)?;
    Ok(Pkcs11Vault::look_for_roots(&module_of(member, pin, realm))?)
}

/// Puts root keys on the token of a member, if they are those of the realm's catalogue, and says which were there
/// before. The member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn install_roots(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
    roots: &RootKeys,
) -> Result<RootsOnToken, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    let catalogue = paths.catalogue();
    let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots.for_another()), &catalogue)?;
    if keys.realm_of_catalogue().1 != realm {
        return Err(HsmError::from(CatalogueError::OtherRealm(catalogue)).into());
    }
    let pin = pin(paths.home(), &member)?;
    Ok(Pkcs11Vault::install_roots(&module_of(member, pin, realm), roots)?)
}

/// As [`install_roots`], for a drill: [`end_drill`] takes them away again, and so does the next drill. Then
/// opens every key of the catalogue in the module, and says how many there are.
///
/// # Errors
/// [`MemberError`].
pub fn begin_drill(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
    roots: &RootKeys,
) -> Result<usize, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    let pin = pin(paths.home(), &member)?;
    Pkcs11Vault::begin_drill(&module_of(member, pin, realm), roots)?;
    Ok(open_beside(paths, name)?.try_every_key()?)
}

/// Takes away what a drill put on the token of a member; whether there was anything.
///
/// # Errors
/// [`MemberError`].
pub fn end_drill(paths: &RealmPaths, name: &str, realm: RealmId) -> Result<bool, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    let pin = pin(paths.home(), &member)?;
    Ok(Pkcs11Vault::end_drill(&module_of(member, pin, realm))?)
}

fn pin(home: &Path, member: &MemberConfig) -> Result<Secret<String>, MemberError> {
    if let Some(path) = member.pin_file(home) {
        return pin_in_file(path);
    }
    let PinSource::Env(variable) = &member.pin else { return Ok(Secret::new(String::new())) };
    std::env::var(variable)
        .map(Secret::new)
        .map_err(|_| MemberError::NoPin { member: member.name.clone(), variable: variable.clone() })
}

fn pin_in_file(path: PathBuf) -> Result<Secret<String>, MemberError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let found = fs::metadata(&path);
        let mode = found.map_or(0, |metadata| metadata.permissions().mode() & 0o7777);
        if mode & 0o077 != 0 {
            return Err(MemberError::PinPermissions { path, mode });
        }
    }
    match fs::read_to_string(&path) {
        Ok(mut text) => {
            let pin = text.lines().next().unwrap_or_default().to_owned();
            text.zeroize();
            Ok(Secret::new(pin))
        }
        Err(source) => Err(MemberError::File { path, source }),
    }
}
