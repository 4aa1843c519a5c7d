//! The worker processes of the members: started by the server's pool, and the other end, which serves.
//!
//! A worker is this program again: `tapfer --home DIRECTORY hsm worker NAME`, with a socket as its standard input.

use std::path::{Path, PathBuf};
use std::process::Command;

use tapfer_hsm::pkcs11::LoginRecord;
use tapfer_hsm::pool::{
    self, Assignment, HsmPool, Launcher, Listener, MemberConfig, NoneServes, PoolConfig, ServeError,
};
use tapfer_hsm::{FileStamp, HsmError, VaultedHsm};
use tapfer_payment_types::{CatalogueMark, RealmId};

use super::opening::{module_of, open_token};
use super::trust::{check_module, configuration};
use super::{MemberError, environment, pin};
use crate::realm::{RealmKind, RealmPaths};

/// Starts workers: this program again, told the PIN over the socket.
struct Workers {
    program: PathBuf,
    paths: RealmPaths,
    overrules_refusal: bool,
}

impl Workers {
    fn new(paths: &RealmPaths, overrules_refusal: bool) -> Result<Self, NoneServes> {
        let program = std::env::current_exe().map_err(|error| NoneServes {
            cause: format!("cannot tell which program to start as a worker: {error}"),
            waits_for_people: true,
        })?;
        Ok(Self { program, paths: paths.clone(), overrules_refusal })
    }
}

impl Launcher for Workers {
    fn command(&self, member: &MemberConfig) -> Command {
        let mut command = Command::new(&self.program);
        environment::take_away(&mut command);
        command.arg("--home").arg(self.paths.home()).args(["hsm", "worker", &member.name]);
        command
    }

    fn assignment(&self, member: &MemberConfig) -> Result<Option<Assignment>, HsmError> {
        let pin = pin::read(self.paths.home(), member).map_err(|error| HsmError::ModuleFailed {
            operation: "reading its PIN".to_owned(),
            cause: error.to_string(),
        })?;
        Ok(Some(Assignment { pin, overrules_refusal: self.overrules_refusal }))
    }

    /// The log, which says whose it was and when.
    fn listener(&self, member: &MemberConfig) -> Option<Listener> {
        let member = member.name.clone();
        Some(Box::new(move |line| {
            tracing::warn!(target: "tapfer::hsm", member, line, "said by the process of an HSM");
        }))
    }

    /// Who overrules a refusal does it once.
    fn starts_again(&self) -> bool {
        !self.overrules_refusal
    }

    /// Another PIN file, or another record: `tapfer hsm login` writes it anew.
    fn pin_stamp(&self, member: &MemberConfig) -> String {
        let files =
            [member.pin_file(self.paths.home()), Some(self.paths.login_record(&member.name))];
        format!("{:?}", files.map(|file| FileStamp::of(&file?).ok()))
    }
}

/// Starts the workers of all members. None serves a catalogue that does not come from the version that is `known`.
///
/// # Errors
/// [`NoneServes`].
pub(crate) fn open(
    paths: &RealmPaths,
    config: PoolConfig,
    realm: Option<(RealmKind, RealmId)>,
    known: Option<CatalogueMark>,
) -> Result<HsmPool, NoneServes> {
    HsmPool::launch(config, realm, known, Workers::new(paths, false)?)
}

/// Whether a member that did not serve may do so by itself: what people keep right beside it is right, as far as it is
/// seen without its token.
pub(crate) fn may_serve_by_itself(paths: &RealmPaths, member: &MemberConfig) -> bool {
    member.module.exists()
        && check_module(member).is_ok()
        && pin::read(paths.home(), member).is_ok()
}

/// Logs in to a member once, although its PIN was refused before: when it succeeds, the refusal is forgotten, and
/// a platform that runs goes on with that member.
///
/// # Errors
/// [`MemberError`]: what the token said.
pub fn log_in(paths: &RealmPaths, name: &str) -> Result<(), MemberError> {
    let config = configuration(paths)?;
    let member = MemberConfig { workers: 1, ..config.member(name)?.clone() };
    let config = PoolConfig { members: vec![member], ..config };
    // One member is asked, and nothing is said of the others.
    Workers::new(paths, true)
        .and_then(|workers| HsmPool::launch(config, None, None, workers))
        .map(drop)
        .map_err(|refused| MemberError::NotServing(refused.cause))
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use tapfer_hsm::pool::{Launcher as _, MemberConfig, PinSource};

    use super::Workers;
    use crate::members::give_environment;
    use crate::members::house::{house, mode};

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
