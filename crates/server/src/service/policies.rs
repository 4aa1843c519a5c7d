//! Issuers' verification policies.

use tapfer_payment_types::IssuerId;
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payments::policies::IssuedPolicy;
use tapfer_storage::StoredResponse;

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn answer(issued: &IssuedPolicy) -> StoredResponse {
    done(&api::policies::IssuerPolicy::from(issued))
}

impl Service {
    /// Sets an issuer's policy. Phones get it with their next keys.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn set_policy(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        issuer: IssuerId,
        policy: VerificationPolicy,
    ) -> Result<Answered, ServiceError> {
        self.issuer(caller, issuer)?;
        self.once(caller, repetition, answer, |write| {
            Ok(self.storage.set_policy(issuer, policy, write)?)
        })
    }

    /// The policy that an issuer's phones are given now.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn policy(
        &self,
        caller: &Caller,
        issuer: IssuerId,
    ) -> Result<IssuedPolicy, ServiceError> {
        self.issuer(caller, issuer)?;
        self.storage.policy(issuer)?.ok_or(ServiceError::Damaged("a policy"))
    }
}
