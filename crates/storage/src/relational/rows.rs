//! From rows to values. A row that makes no sense is an [`Inconsistency`] that names it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::{Money, PanSequenceNumber, Timestamp};

use super::Result;
use super::sql::{Connection, FromValue, Guard, Parameters, Row, ToValue, Value, one};
use crate::{Inconsistency, Page, Slice, StorageError};

/// Reads one row.
pub(crate) type Read<T> = fn(&Row<'_>) -> Result<T>;

/// The row that a statement finds, if there is one.
pub(crate) fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
    read: Read<T>,
) -> Result<Option<T>> {
    let mut found = None;
    each(connection, sql, parameters, |row| {
        found = Some(read(row)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// All rows that a statement finds.
pub(crate) fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
    read: Read<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    each(connection, sql, parameters, |row| {
        found.push(read(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// All rows that a statement finds and that make sense: of a list that many need, one that makes none is passed over, and named.
pub(crate) fn all_readable<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
    read: Read<T>,
) -> Result<Vec<T>> {
    Ok(readable(connection, sql, parameters, read)?.0)
}

/// The same, and how many were passed over.
fn readable<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
    read: Read<T>,
) -> Result<(Vec<T>, i64)> {
    let (mut found, mut passed_over) = (Vec::new(), 0_i64);
    each(connection, sql, parameters, |row| {
        match read(row) {
            Ok(row) => found.push(row),
            Err(StorageError::Inconsistent(broken)) => {
                passed_over = passed_over.saturating_add(1);
                name(&broken);
            }
            Err(error) => return Err(error),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((found, passed_over))
}

/// So many rows that make no sense are named in the log, each once.
const MOST_NAMED: usize = 100;

fn name(broken: &Inconsistency) {
    static NAMED: Mutex<BTreeSet<(&str, String)>> = Mutex::new(BTreeSet::new());
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if named.len() < MOST_NAMED && named.insert((broken.table, broken.id.clone())) {
        tracing::error!(
            target: "tapfer::security", event = "row_passed_over",
            table = broken.table, row = broken.id, column = broken.column,
            "a row makes no sense and is left out of lists: find out who wrote it (docs/disaster-recovery.md, rows that stop a platform)"
        );
    }
}

/// Row by row, until there is no more or enough was seen.
pub(crate) fn each(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
    mut see: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
) -> Result<()> {
    parameters.hand(|parameters| connection.query(sql, parameters, &mut see))
}

/// Changes rows; says how many.
pub(crate) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Parameters,
) -> Result<usize> {
    parameters.hand(|parameters| connection.execute(sql, parameters))
}

/// Keeps everybody else from changing what is guarded by this: see [`Guard`].
pub(crate) fn lock(connection: &Connection, guard: Guard, id: impl ToString) -> Result<()> {
    connection.lock(guard, &id.to_string())
}

/// What a caller named, or an error that says that it is not there.
pub(crate) fn found<T>(row: Option<T>, kind: &'static str, id: impl ToString) -> Result<T> {
    row.ok_or_else(|| StorageError::NotFound { kind, id: id.to_string() })
}

/// A list: what it is chosen from, the rising column it is ordered by, and what must be equal.
pub(crate) struct Listing<'a> {
    pub(crate) select: &'static str,
    pub(crate) key: &'static str,
    pub(crate) filters: &'a [(&'static str, Option<String>)],
}

impl Listing<'_> {
    /// One part of the list, newest first. Only the columns of filters that are set become part of
    /// the statement, so that each has its index.
    pub(crate) fn slice<T, C>(
        &self,
        connection: &Connection,
        page: Page<C>,
        read: Read<T>,
        cursor: fn(&T) -> C,
    ) -> Result<Slice<T, C>>
    where
        C: ToCursor + Copy,
    {
        let limit = page.clamped_limit();
        let behind = page.cursor.map(ToCursor::to_cursor);
        let set = self
            .filters
            .iter()
            .filter_map(|(column, value)| value.as_ref().map(|value| (*column, "=", one(value))));
        let set = set.chain(behind.iter().map(|cursor| (self.key, "<", cursor.as_ref())));
        let (mut sql, mut values) = (self.select.to_owned(), Vec::new());
        for (column, is, value) in set {
            let word = if values.is_empty() { "WHERE" } else { "AND" };
            values.push(value);
            sql.push_str(&format!(" {word} {column} {is} ?{}", values.len()));
        }
        let last = values.len().saturating_add(1);
        sql.push_str(&format!(" ORDER BY {} DESC LIMIT ?{last}", self.key));
        let overfull = i64::from(limit).saturating_add(1);
        let mut rows = overfull;
        loop {
            let mut values = values.clone();
            values.push(&rows);
            let (items, passed_over) = readable(connection, &sql, values.as_slice(), read)?;
            let readable = i64::try_from(items.len()).unwrap_or(i64::MAX);
            // In the place of rows that make no sense come those behind them, or they would end the list.
            if readable >= overfull || readable.saturating_add(passed_over) < rows {
                return Ok(Slice::from_overfull(items, limit, cursor));
            }
            rows = overfull.saturating_add(passed_over.saturating_mul(2));
        }
    }
}

/// What a list can be continued behind.
pub(crate) trait ToCursor {
    fn to_cursor(self) -> Box<dyn ToValue>;
}

impl ToCursor for i64 {
    fn to_cursor(self) -> Box<dyn ToValue> {
        Box::new(self)
    }
}

macro_rules! id_cursors {
    ($($id:ident),+) => {
        $(impl ToCursor for tapfer_payment_types::$id {
            fn to_cursor(self) -> Box<dyn ToValue> {
                Box::new(self.to_string())
            }
        })+
    };
}

id_cursors!(
    ApiKeyId,
    IssuerId,
    CardId,
    DeviceId,
    TokenId,
    MerchantId,
    TerminalId,
    TerminalCertificateId,
    PaymentIntentId,
    AuthorizationId,
    RefundId
);

/// The columns of one row of one table.
pub(crate) struct Columns<'r> {
    row: &'r Row<'r>,
    table: &'static str,
    key: &'static str,
}

impl<'r> Columns<'r> {
    /// A row whose primary key is `id`.
    pub(crate) const fn new(row: &'r Row<'r>, table: &'static str) -> Self {
        Self::keyed(row, table, "id")
    }

    /// A row with another primary key.
    pub(crate) const fn keyed(row: &'r Row<'r>, table: &'static str, key: &'static str) -> Self {
        Self { row, table, key }
    }

    /// This row makes no sense.
    pub(crate) fn broken(&self, column: &'static str) -> StorageError {
        let id = match self.row.value(self.key) {
            Some(Value::Text(text)) => text.to_owned(),
            Some(Value::Integer(number)) => number.to_string(),
            _ => "?".to_owned(),
        };
        Inconsistency { table: self.table, id, column }.into()
    }

    /// A value that a check of the ground floor made, or not.
    pub(crate) fn checked<T, E>(
        &self,
        column: &'static str,
        value: std::result::Result<T, E>,
    ) -> Result<T> {
        value.map_err(|_| self.broken(column))
    }

    /// A column as the database has it.
    pub(crate) fn get<T: FromValue>(&self, column: &'static str) -> Result<T> {
        self.checked(column, self.row.value(column).and_then(T::from_value).ok_or(()))
    }

    /// A word, an id, a code: anything that is read from text.
    pub(crate) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T> {
        match self.row.value(column) {
            Some(Value::Text(text)) => self.checked(column, text.parse()),
            _ => Err(self.broken(column)),
        }
    }

    /// The same, where there may be none.
    pub(crate) fn parse_optional<T: FromStr>(&self, column: &'static str) -> Result<Option<T>> {
        match self.row.value(column) {
            Some(Value::Null) => Ok(None),
            _ => self.parse(column).map(Some),
        }
    }

    /// A small number.
    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        self.checked(column, T::try_from(self.get(column)?))
    }

    /// A point in time.
    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_unix_millis)
    }

    /// A point in time, where there may be none.
    pub(crate) fn time_optional(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_unix_millis))
    }

    /// Minor units in this column, of the currency in column `currency`.
    pub(crate) fn money(&self, column: &'static str) -> Result<Money> {
        Ok(Money::new(self.get(column)?, self.parse("currency")?))
    }

    /// A card sequence number.
    pub(crate) fn sequence_number(&self, column: &'static str) -> Result<PanSequenceNumber> {
        self.checked(column, PanSequenceNumber::new(self.number(column)?))
    }

    /// An index of a limited-use key.
    pub(crate) fn key_index(&self, column: &'static str) -> Result<KeyIndex> {
        self.checked(column, KeyIndex::from_bytes(self.get(column)?))
    }
}
