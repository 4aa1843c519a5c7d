//! Advisory locks, and who may take them.
//!
//! Platforms take turns by advisory locks, which end with a transaction or a connection. PostgreSQL lets everybody take any of
//! them who may connect, and shows their numbers to all: so the functions that take them are the platforms' and the owner's alone
//! in this database (`deploy/high-availability/create-database`).

use super::pool::Pool;
use super::session::{SNAPSHOT, Session};
use crate::relational::Result;
use crate::relational::rows::{Columns, all, first};
use crate::relational::sql::{Connection, Row, params};

/// Takes the functions from everybody else. Only a superuser can: they are PostgreSQL's own.
const CLOSE: &str = "DO $$ DECLARE taking REGPROCEDURE; BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN RETURN; END IF;
    FOR taking IN SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
            AND proname LIKE 'pg%advisory%lock%' AND proname NOT LIKE '%unlock%' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', taking);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tapfer_server, %I', taking,
            (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()));
    END LOOP;
END $$";
const ARE_OPEN: &str = "SELECT count(*) AS number FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname LIKE 'pg%advisory%lock%' AND proname NOT LIKE '%unlock%' AND has_function_privilege('public', oid, 'EXECUTE')";
/// Sessions of other logins, which are no nodes of this one. Where they come from is not for every login to see.
const HOLDERS: &str =
    "SELECT a.pid AS pid, a.usename::text AS login, coalesce(a.application_name, '') AS program
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND a.usename <> session_user
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY a.pid, a.usename, a.application_name ORDER BY a.pid LIMIT 8";

/// Takes the functions from everybody who is neither a platform nor the owner, if this login can.
pub(super) fn close_to_others(session: &Session) -> Result<()> {
    session.execute_batch(CLOSE)
}

/// Whether anybody who may connect may take the platforms' turns.
pub(super) fn are_open(connection: &Connection) -> Result<bool> {
    let read = |row: &Row<'_>| Columns::keyed(row, "pg_proc", "number").number::<u64>("number");
    Ok(first(connection, ARE_OPEN, params![], read)?.is_some_and(|functions| functions > 0))
}

/// Says so if it is so: a platform goes on, since who may connect is its administrator's to decide.
pub(super) fn check(connection: &Connection) -> Result<()> {
    if are_open(connection)? {
        tracing::warn!(
            target: "tapfer::security",
            event = "locks_open",
            "anybody who may connect to this database may take its advisory locks, and hold up payments with them: take the functions away \
             as its superuser (docs/postgresql.md), or let nobody connect but platforms"
        );
    }
    Ok(())
}

/// A session that holds advisory locks of this database, and is none of this login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process at the server.
    pub pid: i64,
    /// As whom it is there.
    pub login: String,
    /// What it calls itself.
    pub program: String,
}

/// Who holds advisory locks and is none of us.
pub(super) fn holders(connection: &Connection) -> Result<Vec<LockHolder>> {
    all(connection, HOLDERS, params![], |row| {
        let columns = Columns::keyed(row, "pg_locks", "pid");
        Ok(LockHolder {
            pid: columns.get("pid")?,
            login: columns.get("login")?,
            program: columns.get("program")?,
        })
    })
}

/// Names in the log who may be in the way, when a lock was not to be had.
pub(super) fn say_who_holds(pool: &Pool) {
    let found = pool.begin(SNAPSHOT, |session| {
        let found = holders(session);
        session.roll_back();
        found
    });
    for LockHolder { pid, login, program } in found.unwrap_or_default() {
        tracing::error!(
            target: "tapfer::security",
            event = "lock_held",
            pid,
            login,
            program,
            "another login holds advisory locks of this database, and platforms wait: SELECT pg_terminate_backend(pid) as the superuser ends \
             it; see that only platforms may take them (docs/postgresql.md)"
        );
    }
}
