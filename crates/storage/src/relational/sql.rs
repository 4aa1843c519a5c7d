//! The seam below the verbs: what they ask of a database, whichever it is.
//!
//! Statements are written once, in the words that both engines share: `?1` marks a parameter, a truth value is 0 or 1,
//! `excluded` and `RETURNING` mean what they mean in both. What an engine has of its own is behind [`Sql`].

use std::ops::ControlFlow;

use tapfer_payment_types::CatalogueMark;
use tapfer_payments::audit::AuditEvent;

use super::Result;

/// A value of a column or parameter. Times are milliseconds, money is minor units, ids are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// One connection inside a transaction or a snapshot.
pub(crate) trait Sql {
    /// Hands over row by row what a statement finds, until there is no more or enough was seen.
    fn query(
        &self,
        sql: &str,
        parameters: &[&dyn ToValue],
        each: &mut dyn FnMut(&Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
    /// Changes rows; says how many.
    fn execute(&self, sql: &str, parameters: &[&dyn ToValue]) -> Result<usize>;
    /// Keeps everybody else from changing what is guarded by this until the transaction ends. What is read of it from
    /// here on is how it is.
    fn lock(&self, guard: Guard, id: &str) -> Result<()>;
    /// Writes a line of the audit log, and has it linked into the chain.
    fn record(&self, event: &AuditEvent) -> Result<()>;
    /// What was read here is told as done. Where others can see a change before it is as durable as it is meant to be, this
    /// transaction's own commit ends behind it, and fails if nobody knows.
    fn vouch(&self) -> Result<()> {
        Ok(())
    }
    /// What stands behind a column that is to be one of the words of parameter 1, which has spaces between them.
    fn is_one_of(&self) -> &'static str;
    /// Knows this version of the catalogue of keys, whichever was known before: what the table's rules refuse otherwise.
    fn replace_catalogue(&self, accepted: &CatalogueMark) -> Result<()>;
}

/// What a change locks before it reads what it rests on, in the order in which it is locked: nobody waits for one that
/// stands before what they hold already, so nobody waits for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    /// That no number belongs to two ranges.
    NumberRanges,
    /// Which version of the catalogue of keys is the newest.
    Catalogue,
    /// The newest configuration of an audience.
    Configuration,
    /// What an issuer asks for: its policies.
    Issuer,
    /// A terminal, its certificates and what it is armed for.
    Terminal,
    /// A phone, its store, and what is known of its integrity.
    Device,
    /// A card with its money and PIN; its tokens with their keys, counters and persons.
    Card,
    /// A payment intent, its captures, refunds and reversals.
    Intent,
    /// An API key.
    ApiKey,
}

/// As verbs name it.
pub(crate) type Connection = dyn Sql;

/// A row that was found.
pub(crate) trait Cells {
    /// The value in a column; `None` if there is no such column, or nothing that a [`Value`] is.
    fn value(&self, column: &str) -> Option<Value<'_>>;
}

/// As verbs name it.
pub(crate) type Row<'r> = dyn Cells + 'r;

/// What can be a parameter.
pub(crate) trait ToValue {
    fn to_value(&self) -> Value<'_>;
}

/// Parameters of a statement, in their order.
pub(crate) trait Parameters {
    fn hand<T>(&self, to: impl FnOnce(&[&dyn ToValue]) -> T) -> T;
}

impl Parameters for &[&dyn ToValue] {
    fn hand<T>(&self, to: impl FnOnce(&[&dyn ToValue]) -> T) -> T {
        to(self)
    }
}

impl<V: ToValue, const N: usize> Parameters for [V; N] {
    fn hand<T>(&self, to: impl FnOnce(&[&dyn ToValue]) -> T) -> T {
        to(&self.each_ref().map(|value| one(value)))
    }
}

/// Parameters of several types.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        $crate::relational::sql::several(&[$($crate::relational::sql::one(&$value)),*])
    };
}
pub(crate) use params;

/// One parameter, whatever its type.
pub(crate) fn one(value: &dyn ToValue) -> &dyn ToValue {
    value
}

/// So many of them.
pub(crate) const fn several<'a, const N: usize>(
    values: &'a [&'a dyn ToValue; N],
) -> &'a [&'a dyn ToValue] {
    values
}

macro_rules! integers {
    ($($number:ty),+) => {
        $(impl ToValue for $number {
            fn to_value(&self) -> Value<'_> {
                Value::Integer(i64::from(*self))
            }
        })+
    };
}
integers!(bool, u8, u16, u32, i64);

impl ToValue for String {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for Vec<u8> {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl<V: ToValue + ?Sized> ToValue for &V {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl<V: ToValue> ToValue for Option<V> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

/// What can be read from a column.
pub(crate) trait FromValue: Sized {
    /// `None` if it is something else.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(number) => Some(number),
            _ => None,
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}
