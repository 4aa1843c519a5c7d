//! Integrity of phones.

use tapfer_payment_types::{DeviceId, IssuerId, Timestamp};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::integrity::{Evidence, IntegrityError, IntegrityPolicy, Verdict};

use super::rows::{Columns, execute, first, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, devices, issuers};
use crate::{Challenge, Inconsistency, IntegrityStore, Refusal, Write, Written};

pub(crate) fn policy(connection: &Connection, issuer: IssuerId) -> Result<Option<IntegrityPolicy>> {
    let sql = "SELECT * FROM integrity_policies WHERE issuer_id = ?1";
    first(connection, sql, [issuer.to_string()], read_policy)
}

pub(crate) fn read_policy(row: &Row<'_>) -> Result<IntegrityPolicy> {
    let columns = Columns::keyed(row, "integrity_policies", "issuer_id");
    let document: String = columns.get("document")?;
    columns.checked("document", serde_json::from_str(&document))
}

pub(crate) fn verdict(connection: &Connection, device: DeviceId) -> Result<Option<Verdict>> {
    let sql = "SELECT * FROM device_integrity WHERE device_id = ?1";
    Ok(first(connection, sql, [device.to_string()], read_verdict)?.flatten())
}

pub(crate) fn read_verdict(row: &Row<'_>) -> Result<Option<Verdict>> {
    let columns = Columns::keyed(row, "device_integrity", "device_id");
    let Some(standing) = columns.parse_optional("standing")? else { return Ok(None) };
    Ok(Some(Verdict { standing, found_at: columns.time("found_at")? }))
}

fn read_challenge(row: &Row<'_>) -> Result<Option<Challenge>> {
    let columns = Columns::keyed(row, "device_integrity", "device_id");
    let Some(challenge) = columns.get("challenge")? else { return Ok(None) };
    Ok(Some(Challenge { challenge, expires_at: columns.time("challenge_expires_at")? }))
}

fn open_challenge(connection: &Connection, device: DeviceId) -> Result<Option<Challenge>> {
    let sql = "SELECT * FROM device_integrity WHERE device_id = ?1";
    Ok(first(connection, sql, [device.to_string()], read_challenge)?.flatten())
}

/// A question is answered once: whatever the answer was worth, it is gone with it.
fn spend_challenge(
    connection: &Connection,
    device: DeviceId,
    answered: &[u8; 32],
    now: Timestamp,
) -> Result<()> {
    let open = open_challenge(connection, device)?;
    let is_open = open.is_some_and(|open| open.challenge == *answered && now <= open.expires_at);
    if !is_open {
        return Err(Refusal::from(IntegrityError::Challenge).into());
    }
    execute(
        connection,
        "UPDATE device_integrity SET challenge = NULL, challenge_expires_at = NULL
         WHERE device_id = ?1",
        [device.to_string()],
    )?;
    Ok(())
}

fn put_verdict(connection: &Connection, device: DeviceId, verdict: Verdict) -> Result<()> {
    execute(
        connection,
        "INSERT INTO device_integrity (device_id, standing, found_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (device_id) DO UPDATE SET standing = excluded.standing,
             found_at = excluded.found_at",
        params![device.to_string(), verdict.standing.as_str(), verdict.found_at.unix_millis()],
    )?;
    Ok(())
}

impl<E: Engine> IntegrityStore for E {
    fn set_integrity_policy(
        &self,
        issuer: IssuerId,
        policy: IntegrityPolicy,
        write: Write<IntegrityPolicy>,
    ) -> Result<Written<IntegrityPolicy>> {
        self.change(write, AuditAction::IntegrityPolicySet, move |connection, now| {
            lock(connection, Guard::Issuer, issuer)?;
            issuers::get(connection, issuer)?;
            policy.check().map_err(Refusal::from)?;
            let broken = Inconsistency {
                table: "integrity_policies",
                id: issuer.to_string(),
                column: "document",
            };
            let document = serde_json::to_string(&policy).map_err(|_| broken)?;
            execute(
                connection,
                "INSERT INTO integrity_policies (issuer_id, document, updated_at)
                 VALUES (?1, ?2, ?3)
                 ON CONFLICT (issuer_id) DO UPDATE SET document = excluded.document,
                     updated_at = excluded.updated_at",
                params![issuer.to_string(), document, now.unix_millis()],
            )?;
            Ok(Changed::new(policy, issuer))
        })
    }

    fn integrity_policy(&self, issuer: IssuerId) -> Result<Option<IntegrityPolicy>> {
        self.read_apart(|connection| policy(connection, issuer))
    }

    fn challenge_device(
        &self,
        device: DeviceId,
        challenge: Challenge,
        write: Write<Challenge>,
    ) -> Result<Written<Challenge>> {
        self.change(write, AuditAction::DeviceChallenged, move |connection, _| {
            lock(connection, Guard::Device, device)?;
            devices::get(connection, device)?;
            execute(
                connection,
                "INSERT INTO device_integrity (device_id, challenge, challenge_expires_at)
                 VALUES (?1, ?2, ?3)
                 ON CONFLICT (device_id) DO UPDATE SET challenge = excluded.challenge,
                     challenge_expires_at = excluded.challenge_expires_at",
                params![
                    device.to_string(),
                    challenge.challenge.as_slice(),
                    challenge.expires_at.unix_millis()
                ],
            )?;
            Ok(Changed::new(challenge, device))
        })
    }

    fn open_challenge(&self, device: DeviceId) -> Result<Option<Challenge>> {
        self.read_apart(|connection| open_challenge(connection, device))
    }

    fn record_verdict(
        &self,
        device: DeviceId,
        found: Verdict,
        answered: Option<[u8; 32]>,
        reason: String,
        write: Write<Verdict>,
    ) -> Result<Written<Verdict>> {
        self.change(write, AuditAction::DeviceJudged, move |connection, now| {
            lock(connection, Guard::Device, device)?;
            devices::get(connection, device)?;
            let mut evidence = Evidence::IssuersWord;
            if let Some(answered) = answered {
                spend_challenge(connection, device, &answered, now)?;
                evidence = Evidence::Attestation;
            }
            let known = verdict(connection, device)?;
            let holds = found.replacing(known, evidence);
            put_verdict(connection, device, holds)?;
            let detail = if holds == found {
                format!("{}: {reason}", found.standing)
            } else {
                format!("stays {}, not {}: {reason}", holds.standing, found.standing)
            };
            Ok(Changed::new(holds, device).because(detail))
        })
    }

    fn device_verdict(&self, device: DeviceId) -> Result<Option<Verdict>> {
        self.read_apart(|connection| verdict(connection, device))
    }
}
