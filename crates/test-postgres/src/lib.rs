//! Real PostgreSQL servers for tests: each test starts its own in a directory of its own, with nothing but a unix socket,
//! and it ends with the test, also with one that is killed.
//!
//! What `initdb` makes is kept in the directory for temporary files and copied, since it takes longer than most tests. The
//! server sorts text as in German, so that whatever has to be sorted byte by byte must say so.
//!
//! Tests alone use this crate: failing is by panic.

#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Owner of every database, who may do anything.
pub const OWNER: &str = "postgres";
/// A login that platforms use: see [`TestPostgres::let_platforms_in`].
pub const PLATFORM: &str = "node";

/// Starts the server, says so, and ends it when nobody holds the other end of standard input any more. It syncs as every
/// server has to that a platform uses, though nothing here survives a test.
const KEEPER: &str = r#"
    "$1/pg_ctl" -D "$2/data" -l "$2/log" -w -s -o "-k $2 -c listen_addresses= \
        -c shared_buffers=16MB -c max_connections=120 $3" start || { cat "$2/log"; exit 1; }
    echo ready
    read -r _
    "$1/pg_ctl" -D "$2/data" -m immediate -s stop
"#;

/// A server that runs as long as this lives.
#[derive(Debug)]
pub struct TestPostgres {
    keeper: Child,
    directory: TempDir,
}

impl TestPostgres {
    /// Starts a server with one empty database.
    ///
    /// # Panics
    /// There is no PostgreSQL: Debian's package is `postgresql`.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, from which others can subscribe to tables.
    ///
    /// # Panics
    /// As [`TestPostgres::start`].
    #[must_use]
    pub fn start_to_subscribe_from() -> Self {
        Self::start_with("-c wal_level=logical")
    }

    fn start_with(settings: &str) -> Self {
        let programs = programs();
        // Short, since the path of a socket is.
        let directory = tempfile::Builder::new().prefix("tapfer-pg").tempdir_in("/tmp");
        let directory = directory.expect("a directory");
        give_away(directory.path());
        let data = directory.path().join("data");
        let mut copy = as_server("cp");
        run(copy.arg("-a").arg(template(&programs)).arg(&data));
        let mut keeper = as_server("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&programs).arg(directory.path()).arg(settings);
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().expect("a shell");
        let said = keeper.stdout.take().expect("standard output");
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).expect("what the server says");
        assert_eq!(line, "ready\n", "PostgreSQL does not start");
        Self { keeper, directory }
    }

    /// Where the database is, for a login.
    #[must_use]
    pub fn address(&self, login: &str) -> String {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres://{login}@{socket}/postgres")
    }

    /// Where the database is for the owner, as other servers are told it.
    #[must_use]
    pub fn conninfo(&self) -> String {
        format!("host={} user={OWNER} dbname=postgres", self.directory.path().display())
    }

    /// One of PostgreSQL's own programs, which reaches this server as the owner.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut program = Command::new(programs().join(name));
        program.env("PGHOST", self.directory.path()).env("PGUSER", OWNER);
        program.env("PGDATABASE", "postgres");
        program
    }

    /// Makes the login that platforms use, once there is a schema.
    pub fn let_platforms_in(&self) {
        self.say(&format!("CREATE ROLE {PLATFORM} LOGIN IN ROLE tapfer_server"));
    }

    /// Says SQL as the owner; what is answered, one row a line.
    ///
    /// # Panics
    /// The server refuses it.
    #[must_use = "what the server answers"]
    pub fn ask(&self, sql: &str) -> String {
        self.try_as(OWNER, sql).unwrap_or_else(|refused| panic!("{sql}: {refused}"))
    }

    /// Says SQL as the owner, whatever is answered.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn say(&self, sql: &str) {
        let _answer = self.ask(sql);
    }

    /// What the server has written into its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Has all its processes stand still, as a machine does that is gone without a word; or go on.
    pub fn stand_still(&self, still: bool) {
        let pid = fs::read_to_string(self.directory.path().join("data/postmaster.pid"));
        let pid = pid.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let mut kill = Command::new("kill");
        kill.arg(if still { "-STOP" } else { "-CONT" }).arg(&pid);
        kill.args(children.unwrap_or_default().split_whitespace());
        // One of them may have ended meanwhile.
        let _said = kill.output();
    }

    /// Says SQL under a login: what is answered, or why it is refused.
    ///
    /// # Errors
    /// What the server says.
    ///
    /// # Panics
    /// There is no `psql`.
    pub fn try_as(&self, login: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(programs().join("psql"));
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-U", login, "-d", "postgres"]);
        psql.arg("-h").arg(self.directory.path());
        psql.arg("-c").arg("SET search_path = tapfer").arg("-c").arg(sql);
        let said = psql.output().expect("psql");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if said.status.success() { Ok(text(&said.stdout)) } else { Err(text(&said.stderr)) }
    }
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        self.stand_still(false);
        drop(self.keeper.stdin.take());
        let _ended = self.keeper.wait();
    }
}

/// Where the server's programs are.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).max();
    newest.expect("PostgreSQL's programs: install Debian's package postgresql")
}

/// What `initdb` makes, made once for this version.
fn template(programs: &Path) -> PathBuf {
    let server = fs::metadata(programs.join("postgres")).expect("the server's program");
    let name = format!("tapfer-initdb-{}-{}", server.size(), server.mtime());
    let template = Path::new("/tmp").join(name);
    if template.exists() {
        return template;
    }
    let making = tempfile::Builder::new().prefix("tapfer-initdb").tempdir_in("/tmp");
    let making = making.expect("a directory");
    give_away(making.path());
    let made = making.path().join("data");
    let mut initdb = as_server(programs.join("initdb"));
    initdb.args(["-A", "trust", "-U", OWNER, "-N", "--wal-segsize=1", "-E", "UTF8"]);
    initdb.args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=de-DE"]);
    run(initdb.arg("-D").arg(&made));
    // Another test may have been faster: then its is taken.
    let _other_was_first = fs::rename(&made, &template);
    template
}

/// PostgreSQL refuses to run as root.
fn as_server(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/tmp");
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
    command
}

fn give_away(directory: &Path) {
    if let Some((user, group)) = server_user() {
        chown(directory, Some(user), Some(group)).expect("a directory of the server's user");
    }
    // Others connect to the socket in it.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("rights");
}

/// Whom the server runs as, where this is root.
fn server_user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").expect("what this process is");
    if own.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the users of this machine");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let line = line.expect("the user postgres: install Debian's package postgresql");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().expect("a number"));
    Some((numbers.next()?, numbers.next()?))
}

fn run(command: &mut Command) {
    let said = command.output().expect("a program of the system");
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}
