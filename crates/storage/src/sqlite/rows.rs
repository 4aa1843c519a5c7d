//! From rows to values. A row that makes no sense is an [`Inconsistency`] that names it.

use std::str::FromStr;

use rusqlite::types::{FromSql, Value};
use rusqlite::{Connection, Params, Row, params_from_iter};
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::{Money, PanSequenceNumber, Timestamp};

use super::Result;
use crate::{Inconsistency, Page, Slice, StorageError};

/// Reads one row.
pub(super) type Read<T> = fn(&Row<'_>) -> Result<T>;

/// The row that a statement finds, if there is one.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: Read<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    rows.next()?.map(read).transpose()
}

/// All rows that a statement finds.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: Read<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Changes rows; the statement is kept for the next time.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<usize> {
    Ok(connection.prepare_cached(sql)?.execute(parameters)?)
}

/// What a caller named, or an error that says that it is not there.
pub(super) fn found<T>(row: Option<T>, kind: &'static str, id: impl ToString) -> Result<T> {
    row.ok_or_else(|| StorageError::NotFound { kind, id: id.to_string() })
}

/// A list: what it is chosen from, the rising column it is ordered by, and what must be equal.
pub(super) struct Listing<'a> {
    pub(super) select: &'static str,
    pub(super) key: &'static str,
    pub(super) filters: &'a [(&'static str, Option<String>)],
}

impl Listing<'_> {
    /// One part of the list, newest first. Only the columns of filters that are set become part of
    /// the statement, so that each has its index.
    pub(super) fn slice<T, C>(
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
        let set = self.filters.iter().filter_map(|(column, value)| {
            value.as_ref().map(|value| (format!("{column} = ?"), Value::Text(value.clone())))
        });
        let behind = page.cursor.map(|cursor| (format!("{} < ?", self.key), cursor.to_cursor()));
        let (conditions, mut values): (Vec<_>, Vec<_>) = set.chain(behind).unzip();
        let conditions = conditions.join(" AND ");
        let clause = if conditions.is_empty() { "" } else { " WHERE " };
        let sql = format!("{}{clause}{conditions} ORDER BY {} DESC LIMIT ?", self.select, self.key);
        values.push(Value::Integer(i64::from(limit).saturating_add(1)));
        let items = all(connection, &sql, params_from_iter(values), read)?;
        Ok(Slice::from_overfull(items, limit, cursor))
    }
}

/// What a list can be continued behind.
pub(super) trait ToCursor {
    fn to_cursor(self) -> Value;
}

impl ToCursor for i64 {
    fn to_cursor(self) -> Value {
        Value::Integer(self)
    }
}

macro_rules! id_cursors {
    ($($id:ident),+) => {
        $(impl ToCursor for tapfer_payment_types::$id {
            fn to_cursor(self) -> Value {
                Value::Text(self.to_string())
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
pub(super) struct Columns<'r> {
    row: &'r Row<'r>,
    table: &'static str,
    key: &'static str,
}

impl<'r> Columns<'r> {
    /// A row whose primary key is `id`.
    pub(super) const fn new(row: &'r Row<'r>, table: &'static str) -> Self {
        Self::keyed(row, table, "id")
    }

    /// A row with another primary key.
    pub(super) const fn keyed(row: &'r Row<'r>, table: &'static str, key: &'static str) -> Self {
        Self { row, table, key }
    }

    /// This row makes no sense.
    pub(super) fn broken(&self, column: &'static str) -> StorageError {
        let id = match self.row.get::<_, Value>(self.key) {
            Ok(Value::Text(text)) => text,
            Ok(Value::Integer(number)) => number.to_string(),
            _ => "?".to_owned(),
        };
        Inconsistency { table: self.table, id, column }.into()
    }

    /// A value that a check of the ground floor made, or not.
    pub(super) fn checked<T, E>(
        &self,
        column: &'static str,
        value: std::result::Result<T, E>,
    ) -> Result<T> {
        value.map_err(|_| self.broken(column))
    }

    /// A column of SQLite's own types.
    pub(super) fn get<T: FromSql>(&self, column: &'static str) -> Result<T> {
        self.checked(column, self.row.get(column))
    }

    /// A word, an id, a code: anything that is read from text.
    pub(super) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T> {
        self.checked(column, self.get::<String>(column)?.parse())
    }

    /// The same, where there may be none.
    pub(super) fn parse_optional<T: FromStr>(&self, column: &'static str) -> Result<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| self.checked(column, text.parse())).transpose()
    }

    /// A small number.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        self.checked(column, T::try_from(self.get(column)?))
    }

    /// A point in time.
    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.get(column).map(Timestamp::from_unix_millis)
    }

    /// A point in time, where there may be none.
    pub(super) fn time_optional(&self, column: &'static str) -> Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_unix_millis))
    }

    /// So many bytes.
    pub(super) fn bytes<const N: usize>(&self, column: &'static str) -> Result<[u8; N]> {
        self.checked(column, <[u8; N]>::try_from(self.get::<Vec<u8>>(column)?))
    }

    /// The same, where there may be none.
    pub(super) fn bytes_optional<const N: usize>(
        &self,
        column: &'static str,
    ) -> Result<Option<[u8; N]>> {
        let bytes: Option<Vec<u8>> = self.get(column)?;
        bytes.map(|bytes| self.checked(column, <[u8; N]>::try_from(bytes))).transpose()
    }

    /// Minor units in this column, of the currency in column `currency`.
    pub(super) fn money(&self, column: &'static str) -> Result<Money> {
        Ok(Money::new(self.get(column)?, self.parse("currency")?))
    }

    /// A card sequence number.
    pub(super) fn sequence_number(&self, column: &'static str) -> Result<PanSequenceNumber> {
        self.checked(column, PanSequenceNumber::new(self.number(column)?))
    }

    /// An index of a limited-use key.
    pub(super) fn key_index(&self, column: &'static str) -> Result<KeyIndex> {
        self.checked(column, KeyIndex::from_bytes(self.bytes(column)?))
    }
}
