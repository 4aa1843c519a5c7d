//! A payment beside a thousand tokens, and beside a million.
//!
//! Two embedded stores with the same people who pay, and so many others who do not. Another program writes to each store before
//! a round, so that its memory is emptied: what a payment rests on is looked up in tables of that size. Its time counts until
//! the tables know it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use tapfer_payment_types::RealmId;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tempfile::TempDir;

use super::super::figure::{each, micros, quotients, summary};
use super::town::Town;
use crate::clock;

const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Who pays, and at so many tills.
const CUSTOMERS: usize = 64;
const TILLS: usize = 16;
/// A table with rows of a token that nobody uses: which row is copied, and what is another value in each.
struct Copied {
    table: &'static str,
    example: &'static str,
    /// Column and value. `key` is the number of the token, as text; `hash` is as long, and in no order.
    own: &'static [(&'static str, &'static str)],
}

const COPIED: [Copied; 5] = [
    Copied {
        table: "cards",
        example: "true",
        own: &[("id", "'card_' || key"), ("number_hash", "CAST(hash || 'c' AS BLOB)")],
    },
    Copied { table: "devices", example: "true", own: &[("id", "'dev_' || key")] },
    Copied {
        table: "tokens",
        example: "true",
        own: &[
            ("id", "'tok_' || key"),
            ("card_id", "'card_' || key"),
            ("device_id", "'dev_' || key"),
            ("number_hash", "CAST(hash || 't' AS BLOB)"),
        ],
    },
    Copied {
        table: "accounts",
        example: "kind = 'cardholder'",
        own: &[("owner", "'card_' || key")],
    },
    Copied { table: "limited_use_keys", example: "true", own: &[("token_id", "'tok_' || key")] },
];

/// The figure.
///
/// # Errors
/// A store that cannot be made, or a payment that is not approved.
pub(super) fn measure(rounds: u32) -> anyhow::Result<Value> {
    let mut places = [Place::with(FEW)?, Place::with(MANY)?];
    let [mut few, mut many] = [Vec::new(), Vec::new()];
    for round in 0..=usize::try_from(rounds)? {
        let [of_few, of_many] = &mut places;
        let (of_few, of_many) = (of_few.pay(round)?, of_many.pay(round)?);
        if round > 0 {
            few.push(of_few);
            many.push(of_many);
        }
    }
    const FEW_TOKENS: &str = "a payment beside 1,000 tokens";
    let ratios = quotients(&many, &few);
    let name = "authorize.beside_million_tokens_ratio";
    Ok(summary(name, "ratio", &ratios, (FEW_TOKENS, "us"), &micros(&few)))
}

/// A store with so many tokens, a few of which pay.
struct Place {
    town: Town,
    beside: Connection,
    paid: usize,
    _directory: TempDir,
}

impl Place {
    fn with(tokens: usize) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
        let file = directory.path().join("tapfer.db");
        let realm = RealmId::new(clock::now(), [1; 10]);
        let store = Arc::new(SqliteStorage::create(&file, realm, &SqliteOptions::default())?);
        let town = Town::found(store, CUSTOMERS, TILLS)?;
        let beside = others(&file, tokens.saturating_sub(CUSTOMERS))?;
        Ok(Self { town, beside, paid: 0, _directory: directory })
    }

    /// What one payment takes.
    fn pay(&mut self, round: usize) -> anyhow::Result<Duration> {
        self.town.arm()?;
        // Nobody reads it; it is a transaction of another program.
        self.beside.pragma_update(None, "user_version", 0)?;
        let begun = clock::instant();
        let made = self.town.pay(round.saturating_mul(TILLS))?.len();
        self.paid = self.paid.saturating_add(made);
        self.town.demand_owed(self.paid)?;
        Ok(each(begun.elapsed(), made))
    }
}

/// So many tokens that nobody uses, each with a card, an account, a phone and a key of its own.
fn others(file: &Path, count: usize) -> anyhow::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; BEGIN IMMEDIATE",
    )?;
    for Copied { table, example, own } in COPIED {
        let mut named = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let columns: Vec<String> =
            named.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let values = columns.iter().map(|column| {
            let other = own.iter().find(|(name, _)| name == column);
            other.map_or_else(|| format!("example.{column}"), |(_, value)| (*value).to_owned())
        });
        let (values, columns) = (values.collect::<Vec<_>>().join(", "), columns.join(", "));
        connection.execute(
            &format!(
                "WITH RECURSIVE numbered (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbered WHERE n < ?1),
                     other AS (SELECT printf('%08x', n) AS key, printf('%08x', n * 2654435761 % 4294967296) AS hash FROM numbered)
                 INSERT INTO {table} ({columns})
                 SELECT {values} FROM other, (SELECT * FROM {table} WHERE {example} LIMIT 1) AS example"
            ),
            [i64::try_from(count)?],
        )?;
    }
    connection.execute_batch(
        "COMMIT; PRAGMA synchronous = FULL; PRAGMA cache_size = -2000; PRAGMA wal_checkpoint(PASSIVE)",
    )?;
    Ok(connection)
}
