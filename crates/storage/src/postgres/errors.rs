//! What PostgreSQL's errors mean here.

use std::sync::Arc;

use tapfer_payments::ledger::{AccountKind, LedgerError};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::StorageError;

/// What a partition says that takes nothing more (migration V5).
const CLOSED: &str = "TP001";

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let Some(database) = error.as_db_error() else {
            // Whatever was not committed is rolled back when a connection ends.
            return Self::Unreachable(Arc::new(error));
        };
        let code = database.code();
        // By class: 08 connection, 57 shut down or restarting.
        let is_gone = code.code().starts_with("08") || code.code().starts_with("57P");
        if is_gone || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return Self::Unreachable(Arc::new(error));
        }
        if *code == SqlState::TOO_MANY_CONNECTIONS {
            return Self::NoConnection(Arc::new(error));
        }
        if code.code() == CLOSED {
            return Self::Moved(database.message().to_owned());
        }
        if *code == SqlState::UNIQUE_VIOLATION {
            let taken = place(database).and_then(|columns| Self::taken(&columns));
            return taken.unwrap_or_else(|| Self::Database(Arc::new(error)));
        }
        if let Some(kind) = overdrawn(database) {
            return crate::Refusal::from(LedgerError::Overdrawn(kind)).into();
        }
        let waits = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
        ];
        if waits.contains(code) { Self::Busy } else { Self::Database(Arc::new(error)) }
    }
}

/// Why no connection came about, with what can be done about it.
pub(super) fn not_let_in(error: Error) -> StorageError {
    let first: &dyn std::error::Error = &error;
    let causes = std::iter::successors(Some(first), |cause| cause.source());
    let said: Vec<_> = causes.map(ToString::to_string).collect();
    let is_said = |what: &str| said.iter().any(|said| said.contains(what));
    let hint = match () {
        () if is_said("password missing") => {
            "the server wants a password: name a file that holds it (password_file in database.toml, or --password-file)"
        }
        () if error.code().is_some_and(|code| code.code().starts_with("28")) => {
            "look at the login, its password file and the server's pg_hba.conf (docs/postgresql.md)"
        }
        () if is_said("server does not support TLS") => {
            "switch ssl on at the server, or take certificate_authority away where the address is a socket or a loopback one"
        }
        () => return error.into(),
    };
    let is_answered = error.as_db_error().is_some();
    let why = Arc::new(NotLetIn { error, hint });
    if is_answered { StorageError::Database(why) } else { StorageError::Unreachable(why) }
}

#[derive(Debug, thiserror::Error)]
#[error("{error}. To do: {hint}")]
struct NotLetIn {
    #[source]
    error: Error,
    hint: &'static str,
}

/// Whether a prepared statement would answer with other columns than when it was prepared, which it does not do.
pub(super) fn is_outdated(error: &Error) -> bool {
    error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED)
}

/// Whether the server has undone a transaction for the sake of another one.
pub(super) fn is_overtaken(error: &Error) -> bool {
    let overtaken = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| overtaken.contains(code))
}

/// Whether a statement of the transaction failed before this one, which was not even tried.
pub(super) fn has_failed_before(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

/// Whether the server says that the transaction is rolled back, rather than nothing that can be relied on.
pub(super) fn is_rolled_back(error: &Error) -> bool {
    let code = error.code().map(SqlState::code);
    // By class: 23 a constraint, 40 the transaction was rolled back.
    code.is_some_and(|code| code.starts_with("23") || code.starts_with("40") || code == CLOSED)
}

/// Whether the server is there and has trouble that somebody will mend: no room or memory, a login or a right that is not there, a
/// state that it is not to stay in.
pub(super) fn is_trouble(error: &StorageError) -> bool {
    let StorageError::Database(cause) = error else { return false };
    let first: &(dyn std::error::Error + 'static) = cause.as_ref();
    let mut causes = std::iter::successors(Some(first), |cause| cause.source());
    let said = causes.find_map(|cause| cause.downcast_ref::<Error>()?.code());
    // By class: 28 who calls, 53 resources, 55 the state of an object, 58 the system; 42501 is a right.
    let is_of =
        |code: &str| ["28", "53", "55", "58", "42501"].iter().any(|of| code.starts_with(of));
    said.is_some_and(|said| is_of(said.code()))
}

/// Whose account would be below zero: of those that many change at once the table is the first to see it.
fn overdrawn(error: &DbError) -> Option<AccountKind> {
    if *error.code() != SqlState::CHECK_VIOLATION || error.constraint() != Some("accounts_check") {
        return None;
    }
    // "Failing row contains (kind, owner, ...)", in whichever language.
    error.detail()?.split_once('(')?.1.split_once(',')?.0.parse().ok()
}

/// Which columns are to be unique, as SQLite says it: `table.column`. PostgreSQL names the constraint, which is named after
/// table and columns.
fn place(error: &DbError) -> Option<String> {
    let (table, constraint) = (error.table()?, error.constraint()?);
    let columns = constraint.strip_prefix(table)?.strip_prefix('_')?;
    let columns = columns.strip_suffix("_key").unwrap_or(columns);
    let columns = if columns == "pkey" { "id" } else { columns };
    Some(format!("{table}.{columns}"))
}
