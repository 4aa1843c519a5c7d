//! Certificates of issuers that terminals are told not to trust any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tapfer_emv::certificate::{CertificateDate, IssuerCertificate};
use tapfer_hsm::HsmError;
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::revocations::RevokedIssuerCertificate;
use tapfer_storage::StoredResponse;

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::authorities::CA_INDEX;
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn answer(revoked: &RevokedIssuerCertificate) -> StoredResponse {
    done(&api::issuers::RevokedCertificate::from(revoked))
}

/// Certificates that revocations hold, and what becomes of each: read, if an authority of the realm has signed it.
type Looked = HashMap<Vec<u8>, Option<IssuerCertificate>>;

/// What was looked at once is not verified again with each request.
#[derive(Debug, Default)]
pub(super) struct LookedAt(Mutex<Arc<Looked>>);

impl LookedAt {
    /// All that these entries hold, of which new ones are looked at now.
    fn all(
        &self,
        entries: &[RevokedIssuerCertificate],
        look: impl Fn(&[u8]) -> Result<Option<IssuerCertificate>, ServiceError>,
    ) -> Result<Arc<Looked>, ServiceError> {
        let held = || entries.iter().filter_map(|entry| entry.certificate.as_deref());
        let before = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if held().all(|certificate| before.contains_key(certificate)) {
            return Ok(before);
        }
        let mut looked = Looked::new();
        let mut unsigned = 0_usize;
        for certificate in held() {
            let found = match before.get(certificate) {
                Some(found) => found.clone(),
                None => {
                    let found = look(certificate)?;
                    unsigned = unsigned.saturating_add(usize::from(found.is_none()));
                    found
                }
            };
            looked.insert(certificate.to_vec(), found);
        }
        if unsigned > 0 {
            tracing::error!(
                target: "tapfer::security", event = "revocations_passed_over", number = unsigned,
                "revocations of certificates that no authority has signed are in the database, and told to nobody: find out who had the \
                 platform's login to it (docs/disaster-recovery.md, rows that stop a platform)"
            );
        }
        let looked = Arc::new(looked);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&looked);
        Ok(looked)
    }
}

impl Service {
    /// Which certificates devices are told not to trust: those that an authority has signed and that have not expired. Entries from
    /// before they held their certificates are told for good.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(super) fn told_revocations(
        &self,
        now: Timestamp,
    ) -> Result<Vec<RevokedIssuerCertificate>, ServiceError> {
        let mut entries = self.storage.revoked_issuer_certificates()?;
        let looked = self
            .revoked_certificates
            .all(&entries, |certificate| self.signed_certificate(certificate))?;
        entries.retain(|entry| {
            let Some(certificate) = &entry.certificate else { return true };
            looked.get(certificate).and_then(Option::as_ref).is_some_and(|signed| {
                (signed.rid, signed.ca_index, signed.serial)
                    == (entry.rid, entry.ca_index, entry.serial)
                    && CertificateDate::of(now) <= signed.expiry
            })
        });
        Ok(entries)
    }

    /// An issuer's certificate, if an authority of the realm has signed it, however long ago.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`]
    pub(super) fn signed_certificate(
        &self,
        certificate: &[u8],
    ) -> Result<Option<IssuerCertificate>, ServiceError> {
        let parsed = IssuerCertificate::parse(certificate).ok();
        let Some(certificate) = parsed.filter(|parsed| parsed.ca_index == CA_INDEX) else {
            return Ok(None);
        };
        let authority = match self.authority(certificate.rid) {
            Err(ServiceError::Hsm(HsmError::UnknownAuthority { .. })) => return Ok(None),
            authority => authority?,
        };
        let before_any_expiry = Timestamp::from_unix_millis(0);
        Ok(certificate.verify(&authority, before_any_expiry).is_ok().then_some(certificate))
    }

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
        let certificate = self
            .signed_certificate(&issuer.certificate)?
            .ok_or(ServiceError::Damaged("an issuer's certificate"))?;
        let reason = String::from(request.reason);
        self.once(caller, repetition, answer, |write| {
            let revoked = RevokedIssuerCertificate::of(id, &certificate, reason.clone(), write.now);
            Ok(self.storage.revoke_issuer_certificate(revoked, write)?)
        })
    }
}
