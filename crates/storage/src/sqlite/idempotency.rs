//! Answers kept for idempotency keys.

use rusqlite::{Connection, Row, params};
use tapfer_payment_types::Timestamp;

use super::rows::{Columns, execute, first};
use super::{Result, SqliteStorage};
use crate::idempotency::Running;
use crate::{Begun, IdempotencyClaim, IdempotencyStore, StorageError, StoredResponse};

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
pub(super) fn stored_answer(
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

pub(super) fn insert(
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

impl IdempotencyStore for SqliteStorage {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        // Marked first and looked up then: the other way round, a request that ends in between would
        // be run a second time.
        let marked: Vec<_> = claims.iter().map(|claim| self.running.start(claim)).collect();
        let begin = |connection: &Connection, claim, running: Result<Running>| {
            let running = running?;
            Ok(match stored_answer(connection, claim)? {
                Some(response) => Begun::Replay(response),
                None => Begun::Run(running),
            })
        };
        self.read_all(claims.iter().zip(marked).collect(), |connection, (claim, running)| {
            begin(connection, claim, running)
        })
    }

    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        let sql = "DELETE FROM idempotency_answers WHERE created_at < ?1";
        self.writer.run(move |connection| execute(connection, sql, [before.unix_millis()]))
    }
}
