//! Replication slots: each keeps the server's log until somebody has read it, and shows him all that is written.

use crate::relational::Result;
use crate::relational::rows::{Columns, all};
use crate::relational::sql::{Connection, Row, params};

/// Partitions subscribe under names that begin so (docs/partitions.md); what copies a table at first has a name of PostgreSQL's.
const STRANGE: &str = "SELECT slot_name::text AS id, coalesce(plugin::text, slot_type) AS kind,
        CASE WHEN active THEN 1 ELSE 0 END AS active FROM pg_replication_slots
    WHERE NOT active OR slot_type = 'logical' AND database = current_database()
        AND (plugin <> 'pgoutput' OR slot_name !~ '^(tapfer_[0-9]|pg_[0-9]+_sync_)')
    ORDER BY 1 LIMIT 8";

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// What it is for: `physical`, or what makes logical changes of the log.
    pub kind: String,
    /// Somebody reads it at this moment.
    pub is_read: bool,
}

/// Those that are no partition's, and those that nobody reads.
pub(super) fn strange(connection: &Connection) -> Result<Vec<Slot>> {
    all(connection, STRANGE, params![], |row: &Row<'_>| {
        let columns = Columns::new(row, "pg_replication_slots");
        Ok(Slot {
            name: columns.get("id")?,
            kind: columns.get("kind")?,
            is_read: columns.get("active")?,
        })
    })
}
