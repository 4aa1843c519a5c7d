//! The members of `hsm.toml`: the pool that a realm's server asks, and the worker process of each.
//!
//! A worker is this program again: `tapfer --home DIRECTORY hsm worker NAME`, with a socket as its standard input.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tapfer_hsm::pkcs11::{
    self, CacheLimits, InstalledRoots, LoginRecord, Pkcs11Configuration, Pkcs11Vault, RootsOnToken,
};
use tapfer_hsm::pool::{
    self, Assignment, ConfigError, HsmPool, Launcher, MemberConfig, PinSource, PoolConfig,
    ServeError,
};
use tapfer_hsm::software::{RootKeys, SoftwareVault};
use tapfer_hsm::{CatalogueError, HsmError, SoftwareHsm, VaultedHsm};
use tapfer_payment_types::{CatalogueMark, RealmId, Secret};
use zeroize::Zeroizing;

use crate::clock::Stopwatch;
use crate::realm::{RealmKind, RealmPaths};

/// All that a process with a vendor's library in it gets of our environment. What else stands there may be secrets
/// of other services, or of other members.
const KEPT: [&str; 5] = ["HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"];
/// Longer than any PIN with its line end.
const LONGEST_PIN: usize = 1024;
/// Writable by others than the owner.
const OTHERS_WRITE: u32 = 0o022;
/// Writable by everybody; and, on a directory, only for what is one's own.
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// No such file, or no such directory above it.
const NOT_THERE: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];

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
    /// Others could put another library there, or say so in `hsm.toml`, and it would be run beside the keys.
    #[error(
        "{path} belongs to somebody else, or others can write there (mode {mode:04o}); what it says is run beside the \
         keys. Give it to the user of the platform, and run: chmod go-w {path:?}; or name another place, if this one is \
         for everybody"
    )]
    Foreign {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The one that was logged in to.
    #[error("it does not serve yet ({0}); mend that first. The other members are not concerned")]
    NotServing(String),
    /// No text, or no end.
    #[error("what is in {0} is no PIN: write it as the only line of text")]
    NotAPin(PathBuf),
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
/// As [`configuration_file`].
pub fn configuration(paths: &RealmPaths) -> Result<PoolConfig, MemberError> {
    configuration_file(&paths.hsm_configuration()).map(|(config, _)| config)
}

/// Reads an `hsm.toml`, which says what is run beside the keys: nobody else may write it. Its text comes along.
///
/// # Errors
/// [`MemberError::File`], [`MemberError::Foreign`], [`MemberError::Config`].
pub fn configuration_file(path: &Path) -> Result<(PoolConfig, String), MemberError> {
    let read = || {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok((metadata, text))
    };
    let (metadata, text) =
        read().map_err(|source| MemberError::File { path: path.to_owned(), source })?;
    refuse_foreign(path, &metadata, OTHERS_WRITE)?;
    Ok((PoolConfig::parse(&text)?, text))
}

/// Only this user and root decide what is there.
fn refuse_foreign(path: &Path, metadata: &Metadata, others_write: u32) -> Result<(), MemberError> {
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    let mode = metadata.mode() & 0o7777;
    if is_ours && mode & others_write == 0 {
        return Ok(());
    }
    Err(MemberError::Foreign { path: path.to_owned(), mode })
}

/// Refuses a library that somebody else could have put there, and files and directories of which its variables tell
/// it: they name tokens, logs, and more code. A group that may write is trusted, as on machines where administrators
/// share one. What is not there, the loader reports.
///
/// # Errors
/// [`MemberError::Foreign`]
pub fn check_module(member: &MemberConfig) -> Result<(), MemberError> {
    check_place(&member.module)?;
    // Some hold several, or say before it what it is: `unix:path=/run/hsm`.
    let named = member.environment.values().flat_map(|value| value.split([':', ';', ',', '=']));
    named
        .map(Path::new)
        .filter(|path| path.is_absolute() || path.exists())
        .try_for_each(check_place)
}

/// Refuses a place that others can change, or could before it is used.
fn check_place(path: &Path) -> Result<(), MemberError> {
    // A link can be replaced too, where it lies.
    for path in path.canonicalize().as_deref().into_iter().chain([path]) {
        // What is not there is made by whoever may write where it would be.
        let mut is_above = false;
        for place in path.ancestors() {
            let metadata = match fs::metadata(place) {
                Ok(metadata) => metadata,
                Err(error) if NOT_THERE.contains(&error.kind()) => continue,
                Err(source) => return Err(MemberError::File { path: place.to_owned(), source }),
            };
            // In a directory such as /tmp nobody moves what is there and another's.
            let is_sticky = is_above && metadata.mode() & STICKY != 0;
            // Whoever writes to a device or a socket talks to it, and changes nothing.
            let is_kept = metadata.is_file() || metadata.is_dir();
            let others_write = if is_sticky || !is_kept { 0 } else { EVERYBODY_WRITES };
            refuse_foreign(place, &metadata, others_write)?;
            is_above = true;
        }
    }
    Ok(())
}

/// Starts workers: this program again, told the PIN over the socket.
struct Workers {
    program: PathBuf,
    paths: RealmPaths,
    overrules_refusal: bool,
}

impl Workers {
    fn new(paths: &RealmPaths, overrules_refusal: bool) -> Result<Self, HsmError> {
        let program = std::env::current_exe().map_err(|error| HsmError::Down {
            cause: format!("cannot tell which program to start as a worker: {error}"),
        })?;
        Ok(Self { program, paths: paths.clone(), overrules_refusal })
    }
}

impl Launcher for Workers {
    fn command(&self, member: &MemberConfig) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(kept(&KEPT));
        command.arg("--home").arg(self.paths.home()).args(["hsm", "worker", &member.name]);
        command
    }

    fn assignment(&self, member: &MemberConfig) -> Result<Option<Assignment>, HsmError> {
        let pin = pin(self.paths.home(), member).map_err(|error| HsmError::ModuleFailed {
            operation: "reading its PIN".to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Some(Assignment { pin, overrules_refusal: self.overrules_refusal }))
    }

    /// Who overrules a refusal does it once.
    fn starts_again(&self) -> bool {
        !self.overrules_refusal
    }

    /// Another PIN file, or another record: `tapfer hsm login` writes it anew.
    fn pin_stamp(&self, member: &MemberConfig) -> String {
        let files =
            [member.pin_file(self.paths.home()), Some(self.paths.login_record(&member.name))];
        let stamp = |file: PathBuf| {
            let found = fs::metadata(file).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len(), found.mode()))
        };
        format!("{:?}", files.map(|file| file.and_then(stamp)))
    }
}

