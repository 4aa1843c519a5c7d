//! The schema and its versions: brought forward by its owner, looked at by everybody else.

use std::error::Error;
use std::sync::Arc;

use refinery::{Migration, Runner};
use tapfer_payment_types::RealmId;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::options::PostgresOptions;
use super::session::{CHANGE, Session};
use super::{locks, rights};
use crate::StorageError;
use crate::relational::rows::{Columns, execute, first};
use crate::relational::sql::{Connection, params};
use crate::relational::{Result, audit_chain, realm};

/// One SQL file a version. A file that was released is never changed. What a version adds does not disturb the version
/// before it, whose nodes go on beside it: columns come with a default, and nothing is taken away or gets another meaning.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__tapfer", include_str!("../../migrations/postgres/V1__tapfer.sql")),
    ("V2__rights", include_str!("../../migrations/postgres/V2__rights.sql")),
    (
        "V3__accepted_catalogues",
        include_str!("../../migrations/postgres/V3__accepted_catalogues.sql"),
    ),
    ("V4__news", include_str!("../../migrations/postgres/V4__news.sql")),
    ("V5__partitions", include_str!("../../migrations/postgres/V5__partitions.sql")),
    ("V6__vouched_answers", include_str!("../../migrations/postgres/V6__vouched_answers.sql")),
    ("V7__stand_in", include_str!("../../migrations/postgres/V7__stand_in.sql")),
    ("V8__retention", include_str!("../../migrations/postgres/V8__retention.sql")),
    ("V9__heard_everywhere", include_str!("../../migrations/postgres/V9__heard_everywhere.sql")),
    ("V10__stolen_logins", include_str!("../../migrations/postgres/V10__stolen_logins.sql")),
    ("V11__place_names", include_str!("../../migrations/postgres/V11__place_names.sql")),
    ("V12__believed_clocks", include_str!("../../migrations/postgres/V12__believed_clocks.sql")),
    ("V13__told_blocks", include_str!("../../migrations/postgres/V13__told_blocks.sql")),
    ("V14__added_to_stop", include_str!("../../migrations/postgres/V14__added_to_stop.sql")),
    (
        "V15__numbers_one_by_one",
        include_str!("../../migrations/postgres/V15__numbers_one_by_one.sql"),
    ),
    ("V16__straight_links", include_str!("../../migrations/postgres/V16__straight_links.sql")),
];

/// Whoever migrates at the same time waits for the first, and finds nothing left to do. "tpfr".
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_lock(1953523314)";

/// Payments wait behind whoever waits for a table: never for long. What a version does may take as long as it takes.
const GIVE_WAY: &str = "SET lock_timeout = '1s'; SET statement_timeout = 0";
/// So often a migration is tried whose tables are in use.
const ATTEMPTS: usize = 30;

/// Makes the schema of a new realm in an empty database, which becomes the realm's; one that was begun is finished. As
/// [`migrate`] otherwise.
///
/// # Errors
/// As [`migrate`].
pub fn make(options: &PostgresOptions, realm: RealmId) -> Result<(i64, i64)> {
    bring_forward(options, realm, true)
}

/// Brings the schema to the newest version, while platforms go on with it; says from which version to which. The login is
/// the owner's.
///
/// # Errors
/// [`StorageError::Empty`], [`StorageError::OtherRealm`], [`StorageError::Migration`], or the database cannot be reached or
/// refuses it.
pub fn migrate(options: &PostgresOptions, realm: RealmId) -> Result<(i64, i64)> {
    bring_forward(options, realm, false)
}

fn bring_forward(options: &PostgresOptions, realm: RealmId, is_new: bool) -> Result<(i64, i64)> {
    let mut session = Session::open(options, &Arc::default())?;
    session.run(async |client: &mut Client| {
        client.batch_execute(ONE_AT_A_TIME).await?;
        client.batch_execute("CREATE SCHEMA IF NOT EXISTS tapfer").await
    })?;
    let before = version(&session)?;
    if before == 0 && !is_new {
        return Err(StorageError::Empty(options.place()));
    }
    check_owner(&session, options, realm, before)?;
    let migrations = all()?;
    let runner = Runner::new(&migrations).set_grouped(true);
    session.execute_batch(GIVE_WAY)?;
    for is_last in (1..=ATTEMPTS).map(|attempt| attempt == ATTEMPTS) {
        let run = session.run(async |client: &mut Client| Ok(runner.run_async(client).await))?;
        match run {
            Ok(_) => break,
            Err(error) if is_kept_waiting(&error) && !is_last => {
                tracing::warn!(
                    "a table is in use, by a dump perhaps: the migration is tried again"
                );
            }
            Err(error) => return Err(failed(error)),
        }
    }
    session.begin(CHANGE)?;
    claim(&session, realm)?;
    locks::close_to_others(&session)?;
    rights::take_temporary(&session)?;
    rights::take_large_objects(&session)?;
    session.commit()?;
    Ok((before, newest()?))
}

