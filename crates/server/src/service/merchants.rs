//! Merchants.

use tapfer_payment_types::MerchantId;
use tapfer_payments::access::Principal;
use tapfer_payments::merchants::Merchant;
use tapfer_storage::{Page, Slice};

use crate::api;
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

impl Service {
    /// Makes a merchant and its API key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn create_merchant(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::merchants::CreateMerchant,
    ) -> Result<Answered, ServiceError> {
        caller.require_operator()?;
        self.once_with_secret(repetition, || {
            let now = self.now();
            let merchant = Merchant {
                id: MerchantId::new(now, self.random()?),
                name: String::from(request.name),
                country: request.country,
                category_code: request.category_code,
                created_at: now,
            };
            let principal = Principal::Merchant(merchant.id);
            let (key, text) = self.new_api_key(principal, now)?;
            let clear = created(&api::merchants::CreatedMerchant {
                merchant: (&merchant).into(),
                api_key: text.expose().clone(),
                api_key_id: key.id,
            });
            let write = self.sealed_write(caller, repetition, &clear)?;
            Ok((clear, self.storage.create_merchant(merchant, key, write)?))
        })
    }

    /// One merchant.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn merchant(
        &self,
        caller: &Caller,
        id: MerchantId,
    ) -> Result<Merchant, ServiceError> {
        caller.require_merchant(id, "merchant")?;
        self.storage.merchant(id)?.ok_or(ServiceError::NotFound("merchant"))
    }

    /// All merchants, or the caller itself.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_merchants(
        &self,
        caller: &Caller,
        page: Page<MerchantId>,
    ) -> Result<Slice<Merchant, MerchantId>, ServiceError> {
        match caller.merchant_scope()? {
            None => Ok(self.storage.list_merchants(page)?),
            Some(own) => Ok(Slice { items: vec![self.merchant(caller, own)?], next: None }),
        }
    }
}