fn kept<'a>(names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, std::ffi::OsString)> {
    names.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// Starts the workers of all members. None serves a catalogue that does not come from the version that is `known`.
///
/// # Errors
/// [`HsmError::Down`]: none serves.
pub(crate) fn open(
    paths: &RealmPaths,
    config: PoolConfig,
    realm: Option<(RealmKind, RealmId)>,
    known: Option<CatalogueMark>,
) -> Result<HsmPool, HsmError> {
    HsmPool::launch(config, realm, known, Workers::new(paths, false)?)
}

/// Logs in to a member once, although its PIN was refused before: when it succeeds, the refusal is forgotten, and
/// a platform that runs goes on with that member.
///
/// # Errors
/// [`MemberError`]: what the token said.
pub fn log_in(paths: &RealmPaths, name: &str) -> Result<(), MemberError> {
    let PoolConfig { pool, .. } = configuration(paths)?;
    let member = MemberConfig { workers: 1, ..configuration(paths)?.member(name)?.clone() };
    let config = PoolConfig { pool, members: vec![member] };
    match HsmPool::launch(config, None, None, Workers::new(paths, true)?) {
        // One member was asked, and nothing is said of the others.
        Err(HsmError::Down { cause }) => Err(MemberError::NotServing(cause)),
        launched => Ok(launched.map(drop)?),
    }
}

