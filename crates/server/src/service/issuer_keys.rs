//! Issuers' records follow their keys: what the people who keep the keys change, cards made from here on
//! are made under.

use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose};
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::audit::{self, AuditAction, AuditEvent};
use tapfer_payments::issuers::Issuer;
use tapfer_storage::{Answer, Storage, StoredResponse, Write};

use crate::service::{Service, ServiceError};

/// Says in the audit log that keys were made, of their first generation.
///
/// # Errors
/// [`ServiceError::Storage`].
pub(super) fn note_new_keys(
    storage: &dyn Storage,
    owner: KeyOwner,
    purposes: &[KeyPurpose],
    now: Timestamp,
) -> Result<(), ServiceError> {
    for purpose in purposes {
        let key = KeyName { owner, purpose: *purpose, generation: 1 };
        let event = AuditEvent::of_platform(AuditAction::KeyCreated, key.to_string(), None, now);
        storage.record_audit(event)?;
    }
    Ok(())
}

impl Service {
    /// Compares every issuer's record with its newest keys in the security module, and brings it up to date. Older
    /// keys go on serving the cards that were made under them. API keys are to be signed anew from here on. Gives the issuers
    /// whose keys cannot be followed; they keep none of the others from being followed.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module: not all was followed.
    pub(crate) fn follow_keys(&self) -> Result<Vec<IssuerId>, ServiceError> {
        self.follow_catalogue()?;
        self.document_keys.renew(|purpose| self.ask_document_keys(purpose))?;
        // Behind the keys: what is found with those of before from here on is not kept.
        self.good_api_keys.forget();
        self.renewals.want();
        self.follow_client_authorities()?;
        Ok(self.follow_keys_of(self.all_issuers()?))
    }

    /// The same for those whose keys could not be followed before.
    ///
    /// # Errors
    /// [`ServiceError::Storage`]
    pub(crate) fn follow_keys_again(
        &self,
        failed: &[IssuerId],
    ) -> Result<Vec<IssuerId>, ServiceError> {
        let issuers = self.all_issuers()?.into_iter();
        Ok(self.follow_keys_of(issuers.filter(|issuer| failed.contains(&issuer.id))))
    }

    fn follow_keys_of(&self, issuers: impl IntoIterator<Item = Issuer>) -> Vec<IssuerId> {
        let followed = issuers.into_iter().filter_map(|issuer| {
            let id = issuer.id;
            let error = self.follow_keys_of_one(issuer).err()?;
            tracing::error!(target: "tapfer::keys", issuer = %id, cause = %error,
                "newer keys of an issuer cannot be taken over");
            Some(id)
        });
        followed.collect()
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
        note_new_keys(&*self.storage, owner, purposes, now)
    }

    fn follow_keys_of_one(&self, issuer: Issuer) -> Result<(), ServiceError> {
        let keys = self.ask_hsm("issuer_keys", |hsm| hsm.issuer_keys(issuer.id))?;
        let certified = self.signed_certificate(&issuer.certificate)?;
        if certified.is_none() {
            tracing::error!(target: "tapfer::security", event = "certificate_replaced", issuer = %issuer.id,
                "the certificate of an issuer in the database is none that an authority has signed: it is certified anew");
        }
        let is_of_keys = certified.is_some_and(|certified| certified.public_key == keys.public_key);
        if is_of_keys && issuer.derivation_key_index == keys.derivation_key_index {
            return Ok(());
        }
        let now = self.now();
        let certificate = match is_of_keys {
            true => issuer.certificate.clone(),
            false => self.certify(&issuer, &keys, now)?,
        };
        let answer = Answer::Known(StoredResponse { status: 200, body: Vec::new() });
        let write = Write { caller: audit::Caller::platform(), claim: None, answer, now };
        let index = keys.derivation_key_index;
        self.storage.renew_issuer_keys(issuer.id, index, certificate, write)?;
        tracing::info!(target: "tapfer::keys", issuer = %issuer.id, index, "newer keys of an issuer");
        Ok(())
    }
}
