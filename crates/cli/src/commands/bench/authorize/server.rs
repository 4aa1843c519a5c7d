//! A PostgreSQL server of the benchmark's own, in a temporary directory, with a unix socket and nothing else. It syncs what it
//! commits, as it does when nobody says otherwise.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio_postgres::NoTls;

/// Whom every database belongs to.
pub(super) const OWNER: &str = "postgres";
/// The platform's login.
pub(super) const PLATFORM: &str = "node";
/// Starts the server, says so, and ends it when nobody holds the other end of standard input any more: also when the
/// benchmark is killed.
const KEEPER: &str = r#"
    "$1/pg_ctl" -D "$2/data" -l "$2/log" -w -s -o "-k $2 -c listen_addresses= -c max_connections=50" start \
        || { cat "$2/log"; exit 1; }
    echo ready
    read -r _
    "$1/pg_ctl" -D "$2/data" -m fast -s stop
"#;

/// A server that runs as long as this lives.
pub(super) struct PostgresServer {
    keeper: Child,
    directory: TempDir,
}

impl PostgresServer {
    /// Where its programs are, if they are installed as Debian does it.
    pub(super) fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .max()
    }

    /// Starts one with an empty database.
    ///
    /// # Errors
    /// It does not start; this is root, and there is no user `postgres`.
    pub(super) fn start(programs: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tapfer-pg").tempdir()?;
        let user = server_user()?;
        if let Some((user, group)) = user {
            chown(directory.path(), Some(user), Some(group))?;
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let as_server = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir("/");
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        };
        let mut initdb = as_server(&programs.join("initdb"));
        initdb.args(["-A", "trust", "-U", OWNER, "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
        let made = initdb.arg(directory.path().join("data")).output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut keeper = as_server(Path::new("sh"));
        keeper.args(["-c", KEEPER, "sh"]).arg(programs).arg(directory.path());
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = keeper.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line)?;
        let server = Self { keeper, directory };
        ensure!(line == "ready\n", "PostgreSQL does not start: {line}");
        Ok(server)
    }

    /// Where its database is, for a login.
    pub(super) fn address(&self, login: &str) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{login}@{socket}/postgres")
    }

    /// Says SQL as the owner.
    ///
    /// # Errors
    /// The server refuses it.
    pub(super) fn say(&self, sql: &str) -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.address(OWNER), NoTls).await?;
            tokio::spawn(connection);
            Ok(client.batch_execute(sql).await?)
        })
    }

    /// Processor time of all its processes that live.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        let first = fs::read_to_string(self.directory.path().join("data/postmaster.pid"))?;
        let first = first.lines().next().context("a server without a number")?.to_owned();
        let processes = fs::read_dir("/proc")?.flatten();
        let ticks = processes.filter_map(|process| ticks_below(&process.path(), &first));
        // Linux counts hundredths of a second.
        Ok(Duration::from_millis(ticks.sum::<u64>().saturating_mul(10)))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// Processor time of a process, if it is the first of a server or one that this has started.
fn ticks_below(process: &Path, first: &str) -> Option<u64> {
    let statistics = fs::read_to_string(process.join("stat")).ok()?;
    // Behind the name, which may hold anything: state, parent, ..., user and system time in fields 14 and 15 of all.
    let (own, rest) = statistics.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split(' ').collect();
    let is_first = own.split(' ').next() == Some(first);
    if !is_first && fields.get(1) != Some(&first) {
        return None;
    }
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    ticks(11)?.checked_add(ticks(12)?)
}

/// Whom the server runs as where this is root, whom it refuses to run as.
fn server_user() -> anyhow::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.context("there is no user postgres")?.split(':').skip(2);
    let mut number = || fields.next().and_then(|number| number.parse().ok());
    match (number(), number()) {
        (Some(user), Some(group)) => Ok(Some((user, group))),
        _ => bail!("the user postgres has no numbers"),
    }
}
