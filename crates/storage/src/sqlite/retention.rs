//! Erasing in a file: what was erased is to be nowhere in it, nor in its log.
//!
//! SQLite leaves what it deletes where it was, until something else is written there. So what the writer deletes is overwritten in pages
//! that are written anyway (`secure_delete` as FAST has it: pages that become free, or that were put in order, keep what stood in them);
//! behind an erasure the log begins anew and is cut to what it then holds; and the file is written anew, without free pages, when it is
//! opened the next time.

use std::path::Path;

use rusqlite::Connection;
use tapfer_payment_types::Timestamp;
use tapfer_payments::retention::RetentionLimit;

use super::{Result, SqliteStorage, mark};
use crate::relational::rows::{Columns, execute, first};
use crate::relational::sql::params;
use crate::relational::{Engine as _, retention};
use crate::{RetentionStore, Write, Written};

impl RetentionStore for SqliteStorage {
    fn retention_limit(&self) -> Result<RetentionLimit> {
        self.read_apart(retention::limit)
    }

    fn set_retention_limit(
        &self,
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>> {
        retention::set_limit(self, limit, reason, write, |_, now| Ok(now))
    }

    fn erase_ended(&self, now: Timestamp) -> Result<usize> {
        let erased = retention::erase_ended(self, now)?;
        if erased > 0 && !self.writer.wipe_log()? {
            tracing::warn!(
                target: "tapfer::storage",
                "somebody reads an older moment of the database: what was erased stands in its log until that is written over"
            );
        }
        Ok(erased)
    }
}

/// Has everything overwritten that this connection deletes.
pub(super) fn overwrite_deleted(connection: &Connection) -> Result<()> {
    Ok(connection.pragma_update(None, "secure_delete", "FAST")?)
}

/// Writes the file anew if something was erased since it was. Nobody takes payments yet. Where somebody reads an older moment the next
/// start does it.
///
/// # Errors
/// The disk has no room for a second one; the file is as it was.
pub(super) fn rewrite(connection: &Connection, path: &Path) -> Result<()> {
    let wanted = "SELECT one FROM retention WHERE is_rewritten = 0";
    let is_wanted = first(connection, wanted, params![], |row| {
        Columns::keyed(row, "retention", "one").get::<i64>("one")
    })?;
    // Without its log there is no mark of it: all is in the file itself.
    if is_wanted.is_none() || !mark::fold(connection)? {
        return Ok(());
    }
    mark::forget(path)?;
    connection.execute_batch("VACUUM")?;
    let cut = "PRAGMA wal_checkpoint(TRUNCATE)";
    // Until then the old pages stand in the file, and the new ones in its log: whoever dies before it is said does it once more.
    if connection.query_row(cut, [], |row| row.get::<_, bool>("busy"))? {
        tracing::warn!(
            target: "tapfer::storage",
            "somebody reads an older moment of the database: it is written anew, without what was erased, at the next start"
        );
        return Ok(());
    }
    execute(connection, "UPDATE retention SET is_rewritten = 1", params![]).map(drop)
}
