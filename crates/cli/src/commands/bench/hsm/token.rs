//! A new token of a module for the benchmark, and the processes that use it: one that works alone, and workers of a
//! pool. Both are this program again, because a module reads where its tokens are from the environment.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use tapfer_hsm::pkcs11::{CacheLimits, Pkcs11Configuration, Pkcs11Vault};
use tapfer_hsm::pool::{self, HsmPool, PoolConfig};
use tapfer_hsm::software::RootKeys;
use tapfer_hsm::{HsmError, VaultedHsm};
use tapfer_payment_types::Secret;
use tapfer_pkcs11::{Calls, Module};

use super::payments::{Cards, Payments, realm};
use crate::clock;

const LABEL: &str = "bench";
const PIN: &str = "2468-bench";

/// The same in every vault of the benchmark.
pub(super) fn roots() -> RootKeys {
    RootKeys::new(Secret::new([0x5A; 32]), Secret::new([0xC3; 32]))
}

/// A module to measure.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) name: &'static str,
    pub(super) module: PathBuf,
    directory: PathBuf,
    variable: &'static str,
}

/// What to do in one round, whoever does it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) cards: Cards,
    /// Number of the first payment.
    pub(super) first: usize,
    pub(super) count: usize,
    /// How many are brought at a time.
    pub(super) together: usize,
}

impl Order {
    pub(super) fn payments(self) -> anyhow::Result<Payments> {
        Payments::new(self.cards, self.first, self.count)
    }
}

/// What one round of the process that works alone took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Alone {
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
    /// Calls of the module that verified.
    pub(super) calls: u64,
    /// Calls that cleared away what was used up.
    pub(super) clearing: u64,
    /// Calls for the look-up of one number, which is not part of the round.
    pub(super) look_up: u64,
}

impl Measured {
    /// Makes a token with root keys, in a directory of its own.
    pub(super) fn new(name: &'static str, module: &Path, home: &Path) -> anyhow::Result<Self> {
        let directory = home.join(name);
        fs::create_dir(&directory)?;
        let variable = if name == "kryoptic" { "KRYOPTIC_CONF" } else { "SOFTHSM2_CONF" };
        let measured = Self { name, module: std::path::absolute(module)?, directory, variable };
        let text = match name {
            "kryoptic" => format!(
                "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"{}\"\n",
                measured.directory.join("token.sql").display()
            ),
            _ => format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                measured.directory.display()
            ),
        };
        fs::write(measured.configuration(), text)?;
        let made = measured.command("token", home)?.status()?;
        ensure!(made.success(), "no token could be made with {}", module.display());
        Ok(measured)
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("module.conf")
    }

    /// This program as a part of the benchmark.
    fn command(&self, role: &str, home: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["bench", "hsm-part", role])
            .arg(&self.module)
            .arg(catalogue(home))
            .env(self.variable, self.configuration());
        Ok(command)
    }

    /// Starts the process that works alone.
    pub(super) fn alone(&self, home: &Path) -> anyhow::Result<AloneProcess> {
        let mut command = self.command("alone", home)?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        // SoftHSM2 does not see a token that another process is logging in to at that moment.
        let mut ready = String::new();
        output.read_line(&mut ready)?;
        ensure!(!ready.is_empty(), "the process that works alone could not open the module");
        Ok(AloneProcess { child, input: Some(input), output })
    }

    /// Starts a pool of so many workers.
    pub(super) fn pool(&self, home: &Path, workers: u8) -> anyhow::Result<HsmPool> {
        let config = PoolConfig::parse(&format!(
            "[pool]\ndeadline_ms = 60000\nhedge_after_ms = 60000\n[[member]]\nname = \"{}\"\nmodule = {:?}\n\
             token = \"{LABEL}\"\npin = {{ env = \"NONE\" }}\nworkers = {workers}\n",
            self.name, self.module,
        ))?;
        let (this, home) = (self.clone(), home.to_owned());
        let pool = HsmPool::open(config, None, move |_| {
            this.command("worker", &home).unwrap_or_else(|_| Command::new("tapfer"))
        })?;
        let all_serve = |status: &pool::PoolStatus| {
            let mut workers = status.members.iter().flat_map(|member| &member.workers);
            workers.all(|worker| worker.state == "serving")
        };
        ensure!(pool.wait_until(Duration::from_secs(60), all_serve), "not every worker serves");
        Ok(pool)
    }
}

pub(super) fn catalogue(home: &Path) -> PathBuf {
    home.join("keys.json")
}

/// The process that works alone.
pub(super) struct AloneProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl AloneProcess {
    /// One round.
    pub(super) fn run(&mut self, order: Order) -> anyhow::Result<Alone> {
        self.begin(order)?;
        self.end()
    }

    /// Lets it begin a round, and does not wait.
    pub(super) fn begin(&mut self, order: Order) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("no input")?;
        Ok(writeln!(input, "{}", serde_json::to_string(&order)?)?)
    }

    /// What came of the round that it began.
    pub(super) fn end(&mut self) -> anyhow::Result<Alone> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the process that works alone gave no answer")
    }
}

impl Drop for AloneProcess {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends with its input.
        let _ended = self.child.wait();
    }
}

fn configuration(module: &Path) -> Pkcs11Configuration {
    let started = clock::instant();
    Pkcs11Configuration {
        module: module.to_owned(),
        token: LABEL.to_owned(),
        pin: Secret::new(PIN.to_owned()),
        login_record: None,
        realm: realm(),
        limits: CacheLimits::default(),
        stopwatch: Box::new(move || started.elapsed()),
    }
}

fn open(module: &Path, catalogue: &Path) -> Result<VaultedHsm<Pkcs11Vault>, HsmError> {
    VaultedHsm::over_catalogue(Pkcs11Vault::open(configuration(module))?, catalogue)
}

/// What this process is for, when the benchmark starts it.
pub(super) fn play(role: &str, module: &Path, catalogue: &Path) -> anyhow::Result<()> {
    match role {
        "token" => {
            let pin = || Secret::new(PIN.to_owned());
            let loaded = Module::load(module, &Calls::default())?;
            loaded.initialize_token(LABEL, &pin(), &pin())?;
            loaded.finalize()?;
            Ok(Pkcs11Vault::install_roots(&configuration(module), &roots()).map(drop)?)
        }
        "worker" => {
            let socket = pool::take_socket()?;
            Ok(pool::serve(socket, pool::seclude_process()?, || open(module, catalogue))?)
        }
        _ => alone(&open(module, catalogue)?),
    }
}

fn alone(hsm: &VaultedHsm<Pkcs11Vault>) -> anyhow::Result<()> {
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    writeln!(output, "ready")?;
    output.flush()?;
    for line in input.lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let payments = order.payments()?;
        let cleared = hsm.vault().status()?.housekeeping_calls;
        let (calls, cpu, begun) = (hsm.vault().calls().total(), clock::cpu(), clock::instant());
        payments.verify(hsm, order.together)?;
        let (elapsed, cpu) = (begun.elapsed(), clock::cpu().saturating_sub(cpu));
        let calls = hsm.vault().calls().total().saturating_sub(calls);
        let clearing = hsm.vault().status()?.housekeeping_calls.saturating_sub(cleared);
        let calls = calls.saturating_sub(clearing);
        let before = hsm.vault().calls().total();
        payments.look_up(hsm)?;
        let look_up = hsm.vault().calls().total().saturating_sub(before);
        let round = Alone { elapsed, cpu, calls, clearing, look_up };
        writeln!(output, "{}", serde_json::to_string(&round)?)?;
        output.flush()?;
    }
    Ok(())
}
