//! Which idempotency keys have an answer in the tables: nearly none of those that come has one, and to know that
//! without asking the tables is most of what a payment needs of them.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{PoisonError, RwLock};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::IdempotencyClaim;
use crate::relational::Result;

/// Half a SHA-256 of API key and idempotency key: 16 bytes each, some 35 in memory.
type Mark = [u8; 16];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims(RwLock<HashSet<Mark>>);

/// An id of fixed length is in front, so no two pairs are one text.
fn mark(api_key: impl Display, key: &str) -> Mark {
    let mut hash = Sha256::new();
    hash.update(api_key.to_string());
    hash.update(key);
    let mut mark = [0; 16];
    mark.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    mark
}

impl Claims {
    /// Those that are in the tables.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) fn load(&self, connection: &Connection) -> Result<()> {
        let mut marks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut rows = connection.prepare("SELECT api_key_id, key FROM idempotency_answers")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            marks.insert(mark(row.get::<_, String>(0)?, &row.get::<_, String>(1)?));
        }
        Ok(())
    }

    /// Whether the tables may have an answer; if not, they have none.
    pub(super) fn may_have(&self, claim: &IdempotencyClaim) -> bool {
        let marks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        marks.contains(&mark(claim.api_key, claim.key.as_str()))
    }

    /// These are about to have one.
    pub(super) fn add<'c>(&self, claims: impl Iterator<Item = &'c IdempotencyClaim>) {
        let marks: Vec<_> = claims.map(|claim| mark(claim.api_key, claim.key.as_str())).collect();
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(marks);
    }

    /// What a change has made of answers: API key and key, with a blank between, and whether there is an answer now.
    pub(super) fn follow(&self, noted: &[(String, bool)]) {
        if noted.is_empty() {
            return;
        }
        let mut marks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (api_key, key, is_there) in noted.iter().filter_map(|(text, is_there)| {
            text.split_once(' ').map(|(id, key)| (id, key, *is_there))
        }) {
            let mark = mark(api_key, key);
            if is_there {
                marks.insert(mark)
            } else {
                marks.remove(&mark)
            };
        }
    }
}
