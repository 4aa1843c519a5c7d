//! Refunds: money given back after a payment.

use tapfer_payment_types::{PaymentIntentId, RefundId};
use tapfer_payments::refunds::Refund;
use tapfer_storage::{NewRefund, Page, RefundFilter, Slice, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn answer(refund: &Refund) -> StoredResponse {
    created(&api::refunds::Refund::from(refund))
}

impl Service {
    /// Gives money back.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_refund(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::refunds::CreateRefund,
    ) -> Result<Answered, ServiceError> {
        self.require_own_intent(caller, request.payment_intent)?;
        self.once(caller, repetition, answer, |write| {
            let refund = NewRefund {
                id: RefundId::new(write.now, self.random()?),
                payment_intent: request.payment_intent,
                amount_minor: request.amount.map(api::Amount::minor),
            };
            Ok(self.storage.create_refund(refund, write)?)
        })
    }

    /// One refund.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn refund(&self, caller: &Caller, id: RefundId) -> Result<Refund, ServiceError> {
        let what = "refund";
        caller.merchant_scope()?;
        let refund = self.storage.refund(id)?.ok_or(ServiceError::NotFound(what))?;
        let intent = self.storage.intent(refund.payment_intent)?;
        let intent = intent.ok_or(ServiceError::Damaged("a refund"))?;
        caller.require_merchant(intent.merchant, what)?;
        Ok(refund)
    }

    /// Refunds.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_refunds(
        &self,
        caller: &Caller,
        payment_intent: Option<PaymentIntentId>,
        page: Page<RefundId>,
    ) -> Result<Slice<Refund, RefundId>, ServiceError> {
        let filter = RefundFilter { merchant: caller.merchant_scope()?, payment_intent };
        Ok(self.storage.list_refunds(filter, page)?)
    }
}
