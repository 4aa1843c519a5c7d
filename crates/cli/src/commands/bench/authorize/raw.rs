//! Raw batched inserts: what PostgreSQL makes of the rows of payments when nobody looks at anything.
//!
//! Tables like the platform's, with the same columns, checks and indices, in the same server, and rows that the platform wrote
//! itself, under new ids. For each payment one row for every row that a payment adds or changes: where the platform updates
//! one, one of the same size is inserted. A transaction is of 64 payments; it has one `INSERT ... SELECT FROM unnest` for
//! each table, prepared, all sent in one round trip with its beginning, and is on the disk when it ends.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::{try_join, try_join_all};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use crate::clock;

/// Payments in one transaction.
pub(super) const TOGETHER: usize = 64;

/// A table; how many rows of it a payment adds or changes; which of them are taken as examples; and what must be another
/// value in every row.
struct Kind {
    table: &'static str,
    rows: usize,
    examples: &'static str,
    unique: &'static [&'static str],
}

const KINDS: [Kind; 10] = [
    Kind {
        table: "authorizations",
        rows: 1,
        examples: "true",
        unique: &["id", "payment_intent_id", "token_id"],
    },
    Kind { table: "transaction_counters", rows: 1, examples: "true", unique: &["token_id"] },
    Kind {
        table: "ledger_transfers",
        rows: 2,
        examples: "kind IN ('hold', 'capture')",
        unique: &[],
    },
    Kind { table: "idempotency_answers", rows: 1, examples: "key LIKE 'pi\\_%'", unique: &["key"] },
    Kind {
        table: "audit_events",
        rows: 1,
        examples: "action = 'authorization.decided'",
        unique: &["sequence"],
    },
    Kind { table: "audit_links", rows: 1, examples: "true", unique: &["sequence"] },
    Kind {
        table: "limited_use_keys",
        rows: 1,
        examples: "used_payments > 0",
        unique: &["token_id"],
    },
    Kind { table: "token_histories", rows: 1, examples: "true", unique: &["token_id"] },
    Kind { table: "payment_intents", rows: 1, examples: "status = 'succeeded'", unique: &["id"] },
    Kind { table: "accounts", rows: 1, examples: "kind = 'cardholder'", unique: &["owner"] },
];

/// The values of one column.
#[derive(Clone)]
enum Column {
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    fn as_parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Integers(values) => values,
            Self::Texts(values) => values,
            Self::Bytes(values) => values,
        }
    }

    /// So many values like these; with a number of each row's own in them, if that is wanted.
    fn repeated(&self, count: usize, first: Option<u64>) -> Self {
        let numbers =
            |place: usize| first.and_then(|first| first.checked_add(u64::try_from(place).ok()?));
        fn cycled<T: Clone>(values: &[T], count: usize) -> impl Iterator<Item = (usize, T)> {
            values.iter().cycle().take(count).cloned().enumerate()
        }
        match self {
            Self::Integers(values) => {
                let values = cycled(values, count).map(|(place, value)| match numbers(place) {
                    Some(number) => i64::try_from(number).ok(),
                    None => value,
                });
                Self::Integers(values.collect())
            }
            Self::Texts(values) => {
                let values = cycled(values, count).map(|(place, value)| match numbers(place) {
                    Some(number) => value.map(|text| renamed(&text, number)),
                    None => value,
                });
                Self::Texts(values.collect())
            }
            Self::Bytes(values) => {
                Self::Bytes(cycled(values, count).map(|(_, value)| value).collect())
            }
        }
    }
}

/// The same text with a number in the place of its last characters.
fn renamed(text: &str, number: u64) -> String {
    let kept = text.len().saturating_sub(8);
    format!("{}{number:08x}", text.get(..kept).unwrap_or_default())
}

struct Table {
    insert: Statement,
    rows: usize,
    columns: Vec<(Column, bool)>,
}

/// One connection that inserts.
pub(super) struct RawInserts {
    runtime: Runtime,
    client: Client,
    tables: Vec<Table>,
    next: u64,
}

impl RawInserts {
    /// Makes the tables, and takes rows of the platform's as examples: it has decided payments by now.
    ///
    /// # Errors
    /// The database refuses it.
    pub(super) fn open(address: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (client, tables) = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute("CREATE SCHEMA raw").await?;
            let mut tables = Vec::new();
            for kind in &KINDS {
                tables.push(Table::make(&client, kind).await.context(kind.table)?);
            }
            Ok::<_, anyhow::Error>((client, tables))
        })?;
        Ok(Self { runtime, client, tables, next: 1 })
    }

    /// Inserts what so many payments write, 64 in a transaction. How long that took.
    ///
    /// # Errors
    /// The database refuses it.
    pub(super) fn insert(&mut self, payments: usize) -> anyhow::Result<Duration> {
        let transactions: Vec<Vec<Vec<Column>>> =
            (0..payments.div_ceil(TOGETHER)).map(|_| self.transaction()).collect();
        let begun = clock::instant();
        self.runtime.block_on(async {
            for tables in &transactions {
                let parameters: Vec<Vec<_>> = tables
                    .iter()
                    .map(|columns| columns.iter().map(Column::as_parameter).collect())
                    .collect();
                let inserts = self.tables.iter().zip(&parameters);
                let inserts =
                    inserts.map(|(table, values)| self.client.execute(&table.insert, values));
                try_join(self.client.batch_execute("BEGIN"), try_join_all(inserts)).await?;
                self.client.batch_execute("COMMIT").await?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        Ok(begun.elapsed())
    }

    fn transaction(&mut self) -> Vec<Vec<Column>> {
        let first = self.next;
        self.next = self.next.saturating_add(TOGETHER.try_into().unwrap_or(u64::MAX));
        let rows = |table: &Table| {
            let count = table.rows.saturating_mul(TOGETHER);
            let columns = table.columns.iter();
            columns.map(|(column, own)| column.repeated(count, own.then_some(first))).collect()
        };
        self.tables.iter().map(rows).collect()
    }
}

impl Table {
    async fn make(client: &Client, kind: &Kind) -> anyhow::Result<Self> {
        let Kind { table, rows, examples, unique } = kind;
        client
            .batch_execute(&format!("CREATE TABLE raw.{table} (LIKE tapfer.{table} INCLUDING ALL)"))
            .await?;
        let asked = "SELECT column_name::text, data_type::text FROM information_schema.columns
                     WHERE table_schema = 'tapfer' AND table_name = $1 AND is_identity = 'NO' ORDER BY ordinal_position";
        let mut names = Vec::new();
        let mut arrays = Vec::new();
        let mut columns = Vec::new();
        for row in client.query(asked, &[table]).await? {
            let (name, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let sql = format!("SELECT {name} FROM tapfer.{table} WHERE {examples} LIMIT 64");
            let found = client.query(&sql, &[]).await?;
            let array = match kind.as_str() {
                "bigint" => "bigint[]",
                "bytea" => "bytea[]",
                _ => "text[]",
            };
            let column = match kind.as_str() {
                "bigint" => Column::Integers(
                    found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
                ),
                "bytea" => {
                    Column::Bytes(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
                }
                _ => {
                    Column::Texts(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
                }
            };
            columns.push((column, unique.contains(&name.as_str())));
            names.push(name);
            arrays.push(format!("${}::{array}", columns.len()));
        }
        let insert = format!(
            "INSERT INTO raw.{table} ({}) SELECT * FROM unnest({})",
            names.join(", "),
            arrays.join(", ")
        );
        Ok(Self { insert: client.prepare(&insert).await?, rows: *rows, columns })
    }
}
