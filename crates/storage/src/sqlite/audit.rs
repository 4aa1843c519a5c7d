//! The audit log.

use rusqlite::{Connection, Row, params};
use tapfer_payments::audit::{AuditEvent, Caller};

use super::rows::{Columns, Listing, execute};
use super::{Result, SqliteStorage};
use crate::{AuditRecord, AuditStore, Page, Slice};

pub(super) fn insert(connection: &Connection, event: &AuditEvent) -> Result<()> {
    execute(
        connection,
        "INSERT INTO audit_events
             (at, api_key_id, role, origin, request_id, action, object, result, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            event.at.unix_millis(),
            event.caller.api_key.map(|key| key.to_string()),
            event.caller.role.as_str(),
            event.caller.origin,
            event.caller.request_id,
            event.action.as_str(),
            event.object,
            event.result.as_str(),
            event.detail,
        ],
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<AuditRecord> {
    let columns = Columns::keyed(row, "audit_events", "sequence");
    Ok(AuditRecord {
        sequence: columns.get("sequence")?,
        event: AuditEvent {
            at: columns.time("at")?,
            caller: Caller {
                api_key: columns.parse_optional("api_key_id")?,
                role: columns.parse("role")?,
                origin: columns.get("origin")?,
                request_id: columns.get("request_id")?,
            },
            action: columns.parse("action")?,
            object: columns.get("object")?,
            result: columns.parse("result")?,
            detail: columns.get("detail")?,
        },
    })
}

impl AuditStore for SqliteStorage {
    fn record_audit(&self, event: AuditEvent) -> Result<()> {
        self.writer.run(move |connection| insert(connection, &event))
    }

    fn audit_events(&self, page: Page<i64>) -> Result<Slice<AuditRecord, i64>> {
        let list = Listing { select: "SELECT * FROM audit_events", key: "sequence", filters: &[] };
        self.read(|connection| list.slice(connection, page, read, |record| record.sequence))
    }
}
