//! What the journal has in front of the tables, as others than the writer need to know it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use tapfer_payment_types::{ApiKeyId, AuthorizationId, PaymentIntentId, TokenId};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::intents::PaymentIntent;

use crate::decided::Decided;
use crate::idempotency::GivenAnswer;
use crate::relational::Result;
use crate::{IdempotencyClaim, IdempotencyKey, StoredResponse};

type Key = (ApiKeyId, IdempotencyKey);

/// Payments that are on the disk, and not in the tables yet. Whoever looks for one looks here before he looks at the
/// tables: what is not here any more is there by then.
#[derive(Debug, Default)]
pub(super) struct PaymentsAhead {
    known: RwLock<Known>,
    payments: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Key, GivenAnswer>,
    authorizations: HashMap<AuthorizationId, Authorization>,
    /// As a payment left them, and which payment that was: the newest.
    intents: HashMap<PaymentIntentId, (AuthorizationId, PaymentIntent)>,
    /// How many payments of each.
    tokens: HashMap<TokenId, usize>,
}

impl PaymentsAhead {
    /// The answer given under this claim.
    pub(super) fn answer(&self, claim: &IdempotencyClaim) -> Result<Option<StoredResponse>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let given = known.answers.get(&(claim.api_key, claim.key.clone()));
        given.map(|given| claim.believe(given.kept())).transpose()
    }

    /// A decision.
    pub(super) fn authorization(&self, id: AuthorizationId) -> Option<Authorization> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.authorizations.get(&id).cloned()
    }

    /// An intent as the newest payment left it.
    pub(super) fn intent(&self, id: PaymentIntentId) -> Option<PaymentIntent> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.intents.get(&id).map(|(_, intent)| intent.clone())
    }

    /// Whether there is a payment of this token.
    pub(super) fn has_token(&self, token: TokenId) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tokens.contains_key(&token)
    }

    /// These are on the disk now.
    pub(super) fn add(&self, payments: &[Decided]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        payments.iter().for_each(|decided| known.add(decided));
        self.payments.fetch_add(payments.len(), Ordering::Release);
    }

    /// These are in the tables now.
    pub(super) fn remove(&self, payments: &[Decided]) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        payments.iter().for_each(|decided| known.remove(decided));
        self.payments.fetch_sub(payments.len(), Ordering::Release);
    }

    /// How many payments the tables do not know yet.
    pub(super) fn payments(&self) -> usize {
        self.payments.load(Ordering::Acquire)
    }
}

impl Known {
    fn add(&mut self, decided: &Decided) {
        let authorization = &decided.authorization;
        if let Some(given) = &decided.answer {
            self.answers.insert((given.api_key, given.key.clone()), given.clone());
        }
        if let Some(intent) = &decided.intent {
            self.intents.insert(intent.id, (authorization.id, intent.clone()));
        }
        if let Some(token) = authorization.token {
            let count = self.tokens.entry(token).or_default();
            *count = count.saturating_add(1);
        }
        self.authorizations.insert(authorization.id, authorization.clone());
    }

    fn remove(&mut self, decided: &Decided) {
        let authorization = &decided.authorization;
        if let Some(given) = &decided.answer {
            self.answers.remove(&(given.api_key, given.key.clone()));
        }
        // A newer payment may have left the intent in another state.
        if let Some(intent) = &decided.intent
            && self.intents.get(&intent.id).is_some_and(|(by, _)| *by == authorization.id)
        {
            self.intents.remove(&intent.id);
        }
        if let Some(token) = authorization.token
            && let Some(count) = self.tokens.get_mut(&token)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.tokens.remove(&token);
            }
        }
        self.authorizations.remove(&authorization.id);
    }
}
