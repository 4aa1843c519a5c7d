//! The journal's table: entries that are not written to the other tables yet, and where the journal ended when the last
//! one was.

use crate::decided::Decided;
use crate::journal::{Entry, JournalEnd};
use crate::relational::Result;
use crate::relational::rows::{Columns, all, execute, first};
use crate::relational::sql::{Connection, Row, params};
use crate::{Inconsistency, StorageError};

/// Decided payments that the other tables do not know yet: those of one entry.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) end: JournalEnd,
    pub(super) payments: Vec<Decided>,
}

/// What is ahead of the tables, in order.
///
/// # Errors
/// [`StorageError::Journal`] if an entry is not the one that was written.
pub(super) fn ahead(connection: &Connection) -> Result<Vec<Ahead>> {
    let mut end = written(connection)?;
    let entries = all(connection, "SELECT * FROM journal ORDER BY entry", params![], read_entry)?;
    let mut ahead = Vec::with_capacity(entries.len());
    for entry in entries {
        let payments = end.read(&entry).map_err(StorageError::Journal)?;
        end = entry.end;
        ahead.push(Ahead { end, payments });
    }
    Ok(ahead)
}

/// The last entry that is written to the other tables.
pub(super) fn written(connection: &Connection) -> Result<JournalEnd> {
    let lost = Inconsistency { table: "journal_written", id: "1".to_owned(), column: "entry" };
    let end = first(connection, "SELECT * FROM journal_written", params![], |row| {
        let columns = Columns::keyed(row, "journal_written", "one");
        Ok(JournalEnd { entry: columns.number("entry")?, hash: columns.bytes("hash")? })
    })?;
    end.ok_or_else(|| lost.into())
}

fn read_entry(row: &Row<'_>) -> Result<Entry> {
    let columns = Columns::keyed(row, "journal", "entry");
    let end = JournalEnd { entry: columns.number("entry")?, hash: columns.bytes("hash")? };
    Ok(Entry { end, records: columns.get("records")? })
}

fn number(end: JournalEnd) -> Result<i64> {
    let lost = Inconsistency { table: "journal", id: end.entry.to_string(), column: "entry" };
    i64::try_from(end.entry).map_err(|_| lost.into())
}

pub(super) fn append(connection: &Connection, entry: &Entry) -> Result<()> {
    let sql = "INSERT INTO journal (entry, hash, records) VALUES (?1, ?2, ?3)";
    execute(connection, sql, params![number(entry.end)?, entry.end.hash.as_slice(), entry.records])
        .map(|_| ())
}

/// Takes out what is written to the other tables now, up to an entry.
pub(super) fn set_written(connection: &Connection, end: JournalEnd) -> Result<()> {
    let up_to = number(end)?;
    let sql = "UPDATE journal_written SET entry = ?1, hash = ?2";
    execute(connection, sql, params![up_to, end.hash.as_slice()])?;
    execute(connection, "DELETE FROM journal WHERE entry <= ?1", [up_to]).map(|_| ())
}
