//! What the journal has in front of the tables, as others than the writer need to know it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use tapfer_payment_types::ApiKeyId;

use crate::decided::Decided;
use crate::relational::Result;
use crate::{IdempotencyClaim, IdempotencyKey, StoredResponse};

type Key = (ApiKeyId, IdempotencyKey);

/// Answers that are on the disk, and not in their table yet.
#[derive(Debug, Default)]
pub(super) struct AnswersAhead {
    answers: RwLock<HashMap<Key, ([u8; 32], StoredResponse)>>,
    payments: AtomicUsize,
}

impl AnswersAhead {
    /// The answer given under this claim.
    pub(super) fn get(&self, claim: &IdempotencyClaim) -> Result<Option<StoredResponse>> {
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        match answers.get(&(claim.api_key, claim.key.clone())) {
            None => Ok(None),
            Some((fingerprint, response)) => {
                claim.require_same(fingerprint).map(|()| Some(response.clone()))
            }
        }
    }

    /// These are on the disk now.
    pub(super) fn add(&self, payments: &[Decided]) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        for (claim, response) in payments.iter().filter_map(|decided| decided.answer.as_ref()) {
            let key = (claim.api_key, claim.key.clone());
            answers.insert(key, (claim.fingerprint, response.clone()));
        }
        self.payments.fetch_add(payments.len(), Ordering::Release);
    }

    /// These are in their table now.
    pub(super) fn remove(&self, payments: &[Decided]) {
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        for (claim, _) in payments.iter().filter_map(|decided| decided.answer.as_ref()) {
            answers.remove(&(claim.api_key, claim.key.clone()));
        }
        self.payments.fetch_sub(payments.len(), Ordering::Release);
    }

    /// How many payments the tables do not know yet.
    pub(super) fn payments(&self) -> usize {
        self.payments.load(Ordering::Acquire)
    }
}
