//! The fault that is planted where decisions are to rest on what is so when they are written down: they rest on what was so before
//! the security module was asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tapfer_payment_types::PaymentIntentId;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payments::authorization::Facts;

use super::{Result, SimulatedNode};
use crate::undecided::decide_on;
use crate::{AuthorizationStore as _, FactsQuery, Made, Undecided};

/// What was so of each payment.
#[derive(Default)]
pub(super) struct Before(Mutex<HashMap<PaymentIntentId, Result<Facts>>>);

/// Whether that control is taken away.
pub(super) fn decides_on_what_was() -> bool {
    is_skipped(Control::RecheckAtCommit)
}

impl SimulatedNode {
    fn before(&self) -> MutexGuard<'_, HashMap<PaymentIntentId, Result<Facts>>> {
        self.before.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember(&self, queries: &[FactsQuery]) {
        if decides_on_what_was() {
            let facts = self.facts_of_authorizations(queries);
            let of = queries.iter().map(|query| query.payment_intent);
            self.before().extend(of.zip(facts));
        }
    }

    pub(super) fn decide_on_what_was(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        let facts = undecided.iter().map(|one| {
            let before = self.before().remove(&one.query.payment_intent);
            before.unwrap_or_else(|| self.authorization_facts(one.query.clone()))
        });
        let facts = facts.collect();
        decide_on(self, undecided, facts)
    }
}
