//! The audit log.

use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{Restoration, SignedDocument};
use tapfer_payments::audit::{AuditAction, AuditEvent, Caller, hash_of_line};

use super::rows::{Columns, Listing, execute};
use super::sql::{Connection, Row, params};
use super::{Changed, Engine, Result, audit_chain};
use crate::{AuditRecord, AuditStore, ChainReport, Page, Slice, Write, Written};

/// Writes a line as the next link of the chain.
pub(crate) fn link(connection: &Connection, event: &AuditEvent) -> Result<()> {
    let link = audit_chain::last(connection)?.behind(event);
    execute(
        connection,
        "INSERT INTO audit_events
             (sequence, at, api_key_id, role, origin, request_id, action, object, result, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            audit_chain::place(link.sequence)?,
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
    audit_chain::insert(connection, &link)
}

pub(crate) fn read(row: &Row<'_>) -> Result<AuditRecord> {
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

/// What a line says besides its time, in the order in which it is hashed.
const TEXTS: [&str; 8] =
    ["api_key_id", "role", "origin", "request_id", "action", "object", "result", "detail"];

/// The hash of a line as it stands, whether or not it makes sense here: a newer platform's may not.
pub(crate) fn hash(row: &Row<'_>) -> Result<AuditHash> {
    let columns = Columns::keyed(row, "audit_events", "sequence");
    let mut texts: [Option<String>; 8] = Default::default();
    for (text, column) in texts.iter_mut().zip(TEXTS) {
        *text = columns.get(column)?;
    }
    Ok(hash_of_line(columns.get("at")?, texts.each_ref().map(Option::as_deref)))
}

impl<E: Engine> AuditStore for E {
    fn record_audit(&self, event: AuditEvent) -> Result<()> {
        self.write(move |connection| connection.record(&event))
    }

    fn audit_events(&self, page: Page<i64>) -> Result<Slice<AuditRecord, i64>> {
        let list = Listing { select: "SELECT * FROM audit_events", key: "sequence", filters: &[] };
        self.settle_audit()?;
        self.read(|connection| list.slice(connection, page, read, |record| record.sequence))
    }

    fn audit_end(&self) -> Result<KnownHead> {
        self.settle_audit()?;
        self.read(audit_chain::end)
    }

    fn audit_hashes(&self, after: u64, limit: u16) -> Result<Vec<AuditHash>> {
        self.settle_audit()?;
        self.read(|connection| audit_chain::event_hashes(connection, after, limit))
    }

    fn newest_audit_head(&self) -> Result<Option<SignedDocument>> {
        self.read(audit_chain::newest_head)
    }

    fn put_audit_head(&self, head: KnownHead, signed: SignedDocument) -> Result<()> {
        self.write(move |connection| audit_chain::put_head(connection, &head, &signed))
    }

    fn audit_leads(&self, from: Option<KnownHead>, to: KnownHead) -> Result<bool> {
        self.read(|connection| audit_chain::leads(connection, from, &to))
    }

    fn verify_audit(&self) -> Result<ChainReport> {
        self.settle_audit()?;
        self.read(audit_chain::verify)
    }

    fn last_restoration(&self) -> Result<Option<Timestamp>> {
        self.settle_audit()?;
        self.read(audit_chain::last_restoration)
    }

    fn restore(&self, reason: String, write: Write<Restoration>) -> Result<Written<Restoration>> {
        self.settle_audit()?;
        self.change(write, AuditAction::PlatformRestored, move |connection, now| {
            let number = audit_chain::restore(connection, now)?;
            Ok(Changed::new(number, number).because(reason))
        })
    }
}
