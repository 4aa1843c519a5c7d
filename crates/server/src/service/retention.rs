//! What has ended is kept for a while, and erased then.

use tapfer_payments::retention::RetentionLimit;
use tapfer_storage::StoredResponse;

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn set(limit: &RetentionLimit) -> StoredResponse {
    done(&api::retention::Retention::from(*limit))
}

impl Service {
    /// For how long what has ended is kept.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn retention(&self, caller: &Caller) -> Result<RetentionLimit, ServiceError> {
        caller.issuer_scope()?;
        Ok(self.storage.retention_limit()?)
    }

    /// Keeps what has ended for another time. Operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_retention(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: api::retention::SetRetention,
    ) -> Result<Answered, ServiceError> {
        caller.require_operator()?;
        let limit = RetentionLimit::new(request.days)
            .map_err(|error| ServiceError::Invalid(error.to_string()))?;
        self.once(caller, repetition, set, |write| {
            let reason = String::from(request.reason);
            Ok(self.storage.set_retention_limit(limit, reason, write)?)
        })
    }

    /// Erases what has ended and is past its limit: how many rows. Each hour, and before the first request: a backup that was restored
    /// holds what was erased behind it.
    ///
    /// # Errors
    /// [`ServiceError::Storage`]; with [`tapfer_storage::Refusal::ClockAhead`] as long as nobody has looked at the clock.
    pub(crate) fn erase_ended(&self) -> Result<usize, ServiceError> {
        Ok(self.storage.erase_ended(self.now())?)
    }
}
