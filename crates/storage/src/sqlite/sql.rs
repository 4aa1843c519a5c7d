//! SQLite below the verbs.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Rows, Statement, ToSql, params_from_iter};
use tapfer_payment_types::{CatalogueMark, PaymentIntentId};
use tapfer_payments::audit::AuditEvent;
use tapfer_payments::intents::PaymentIntent;

use super::{Result, SqliteStorage};
use crate::StorageError;
use crate::relational::known_keys::KnownKeys;
use crate::relational::sql::{Cells, Guard, Sql, ToValue, Value};
use crate::relational::{Engine, audit, rows, sql};

/// [`Sql::is_one_of`]
const ONE_OF: &str = r#"IN (SELECT value FROM json_each('["' || replace(?1, ' ', '","') || '"]'))"#;

impl Engine for SqliteStorage {
    fn read<T>(&self, job: impl FnOnce(&sql::Connection) -> Result<T> + Clone) -> Result<T> {
        // The tables are to know all that was told to anybody.
        if self.shared.ahead.payments() > 0 {
            self.writer.run(|_| Ok(()))?;
        }
        self.read_apart(job)
    }

    fn read_apart<T>(&self, job: impl FnOnce(&sql::Connection) -> Result<T> + Clone) -> Result<T> {
        self.readers.snapshot(|connection| job(connection))
    }

    fn look_up<T>(&self, job: impl Fn(&sql::Connection) -> Result<T>) -> Result<T> {
        self.readers.snapshot(|connection| job(connection))
    }

    fn known_keys(&self) -> Option<&KnownKeys> {
        Some(&self.shared.known_keys)
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&sql::Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.run(|connection| job(connection))
    }

    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&sql::Connection) -> Result<T> + Send + 'static>,
    ) -> Vec<Result<T>> {
        let jobs = jobs.into_iter().map(|job| |connection: &Connection| job(connection));
        self.writer.run_all(jobs.collect())
    }

    fn intent_ahead(&self, id: PaymentIntentId) -> Option<PaymentIntent> {
        self.shared.ahead.intent(id)
    }

    /// A line and its link are one transaction.
    fn settle_audit(&self) -> Result<()> {
        Ok(())
    }
}

impl Sql for Connection {
    fn query(
        &self,
        sql: &str,
        parameters: &[&dyn ToValue],
        each: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        query(self, sql, parameters, each, StorageError::from)
    }

    fn execute(&self, sql: &str, parameters: &[&dyn ToValue]) -> Result<usize> {
        Ok(execute(self, sql, parameters)?)
    }

    /// One connection writes, so nobody else does.
    fn lock(&self, _: Guard, _: &str) -> Result<()> {
        Ok(())
    }

    /// One connection writes, so the line can be the next link at once.
    fn record(&self, event: &AuditEvent) -> Result<()> {
        audit::link(self, event)
    }

    fn is_one_of(&self) -> &'static str {
        ONE_OF
    }

    /// A row that is replaced is neither updated nor deleted, which the table refuses.
    fn replace_catalogue(&self, accepted: &CatalogueMark) -> Result<()> {
        let accept = "INSERT OR REPLACE INTO key_catalogue (one, version, mac, key_hash)
                      VALUES (1, ?1, ?2, ?3)";
        let version = i64::try_from(accepted.version).unwrap_or(i64::MAX);
        let (mac, key) = (accepted.mac.as_slice(), accepted.key.as_slice());
        rows::execute(self, accept, sql::params![version, mac, key]).map(drop)
    }
}

/// The connection for what was decided and kept before: a constraint that fails now refuses nobody's wish, but is an error
/// of the database, in its own words. They name table and column, and no value.
#[derive(Debug)]
pub(super) struct Unexpected(pub(super) Connection);

fn unexpected(error: rusqlite::Error) -> StorageError {
    StorageError::Database(Arc::new(error))
}

impl Sql for Unexpected {
    fn query(
        &self,
        sql: &str,
        parameters: &[&dyn ToValue],
        each: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        query(&self.0, sql, parameters, each, unexpected)
    }

    fn execute(&self, sql: &str, parameters: &[&dyn ToValue]) -> Result<usize> {
        execute(&self.0, sql, parameters).map_err(unexpected)
    }

    fn lock(&self, _: Guard, _: &str) -> Result<()> {
        Ok(())
    }

    fn record(&self, event: &AuditEvent) -> Result<()> {
        audit::link(self, event)
    }

    fn is_one_of(&self) -> &'static str {
        ONE_OF
    }

    fn replace_catalogue(&self, accepted: &CatalogueMark) -> Result<()> {
        self.0.replace_catalogue(accepted)
    }
}

fn query(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToValue],
    each: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    failed: fn(rusqlite::Error) -> StorageError,
) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).map_err(failed)?;
    let mut rows = bound(&mut statement, parameters).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if each(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn execute(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn ToValue],
) -> rusqlite::Result<usize> {
    let values = parameters.iter().map(|parameter| parameter.to_value());
    connection.prepare_cached(sql)?.execute(params_from_iter(values))
}

fn bound<'s>(
    statement: &'s mut Statement<'_>,
    parameters: &[&dyn ToValue],
) -> rusqlite::Result<Rows<'s>> {
    let values = parameters.iter().map(|parameter| parameter.to_value());
    statement.query(params_from_iter(values))
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Cells for Row<'_> {
    fn value(&self, column: &str) -> Option<Value<'_>> {
        match self.get_ref(column).ok()? {
            ValueRef::Null => Some(Value::Null),
            ValueRef::Integer(number) => Some(Value::Integer(number)),
            ValueRef::Text(text) => Some(Value::Text(str::from_utf8(text).ok()?)),
            ValueRef::Blob(bytes) => Some(Value::Bytes(bytes)),
            ValueRef::Real(_) => None,
        }
    }
}
