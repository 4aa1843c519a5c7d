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

/// The journal as it is at one moment.
pub(super) struct Journal {
    /// The last entry that is written to the other tables.
    pub(super) written: JournalEnd,
    /// What is ahead of them, in order.
    pub(super) ahead: Vec<Ahead>,
}

impl Journal {
    /// Reads it, in a transaction: both of its tables have to be of one moment.
    ///
    /// # Errors
    /// [`StorageError::Journal`] if an entry is not the one that was written.
    pub(super) fn read(transaction: &Connection) -> Result<Self> {
        let written = written(transaction)?;
        let sql = "SELECT * FROM journal ORDER BY entry";
        let entries = all(transaction, sql, params![], read_entry)?;
        let (mut end, mut ahead) = (written, Vec::with_capacity(entries.len()));
        for entry in entries {
            let payments = end.read(&entry).map_err(StorageError::Journal)?;
            end = entry.end;
            ahead.push(Ahead { end, payments });
        }
        Ok(Self { written, ahead })
    }

    /// Where it ends, and so where it goes on.
    pub(super) fn end(&self) -> JournalEnd {
        self.ahead.last().map_or(self.written, |newest| newest.end)
    }
}

fn written(connection: &Connection) -> Result<JournalEnd> {
    let lost = Inconsistency { table: "journal_written", id: "1".to_owned(), column: "entry" };
    let end = first(connection, "SELECT * FROM journal_written", params![], |row| {
        let columns = Columns::keyed(row, "journal_written", "one");
        Ok(JournalEnd { entry: columns.number("entry")?, hash: columns.get("hash")? })
    })?;
    end.ok_or_else(|| lost.into())
}

fn read_entry(row: &Row<'_>) -> Result<Entry> {
    let columns = Columns::keyed(row, "journal", "entry");
    let end = JournalEnd { entry: columns.number("entry")?, hash: columns.get("hash")? };
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