/// Prepares a process that opens a member itself: of our environment it gets little, and of the PINs the member's own.
/// `also`: what else it is to keep.
pub fn give_environment(command: &mut Command, member: &MemberConfig, also: &[&str]) {
    command.env_clear().envs(kept(&KEPT)).envs(kept(also));
    if let PinSource::Env(variable) = &member.pin {
        command.envs(kept(&[variable]));
    }
    command.envs(&member.environment);
}

/// Why a member's PIN is not tried at present, if it was refused.
///
/// # Errors
/// The record cannot be read.
pub fn refused_pin(paths: &RealmPaths, name: &str) -> Result<Option<String>, MemberError> {
    let path = paths.login_record(name);
    pkcs11::refused_pin(&path).map_err(|source| MemberError::File { path, source })
}

/// Whether the PIN is where `hsm.toml` says that it is, for nobody else to read.
///
/// # Errors
/// [`MemberError`]: what is wrong with it.
pub fn check_pin(paths: &RealmPaths, member: &MemberConfig) -> Result<(), MemberError> {
    pin(paths.home(), member).map(drop)
}

/// Serves one member over the socket that is this process's standard input, until the server is gone.
///
/// # Errors
/// [`MemberError`]. What keeps the module from opening is told to the server, too.
pub fn serve(home: &Path, name: &str) -> Result<(), MemberError> {
    let socket = pool::take_socket().map_err(ServeError::from)?;
    let is_memory_locked = pool::seclude_process().map_err(MemberError::Process)?;
    let assignment = pool::take_assignment(&socket)?;
    let paths = RealmPaths::new(home);
    pool::serve(socket, is_memory_locked, || {
        let member = configuration(&paths).and_then(|config| Ok(config.member(name)?.clone()));
        let member = member.and_then(|member| check_module(&member).map(|()| member));
        let member = member.map_err(|error| HsmError::ModuleFailed {
            operation: "reading its configuration".to_owned(),
            cause: error.to_string(),
        })?;
        let realm = pool::realm_of_catalogue(&paths.catalogue())?;
        let record = LoginRecord::at(paths.login_record(name));
        let record = if assignment.overrules_refusal { record.overruled() } else { record };
        let vault = open_token(&paths, module_of(member, assignment.pin, record, realm))?;
        VaultedHsm::over_catalogue(vault, &paths.catalogue())
    })?;
    Ok(())
}

fn module_of(
    member: MemberConfig,
    pin: Secret<String>,
    record: LoginRecord,
    realm: RealmId,
) -> Pkcs11Configuration {
    let stopwatch = Stopwatch::start();
    Pkcs11Configuration {
        module: member.module,
        token: member.token,
        pin,
        login_record: Some(record),
        realm,
        limits: CacheLimits::default(),
        stopwatch: Box::new(move || stopwatch.elapsed()),
    }
}

/// Roots of a drill are for the realm of a drill, and nobody else's.
fn open_token(
    paths: &RealmPaths,
    configuration: Pkcs11Configuration,
) -> Result<Pkcs11Vault, HsmError> {
    match paths.drill().exists() {
        true => Pkcs11Vault::open_in_drill(configuration),
        false => Pkcs11Vault::open(configuration),
    }
}

/// Opens a member in this process, beside a platform that may run: for the people who keep the keys. The
/// member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn open_beside(paths: &RealmPaths, name: &str) -> Result<VaultedHsm<Pkcs11Vault>, MemberError> {
    let realm = pool::realm_of_catalogue(&paths.catalogue())?;
    let vault = open_token(paths, module_here(paths, name, realm)?)?;
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
    Ok(Pkcs11Vault::look_for_roots(&module_here(paths, name, realm)?)?)
}

