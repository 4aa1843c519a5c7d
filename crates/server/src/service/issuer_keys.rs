//! Issuers' records follow their keys: what the people who keep the keys change, cards made from here on
//! are made under.

use tapfer_emv::certificate::IssuerCertificate;
use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose};
use tapfer_payment_types::Timestamp;
use tapfer_payments::audit::{self, AuditAction, AuditEvent};
use tapfer_payments::issuers::Issuer;
use tapfer_storage::{Answer, StoredResponse, Write};

use crate::service::{Service, ServiceError};

impl Service {
    /// Compares every issuer's record with its newest keys in the security module, and says how many were
    /// brought up to date. Older keys go on serving the cards that were made under them.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module. An issuer whose keys cannot be followed keeps none of the
    /// others from being followed; the first failure is told at the end.
    pub(crate) fn follow_keys(&self) -> Result<usize, ServiceError> {
        self.follow_catalogue()?;
        self.document_keys.forget();
        let (mut renewed, mut failed) = (0_usize, None);
        for issuer in self.all_issuers()? {
            let id = issuer.id;
            match self.follow_keys_of(issuer) {
                Ok(is_renewed) => renewed = renewed.saturating_add(usize::from(is_renewed)),
                Err(error) => {
                    tracing::error!(target: "tapfer::keys", issuer = %id, cause = %error,
                        "newer keys of an issuer cannot be taken over");
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(renewed), Err)
    }

    /// Says in the audit log that keys were made, of their first generation.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(super) fn note_new_keys(
        &self,
        owner: KeyOwner,
        purposes: &[KeyPurpose],
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        for purpose in purposes {
            let key = KeyName { owner, purpose: *purpose, generation: 1 };
            let event =
                AuditEvent::of_platform(AuditAction::KeyCreated, key.to_string(), None, now);
            self.storage.record_audit(event)?;
        }
        Ok(())
    }

    fn follow_keys_of(&self, issuer: Issuer) -> Result<bool, ServiceError> {
        let keys = self.ask_hsm("issuer_keys", |hsm| hsm.issuer_keys(issuer.id))?;
        let certified = IssuerCertificate::parse(&issuer.certificate)
            .map_err(|_| ServiceError::Damaged("an issuer's certificate"))?;
        let same_signer = certified.public_key == keys.public_key;
        if same_signer && issuer.derivation_key_index == keys.derivation_key_index {
            return Ok(false);
        }
        let now = self.now();
        let certificate = match same_signer {
            true => issuer.certificate.clone(),
            false => self.certify(&issuer, &keys, now)?,
        };
        let answer = Answer::Known(StoredResponse { status: 200, body: Vec::new() });
        let write = Write { caller: audit::Caller::platform(), claim: None, answer, now };
        let index = keys.derivation_key_index;
        self.storage.renew_issuer_keys(issuer.id, index, certificate, write)?;
        tracing::info!(target: "tapfer::keys", issuer = %issuer.id, index, "newer keys of an issuer");
        Ok(true)
    }
}
