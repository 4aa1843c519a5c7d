//! PostgreSQL below the verbs.

use std::error::Error;
use std::ops::ControlFlow;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use tapfer_payment_types::CatalogueMark;
use tapfer_payments::audit::AuditEvent;
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::session::Session;
use crate::relational::sql::{self, Cells, Guard, Sql, ToValue, Value, params};
use crate::relational::{Result, rows};

/// A lock without a row. Who waits for it is passed by nobody.
const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended(?1, 0))";

impl Sql for Session {
    fn query(
        &self,
        sql: &str,
        parameters: &[&dyn ToValue],
        each: &mut dyn FnMut(&sql::Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let statement = self.prepared(sql)?;
        let values: Vec<_> = parameters.iter().map(|parameter| parameter.to_value()).collect();
        let mut found = pin!(self.wait(self.client().query_raw(&statement, values))?);
        while let Some(row) = self.next(found.try_next())? {
            if each(&row)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn execute(&self, sql: &str, parameters: &[&dyn ToValue]) -> Result<usize> {
        let statement = self.prepared(sql)?;
        let values: Vec<_> = parameters.iter().map(|parameter| parameter.to_value()).collect();
        let changed = self.wait(self.client().execute_raw(&statement, values))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn lock(&self, guard: Guard, id: &str) -> Result<()> {
        let sql = match guard {
            // Where no row has to be there yet.
            Guard::NumberRanges | Guard::Catalogue | Guard::Configuration => ALONE,
            // Payments share it all the time, and who waits for a row is passed by all who share it.
            Guard::Issuer => ALONE,
            Guard::Terminal => "SELECT 1 FROM terminals WHERE id = ?1 FOR NO KEY UPDATE",
            Guard::Device => "SELECT 1 FROM devices WHERE id = ?1 FOR NO KEY UPDATE",
            Guard::Card => "SELECT 1 FROM cards WHERE id = ?1 FOR NO KEY UPDATE",
            Guard::Intent => "SELECT 1 FROM payment_intents WHERE id = ?1 FOR NO KEY UPDATE",
            Guard::ApiKey => "SELECT 1 FROM api_keys WHERE id = ?1 FOR NO KEY UPDATE",
        };
        let key = format!("{guard:?} {id}");
        let is_row = sql.contains("FOR NO KEY UPDATE");
        rows::first(self, sql, params![if is_row { id } else { &key }], |_| Ok(())).map(drop)
    }

    /// Writes something that nobody reads: a commit that wrote waits for its standby, one that only read does not.
    fn vouch(&self) -> Result<()> {
        self.execute_batch("SELECT pg_logical_emit_message(true, 'tapfer', '')")
    }

    /// Into the inbox: the links follow behind the commit ([`super::chain`]).
    fn record(&self, event: &AuditEvent) -> Result<()> {
        rows::execute(
            self,
            "INSERT INTO audit_inbox (at, api_key_id, role, origin, request_id, action, object, result, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                event.at.unix_millis(),
                event.caller.api_key.map(|key| key.to_string()),
                event.caller.role.as_str(),
                event.caller.origin,
                event.caller.request_id,
                event.action.as_str(),
                event.object,
                event.result.as_str(),
                event.detail,
            ],
        )?;
        Ok(())
    }

    fn is_one_of(&self) -> &'static str {
        "= ANY (string_to_array(?1, ' '))"
    }

    fn replace_catalogue(&self, accepted: &CatalogueMark) -> Result<()> {
        let version = i64::try_from(accepted.version).unwrap_or(i64::MAX);
        let (mac, key) = (accepted.mac.as_slice(), accepted.key.as_slice());
        let accept = "SELECT accept_key_catalogue(?1, ?2, ?3)";
        rows::execute(self, accept, params![version, mac, key]).map(drop)
    }
}

impl Cells for Row {
    fn value(&self, column: &str) -> Option<Value<'_>> {
        self.try_get(column).ok()
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *kind == Type::INT4 => {
                i32::try_from(*number)?.to_sql(kind, out)
            }
            Self::Integer(number) => number.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(
        kind: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::INT8 => Self::Integer(i64::from_sql(kind, raw)?),
            Type::INT4 => Self::Integer(i64::from(i32::from_sql(kind, raw)?)),
            Type::BYTEA => Self::Bytes(raw),
            _ => Self::Text(str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::TEXT, Type::NAME, Type::BYTEA].contains(kind)
    }
}
