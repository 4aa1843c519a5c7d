//! Certificates of terminals.

use rusqlite::{Connection, Row, params};
use tapfer_payment_types::{TerminalId, Timestamp};
use tapfer_payments::terminals::{TerminalCertificate, may_certify};

use super::rows::{Columns, all, execute};
use super::{Result, terminals};

pub(super) fn read(row: &Row<'_>) -> Result<TerminalCertificate> {
    let columns = Columns::new(row, "terminal_certificates");
    Ok(TerminalCertificate {
        id: columns.parse("id")?,
        terminal: columns.parse("terminal_id")?,
        serial: columns.bytes("serial")?,
        certificate: columns.get("certificate")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time("expires_at")?,
        revoked_at: columns.time_optional("revoked_at")?,
    })
}

fn insert(connection: &Connection, certificate: &TerminalCertificate) -> Result<()> {
    execute(
        connection,
        "INSERT INTO terminal_certificates
             (id, terminal_id, serial, certificate, created_at, expires_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            certificate.id.to_string(),
            certificate.terminal.to_string(),
            certificate.serial.as_slice(),
            certificate.certificate,
            certificate.created_at.unix_millis(),
            certificate.expires_at.unix_millis(),
            certificate.revoked_at.map(|at| at.unix_millis()),
        ],
    )?;
    Ok(())
}

/// One more certificate, if the terminal may have it at this moment.
pub(super) fn add(
    connection: &Connection,
    certificate: &TerminalCertificate,
    now: Timestamp,
) -> Result<()> {
    let terminal = terminals::get(connection, certificate.terminal)?;
    let unexpired = all(
        connection,
        "SELECT * FROM terminal_certificates WHERE terminal_id = ?1 AND expires_at > ?2",
        params![certificate.terminal.to_string(), now.unix_millis()],
        read,
    )?;
    may_certify(&terminal, &unexpired, now)?;
    insert(connection, certificate)
}

/// Revokes what a terminal has; returns how many there were.
pub(super) fn revoke_all(
    connection: &Connection,
    terminal: TerminalId,
    now: Timestamp,
) -> Result<usize> {
    execute(
        connection,
        "UPDATE terminal_certificates SET revoked_at = ?2
         WHERE terminal_id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
        params![terminal.to_string(), now.unix_millis()],
    )
}

/// Serial numbers that were revoked and have not ended, those that end last first.
pub(super) fn revoked_serials(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<[u8; 6]>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(
        connection,
        "SELECT * FROM terminal_certificates WHERE revoked_at IS NOT NULL AND expires_at > ?1
         ORDER BY expires_at DESC LIMIT ?2",
        params![now.unix_millis(), limit],
        |row| Ok(read(row)?.serial),
    )
}
