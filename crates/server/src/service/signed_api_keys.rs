//! The platform signs whose an API key is. A row that somebody wrote into the database, or changed, is none.
//!
//! With the key of audit heads: every HSM signs with it, and an auditor verifies with the catalogue alone.

use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

use aws_lc_rs::digest::{Context, SHA256};
use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_payment_types::{ApiKeyId, Secret, Timestamp};
use tapfer_payments::access::{ApiKey, Principal};
use tapfer_storage::Inconsistency;

use crate::api_key;
use crate::service::document_keys::DocumentKeys;
use crate::service::rounds::Asked;
use crate::service::{Service, ServiceError};

/// The key that signs API keys, and what is derived from them.
pub(super) const PURPOSE: DocumentPurpose = DocumentPurpose::AuditHead;
/// So many rows are remembered, some 250 bytes each: then all of them are looked at again, each at its next use.
const REMEMBERED: usize = 100_000;
/// So many signatures go into one transaction: others write in between.
const RENEWED_AT_ONCE: usize = 256;

/// What was found to be signed: any statement, by a hash of it and its signature, and API keys as they were then, which each
/// request asks about.
#[derive(Default)]
pub(crate) struct GoodApiKeys(RwLock<Good>);

#[derive(Default)]
struct Good {
    /// How often they were forgotten: what was found with the keys of before is used, and not kept.
    forgotten: u64,
    rows: HashSet<[u8; 32]>,
    keys: HashMap<ApiKeyId, ApiKey>,
}

impl GoodApiKeys {
    fn forgotten(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).forgotten
    }

    /// Whether the key is one of them, to the last bit.
    fn has_key(&self, key: &ApiKey) -> bool {
        let good = self.0.read().unwrap_or_else(PoisonError::into_inner);
        good.keys.get(&key.id) == Some(key)
    }

    fn remember_key(&self, key: &ApiKey, forgotten: u64) {
        let mut good = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if good.forgotten != forgotten {
            return;
        }
        if good.keys.len() >= REMEMBERED {
            good.keys.clear();
        }
        good.keys.insert(key.id, key.clone());
    }

    /// Whether the row is one of them, and how often they were forgotten.
    fn has(&self, row: &[u8; 32]) -> (bool, u64) {
        let good = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (good.rows.contains(row), good.forgotten)
    }

    fn remember(&self, row: [u8; 32], forgotten: u64) {
        let mut good = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if good.forgotten != forgotten {
            return;
        }
        if good.rows.len() >= REMEMBERED {
            good.rows.clear();
        }
        good.rows.insert(row);
    }

    /// All are looked at again: a key may have been destroyed.
    pub(super) fn forget(&self) {
        let mut good = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *good = Good { forgotten: good.forgotten.wrapping_add(1), ..Good::default() };
    }
}

/// The key of audit heads, of those that are not destroyed, with which the statement was signed.
fn signer(keys: &DocumentKeys, statement: &[u8], signature: &[u8; 64]) -> Option<DocumentKey> {
    let signs = |key: &&DocumentKey| PURPOSE.is_signed_by(&(**key).into(), statement, signature);
    keys.audit_heads.iter().rev().find(signs).copied()
}

/// What a statement with its signature is remembered by.
fn row_of(statement: &[u8], signature: &[u8; 64]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(statement);
    hash.update(signature);
    let mut row = [0; 32];
    row.copy_from_slice(hash.finish().as_ref());
    row
}

impl Service {
    /// A new key, signed, and the text that is shown once.
    ///
    /// # Errors
    /// [`ServiceError`] of security module or randomness.
    pub(super) fn new_api_key(
        &self,
        principal: Principal,
        now: Timestamp,
    ) -> Result<(ApiKey, Secret<String>), ServiceError> {
        let (key, text) = api_key::generate(principal, now, self.entropy())?;
        Ok((self.signed(key)?, text))
    }

    fn signed(&self, key: ApiKey) -> Result<ApiKey, ServiceError> {
        let realm = self.hsm.describe().realm_id;
        if let Some(own) = &self.own_api_keys {
            own.note(&key, realm)?;
            return Ok(key);
        }
        let statement = key.statement(realm);
        let (_, signed) = self.sign(PURPOSE, &statement)?;
        let signature = signed.signature.0.try_into();
        let signature = signature.map_err(|_| ServiceError::Damaged("a signature"))?;
        Ok(ApiKey { signature: Some(signature), ..key })
    }

    /// Whether this platform signed the row as it is, or made it, where it signs none. One that it did not is a security
    /// event.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`]: which keys sign is not known, and cannot be asked.
    pub(super) fn has_signed(&self, key: &ApiKey) -> Result<bool, ServiceError> {
        let is_signed = self.is_signed(key)?;
        if !is_signed {
            tracing::warn!(
                target: "tapfer::security", event = "api_key_not_signed", key = %key.id, owner = %key.principal,
                "an API key in the database is not signed by this platform"
            );
        }
        Ok(is_signed)
    }

    fn is_signed(&self, key: &ApiKey) -> Result<bool, ServiceError> {
        if let Some(own) = &self.own_api_keys {
            let realm = self.hsm.describe().realm_id;
            return Ok(own.has(key, realm));
        }
        let Some(signature) = key.signature else { return Ok(false) };
        let forgotten = self.good_api_keys.forgotten();
        let statement = serde_json::to_vec(&key.statement(self.hsm.describe().realm_id));
        let statement = statement.map_err(|_| ServiceError::Damaged("an API key"))?;
        let is_signed = self.is_signed_here(&statement, &signature)?;
        if is_signed {
            self.good_api_keys.remember_key(key, forgotten);
        }
        Ok(is_signed)
    }

