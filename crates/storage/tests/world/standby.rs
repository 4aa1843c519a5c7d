//! Standbys that do not answer, and what somebody else holds on to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::thread;

use tapfer_test_postgres::{OWNER, TestPostgres};

/// Somebody else's transaction, which keeps what it has locked until this is dropped.
pub(crate) struct Held {
    psql: Child,
}

impl Held {
    pub(crate) fn new(server: &TestPostgres, sql: &str) -> Self {
        Self::by(OWNER, server, sql)
    }

    pub(crate) fn by(login: &str, server: &TestPostgres, sql: &str) -> Self {
        let mut psql = server.program("psql");
        psql.env("PGUSER", login);
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1"]);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let told = psql.stdin.as_mut().unwrap();
        writeln!(told, "SET search_path = tapfer; BEGIN; {sql}; SELECT 'held';").unwrap();
        let said = BufReader::new(psql.stdout.take().unwrap());
        assert!(said.lines().any(|line| line.unwrap() == "held"), "{sql}");
        Self { psql }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // At the end of what it is told it hangs up, and its transaction is rolled back.
        drop(self.psql.stdin.take());
        let _ended = self.psql.wait();
    }
}

pub(crate) const SYNC: &str = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// From here on commits wait for a standby that is not there.
pub(crate) fn lose_the_standby(server: &TestPostgres) {
    server.say("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    server.say("SELECT pg_reload_conf()");
    let emit = "SELECT pg_logical_emit_message(true, 'test', '')";
    until_it_waits(server, || {
        while server.try_as("postgres", emit).is_ok_and(|_| !is_cancelled(server)) {}
    });
}

/// Whether the server has been asked to give a wait up.
fn is_cancelled(server: &TestPostgres) -> bool {
    server.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 99") == "1"
}

pub(crate) fn find_the_standby(server: &TestPostgres) {
    server.say("ALTER SYSTEM RESET synchronous_standby_names");
    server.say("SELECT pg_reload_conf()");
    // Itself a commit, which waits until the server has heard that commits do not wait any more.
    server.say("CREATE TABLE settled (); DROP TABLE settled");
}

/// What comes of a job whose commit waits for a standby, and is told not to.
pub(crate) fn until_it_waits<T: Send>(server: &TestPostgres, job: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let job = scope.spawn(job);
        while server.ask(&format!("SELECT count(*) FROM ({SYNC}) AS waiting")) == "0" {
            assert!(!job.is_finished(), "it waits for no standby");
            thread::yield_now();
        }
        let _cancelled = Held::new(server, "SELECT pg_advisory_xact_lock(99)");
        server.say(&format!("SELECT pg_cancel_backend(pid) FROM ({SYNC}) AS waiting"));
        job.join().unwrap()
    })
}

/// Lines of the log are not linked while this lives: there is no commit but those of a test.
pub(crate) fn nobody_links(server: &TestPostgres) -> Held {
    Held::new(server, "SELECT pg_advisory_xact_lock(1818848875)")
}
