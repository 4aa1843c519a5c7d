//! Certificates of issuers that terminals are told not to trust any more.

use tapfer_emv::certificate::IssuerCertificate;
use tapfer_payment_types::IssuerId;
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_storage::StoredResponse;

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn answer(revoked: &RevokedIssuerCertificate) -> StoredResponse {
    done(&api::issuers::RevokedCertificate::from(revoked))
}

impl Service {
    /// Takes an issuer's certificate out of use, for good. Terminals hear of it with `/v1/trust`.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn revoke_issuer_certificate(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: IssuerId,
        request: api::issuers::RevokeCertificate,
    ) -> Result<Answered, ServiceError> {
        caller.require_operator()?;
        let issuer = self.issuer(caller, id)?;
        let certificate = IssuerCertificate::parse(&issuer.certificate)
            .map_err(|_| ServiceError::Damaged("an issuer's certificate"))?;
        let reason = String::from(request.reason);
        self.once(caller, repetition, answer, |write| {
            let revoked = RevokedIssuerCertificate::of(id, &certificate, reason.clone(), write.now);
            Ok(self.storage.revoke_issuer_certificate(revoked, write)?)
        })
    }
}
