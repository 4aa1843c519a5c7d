//! What platforms share beside their records: the catalogue of keys, and whose turn it is to change it.

use tapfer_payment_types::CatalogueMark;

use super::PostgresStorage;
use super::session::Session;
use crate::relational::rows::{Columns, execute, first};
use crate::relational::sql::params;
use crate::relational::{Engine as _, Result, key_catalogue as noted};
use crate::store::{Sharing, Turn};

/// Held by the node that makes keys. "keys".
const LOCK: &str = "SELECT pg_advisory_lock(1801812339)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(1801812339)";

/// The connection that has the lock: if the node dies it is gone with it.
struct Locked(Session);

impl Drop for Locked {
    fn drop(&mut self) {
        // It ends with the connection at the latest.
        let _unlocked = self.0.execute_batch(UNLOCK);
    }
}

impl Sharing for PostgresStorage {
    fn is_shared(&self) -> bool {
        true
    }

    fn turn_to_make_keys(&self) -> Result<Turn> {
        let session = self.pool.open()?;
        session.execute_batch(LOCK)?;
        Ok(Turn::held(Locked(session)))
    }

    fn catalogue_copy(&self) -> Result<Option<Vec<u8>>> {
        self.read(|connection| {
            let copy = "SELECT * FROM key_catalogue_copy WHERE one = 1";
            first(connection, copy, params![], |row| {
                Columns::keyed(row, "key_catalogue_copy", "version").get("file")
            })
        })
    }

    fn note_catalogue_with_copy(
        &self,
        known: Option<CatalogueMark>,
        newer: CatalogueMark,
        copy: Vec<u8>,
    ) -> Result<bool> {
        self.write(move |connection| {
            if !noted::note(connection, known, newer)? {
                return Ok(false);
            }
            let version = i64::try_from(newer.version).unwrap_or(i64::MAX);
            let keep = "INSERT INTO key_catalogue_copy (one, version, file) VALUES (1, ?1, ?2)
                        ON CONFLICT (one) DO UPDATE SET version = ?1, file = ?2";
            execute(connection, keep, params![version, copy.as_slice()])?;
            Ok(true)
        })
    }

    fn tell_of_news(&self, tell: Box<dyn Fn() + Send + Sync>) {
        self.watch.tell(tell);
    }
}
