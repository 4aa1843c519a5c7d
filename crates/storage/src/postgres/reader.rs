//! Reading a database beside the platforms that run on it, for longer than a payment would wait.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use tapfer_payment_types::RealmId;
use tapfer_payments::audit::AuditEvent;

use super::migrations;
use super::options::PostgresOptions;
use super::session::{SNAPSHOT, Session};
use crate::StorageError;
use crate::relational::rows::all;
use crate::relational::soundness::{Soundness, id, number};
use crate::relational::sql::{self, Guard, Sql, ToValue, params};
use crate::relational::{Result, realm};
use tapfer_payment_types::CatalogueMark;

/// Whoever reads a whole table takes his time; nobody waits for him.
const TAKE_TIME: &str =
    "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";

/// Reads one moment of a database.
pub(crate) struct ServerReader(Session);

impl ServerReader {
    /// # Errors
    /// [`StorageError::Unreachable`], [`StorageError::Empty`]
    pub(crate) fn open(options: &PostgresOptions) -> Result<(Self, RealmId)> {
        let session = Session::open(options, &Arc::default())?;
        session.begin(SNAPSHOT)?;
        session.execute_batch(TAKE_TIME)?;
        if migrations::version(&session)? == 0 {
            return Err(StorageError::Empty(options.place()));
        }
        let realm = realm::realm(&session)?;
        Ok((Self(session), realm))
    }

    /// The version of the schema.
    pub(crate) fn version(&self) -> Result<i64> {
        migrations::version(&self.0)
    }

    /// Whether this login may read all that is compared.
    ///
    /// # Errors
    /// [`StorageError::TooFewRights`]
    pub(crate) fn demand_rights_to_check(&self) -> Result<()> {
        let unread = "SELECT relname::text AS id FROM pg_class
                      WHERE relnamespace = 'tapfer'::regnamespace AND relkind IN ('r', 'v')
                          AND relname NOT IN ('issuer_logins', 'answers_vouched') AND NOT has_table_privilege(oid, 'SELECT')
                      ORDER BY 1 LIMIT 3";
        let unread = all(self, unread, params![], id)?;
        if unread.is_empty() { Ok(()) } else { Err(StorageError::TooFewRights(unread.join(", "))) }
    }
}

impl ServerReader {
    /// What only this engine can be asked: whether the rules of its tables are in force.
    pub(crate) fn check(&self, found: &mut Soundness) -> Result<()> {
        let triggers = "SELECT count(*) AS number FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                        JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'tapfer'";
        found.checked("triggers that are in force", number(self, triggers)?);
        let off = "SELECT c.relname || ' ' || t.tgname AS id FROM pg_trigger AS t
                   JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
                   WHERE n.nspname = 'tapfer' AND t.tgenabled <> 'O' ORDER BY 1 LIMIT 5";
        for trigger in all(self, off, params![], id)? {
            found.fault(
                "pg_trigger",
                trigger,
                "somebody has switched it off, and what it refuses may have been done",
            );
        }
        Ok(())
    }
}

impl Sql for ServerReader {
    fn query(
        &self,
        sql: &str,
        parameters: &[&dyn ToValue],
        each: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let statement = self.0.prepared(sql)?;
        let values: Vec<_> = parameters.iter().map(|parameter| parameter.to_value()).collect();
        let mut found = pin!(self.0.take_time(self.0.client().query_raw(&statement, values))?);
        while let Some(row) = self.0.take_time(found.try_next())? {
            if each(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The transaction is one that reads.
    fn execute(&self, sql: &str, parameters: &[&dyn ToValue]) -> Result<usize> {
        self.0.execute(sql, parameters)
    }

    fn lock(&self, guard: Guard, id: &str) -> Result<()> {
        self.0.lock(guard, id)
    }

    fn record(&self, event: &AuditEvent) -> Result<()> {
        self.0.record(event)
    }

    fn is_one_of(&self) -> &'static str {
        self.0.is_one_of()
    }

    fn replace_catalogue(&self, accepted: &CatalogueMark) -> Result<()> {
        self.0.replace_catalogue(accepted)
    }
}