    /// Whether that was found out before. Asks nobody.
    pub(super) fn is_known_to_be_signed(&self, key: &ApiKey) -> bool {
        match &self.own_api_keys {
            Some(own) => own.has(key, self.hsm.describe().realm_id),
            None => self.good_api_keys.has_key(key),
        }
    }

    /// Whether a key of audit heads that is not destroyed has signed a statement. What was good once is remembered.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`]: which keys sign is not known, and cannot be asked.
    pub(super) fn is_signed_here(
        &self,
        statement: &[u8],
        signature: &[u8; 64],
    ) -> Result<bool, ServiceError> {
        let row = row_of(statement, signature);
        let (is_good, forgotten) = self.good_api_keys.has(&row);
        if is_good {
            return Ok(true);
        }
        let is_signed = signer(&*self.document_keys()?, statement, signature).is_some();
        if is_signed {
            self.good_api_keys.remember(row, forgotten);
        }
        Ok(is_signed)
    }

    /// Signs the partition map, and keys in force, with the newest key of audit heads that an older one has signed, so that nobody is kept out
    /// when that one is destroyed, and says how many were signed by none. Looks for nothing where there was only ever one,
    /// and where none is signed.
    /// Only where the catalogue was followed since, and never beside itself: with many keys it takes longer than whoever
    /// asks for it waits. What is signed stays, and whoever dies in between goes on at the next start; a row that was
    /// changed meanwhile stays as it is.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module: asked again, it goes on.
    pub(crate) fn renew_api_keys(&self) -> Result<(), ServiceError> {
        let round = match self.renewals.ask() {
            Asked::Begin(round) => round,
            Asked::Nothing | Asked::Running => return Ok(()),
            Asked::Later => {
                tracing::warn!(target: "tapfer::keys",
                    "the catalogue of keys changed while API keys are signed anew for the change before: for this one it \
                     begins late, behind that");
                return Ok(());
            }
        };
        self.ensure_map()?;
        self.renew_all_api_keys()?;
        round.done();
        Ok(())
    }

    fn renew_all_api_keys(&self) -> Result<(), ServiceError> {
        let keys = self.document_keys()?;
        let was_only_one = keys.audit_heads == [keys.audit_head] && !keys.was_audit_head_destroyed;
        if was_only_one || self.own_api_keys.is_some() {
            return Ok(());
        }
        let (mut renewed, mut count, mut refused) = (Vec::new(), 0_usize, 0_usize);
        for key in self.api_keys_in_force()? {
            let statement = serde_json::to_vec(&key.statement(self.hsm.describe().realm_id));
            let (Ok(statement), Some(before)) = (statement, key.signature) else { continue };
            match signer(&keys, &statement, &before) {
                Some(signer) if signer == keys.audit_head => {}
                Some(_) => {
                    renewed.push((before, self.signed(key)?));
                    count = count.saturating_add(1);
                }
                None => refused = refused.saturating_add(1),
            }
            if renewed.len() >= RENEWED_AT_ONCE {
                self.storage.renew_api_keys(std::mem::take(&mut renewed))?;
            }
        }
        self.storage.renew_api_keys(renewed)?;
        if count > 0 {
            tracing::info!(target: "tapfer::keys", count, "API keys are signed anew");
        }
        if refused > 0 {
            tracing::warn!(
                target: "tapfer::security", event = "api_keys_not_signed", count = refused,
                "API keys are refused that a key signed which is destroyed, or which somebody changed in the database. \
                 tapfer audit verify names them; after you have looked at them start once with --accept-api-keys"
            );
        }
        Ok(())
    }

    /// The keys in force, of which each row that makes no sense is named: it is no key.
    fn api_keys_in_force(&self) -> Result<Vec<ApiKey>, ServiceError> {
        let rows = self.storage.api_keys_in_force()?.into_iter();
        Ok(rows.filter_map(|row| row.inspect_err(warn_of_spoiled).ok()).collect())
    }

    /// Says how many API keys have no signature: they are from before keys were signed, or somebody wrote them into the
    /// database.
    ///
    /// # Errors
    /// [`ServiceError::Storage`]
    pub(crate) fn warn_of_unsigned_api_keys(&self) -> Result<(), ServiceError> {
        let in_force = self.api_keys_in_force()?;
        let count = in_force.iter().filter(|key| key.signature.is_none()).count();
        if count > 0 {
            tracing::warn!(
                target: "tapfer::security", event = "api_keys_not_signed", count,
                "API keys that this platform has not signed are refused: they are from before keys were signed, or \
                 somebody wrote them into the database. Behind an update start once with --accept-api-keys"
            );
        }
        Ok(())
    }

    /// Signs every key in force that is not signed, each with its line in both logs: whoever starts the platform wants
    /// it so. But none of the operator's, who makes new ones in a minute: a row that somebody wrote is worth most there.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(crate) fn accept_api_keys(&self) -> Result<(), ServiceError> {
        let mut signed = Vec::new();
        for key in self.api_keys_in_force()? {
            if key.principal == Principal::Operator || self.is_signed(&key)? {
                continue;
            }
            tracing::warn!(target: "tapfer::security", event = "api_key_accepted", key = %key.id, owner = %key.principal,
                "an API key that was not signed is signed now");
            signed.push(self.signed(key)?);
        }
        Ok(self.storage.accept_api_keys(signed, self.now())?)
    }
}

/// Names a row that is no key, whoever spoiled it.
pub(super) fn warn_of_spoiled(row: &Inconsistency) {
    tracing::warn!(
        target: "tapfer::security", event = "api_key_makes_no_sense", key = %row.id, column = row.column,
        "a row of API keys in the database makes no sense and is refused: somebody changed it, or it is damaged. \
         Delete the row with sqlite3, make its owner a new key (tapfer api-key create), and ask who had access"
    );
}
