//! API keys that were looked up before, in memory: every request brings one.
//!
//! They are as the database has them: only the platform writes it while it runs, and every change of a row makes all of
//! them forgotten before whoever changed it hears that it is done ([`super::Engine::known_keys`]).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use tapfer_payment_types::ApiKeyId;
use tapfer_payments::access::ApiKey;

use super::Result;

/// So many are kept, some 200 bytes each: then all are forgotten, and looked up again as they come.
const MOST: usize = 100_000;

/// What a key is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WhichKey {
    /// SHA-256 of its secret, which its owner shows.
    Secret([u8; 32]),
    /// Its id, which a certificate or a token names.
    Id(ApiKeyId),
}

/// Keys by what they were looked up by.
#[derive(Debug, Default)]
pub(crate) struct KnownKeys(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How often all were forgotten.
    forgotten: u64,
    keys: HashMap<WhichKey, ApiKey>,
}

impl KnownKeys {
    pub(crate) fn get(&self, which: WhichKey) -> Option<ApiKey> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.keys.get(&which).cloned()
    }

    /// The key, from memory or from `read`. What was read before a change and comes behind it is not kept.
    pub(crate) fn get_or_read(
        &self,
        which: WhichKey,
        read: impl FnOnce() -> Result<Option<ApiKey>>,
    ) -> Result<Option<ApiKey>> {
        let forgotten = {
            let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = known.keys.get(&which) {
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
                known.keys.insert(which, key.clone());
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
