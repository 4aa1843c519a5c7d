//! Terminals.

use tapfer_payment_types::{MerchantId, TerminalCertificateId, TerminalId, Timestamp};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::terminals::{Revocation, Terminal, TerminalCertificate};

use super::rows::{Columns, Listing, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, access, intents, merchants, terminal_certificates};
use crate::{IntentStore as _, Page, Slice, TerminalStore, Write, Written};

pub(crate) fn find(connection: &Connection, id: TerminalId) -> Result<Option<Terminal>> {
    first(connection, "SELECT * FROM terminals WHERE id = ?1", [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: TerminalId) -> Result<Terminal> {
    found(find(connection, id)?, "terminal", id)
}

pub(crate) fn read(row: &Row<'_>) -> Result<Terminal> {
    let columns = Columns::new(row, "terminals");
    Ok(Terminal {
        id: columns.parse("id")?,
        merchant: columns.parse("merchant_id")?,
        label: columns.get("label")?,
        identification: columns.parse("identification")?,
        revocation: read_revocation(&columns)?,
        created_at: columns.time("created_at")?,
    })
}

fn read_revocation(columns: &Columns<'_>) -> Result<Option<Revocation>> {
    let Some(at) = columns.time_optional("revoked_at")? else { return Ok(None) };
    Ok(Some(Revocation { at, reason: columns.get("revocation_reason")? }))
}

/// A terminal that nobody else changes meanwhile.
pub(crate) fn get_to_change(connection: &Connection, id: TerminalId) -> Result<Terminal> {
    lock(connection, Guard::Terminal, id)?;
    get(connection, id)
}

/// A terminal that is still in service, and stays so meanwhile.
pub(crate) fn in_service(connection: &Connection, id: TerminalId) -> Result<Terminal> {
    let terminal = get_to_change(connection, id)?;
    terminal.require_in_service()?;
    Ok(terminal)
}

/// Ends a terminal and everything that is good only with it. Says what was ended.
fn revoke(
    connection: &Connection,
    id: TerminalId,
    reason: &str,
    now: Timestamp,
) -> Result<(Terminal, String)> {
    let terminal = get_to_change(connection, id)?;
    if terminal.revocation.is_some() {
        return Ok((terminal, "revoked before".to_owned()));
    }
    let terminal = terminal.revoked(reason.to_owned(), now);
    execute(
        connection,
        "UPDATE terminals SET revoked_at = ?2, revocation_reason = ?3 WHERE id = ?1",
        params![id.to_string(), now.unix_millis(), reason],
    )?;
    let keys = access::revoke_all_of_terminal(connection, id, now)?;
    let certificates = terminal_certificates::revoke_all(connection, id, now)?;
    if let Some(intent) = intents::armed_to_change(connection, id)? {
        intents::update(connection, &intent.disarmed())?;
    }
    let ended = format!("{reason} (API keys ended: {keys}, certificates: {certificates})");
    Ok((terminal, ended))
}

impl<E: Engine> TerminalStore for E {
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
        self.read_apart(|connection| find(connection, id))
    }

    fn list_terminals(
        &self,
        merchant: Option<MerchantId>,
        page: Page<TerminalId>,
    ) -> Result<Slice<Terminal, TerminalId>> {
        let filters = [("merchant_id", merchant.map(|id| id.to_string()))];
        let list = Listing { select: "SELECT * FROM terminals", key: "id", filters: &filters };
        self.read_apart(|connection| list.slice(connection, page, read, |terminal| terminal.id))
    }

    fn revoke_terminal(
        &self,
        id: TerminalId,
        reason: String,
        write: Write<Terminal>,
    ) -> Result<Written<Terminal>> {
        self.change(write, AuditAction::TerminalRevoked, move |connection, now| {
            let (terminal, ended) = revoke(connection, id, &reason, now)?;
            Ok(Changed::new(terminal, id).because(ended))
        })
    }

    fn add_terminal_certificate(
        &self,
        certificate: TerminalCertificate,
        write: Write<TerminalCertificate>,
    ) -> Result<Written<TerminalCertificate>> {
        self.change(write, AuditAction::TerminalCertified, move |connection, now| {
            let replaced = terminal_certificates::add(connection, &certificate, now)?;
            let mut detail = format!("{}, until {}", certificate.id, certificate.expires_at);
            if let Some(replaced) = replaced {
                detail.push_str(&format!("; {replaced} is revoked for it"));
            }
            let terminal = certificate.terminal;
            Ok(Changed::new(certificate, terminal).because(detail))
        })
    }

    fn list_terminal_certificates(
        &self,
        terminal: TerminalId,
        page: Page<TerminalCertificateId>,
    ) -> Result<Slice<TerminalCertificate, TerminalCertificateId>> {
        let filters = [("terminal_id", Some(terminal.to_string()))];
        let select = "SELECT * FROM terminal_certificates";
        let list = Listing { select, key: "id", filters: &filters };
        self.read_apart(|connection| {
            list.slice(connection, page, terminal_certificates::read, |found| found.id)
        })
    }

    fn revoked_certificates(&self, now: Timestamp, limit: usize) -> Result<Vec<[u8; 6]>> {
        self.read_apart(|connection| terminal_certificates::revoked_serials(connection, now, limit))
    }

    fn armed_intent(&self, terminal: TerminalId, now: Timestamp) -> Result<Option<PaymentIntent>> {
        // No payment arms a terminal, so it is one of the tables or none; a payment may have disarmed it since.
        let armed = self.read_apart(|connection| intents::armed_at(connection, terminal))?;
        let intent = armed.map(|armed| self.intent(armed.id)).transpose()?.flatten();
        Ok(intent.filter(|intent| intent.is_armed_at(terminal, now)))
    }
}
