//! Certificates of terminals.

use tapfer_payment_types::{TerminalCertificateId, TerminalId, Timestamp};
use tapfer_payments::terminals::{TerminalCertificate, may_certify};

use super::rows::{Columns, all, execute};
use super::sql::{Connection, Row, params};
use super::{Result, terminals};

pub(crate) fn read(row: &Row<'_>) -> Result<TerminalCertificate> {
    let columns = Columns::new(row, "terminal_certificates");
    Ok(TerminalCertificate {
        id: columns.parse("id")?,
        terminal: columns.parse("terminal_id")?,
        serial: columns.get("serial")?,
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

/// One more certificate, if the terminal may have it at this moment; the one whose place it takes is revoked,
/// and returned.
pub(crate) fn add(
    connection: &Connection,
    certificate: &TerminalCertificate,
    now: Timestamp,
) -> Result<Option<TerminalCertificateId>> {
    let terminal = terminals::get_to_change(connection, certificate.terminal)?;
    let unexpired = all(
        connection,
        "SELECT * FROM terminal_certificates WHERE terminal_id = ?1 AND expires_at > ?2",
        params![certificate.terminal.to_string(), now.unix_millis()],
        read,
    )?;
    let replaced = may_certify(&terminal, &unexpired, now)?;
    if let Some(replaced) = replaced {
        execute(
            connection,
            "UPDATE terminal_certificates SET revoked_at = ?2 WHERE id = ?1",
            params![replaced.to_string(), now.unix_millis()],
        )?;
    }
    insert(connection, certificate)?;
    Ok(replaced)
}

/// Revokes what a terminal has; returns how many there were.
pub(crate) fn revoke_all(
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

/// Serial numbers that were revoked and have not ended. Merchants take turns, and the terminals of each, so
/// that nobody's revocations push another's off the list; of one terminal those that end last come first.
pub(crate) fn revoked_serials(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<[u8; 6]>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(
        connection,
        "WITH revoked AS (
             SELECT certificate.*, terminal.merchant_id AS merchant_id,
                 row_number() OVER (PARTITION BY terminal.id
                     ORDER BY certificate.expires_at DESC, certificate.id) AS of_terminal
             FROM terminal_certificates certificate
             JOIN terminals terminal ON terminal.id = certificate.terminal_id
             WHERE certificate.revoked_at IS NOT NULL AND certificate.expires_at > ?1),
         turns AS (
             SELECT revoked.*, row_number() OVER (PARTITION BY merchant_id
                 ORDER BY of_terminal, expires_at DESC, id) AS of_merchant
             FROM revoked)
         SELECT * FROM turns ORDER BY of_merchant, expires_at DESC, id LIMIT ?2",
        params![now.unix_millis(), limit],
        |row| Ok(read(row)?.serial),
    )
}
