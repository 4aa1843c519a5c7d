//! Certificates of issuers that are not trusted any more.

use tapfer_payments::audit::AuditAction;
use tapfer_payments::revocations::RevokedIssuerCertificate;

use super::rows::{Columns, all_readable, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, issuers};
use crate::{RevocationStore, StorageError, Write, Written};

fn read(row: &Row<'_>) -> Result<RevokedIssuerCertificate> {
    let columns = Columns::keyed(row, "revoked_issuer_certificates", "serial");
    Ok(RevokedIssuerCertificate {
        issuer: columns.parse("issuer_id")?,
        rid: columns.get("rid")?,
        ca_index: columns.number("ca_index")?,
        serial: columns.get("serial")?,
        certificate: columns.get("certificate")?,
        reason: columns.get("reason")?,
        revoked_at: columns.time("revoked_at")?,
    })
}

/// Once is for good: a second time changes nothing, not even the reason. What is revoked is the certificate that the issuer has.
fn insert(
    connection: &Connection,
    revoked: &RevokedIssuerCertificate,
) -> Result<RevokedIssuerCertificate> {
    lock(connection, Guard::Issuer, revoked.issuer)?;
    if revoked.certificate != Some(issuers::get(connection, revoked.issuer)?.certificate) {
        return Err(StorageError::Conflict);
    }
    if let Some(before) = find(connection, revoked)? {
        return Ok(before);
    }
    execute(
        connection,
        "INSERT INTO revoked_issuer_certificates
             (rid, ca_index, serial, issuer_id, reason, revoked_at, certificate)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO NOTHING",
        params![
            revoked.rid.as_slice(),
            revoked.ca_index,
            revoked.serial.as_slice(),
            revoked.issuer.to_string(),
            revoked.reason,
            revoked.revoked_at.unix_millis(),
            revoked.certificate,
        ],
    )?;
    found(find(connection, revoked)?, "revoked certificate", revoked.issuer)
}

/// The entry of this very certificate, or one with its number from before entries had one.
fn find(
    connection: &Connection,
    revoked: &RevokedIssuerCertificate,
) -> Result<Option<RevokedIssuerCertificate>> {
    first(
        connection,
        "SELECT * FROM revoked_issuer_certificates
         WHERE rid = ?1 AND ca_index = ?2 AND serial = ?3 AND (certificate = ?4 OR certificate IS NULL)
         ORDER BY revoked_at LIMIT 1",
        params![
            revoked.rid.as_slice(),
            revoked.ca_index,
            revoked.serial.as_slice(),
            revoked.certificate,
        ],
        read,
    )
}

impl<E: Engine> RevocationStore for E {
    fn revoke_issuer_certificate(
        &self,
        revoked: RevokedIssuerCertificate,
        write: Write<RevokedIssuerCertificate>,
    ) -> Result<Written<RevokedIssuerCertificate>> {
        self.change(write, AuditAction::IssuerCertificateRevoked, move |connection, _| {
            let kept = insert(connection, &revoked)?;
            let (issuer, reason) = (kept.issuer, kept.reason.clone());
            Ok(Changed::new(kept, issuer).because(reason))
        })
    }

    fn revoked_issuer_certificates(&self) -> Result<Vec<RevokedIssuerCertificate>> {
        self.read_apart(|connection| {
            all_readable(
                connection,
                "SELECT * FROM revoked_issuer_certificates ORDER BY revoked_at, rid, ca_index, serial",
                params![],
                read,
            )
        })
    }
}