/// In a database that is the realm's from its first day there are no answers from before they were vouched for.
const SINCE_EVER: [&str; 3] = [
    "ALTER TABLE answers_vouched DISABLE TRIGGER answers_vouched_stays",
    "UPDATE answers_vouched SET since = 0",
    "ALTER TABLE answers_vouched ENABLE TRIGGER answers_vouched_stays",
];

/// Writes down whose it is, and the beginning of the audit chain.
fn claim(connection: &Connection, realm: RealmId) -> Result<()> {
    let own = "INSERT INTO realm (one, id) VALUES (1, ?1) ON CONFLICT DO NOTHING";
    if execute(connection, own, params![realm.to_string()])? > 0 {
        for statement in SINCE_EVER {
            execute(connection, statement, params![])?;
        }
    }
    audit_chain::begin(connection)
}

/// Refuses a database that is not the realm's, or older than this program.
///
/// # Errors
/// [`StorageError::Empty`], [`StorageError::OtherRealm`], [`StorageError::OlderDatabase`].
pub(super) fn check(session: &Session, options: &PostgresOptions, realm: RealmId) -> Result<()> {
    let found = version(session)?;
    if found == 0 {
        return Err(StorageError::Empty(options.place()));
    }
    check_owner(session, options, realm, found)?;
    match newest()? {
        known if found < known => Err(StorageError::OlderDatabase { found, known }),
        // Another node was upgraded first. What it has added does not disturb this one.
        _ => Ok(()),
    }
}

fn check_owner(
    session: &Session,
    options: &PostgresOptions,
    wanted: RealmId,
    version: i64,
) -> Result<()> {
    if version > 0 && realm::realm(session)? != wanted {
        return Err(StorageError::OtherRealm { path: options.place(), realm: wanted });
    }
    Ok(())
}

/// The version of the schema; 0 if it has none yet.
pub(super) fn version(connection: &Connection) -> Result<i64> {
    let is_there = "SELECT 1 FROM pg_tables
                    WHERE schemaname = 'tapfer' AND tablename = 'refinery_schema_history'";
    if first(connection, is_there, params![], |_| Ok(()))?.is_none() {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) AS version FROM refinery_schema_history";
    let read = |row: &crate::relational::sql::Row<'_>| {
        Columns::keyed(row, "refinery_schema_history", "version").number("version")
    };
    Ok(first(connection, newest, params![], read)?.unwrap_or(0))
}

fn newest() -> Result<i64> {
    Ok(all()?.iter().map(|migration| i64::from(migration.version())).max().unwrap_or(0))
}

/// What the server said, if it is the server that failed.
fn of_server(error: &refinery::Error) -> Option<&tokio_postgres::Error> {
    let first: &(dyn Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |cause| (**cause).source());
    causes.find_map(|cause| cause.downcast_ref())
}

/// Whether somebody else has had a table for too long; nothing is left of the attempt.
fn is_kept_waiting(error: &refinery::Error) -> bool {
    of_server(error).and_then(tokio_postgres::Error::code) == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

fn failed(error: refinery::Error) -> StorageError {
    let said = of_server(&error).and_then(tokio_postgres::Error::as_db_error);
    let why = said.map(|said| said.message().to_owned());
    StorageError::Migration(why.unwrap_or_else(|| error.to_string()))
}

fn all() -> Result<Vec<Migration>> {
    let migrations = MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql));
    migrations.collect::<std::result::Result<_, _>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;

    /// A row for each card or token, or one in all, and none for each payment.
    const SMALL: [&str; 3] = ["cards", "tokens", "own_partition"];

    /// A table that grows with payments is not read while nobody else may use it: new conditions are not tried on old rows, and no index
    /// is made.
    #[test]
    fn no_version_reads_what_was_there_before() {
        for (name, sql) in MIGRATIONS {
            let made = |table: &str| sql.contains(&format!("CREATE TABLE {table} "));
            let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
            let statements = lines.collect::<Vec<_>>().join(" ");
            for statement in statements.split(';') {
                let words: Vec<_> = statement.split_whitespace().collect();
                let table = match words.as_slice() {
                    ["ALTER", "TABLE", table, "ADD", ..] => *table,
                    ["CREATE", "INDEX", _, "ON", table, ..]
                    | ["CREATE", "UNIQUE", "INDEX", _, "ON", table, ..] => *table,
                    _ => continue,
                };
                let reads = statement.contains("INDEX")
                    || statement.contains(" CHECK ") && !statement.contains("NOT VALID");
                assert!(made(table) || SMALL.contains(&table) || !reads, "{name}: {statement}");
            }
        }
    }
}
