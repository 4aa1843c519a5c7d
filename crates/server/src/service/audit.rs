//! The audit chain: its signed heads, and what leads from one to the next.

use std::sync::PoisonError;

use tapfer_emv::audit_chain::{AuditHash, KnownHead};
use tapfer_emv::document::DocumentPurpose;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{
    AUDIT_HEAD_FORMAT, AuditHead, Restoration, SignedDocument,
};
use tapfer_payment_types::messages::HexBytes;
use tapfer_storage::{StorageError, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn restored(restoration: &Restoration) -> StoredResponse {
    done(&api::audit::Restored { restoration: *restoration })
}

impl Service {
    /// The end of the chain as it is now, signed. The same head is not signed twice.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(crate) fn sign_audit_head(
        &self,
        now: Timestamp,
    ) -> Result<(KnownHead, SignedDocument), ServiceError> {
        let end = self.storage.audit_end()?;
        if !end.restoration.may_have_been(now) {
            let detail = "the audit log says that the platform was restored at a time which is to come: the \
                          clock was wrong, or somebody wrote it by hand. No device would believe it. Look into \
                          the log, and say that it goes on: tapfer audit restored";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        let key = self.document_keys()?.audit_head;
        let realm = self.hsm.describe().realm_id;
        let newest = self.storage.newest_audit_head()?;
        let newest = newest.and_then(|one| Some((KnownHead::read(&one, &key, realm).ok()?, one)));
        let signed = match newest {
            Some((head, signed)) if head == end => return Ok((end, signed)),
            other => other.map(|(head, _)| head),
        };
        self.demand_links(signed, end)?;
        let (_, signed) = self.sign(
            DocumentPurpose::AuditHead,
            &AuditHead {
                format: AUDIT_HEAD_FORMAT.to_owned(),
                realm,
                restoration: end.restoration,
                sequence: end.sequence,
                hash: HexBytes(end.hash.to_vec()),
                at: now,
            },
        )?;
        match self.storage.put_audit_head(end, signed.clone()) {
            Err(StorageError::Conflict) => Err(ServiceError::Damaged("the audit chain")),
            result => Ok(result.map(|()| (end, signed))?),
        }
    }

    /// Signs over no link that does not follow from the one before, from what was signed or followed last on: whoever may do
    /// anything in the database would have his own chain vouched for.
    fn demand_links(&self, signed: Option<KnownHead>, end: KnownHead) -> Result<(), ServiceError> {
        let followed = *self.followed_chain.lock().unwrap_or_else(PoisonError::into_inner);
        let known = [signed, followed].into_iter().flatten();
        let is_before =
            |head: &KnownHead| head.restoration == end.restoration && head.sequence <= end.sequence;
        let from = known.filter(is_before).max_by_key(|head| head.sequence);
        if !self.storage.audit_leads(from, end)? {
            tracing::error!(target: "tapfer::security", event = "audit_chain_rewritten", "links of the audit chain were rewritten");
            let detail = "links of the audit chain behind the last signed head do not follow from one another: somebody with the rights of the \
                          database's owner rewrote them, and nothing is signed over that. tapfer audit verify says where; when you have looked \
                          into it, say that it goes on: tapfer audit restored";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        *self.followed_chain.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        Ok(())
    }

    /// Hashes of the events behind a place.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub(crate) fn audit_hashes(
        &self,
        after: u64,
        limit: u16,
    ) -> Result<Vec<AuditHash>, ServiceError> {
        Ok(self.storage.audit_hashes(after, limit)?)
    }

    /// Says to all devices that the platform goes on from a backup: configurations and audit heads may then go
    /// back behind what they know, once, and they tell their people. Operator.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn record_restoration(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        reason: &str,
    ) -> Result<Answered, ServiceError> {
        caller.require_operator()?;
        self.once(caller, repetition, restored, |write| {
            Ok(self.storage.restore(reason.to_owned(), write)?)
        })
    }
}
