//! Two tokens of SoftHSM2 with the root keys of a new realm, and the ways in which one of them fails.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tapfer_hsm::PaymentHsm;
use tapfer_hsm::pool::PoolStatus;

use crate::home::{Home, create_private_directory, write_private};

const PIN: &str = "2468-bench";
/// The member that fails, and the one that goes on.
pub(super) const MEMBERS: [&str; 2] = ["north", "south"];

/// How a member fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its worker processes are killed, once.
    Killed,
    /// Its worker processes stand still, until they are killed as stalled.
    Stopped,
    /// Its token is not there any more, and its processes are killed.
    TokenGone,
    /// Every call of its module answers so, or never: with the module that fails as its control file says.
    Answers(&'static str),
}

impl Fault {
    /// Those that need nothing but processes and files.
    pub(super) const OF_PROCESSES: [Self; 3] = [Self::Killed, Self::Stopped, Self::TokenGone];
    /// Those that the module itself has to play.
    pub(super) const OF_MODULES: [Self; 3] = [
        Self::Answers("CKR_DEVICE_ERROR"),
        Self::Answers("CKR_SESSION_HANDLE_INVALID"),
        Self::Answers("hang"),
    ];

    /// As it stands in the figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::TokenGone => "token_gone",
            Self::Answers("CKR_DEVICE_ERROR") => "device_error",
            Self::Answers("CKR_SESSION_HANDLE_INVALID") => "session_invalid",
            Self::Answers(_) => "hang",
        }
    }
}

/// Where the tokens and control files are.
pub(super) struct Hsms {
    directory: PathBuf,
}

impl Hsms {
    /// Makes tokens, holds a ceremony, and leaves a home directory that a platform can be started in.
    ///
    /// # Errors
    /// SoftHSM2 is not there, or its tool makes no token.
    pub(super) fn make(
        directory: &Path,
        home: &Home,
        softhsm: &Path,
        faulty: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let hsms = Self { directory: directory.to_owned() };
        create_private_directory(home.path())?;
        write_private(&hsms.file("pin"), PIN.as_bytes())?;
        let members = MEMBERS.map(|name| hsms.member(name, softhsm, faulty));
        let text = members.into_iter().collect::<anyhow::Result<String>>()?;
        write_private(&home.realm().hsm_configuration(), text.as_bytes())?;
        let held = Command::new(std::env::current_exe()?)
            .args(["--json", "keys", "ceremony", "new", "--realm", "demo", "--threshold", "2"])
            .args(["--custodian", "Ada", "--custodian", "Grace", "--officer", "Tony"])
            .arg("--transcript")
            .arg(hsms.file("transcript.txt"))
            .arg("--parts-into")
            .arg(hsms.file("parts"))
            .arg("--home")
            .arg(home.path())
            .output()?;
        let said = String::from_utf8_lossy(&held.stderr);
        ensure!(held.status.success(), "no root keys were put on the tokens: {}", said.trim());
        Ok(hsms)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn tokens(&self, member: &str) -> PathBuf {
        self.file(&format!("{member}-tokens"))
    }

    fn control(&self, member: &str) -> PathBuf {
        self.file(&format!("{member}.control"))
    }

    /// A new token, and its part of `hsm.toml`.
    fn member(&self, name: &str, softhsm: &Path, faulty: Option<&Path>) -> anyhow::Result<String> {
        let (tokens, configuration) = (self.tokens(name), self.file(&format!("{name}.conf")));
        fs::create_dir(&tokens)?;
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(&configuration, text)?;
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", name, "--so-pin", PIN, "--pin", PIN])
            .env("SOFTHSM2_CONF", &configuration)
            .output()
            .context("softhsm2-util; install Debian's package softhsm2")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr).trim());
        let mut environment = format!("SOFTHSM2_CONF = {configuration:?}");
        if faulty.is_some() {
            environment.push_str(&format!(
                ", FAULTY_MODULE = {softhsm:?}, FAULTY_CONTROL = {:?}",
                self.control(name)
            ));
        }
        Ok(format!(
            "[[member]]\nname = {name:?}\nmodule = {:?}\ntoken = {name:?}\npin = {{ file = {:?} }}\n\
             environment = {{ {environment} }}\n",
            faulty.unwrap_or(softhsm),
            self.file("pin"),
        ))
    }

    /// Lets the first member fail.
    ///
    /// # Errors
    /// Processes that cannot be signalled; the file system.
    pub(super) fn strike(&self, fault: Fault, hsm: &dyn PaymentHsm) -> anyhow::Result<()> {
        let [north, _] = MEMBERS;
        match fault {
            Fault::Killed => signal(hsm, Signal::KILL),
            Fault::Stopped => signal(hsm, Signal::STOP),
            Fault::TokenGone => {
                fs::rename(self.tokens(north), self.file("elsewhere"))?;
                signal(hsm, Signal::KILL)
            }
            Fault::Answers(answer) => Ok(self.answer(answer)?),
        }
    }

    /// Lets it be well again, as far as it is not by itself.
    ///
    /// # Errors
    /// The file system.
    pub(super) fn heal(&self, fault: Fault) -> anyhow::Result<()> {
        let [north, _] = MEMBERS;
        match fault {
            Fault::Killed | Fault::Stopped => Ok(()),
            Fault::TokenGone => Ok(fs::rename(self.file("elsewhere"), self.tokens(north))?),
            Fault::Answers(_) => Ok(self.answer("")?),
        }
    }

    fn answer(&self, answer: &str) -> io::Result<()> {
        let [north, _] = MEMBERS;
        let unfinished = self.file("unfinished");
        fs::write(&unfinished, answer)?;
        fs::rename(unfinished, self.control(north))
    }
}

/// How the pool stands.
pub(super) fn status(hsm: &dyn PaymentHsm) -> anyhow::Result<PoolStatus> {
    hsm.pool().context("a realm over HSMs has a pool")
}

fn signal(hsm: &dyn PaymentHsm, signal: Signal) -> anyhow::Result<()> {
    let [north, _] = MEMBERS;
    let status = status(hsm)?;
    let workers = status.members.iter().filter(|member| member.name == north);
    for process in workers.flat_map(|member| &member.workers).filter_map(|worker| worker.process) {
        let process = Pid::from_raw(i32::try_from(process)?).context("a process")?;
        kill_process(process, signal)?;
    }
    Ok(())
}
