//! Answers kept for idempotency keys.

use std::ops::ControlFlow;

use tapfer_payment_types::Timestamp;
use tapfer_payment_types::planted::{Control, is_skipped};

use super::Result;
use super::rows::{Columns, each, execute, first};
use super::sql::{Connection, Row, params};
use crate::idempotency::{GivenAnswer, KeptAnswer};
use crate::{IdempotencyClaim, Refusal, StorageError, StoredResponse};

/// The answer in a row of `kept_answers`, if it was given to the same request, and by the platform.
pub(crate) fn answer(row: &Row<'_>, claim: &IdempotencyClaim) -> Result<StoredResponse> {
    let columns = Columns::keyed(row, "idempotency_answers", "key");
    let response = StoredResponse { status: columns.number("status")?, body: columns.get("body")? };
    claim.believe(KeptAnswer {
        fingerprint: columns.get("fingerprint")?,
        response,
        mac: columns.get("mac")?,
        is_from_before: columns.get("from_before")?,
    })
}

/// The answer given before under this claim.
pub(crate) fn stored_answer(
    connection: &Connection,
    claim: &IdempotencyClaim,
) -> Result<Option<StoredResponse>> {
    if is_skipped(Control::Idempotency) {
        return Ok(None);
    }
    let mut stored = None;
    each(
        connection,
        "SELECT * FROM kept_answers WHERE api_key_id = ?1 AND key = ?2",
        params![claim.api_key.to_string(), claim.key.as_str()],
        |row| {
            stored = Some(answer(row, claim)?);
            Ok(ControlFlow::Break(()))
        },
    )?;
    if stored.is_some() {
        connection.vouch()?;
    }
    Ok(stored)
}

pub(crate) fn insert(connection: &Connection, given: &GivenAnswer, now: Timestamp) -> Result<()> {
    if is_skipped(Control::Idempotency) {
        return Ok(());
    }
    execute(
        connection,
        "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            given.api_key.to_string(),
            given.key.as_str(),
            given.fingerprint.as_slice(),
            given.response.status,
            given.response.body,
            now.unix_millis(),
            given.mac.as_ref().map(<[u8; 32]>::as_slice),
        ],
    )?;
    Ok(())
}

/// Keeps an answer that was given before it could be kept, unless another node has answered the same request meanwhile.
pub(crate) fn insert_late(
    connection: &Connection,
    given: &GivenAnswer,
    now: Timestamp,
) -> Result<bool> {
    let answered = "SELECT 1 FROM idempotency_answers WHERE api_key_id = ?1 AND key = ?2";
    let names = [given.api_key.to_string(), given.key.to_string()];
    match first(connection, answered, names, |_| Ok(()))? {
        Some(()) => Ok(false),
        None => insert(connection, given, now).map(|()| true),
    }
}

/// Notes that a request moves money. What it moves is locked by now.
///
/// # Errors
/// It did before: [`StorageError::StillRunning`] if its answer is there, which is told to who asks again; else
/// [`Refusal::BookedBefore`].
pub(crate) fn book_once(
    connection: &Connection,
    claim: Option<&IdempotencyClaim>,
    now: Timestamp,
) -> Result<()> {
    let Some(claim) = claim.filter(|_| !is_skipped(Control::Idempotency)) else { return Ok(()) };
    let note =
        "INSERT INTO booked_requests (request, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    let request = claim.request();
    if execute(connection, note, params![request.as_slice(), now.unix_millis()])? > 0 {
        return Ok(());
    }
    let answered = "SELECT 1 FROM idempotency_answers WHERE api_key_id = ?1 AND key = ?2";
    let names = [claim.api_key.to_string(), claim.key.to_string()];
    match first(connection, answered, names, |_| Ok(()))? {
        Some(()) => Err(StorageError::StillRunning),
        None => Err(Refusal::BookedBefore.into()),
    }
}

/// What is forgotten ends here at the latest: a day behind the oldest answer. A clock that stands in the future for an hour
/// does not take all that there is.
pub(crate) fn forgotten_before(connection: &Connection, before: Timestamp) -> Result<Timestamp> {
    let sql = "SELECT created_at FROM idempotency_answers ORDER BY created_at LIMIT 1";
    let oldest = first(connection, sql, params![], |row| {
        Columns::new(row, "idempotency_answers").time("created_at")
    })?;
    Ok(oldest.map_or(before, |oldest| before.min(oldest.plus_seconds(86_400))))
}

/// Forgets so many answers given before this time at most, the oldest; says how many.
pub(crate) fn forget_some(
    connection: &Connection,
    before: Timestamp,
    at_most: u16,
) -> Result<usize> {
    let sql = "DELETE FROM idempotency_answers WHERE (api_key_id, key) IN (
                   SELECT api_key_id, key FROM idempotency_answers
                   WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";
    execute(connection, sql, params![before.unix_millis(), at_most])
}
