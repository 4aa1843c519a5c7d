//! Authorizations that were decided: looking at them, and undoing them.

use tapfer_payment_types::{AuthorizationId, PaymentIntentId, ReversalId};
use tapfer_payments::access::Principal;
use tapfer_payments::authorization::Authorization;
use tapfer_payments::reversals::Reversal;
use tapfer_storage::{AuthorizationFilter, NewReversal, Page, Slice, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn reversed(reversal: &Reversal) -> StoredResponse {
    created(&api::authorizations::Reversal::from(reversal))
}

impl Service {
    /// One authorization, for the merchant, its terminal, or the operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn authorization(
        &self,
        caller: &Caller,
        id: AuthorizationId,
    ) -> Result<Authorization, ServiceError> {
        let what = "authorization";
        caller.require_payment_role()?;
        let found = self.storage.authorization(id)?.ok_or(ServiceError::NotFound(what))?;
        caller.require_terminal(found.terminal, found.merchant, what)?;
        Ok(found)
    }

    /// Authorizations.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_authorizations(
        &self,
        caller: &Caller,
        payment_intent: Option<PaymentIntentId>,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>, ServiceError> {
        let filter = match caller.principal {
            Principal::Terminal(own) => {
                AuthorizationFilter { merchant: None, terminal: Some(own), payment_intent }
            }
            _ => {
                let merchant = caller.merchant_scope()?;
                AuthorizationFilter { merchant, terminal: None, payment_intent }
            }
        };
        Ok(self.storage.list_authorizations(filter, page)?)
    }

    /// Undoes an approval: the terminal that lost the answer, its merchant, or the operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn reverse(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: AuthorizationId,
        request: api::authorizations::CreateReversal,
    ) -> Result<Answered, ServiceError> {
        self.authorization(caller, id)?;
        self.once(caller, repetition, reversed, |write| {
            let reversal = NewReversal {
                id: ReversalId::new(write.now, self.random()?),
                authorization: id,
                reason: String::from(request.reason),
            };
            Ok(self.storage.reverse(reversal, write)?)
        })
    }
}
