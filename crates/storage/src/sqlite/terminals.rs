//! Terminals.

use rusqlite::{Connection, Row, params};
use tapfer_payment_types::{MerchantId, TerminalId, Timestamp};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::terminals::Terminal;

use super::rows::{Columns, Listing, execute, first, found};
use super::{Changed, Result, SqliteStorage, access, intents, merchants};
use crate::{Page, Slice, TerminalStore, Write, Written};

fn find(connection: &Connection, id: TerminalId) -> Result<Option<Terminal>> {
    first(connection, "SELECT * FROM terminals WHERE id = ?1", [id.to_string()], read)
}

pub(super) fn get(connection: &Connection, id: TerminalId) -> Result<Terminal> {
    found(find(connection, id)?, "terminal", id)
}

fn read(row: &Row<'_>) -> Result<Terminal> {
    let columns = Columns::new(row, "terminals");
    Ok(Terminal {
        id: columns.parse("id")?,
        merchant: columns.parse("merchant_id")?,
        label: columns.get("label")?,
        identification: columns.parse("identification")?,
        created_at: columns.time("created_at")?,
    })
}

impl TerminalStore for SqliteStorage {
    fn create_terminal(
        &self,
        terminal: Terminal,
        key: ApiKey,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>> {
        self.change(write, AuditAction::TerminalCreated, move |connection, _| {
            merchants::get(connection, terminal.merchant)?;
            execute(
                connection,
                "INSERT INTO terminals (id, merchant_id, label, identification, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    terminal.id.to_string(),
                    terminal.merchant.to_string(),
                    terminal.label,
                    terminal.identification.as_str(),
                    terminal.created_at.unix_millis(),
                ],
            )?;
            access::insert_for(connection, &key, Principal::Terminal(terminal.id))?;
            let id = terminal.id;
            Ok(Changed::new(terminal, id).because(format!("with API key {}", key.id)))
        })
    }

    fn terminal(&self, id: TerminalId) -> Result<Option<Terminal>> {
        self.read(|connection| find(connection, id))
    }

    fn list_terminals(
        &self,
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> Result<Slice<Terminal, TerminalId>> {
        let filters = [("merchant_id", merchant.map(|id| id.to_string()))];
        let list = Listing { select: "SELECT * FROM terminals", key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |terminal| terminal.id))
    }

    fn armed_intent(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<PaymentIntent>> {
        let intent = self.read(|connection| intents::armed_at(connection, terminal))?;
        Ok(intent.filter(|intent| intent.is_armed_at(terminal, now)))
    }
}
