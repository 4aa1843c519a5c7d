//! Answers kept for idempotency keys.

use std::ops::ControlFlow;

use tapfer_payment_types::Timestamp;
use tapfer_payment_types::planted::{Control, is_skipped};

use super::Result;
use super::rows::{Columns, each, execute};
use super::sql::{Connection, Row, params};
use crate::{IdempotencyClaim, StoredResponse};

/// The answer in a row, if it was given to the same request.
pub(crate) fn answer(row: &Row<'_>, claim: &IdempotencyClaim) -> Result<StoredResponse> {
    let columns = Columns::keyed(row, "idempotency_answers", "key");
    claim.require_same(&columns.bytes("fingerprint")?)?;
    Ok(StoredResponse { status: columns.number("status")?, body: columns.get("body")? })
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
        "SELECT * FROM idempotency_answers WHERE api_key_id = ?1 AND key = ?2",
        params![claim.api_key.to_string(), claim.key.as_str()],
        |row| {
            stored = Some(answer(row, claim)?);
            Ok(ControlFlow::Break(()))
        },
    )?;
    Ok(stored)
}

pub(crate) fn insert(
    connection: &Connection,
    claim: &IdempotencyClaim,
    response: &StoredResponse,
    now: Timestamp,
) -> Result<()> {
    if is_skipped(Control::Idempotency) {
        return Ok(());
    }
    execute(
        connection,
        "INSERT INTO idempotency_answers (api_key_id, key, fingerprint, status, body, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            claim.api_key.to_string(),
            claim.key.as_str(),
            claim.fingerprint.as_slice(),
            response.status,
            response.body,
            now.unix_millis(),
        ],
    )?;
    Ok(())
}

/// Forgets answers given before this time, but of no more than a day behind the oldest: a clock that stands in the future
/// for an hour does not take all that there is. Says how many.
pub(crate) fn forget(connection: &Connection, before: Timestamp) -> Result<usize> {
    let sql = "DELETE FROM idempotency_answers WHERE created_at < ?1
               AND created_at < (SELECT min(created_at) FROM idempotency_answers) + 86400000";
    execute(connection, sql, [before.unix_millis()])
}

/// The same of so many answers at most, the oldest of them.
pub(crate) fn forget_some(connection: &Connection, before: Timestamp, most: i64) -> Result<usize> {
    let sql = "DELETE FROM idempotency_answers WHERE (api_key_id, key) IN (
                   SELECT api_key_id, key FROM idempotency_answers
                   WHERE created_at < ?1 ORDER BY created_at LIMIT ?2)";
    execute(connection, sql, [before.unix_millis(), most])
}
