//! Reversals: approvals that were undone.

use tapfer_payment_types::ReversalId;
use tapfer_payments::access::Principal;
use tapfer_payments::reversals::Reversal;

use crate::service::caller::Caller;
use crate::service::{Service, ServiceError};

impl Service {
    /// One reversal, for whoever sees the authorization that it undid.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn reversal(
        &self,
        caller: &Caller,
        id: ReversalId,
    ) -> Result<Reversal, ServiceError> {
        let what = "reversal";
        if !matches!(caller.principal, Principal::Terminal(_)) {
            caller.merchant_scope()?;
        }
        let reversal = self.storage.reversal(id)?.ok_or(ServiceError::NotFound(what))?;
        match self.authorization(caller, reversal.authorization) {
            Ok(_) => Ok(reversal),
            Err(ServiceError::NotFound(_)) => Err(ServiceError::NotFound(what)),
            Err(error) => Err(error),
        }
    }
}
