//! Whether a node listens at the simulated server, and what it hears: what at PostgreSQL one connection of each node does, in steps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use super::Result;
use crate::postgres::Told;

/// What is told as PostgreSQL's triggers do (V13): on which change of which table, when, and whose id.
const TOLD: [(&str, &str, &str, &str, &str); 9] = [
    (
        "cards",
        "UPDATE OF status",
        "NEW.status <> 'active' AND OLD.status = 'active'",
        "cards",
        "id",
    ),
    (
        "tokens",
        "UPDATE OF status",
        "NEW.status <> 'ACTIVE' AND OLD.status = 'ACTIVE'",
        "tokens",
        "id",
    ),
    (
        "terminals",
        "UPDATE OF revoked_at",
        "NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL",
        "terminals",
        "id",
    ),
    (
        "api_keys",
        "UPDATE OF revoked_at",
        "NEW.revoked_at IS NOT NULL AND OLD.revoked_at IS NULL",
        "api_keys",
        "id",
    ),
    ("issuers", "UPDATE", "TRUE", "issuers", "id"),
    ("integrity_policies", "INSERT", "TRUE", "issuers", "issuer_id"),
    ("integrity_policies", "UPDATE", "TRUE", "issuers", "issuer_id"),
    ("device_integrity", "INSERT", "NEW.standing = 'failed'", "devices", "device_id"),
    ("device_integrity", "UPDATE OF standing", "NEW.standing = 'failed'", "devices", "device_id"),
];

/// A row of which all nodes are told: its table and id.
pub(super) type Row = (String, String);

/// Notes on this connection, from here on, of what nodes are to be told.
pub(super) fn note(connection: &Connection) -> Result<()> {
    let begin =
        "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE told (of TEXT NOT NULL, id TEXT NOT NULL)";
    connection.execute_batch(begin)?;
    for (number, (table, change, when, of, id)) in TOLD.into_iter().enumerate() {
        connection.execute_batch(&format!(
            "CREATE TEMP TRIGGER tells_{number} AFTER {change} ON main.{table} WHEN {when}
             BEGIN INSERT INTO told (of, id) VALUES ('{of}', NEW.{id}); END"
        ))?;
    }
    Ok(())
}

/// What was noted, which nobody is told again.
pub(super) fn take(connection: &Connection) -> Result<Vec<Row>> {
    let mut taken = connection.prepare_cached("DELETE FROM told RETURNING of, id")?;
    let rows = taken.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

type TellRow = Box<dyn Fn(Told<'_>) + Send + Sync>;

/// A node's ear.
#[derive(Default)]
pub(super) struct Watch {
    is_deaf: AtomicBool,
    is_away: AtomicBool,
    tell: Mutex<Option<TellRow>>,
}

impl Watch {
    pub(super) fn tell_of_rows(&self, tell: TellRow) {
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }

    pub(super) fn listens(&self) -> bool {
        !self.is_deaf.load(Ordering::SeqCst)
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    /// The connection is gone, and nothing was noticed yet.
    pub(super) fn breaks(&self) {
        self.is_deaf.store(true, Ordering::SeqCst);
    }

    /// One attempt to reach the server.
    pub(super) fn attempts(&self, is_reached: bool) {
        self.is_away.store(!is_reached, Ordering::SeqCst);
        if is_reached && self.is_deaf.swap(false, Ordering::SeqCst) {
            self.hears(Told::Anything);
        }
    }

    pub(super) fn hears(&self, told: Told<'_>) {
        if let Some(tell) = &*self.tell.lock().unwrap_or_else(PoisonError::into_inner) {
            tell(told);
        }
    }
}
