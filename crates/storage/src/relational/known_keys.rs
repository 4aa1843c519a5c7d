//! API keys that were looked up before, in memory: every request brings one.
//!
//! They are as the database has them: only the platform writes it while it runs, and every change of a row makes all of
//! them forgotten before whoever changed it hears that it is done ([`super::Engine::known_keys`]).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use tapfer_payments::access::ApiKey;

use super::Result;

/// So many are kept, some 200 bytes each: then all are forgotten, and looked up again as they come.
const MOST: usize = 100_000;

/// Keys by the SHA-256 of their secrets.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often all were forgotten.
    forgotten: u64,
    keys: HashMap<[u8; 32], ApiKey>,
}

impl KnownKeys {
    pub(crate) fn get(&self, secret_hash: &[u8; 32]) -> Option<ApiKey> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.keys.get(secret_hash).cloned()
    }

    /// The key, from memory or from `read`. What was read before a change and comes behind it is not kept.
    pub(crate) fn get_or_read(
        &self,
        secret_hash: [u8; 32],
        read: impl FnOnce() -> Result<Option<ApiKey>>,
    ) -> Result<Option<ApiKey>> {
        let forgotten = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = known.keys.get(&secret_hash) {
                return Ok(Some(key.clone()));
            }
            known.forgotten
        };
        let found = read()?;
        if let Some(key) = &found {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if known.keys.len() >= MOST {
                known.keys.clear();
            }
            if known.forgotten == forgotten {
                known.keys.insert(secret_hash, key.clone());
            }
        }
        Ok(found)
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.forgotten = known.forgotten.saturating_add(1);
        known.keys.clear();
    }
}
