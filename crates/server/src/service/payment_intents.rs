//! Payment intents: what a merchant wants to be paid.

use tapfer_payment_types::{MerchantId, Money, PaymentIntentId};
use tapfer_payments::access::Principal;
use tapfer_payments::intents::{CaptureMethod, PaymentIntent};
use tapfer_storage::{Page, Slice, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

/// A terminal waits this long for a card, so that a till that died blocks no terminal for good.
const ARMED_SECONDS: i64 = 300;

fn created_intent(intent: &PaymentIntent) -> StoredResponse {
    created(&api::payment_intents::PaymentIntent::from(intent))
}

fn changed_intent(intent: &PaymentIntent) -> StoredResponse {
    done(&api::payment_intents::PaymentIntent::from(intent))
}

impl Service {
    /// A merchant wants to be paid.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_intent(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::payment_intents::CreatePaymentIntent,
    ) -> Result<Answered, ServiceError> {
        let merchant = caller.as_merchant()?;
        self.once(caller, repetition, created_intent, |write| {
            let intent = PaymentIntent::new(
                PaymentIntentId::new(write.now, self.random()?),
                merchant,
                Money::new(request.amount.minor(), request.currency),
                request.capture_method.unwrap_or(CaptureMethod::Automatic),
                request.reference.map(String::from),
                write.now,
            )
            .map_err(|error| ServiceError::Invalid(error.to_string()))?;
            Ok(self.storage.create_intent(intent, write)?)
        })
    }

    /// One payment intent. A terminal sees those it was armed for.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn intent(
        &self,
        caller: &Caller,
        id: PaymentIntentId,
    ) -> Result<PaymentIntent, ServiceError> {
        caller.require_payment_role()?;
        let intent = self.storage.intent(id)?.ok_or(ServiceError::NotFound("payment intent"))?;
        match (caller.principal, intent.arming) {
            (Principal::Terminal(own), Some(arming)) if arming.terminal == own => {}
            (Principal::Terminal(_), _) => return Err(caller.hide("payment intent")),
            _ => caller.require_merchant(intent.merchant, "payment intent")?,
        }
        Ok(intent)
    }

    /// Payment intents.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_intents(
        &self,
        caller: &Caller,
        merchant: Option<MerchantId>,
        page: Page<PaymentIntentId>,
    ) -> Result<Slice<PaymentIntent, PaymentIntentId>, ServiceError> {
        let scope = caller.merchant_scope()?;
        if let Some(merchant) = merchant {
            caller.require_merchant(merchant, "merchant")?;
        }
        Ok(self.storage.list_intents(merchant.or(scope), page)?)
    }

    /// Readies one terminal of the merchant for one tap.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn arm_intent(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: PaymentIntentId,
        request: &api::payment_intents::ArmTerminal,
    ) -> Result<Answered, ServiceError> {
        self.require_own_intent(caller, id)?;
        let terminal = self.terminal(caller, request.terminal)?.id;
        self.once(caller, repetition, changed_intent, |write| {
            let expires_at = write.now.plus_seconds(ARMED_SECONDS);
            Ok(self.storage.arm_intent(id, terminal, expires_at, write)?)
        })
    }

    /// Gives a payment intent up.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn cancel_intent(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: PaymentIntentId,
    ) -> Result<Answered, ServiceError> {
        self.require_own_intent(caller, id)?;
        self.once(caller, repetition, changed_intent, |write| {
            Ok(self.storage.cancel_intent(id, write)?)
        })
    }

    /// Takes held money for the merchant.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn capture_intent(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: PaymentIntentId,
        request: api::payment_intents::Capture,
    ) -> Result<Answered, ServiceError> {
        self.require_own_intent(caller, id)?;
        let amount = request.amount.map(api::Amount::minor);
        self.once(caller, repetition, changed_intent, |write| {
            Ok(self.storage.capture_intent(id, amount, write)?)
        })
    }

    /// Changing an intent is for its merchant and the operator; a terminal only looks.
    pub(super) fn require_own_intent(
        &self,
        caller: &Caller,
        id: PaymentIntentId,
    ) -> Result<(), ServiceError> {
        caller.merchant_scope()?;
        self.intent(caller, id).map(|_| ())
    }
}
