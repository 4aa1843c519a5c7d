//! Which API keys a platform takes; and those of a drill's, which takes its own alone.
//!
//! A drill works with the realm's own keys, on a copy that somebody may have written into: what it signed would be good at
//! the real platform too. So it signs no API key. Those that it makes count for as long as its process lives.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use tapfer_payment_types::RealmId;
use tapfer_payments::access::ApiKey;

use crate::service::ServiceError;

/// Which API keys of the database a platform takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApiKeysTaken {
    /// Those that the realm's platform has signed.
    #[default]
    Signed,
    /// The same, and those that are not signed are signed first, but for the operator's: once, behind the update that
    /// brought signatures, or where the key that signed them was lost.
    SignedFromNowOn,
    /// Those alone that this very process makes, which it does not sign: for a copy that is thrown away.
    MadeHere,
}

/// What this process made, by a hash of all that a signature would cover.
#[derive(Default)]
pub(crate) struct OwnApiKeys(RwLock<HashSet<[u8; 32]>>);

impl OwnApiKeys {
    /// A key that is made now.
    ///
    /// # Errors
    /// [`ServiceError::Damaged`]: it cannot be put into words.
    pub(super) fn note(&self, key: &ApiKey, realm: RealmId) -> Result<(), ServiceError> {
        let row = hash(key, realm).ok_or(ServiceError::Damaged("an API key"))?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(row);
        Ok(())
    }

    /// Whether the row is one of them: none is signed, however good a signature may be.
    pub(super) fn has(&self, key: &ApiKey, realm: RealmId) -> bool {
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        key.signature.is_none() && hash(key, realm).is_some_and(|row| own.contains(&row))
    }
}

fn hash(key: &ApiKey, realm: RealmId) -> Option<[u8; 32]> {
    let statement = serde_json::to_vec(&key.statement(realm)).ok()?;
    digest(&SHA256, &statement).as_ref().try_into().ok()
}
