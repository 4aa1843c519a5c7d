//! The real `tapfer serve` as a process with a temporary home, and the real command line beside it.

#![allow(dead_code)]

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A running platform; killed when dropped.
pub(crate) struct Platform {
    home: PathBuf,
    temporary: Option<TempDir>,
    process: Child,
    address: String,
}

impl Platform {
    /// A new realm on a port of the system's choice.
    pub(crate) fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut platform = Self::on(temporary.path());
        platform.temporary = Some(temporary);
        platform
    }

    /// The realm in a directory that outlives it, on a port of the system's choice.
    pub(crate) fn on(home: &Path) -> Self {
        let (process, address) = serve(home, "127.0.0.1:0");
        Self { home: home.to_owned(), temporary: None, process, address }
    }

    /// As [`Platform::on`], listening elsewhere, with more arguments.
    pub(crate) fn listening(home: &Path, listen: &str, more: &[&str]) -> Self {
        let (process, address) = serve_with(home, listen, more);
        Self { home: home.to_owned(), temporary: None, process, address }
    }

    /// As [`Platform::on`], with a memory that a test may look into.
    pub(crate) fn debuggable(home: &Path) -> Self {
        let (process, address) = serve_with(home, "127.0.0.1:0", &["--debuggable"]);
        Self { home: home.to_owned(), temporary: None, process, address }
    }

    /// As [`Platform::on`]; what it logs goes to a file, one JSON object a line.
    pub(crate) fn logging(home: &Path, log: &Path) -> Self {
        let log = Stdio::from(File::create(log).unwrap());
        let (process, address) = started(home, "127.0.0.1:0", &[], log);
        Self { home: home.to_owned(), temporary: None, process, address }
    }

    /// As [`Platform::debuggable`]; all that it can say goes to a log.
    pub(crate) fn talkative(home: &Path, log: &Path) -> Self {
        let log = Stdio::from(File::create(log).unwrap());
        let mut command = tapfer();
        command.env("TAPFER_LOG", "trace");
        let (process, address) = started_as(command, home, "127.0.0.1:0", &["--debuggable"], log);
        Self { home: home.to_owned(), temporary: None, process, address }
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Address with port, such as `https://127.0.0.1:40123`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// SIGTERM: no new requests, answers to those that run, and an end in good order.
    pub(crate) fn stop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success(), "it stops in good order");
    }

    /// Starts the killed platform again, at the same address.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// As [`Platform::restart`], with more arguments.
    pub(crate) fn restart_with(&mut self, more: &[&str]) {
        let listen = self.address.trim_start_matches("https://").to_owned();
        let (process, address) = serve_with(&self.home, &listen, more);
        assert_eq!(address, self.address);
        self.process = process;
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) fn tapfer(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command with JSON output, however it ends.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        tapfer().args(arguments).arg("--json").arg("--home").arg(&self.home).output().unwrap()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// The binary, with nothing inherited that would point it elsewhere.
pub(crate) fn tapfer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapfer"));
    for name in [
        "TAPFER_HOME",
        "TAPFER_SERVER",
        "TAPFER_LISTEN",
        "TAPFER_CA_CERTIFICATE",
        "TAPFER_KEY",
        "TAPFER_PASSPHRASE",
        "TAPFER_UNLOCK_KEY",
    ] {
        command.env_remove(name);
    }
    command
}

/// Starts `tapfer serve` and waits until it says where it listens.
fn serve(home: &Path, listen: &str) -> (Child, String) {
    serve_with(home, listen, &[])
}

fn serve_with(home: &Path, listen: &str, more: &[&str]) -> (Child, String) {
    started(home, listen, more, Stdio::null())
}

fn started(home: &Path, listen: &str, more: &[&str], log: Stdio) -> (Child, String) {
    started_as(tapfer(), home, listen, more, log)
}

fn started_as(
    mut command: Command,
    home: &Path,
    listen: &str,
    more: &[&str],
    log: Stdio,
) -> (Child, String) {
    let mut process = command
        .args(["serve", "--json", "--listen", listen, "--home"])
        .arg(home)
        .args(more)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let started: Value = serde_json::from_str(&line).expect("serve tells where it listens");
    (process, started.get("server").and_then(Value::as_str).unwrap().to_owned())
}

/// The database of a realm, behind the platform's back. A log that a killed platform has left stays, which `sqlite3` would fold in
/// and delete.
pub(crate) fn database(home: &Path) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(home.join("tapfer.db")).unwrap();
    let keep_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    assert!(database.set_db_config(keep_log, true).unwrap());
    database
}

/// Asks again until there is an answer.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(waited < patience, "waited in vain until {what}");
        std::thread::park_timeout(PAUSE);
        waited = waited.saturating_add(PAUSE);
    }
}
