//! Versions of issuers' verification policies.

use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::issuers::Issuer;
use tapfer_payments::policies::{IssuedPolicy, next_version};

use super::rows::{Columns, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, issuers};
use crate::{PolicyStore, Write, Written};

/// One version.
pub(crate) fn find(
    connection: &Connection,
    issuer: IssuerId,
    version: u32,
) -> Result<Option<IssuedPolicy>> {
    first(
        connection,
        "SELECT * FROM issuer_policies WHERE issuer_id = ?1 AND version = ?2",
        params![issuer.to_string(), version],
        read,
    )
}

/// The version that phones are given now.
pub(crate) fn current(connection: &Connection, issuer: &Issuer) -> Result<IssuedPolicy> {
    let version = issuer.policy_version;
    found(find(connection, issuer.id, version)?, "policy version", version)
}

pub(crate) fn read(row: &Row<'_>) -> Result<IssuedPolicy> {
    let columns = Columns::keyed(row, "issuer_policies", "issuer_id");
    let document: String = columns.get("document")?;
    let policy: VerificationPolicy =
        columns.checked("document", serde_json::from_str(&document))?;
    columns.checked("document", policy.check())?;
    let version: u32 = columns.number("version")?;
    if policy.version != version {
        return Err(columns.broken("document, version"));
    }
    Ok(IssuedPolicy {
        policy,
        created_at: columns.time("created_at")?,
        replaced_at: columns.time_optional("replaced_at")?,
    })
}

/// Writes a version down, as the newest.
pub(crate) fn insert(
    connection: &Connection,
    issuer: IssuerId,
    policy: &VerificationPolicy,
    now: Timestamp,
) -> Result<()> {
    // A struct of texts and numbers; writing it to memory cannot fail.
    let document = serde_json::to_string(policy).unwrap_or_default();
    execute(
        connection,
        "INSERT INTO issuer_policies (issuer_id, version, document, created_at)
         VALUES (?1, ?2, ?3, ?4)",
        params![issuer.to_string(), policy.version, document, now.unix_millis()],
    )?;
    Ok(())
}

fn replace(
    connection: &Connection,
    issuer: IssuerId,
    policy: VerificationPolicy,
    now: Timestamp,
) -> Result<IssuedPolicy> {
    lock(connection, Guard::Issuer, issuer)?;
    let known = issuers::get(connection, issuer)?;
    let policy = next_version(known.policy_version, known.currency, policy)?;
    execute(
        connection,
        "UPDATE issuer_policies SET replaced_at = ?3 WHERE issuer_id = ?1 AND version = ?2",
        params![issuer.to_string(), known.policy_version, now.unix_millis()],
    )?;
    insert(connection, issuer, &policy, now)?;
    execute(
        connection,
        "UPDATE issuers SET policy_version = ?2, unverified_limit = ?3 WHERE id = ?1",
        params![issuer.to_string(), policy.version, policy.limit],
    )?;
    Ok(IssuedPolicy { policy, created_at: now, replaced_at: None })
}

impl<E: Engine> PolicyStore for E {
    fn set_policy(
        &self,
        issuer: IssuerId,
        policy: VerificationPolicy,
        write: Write<IssuedPolicy>,
    ) -> Result<Written<IssuedPolicy>> {
        self.change(write, AuditAction::IssuerPolicySet, move |connection, now| {
            let issued = replace(connection, issuer, policy, now)?;
            let detail = format!("{} version {}", issued.policy.name, issued.policy.version);
            Ok(Changed::new(issued, issuer).because(detail))
        })
    }

    fn policy(&self, issuer: IssuerId) -> Result<Option<IssuedPolicy>> {
        self.read_apart(|connection| {
            let issuer = issuers::find(connection, issuer)?;
            issuer.map(|issuer| current(connection, &issuer)).transpose()
        })
    }
}