/// Puts root keys on the token of a member, if they are those of the realm's catalogue, and says which were there
/// before, and what they lack. The member's environment has to be this process's.
///
/// # Errors
/// [`MemberError`].
pub fn install_roots(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
    roots: &RootKeys,
) -> Result<InstalledRoots, MemberError> {
    let catalogue = paths.catalogue();
    let keys = SoftwareHsm::over_catalogue(SoftwareVault::new(roots.for_another()), &catalogue)?;
    if keys.realm_of_catalogue().1 != realm {
        return Err(HsmError::from(CatalogueError::OtherRealm(catalogue)).into());
    }
    Ok(Pkcs11Vault::install_roots(&module_here(paths, name, realm)?, roots)?)
}

/// A member for this process to open.
fn module_here(
    paths: &RealmPaths,
    name: &str,
    realm: RealmId,
) -> Result<Pkcs11Configuration, MemberError> {
    let member = configuration(paths)?.member(name)?.clone();
    check_module(&member)?;
    let pin = pin(paths.home(), &member)?;
    let record = LoginRecord::at(paths.login_record(name));
    Ok(module_of(member, pin, record, realm))
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
    Pkcs11Vault::begin_drill(&module_here(paths, name, realm)?, roots)?;
    Ok(open_beside(paths, name)?.try_every_key()?)
}

