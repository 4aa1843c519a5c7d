//! Answers kept for idempotency keys.

use tapfer_payment_types::Timestamp;

use super::Result;
use super::rows::{Columns, execute, first};
use super::sql::{Connection, Row, params};
use crate::{IdempotencyClaim, StorageError, StoredResponse};

struct Kept {
    fingerprint: [u8; 32],
    response: StoredResponse,
}

fn read(row: &Row<'_>) -> Result<Kept> {
    let columns = Columns::keyed(row, "idempotency_answers", "key");
    Ok(Kept {
        fingerprint: columns.bytes("fingerprint")?,
        response: StoredResponse { status: columns.number("status")?, body: columns.get("body")? },
    })
}

/// The answer given before under this claim.
pub(crate) fn stored_answer(
    connection: &Connection,
    claim: &IdempotencyClaim,
) -> Result<Option<StoredResponse>> {
    let kept = first(
        connection,
        "SELECT * FROM idempotency_answers WHERE api_key_id = ?1 AND key = ?2",
        params![claim.api_key.to_string(), claim.key.as_str()],
        read,
    )?;
    match kept {
        Some(kept) if kept.fingerprint != claim.fingerprint => Err(StorageError::DifferentContent),
        Some(kept) => Ok(Some(kept.response)),
        None => Ok(None),
    }
}

pub(crate) fn insert(
    connection: &Connection,
    claim: &IdempotencyClaim,
    response: &StoredResponse,
    now: Timestamp,
) -> Result<()> {
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

/// Forgets answers given before this time; says how many.
pub(crate) fn forget(connection: &Connection, before: Timestamp) -> Result<usize> {
    let sql = "DELETE FROM idempotency_answers WHERE created_at < ?1";
    execute(connection, sql, [before.unix_millis()])
}
