//! The embedded store's durable authorizations beside the same authorizations, written relationally, one row a statement.
//!
//! Neither has a network, TLS or a security module: it is the store alone. Ours, for lots of 64: the facts are looked up, the
//! rules decide, everything is compared again, and the lot is an entry of the journal on the disk. The other one writes the
//! rows that the tables have of these authorizations in the end, and looks at nothing: fourteen prepared statements of one
//! row each, 64 authorizations in a transaction, WAL, `synchronous = FULL`, a file of the same schema with the same parties.
//! Ours brings its tables up to the journal when nothing waits; what that costs is a figure of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, params};
use serde_json::Value;
use tapfer_payment_types::RealmId;
use tapfer_payments::authorization::Authorization;
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};

use super::super::figure::{each, micros, quotients, summary};
use super::town::Town;
use crate::clock;

/// Authorizations in a lot, each of another card.
const TOGETHER: usize = 64;
/// Lots in a round.
const LOTS: usize = 16;

#[derive(Default)]
struct Measured {
    ours: Vec<Duration>,
    ours_cpu: Vec<Duration>,
    tables: Vec<Duration>,
    relational: Vec<Duration>,
    relational_cpu: Vec<Duration>,
}

/// What is being timed, and the processor time of the same span.
struct Stopwatch(std::time::Instant, Duration);

impl Stopwatch {
    fn start() -> Self {
        Self(clock::instant(), clock::cpu())
    }

    fn each(&self) -> (Duration, Duration) {
        let count = TOGETHER.saturating_mul(LOTS);
        (each(self.0.elapsed(), count), each(clock::cpu().saturating_sub(self.1), count))
    }
}

/// The figures.
///
/// # Errors
/// A store that cannot be made, or a payment that is not approved.
pub(super) fn measure(rounds: u32) -> anyhow::Result<Vec<Value>> {
    let directory = tempfile::Builder::new().prefix("tapfer-").tempdir()?;
    let (file, copy) = (directory.path().join("tapfer.db"), directory.path().join("rows.db"));
    let realm = RealmId::new(clock::now(), [1; 10]);
    let store = Arc::new(SqliteStorage::create(&file, realm, &SqliteOptions::default())?);
    let mut town = Town::found(store, TOGETHER, LOTS)?;
    let mut rows = Rows::beside(&file, &copy, town.caller.to_string())?;
    let (mut measured, mut paid) = (Measured::default(), 0_usize);
    for round in 0..=usize::try_from(rounds)? {
        town.arm()?;
        rows.know_intents()?;
        let watch = Stopwatch::start();
        let made = town.pay(round.saturating_mul(LOTS))?;
        let (ours, ours_cpu) = watch.each();
        let watch = Stopwatch::start();
        // Whoever reads the ledger waits until the tables know all that was told.
        paid = paid.saturating_add(made.len());
        town.demand_owed(paid)?;
        let (tables, _) = watch.each();
        let watch = Stopwatch::start();
        for lot in made.chunks(TOGETHER) {
            rows.write(lot)?;
        }
        let (relational, relational_cpu) = watch.each();
        if round > 0 {
            measured.ours.push(ours);
            measured.ours_cpu.push(ours_cpu);
            measured.tables.push(tables);
            measured.relational.push(relational);
            measured.relational_cpu.push(relational_cpu);
        }
    }
    Ok(measured.figures())
}

/// The file that is written one row a statement.
struct Rows {
    connection: Connection,
    /// The store's file.
    theirs: String,
    sequence: i64,
    caller: String,
}

impl Rows {
    /// A copy of the store's file, with its parties.
    fn beside(file: &Path, copy: &Path, caller: String) -> anyhow::Result<Self> {
        let name = copy.to_str().context("a path that is text")?;
        Connection::open(file)?.execute("VACUUM INTO ?1", [name])?;
        let connection = Connection::open(copy)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.set_prepared_statement_cache_capacity(32);
        let theirs = file.to_str().context("a path that is text")?.to_owned();
        connection.execute_batch(
            "INSERT INTO accounts (kind, owner, currency, balance)
                 SELECT 'held', owner, currency, 0 FROM accounts WHERE kind = 'cardholder'
             UNION ALL SELECT 'merchant_payable', id, 'EUR', 0 FROM merchants",
        )?;
        let newest = "SELECT max(sequence) FROM audit_links";
        let sequence = connection.query_row(newest, [], |row| row.get(0))?;
        Ok(Self { connection, theirs, sequence, caller })
    }

    /// The intents that are paid next. The store's file is let go again: a transaction that writes would lock it as well.
    fn know_intents(&self) -> anyhow::Result<()> {
        self.connection.execute("ATTACH ?1 AS theirs", [&self.theirs])?;
        self.connection.execute_batch(
            "INSERT OR REPLACE INTO main.payment_intents SELECT * FROM theirs.payment_intents WHERE arming_state = 'armed';
             DETACH theirs",
        )?;
        Ok(())
    }