/// Takes away what a drill put on the token of a member; whether there was anything.
///
/// # Errors
/// [`MemberError`].
pub fn end_drill(paths: &RealmPaths, name: &str, realm: RealmId) -> Result<bool, MemberError> {
    Ok(Pkcs11Vault::end_drill(&module_here(paths, name, realm)?)?)
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
    // One buffer, large enough: one that grows leaves copies behind that nobody wipes.
    let mut buffer = Zeroizing::new([0; LONGEST_PIN]);
    let mut read = || -> io::Result<(Metadata, usize)> {
        let mut file = File::open(&path)?;
        let metadata = file.metadata()?;
        let mut length = 0;
        loop {
            match file.read(buffer.get_mut(length..).unwrap_or_default())? {
                0 => return Ok((metadata, length)),
                more => length = length.saturating_add(more),
            }
        }
    };
    let (metadata, length) = match read() {
        Ok(found) => found,
        Err(source) => return Err(MemberError::File { path, source }),
    };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(MemberError::PinPermissions { path, mode });
    }
    refuse_foreign(&path, &metadata, OTHERS_WRITE)?;
    let text = buffer.get(..length).filter(|_| length < LONGEST_PIN);
    match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned())),
        None => Err(MemberError::NotAPin(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::Command;

    use tapfer_hsm::pool::{Launcher as _, MemberConfig, PinSource, PoolConfig};

    use super::{MemberError, Workers, check_module, check_pin, configuration, give_environment};
    use crate::realm::RealmPaths;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A realm's directory with a library, and a member that names it.
    fn house() -> (tempfile::TempDir, RealmPaths, MemberConfig) {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("module.so");
        fs::write(&library, "").unwrap();
        let paths = RealmPaths::new(directory.path());
        let text = format!(
            "[[member]]\nname = \"north\"\nmodule = {library:?}\ntoken = \"t\"\npin = {{ file = \"north.pin\" }}\n\
             environment = {{ FOR_THE_LIBRARY = \"1\" }}\n"
        );
        fs::write(paths.hsm_configuration(), &text).unwrap();
        for file in [&library, &paths.hsm_configuration()] {
            mode(file, 0o644);
        }
        let member = PoolConfig::parse(&text).unwrap().member("north").unwrap().clone();
        (directory, paths, member)
    }

    #[test]
    fn attack_code_brought_into_the_workers_by_who_may_write_there() {
        let (directory, paths, mut member) = house();
        configuration(&paths).unwrap();
        check_module(&member).unwrap();
        for open in [0o664, 0o646, 0o666] {
            mode(&paths.hsm_configuration(), open);
            let refused = configuration(&paths).unwrap_err();
            assert!(
                matches!(refused, MemberError::Foreign { mode, .. } if mode == open),
                "{refused}"
            );
        }
        // The library itself, the directory it is in, and a link that leads to it.
        mode(&member.module, 0o646);
        assert!(matches!(check_module(&member), Err(MemberError::Foreign { .. })));
        mode(&member.module, 0o644);
        mode(directory.path(), 0o707);
        assert!(matches!(check_module(&member), Err(MemberError::Foreign { .. })));
        mode(directory.path(), 0o700);
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        let link = open.join("module.so");
        std::os::unix::fs::symlink(&member.module, &link).unwrap();
        let linked = MemberConfig { module: link, ..member.clone() };
        assert!(matches!(check_module(&linked), Err(MemberError::Foreign { .. })));
        check_module(&member).unwrap();

        // What its variables lead to: a file, one that somebody can still make, a directory, one of several.
        let settings = directory.path().join("settings");
        fs::write(&settings, "").unwrap();
        let mut with = |value: String| {
            member.environment = [("FOR_THE_LIBRARY".to_owned(), value)].into();
            check_module(&member)
        };
        let settings = settings.to_str().unwrap();
        mode(settings.as_ref(), 0o644);
        for fine in [settings, "1", "tcp:localhost:9000", "/dev/null", "/nowhere/at/all"] {
            with(fine.to_owned()).unwrap();
        }
        mode(settings.as_ref(), 0o646);
        mode(&open, 0o1777);
        let open = open.to_str().unwrap();
        for foreign in [
            settings.to_owned(),
            open.to_owned(),
            format!("{open}/none"),
            format!("file:{settings}"),
            format!("/nowhere:{open}/none"),
        ] {
            let refused = with(foreign.clone());
            assert!(matches!(refused, Err(MemberError::Foreign { .. })), "{foreign}: {refused:?}");
        }
    }

    #[test]
    fn a_pin_is_one_line_that_nobody_else_can_read() {
        let (directory, paths, member) = house();
        let file = directory.path().join("north.pin");
        assert!(matches!(check_pin(&paths, &member), Err(MemberError::File { .. })));
        for (content, access, expected) in [
            (&b"2468\n"[..], 0o600, true),
            (b"2468\r\nnot this\n", 0o400, true),
            (b"2468\n", 0o640, false),
            (b"\xFF\xFE", 0o600, false),
            (&[b'1'; 2000], 0o600, false),
        ] {
            let _old = fs::remove_file(&file);
            fs::write(&file, content).unwrap();
            mode(&file, access);
            assert_eq!(check_pin(&paths, &member).is_ok(), expected, "{content:?}");
        }
        let _old = fs::remove_file(&file);
        fs::write(&file, "2468\r\n").unwrap();
        mode(&file, 0o600);
        assert_eq!(super::pin(directory.path(), &member).unwrap().expose(), "2468");
    }

    /// What a process sees of our environment, of which `cargo` has filled some.
    fn seen(directory: &Path, change: impl FnOnce(&Path) -> Command) -> Vec<String> {
        let script = directory.join("show");
        fs::write(&script, "#!/bin/sh\nexec /usr/bin/env\n").unwrap();
        mode(&script, 0o700);
        let output = change(&script).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect()
    }

    #[test]
    fn attack_secrets_of_others_read_by_a_module() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo runs this test");
        let (directory, paths, member) = house();
        let is_foreign = |name: &String| name.starts_with("CARGO") || name == "PATH";
        let worker = seen(directory.path(), |script| {
            let program = script.to_owned();
            Workers { program, paths: paths.clone(), overrules_refusal: false }.command(&member)
        });
        assert_eq!(worker.iter().filter(|name| is_foreign(name)).count(), 0, "{worker:?}");

        // A process that reads its own PIN from the environment gets that, and no other variable.
        let pin = PinSource::Env("CARGO_PKG_NAME".to_owned());
        let member = MemberConfig { pin, ..member };
        let own = seen(directory.path(), |script| {
            let mut command = Command::new(script);
            give_environment(&mut command, &member, &[]);
            command
        });
        let foreign: Vec<_> = own.iter().filter(|name| is_foreign(name)).collect();
        assert_eq!(foreign, ["CARGO_PKG_NAME"], "{own:?}");
        assert!(own.contains(&"FOR_THE_LIBRARY".to_owned()));
    }
}
