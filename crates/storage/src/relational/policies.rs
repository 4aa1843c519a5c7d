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

/// The newest version that is there, whether or not it ever was the present one.
fn newest(connection: &Connection, issuer: IssuerId) -> Result<Option<u32>> {
    let newest = "SELECT max(version) AS version FROM issuer_policies WHERE issuer_id = ?1";
    let version = first(connection, newest, [issuer.to_string()], |row| {
        let version =
            Columns::keyed(row, "issuer_policies", "version").get::<Option<i64>>("version")?;
        Ok(version.and_then(|version| u32::try_from(version).ok()))
    })?;
    Ok(version.flatten())
}

/// Sets the version behind the newest. One that nobody has set, and that waits to be the next, is stepped over, and no payment may
/// name it for longer than the one before.
fn replace(
    connection: &Connection,
    issuer: IssuerId,
    policy: VerificationPolicy,
    now: Timestamp,
) -> Result<IssuedPolicy> {
    lock(connection, Guard::Issuer, issuer)?;
    let known = issuers::get(connection, issuer)?;
    let newest = newest(connection, issuer)?.unwrap_or(known.policy_version);
    let policy = next_version(newest, known.currency, policy)?;
    execute(
        connection,
        "UPDATE issuer_policies SET replaced_at = ?2 WHERE issuer_id = ?1 AND replaced_at IS NULL",
        params![issuer.to_string(), now.unix_millis()],
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
