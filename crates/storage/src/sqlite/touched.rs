//! What changes of the tables touch of what is kept in memory: noted by triggers of the connection that writes, so that
//! no change can forget to say it. They are this connection's own and in no file.

use rusqlite::Connection;
use tapfer_payment_types::id::IdError;

use crate::hot::Touched;
use crate::relational::Result;
use crate::relational::rows::{Columns, all, execute};
use crate::relational::sql::params;

/// Tables that decisions ask, the column that says of what, and what that is.
const WATCHED: &[(&str, &str, &str)] = &[
    ("tokens", "id", "token"),
    ("limited_use_keys", "token_id", "token"),
    ("person_keys", "token_id", "token"),
    ("token_histories", "token_id", "token"),
    ("transaction_counters", "token_id", "token"),
    ("cards", "id", "card"),
    ("card_pins", "card_id", "card"),
    ("accounts", "owner", "card"),
    ("issuers", "id", "issuer"),
    ("issuer_policies", "issuer_id", "issuer"),
    ("integrity_policies", "issuer_id", "issuer"),
    ("device_integrity", "device_id", "device"),
    ("terminals", "id", "terminal"),
    ("merchants", "id", "merchant"),
    ("payment_intents", "id", "intent"),
    ("api_keys", "id", "api_key"),
];

const NOTES: &str = "
    CREATE TEMP TABLE touched (kind TEXT NOT NULL, id TEXT NOT NULL);
    CREATE TEMP TABLE noting (is_on INTEGER NOT NULL);
    INSERT INTO noting (is_on) VALUES (1);";

/// What was touched.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Of what decisions look at.
    pub(super) facts: Vec<Touched>,
    /// Whether it was an API key.
    pub(super) api_keys: bool,
    /// Answers for idempotency keys that came ([`super::claims::Claims::follow`]).
    pub(super) answers: Vec<String>,
}

/// Answers come, and are forgotten without a note; they are never changed.
const ANSWERS: &str = "
    CREATE TEMP TRIGGER answer_came AFTER INSERT ON main.idempotency_answers
    WHEN (SELECT is_on FROM noting)
    BEGIN INSERT INTO touched (kind, id)
          VALUES ('answer', NEW.api_key_id || ' ' || NEW.created_at || ' ' || NEW.key); END;";

/// Notes changes on this connection from here on.
pub(super) fn note(writer: &Connection) -> Result<()> {
    begin(writer)?;
    writer.execute_batch(ANSWERS)?;
    for (table, column, kind) in WATCHED {
        let of_card = if *table == "accounts" { " AND ROW.kind = 'cardholder'" } else { "" };
        let events = [("INSERT", "NEW"), ("UPDATE", "OLD"), ("DELETE", "OLD")];
        // Only keys that are there are remembered, so a new one changes nothing.
        for (event, row) in events.into_iter().skip(usize::from(*table == "api_keys")) {
            let of_card = of_card.replace("ROW", row);
            writer.execute_batch(&format!(
                "CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.{table}
                 WHEN (SELECT is_on FROM noting){of_card}
                 BEGIN INSERT INTO touched (kind, id) VALUES ('{kind}', {row}.{column}); END;"
            ))?;
        }
    }
    Ok(())
}

/// Makes room for notes.
pub(super) fn begin(writer: &Connection) -> Result<()> {
    writer.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(writer.execute_batch(NOTES)?)
}

/// Whether changes are noted: not those that follow what memory knows already.
pub(super) fn set_noting(writer: &Connection, is_on: bool) -> Result<()> {
    execute(writer, "UPDATE noting SET is_on = ?1", [is_on]).map(|_| ())
}

/// What was noted since it was asked last.
pub(super) fn take(writer: &Connection) -> Result<Noted> {
    let mut noted = Noted::default();
    let rows = all(writer, "DELETE FROM touched RETURNING kind, id", params![], |row| {
        let columns = Columns::new(row, "touched");
        Ok((columns.get::<String>("kind")?, columns.get::<String>("id")?))
    })?;
    for (kind, id) in rows {
        if kind == "answer" {
            noted.answers.push(id);
            continue;
        }
        match touched(&kind, &id) {
            Ok(Some(touched)) => noted.facts.push(touched),
            Ok(None) => noted.api_keys = true,
            Err(_) => {
                let (table, column) = ("touched", "id");
                return Err(crate::Inconsistency { table, id, column }.into());
            }
        }
    }
    Ok(noted)
}

fn touched(kind: &str, id: &str) -> std::result::Result<Option<Touched>, IdError> {
    Ok(Some(match kind {
        "token" => Touched::Token(id.parse()?),
        "card" => Touched::Card(id.parse()?),
        "issuer" => Touched::Issuer(id.parse()?),
        "device" => Touched::Device(id.parse()?),
        "terminal" => Touched::Terminal(id.parse()?),
        "merchant" => Touched::Merchant(id.parse()?),
        "intent" => Touched::Intent(id.parse()?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::{WATCHED, all};
    use crate::relational::rows::Columns;
    use crate::relational::sql::params;
    use crate::sqlite::migrations;

    /// Tables that no decision asks. Whoever adds a table says here or above what it is.
    const NOT_ASKED: &[&str] = &[
        "realm",
        "refinery_schema_history",
        "sqlite_sequence",
        "devices",
        "token_changes",
        "authorizations",
        "ledger_transfers",
        "refunds",
        "reversals",
        "idempotency_answers",
        "answers_vouched",
        "booked_requests",
        "retention",
        "audit_events",
        "audit_links",
        "audit_heads",
        "configurations",
        "key_catalogue",
        "revoked_issuer_certificates",
        "terminal_certificates",
        "journal",
        "journal_written",
    ];

    #[test]
    fn every_table_is_watched_or_not_asked() {
        let database = migrations::of_version(migrations::newest().unwrap()).unwrap();
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let tables = all(&database, tables, params![], |row| {
            Columns::keyed(row, "sqlite_schema", "name").get::<String>("name")
        });
        for table in tables.unwrap() {
            let is_watched = WATCHED.iter().any(|(name, ..)| *name == table);
            assert!(is_watched != NOT_ASKED.contains(&table.as_str()), "{table}");
        }
    }
}