    fn write(&mut self, lot: &[Authorization]) -> anyhow::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for made in lot {
            self.sequence = self.sequence.saturating_add(1);
            self.write_one(made)?;
        }
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn write_one(&self, made: &Authorization) -> anyhow::Result<()> {
        let say = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
            self.connection.prepare_cached(sql)?.execute(values)
        };
        let token = made.token.context("a token")?.to_string();
        let card = made.card.context("a card")?.to_string();
        let (id, intent) = (made.id.to_string(), made.payment_intent.to_string());
        let (merchant, terminal) = (made.merchant.to_string(), made.terminal.to_string());
        let (amount, at) = (made.amount.minor, made.created_at.unix_millis());
        let counter = made.application_transaction_counter;
        let index = made.key_index.map(|index| index.to_bytes().to_vec());
        say(
            "INSERT INTO authorizations (id, payment_intent_id, merchant_id, terminal_id, token_id, card_id, outcome,
                 amount, currency, application_transaction_counter, key_index, merchant_proven, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, 'EUR', ?8, ?9, 0, ?10)",
            params![id, intent, merchant, terminal, token, card, amount, counter, index, at],
        )?;
        say(
            "INSERT INTO transaction_counters
                 (token_id, application_transaction_counter, authorization_id, cryptogram, verified)
             VALUES (?1, ?2, ?3, ?4, 1)",
            params![token, counter, id, [7_u8; 8]],
        )?;
        say(
            "UPDATE limited_use_keys SET used_payments = used_payments + 1, used_total = used_total + ?2
             WHERE token_id = ?1 AND key_class = 1 AND key_index = ?3",
            params![token, amount, index],
        )?;
        say(
            "INSERT INTO token_histories (token_id, payments, sum_minor, since_login) VALUES (?1, 1, ?2, 1)
             ON CONFLICT (token_id) DO UPDATE SET payments = payments + 1, sum_minor = sum_minor + ?2,
                 since_login = since_login + 1",
            params![token, amount],
        )?;
        for (kind, from, to_kind, to) in
            [("cardholder", &card, "held", &card), ("held", &card, "merchant_payable", &merchant)]
        {
            let moved = "UPDATE accounts SET balance = balance + ?3 WHERE kind = ?1 AND owner = ?2 AND currency = 'EUR'";
            say(moved, params![kind, from, amount.saturating_neg()])?;
            say(moved, params![to_kind, to, amount])?;
            let booked = if kind == "held" { "capture" } else { "hold" };
            say(
                "INSERT INTO ledger_transfers
                     (kind, from_kind, from_owner, to_kind, to_owner, amount, currency, cause, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'EUR', ?7, ?8)",
                params![booked, kind, from, to_kind, to, amount, id, at],
            )?;
        }
        say(
            "UPDATE payment_intents SET status = 'succeeded', armed_terminal_id = ?2, arming_state = 'consumed',
                 authorization_id = ?3, captured = ?4 WHERE id = ?1",
            params![intent, terminal, id, amount],
        )?;
        say(
            "INSERT INTO audit_events
                 (sequence, at, api_key_id, role, origin, request_id, action, object, result, detail)
             VALUES (?1, ?2, NULL, 'operator', 'local', 'benchmark', 'authorization.decided', ?3, 'succeeded', 'approved')",
            params![self.sequence, at, id],
        )?;
        let mut hash = [0_u8; 32];
        rand_core::Rng::fill_bytes(&mut clock::random(), &mut hash);
        say(
            "INSERT INTO audit_links (sequence, event_hash, hash) VALUES (?1, ?2, ?2)",
            params![self.sequence, hash],
        )?;
        say(
            "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, mac)
             VALUES (?1, ?2, ?3, 201, ?4, ?5, ?3)",
            params![self.caller, intent, hash, super::town::body(made), at],
        )?;
        Ok(())
    }
}

impl Measured {
    fn figures(&self) -> Vec<Value> {
        const ROWS: &str = "the rows of one authorization in SQLite, one a statement, 64 authorizations in a transaction";
        let ratios = quotients(&self.relational, &self.ours);
        let with_tables = self.ours.iter().zip(&self.tables);
        let both: Vec<_> = with_tables.map(|(ours, tables)| ours.saturating_add(*tables)).collect();
        let sustained = quotients(&self.relational, &both);
        let relational = micros(&self.relational);
        let cpu = ("processor time of writing its rows", "us");
        vec![
            summary(
                "authorize.over_relational_sqlite_ratio",
                "ratio",
                &ratios,
                (ROWS, "us"),
                &relational,
            ),
            summary(
                "authorize.sustained_over_relational_sqlite_ratio",
                "ratio",
                &sustained,
                (ROWS, "us"),
                &relational,
            ),
            summary("authorize.embedded_us", "us", &micros(&self.ours), (ROWS, "us"), &relational),
            summary(
                "authorize.embedded_cpu_us",
                "us",
                &micros(&self.ours_cpu),
                cpu,
                &micros(&self.relational_cpu),
            ),
            summary(
                "authorize.embedded_tables_us",
                "us",
                &micros(&self.tables),
                (ROWS, "us"),
                &relational,
            ),
        ]
    }
}
