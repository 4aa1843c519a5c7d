//! The public keys of signed documents, as the security module gave them last.

use std::sync::{Arc, PoisonError, RwLock};

use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_hsm::catalogue::KeyState;
use tapfer_hsm::{DocumentKeyRecord, HsmError};
use tapfer_payment_types::configuration::SignedDocument;

use crate::service::successions;

/// The keys that sign documents, and the way that led to the one of configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentKeys {
    /// Signs configurations.
    pub(crate) configuration: DocumentKey,
    /// How it came to be it, the oldest step first.
    pub(crate) successions: Vec<SignedDocument>,
    /// Signs ends of the audit chain.
    pub(crate) audit_head: DocumentKey,
    /// All whose signatures count here, the oldest first: those that are not destroyed.
    pub(crate) audit_heads: Vec<DocumentKey>,
    /// Whether there were others.
    pub(crate) was_audit_head_destroyed: bool,
}

impl DocumentKeys {
    /// What the catalogue has of the two purposes.
    fn of(
        configurations: &[DocumentKeyRecord],
        audit_heads: &[DocumentKeyRecord],
    ) -> Result<Self, HsmError> {
        let newest = |keys: &[DocumentKeyRecord]| {
            let active = keys.iter().rev().find(|record| record.state == KeyState::Active);
            active.map(|record| record.key).ok_or(HsmError::UnknownDocumentKey)
        };
        let configuration = newest(configurations)?;
        let lives = |record: &&DocumentKeyRecord| record.state != KeyState::Destroyed;
        Ok(Self {
            configuration,
            successions: successions::steps_to(configurations, configuration),
            audit_head: newest(audit_heads)?,
            audit_heads: audit_heads.iter().filter(lives).map(|record| record.key).collect(),
            was_audit_head_destroyed: !audit_heads.iter().all(|record| lives(&record)),
        })
    }

    pub(crate) const fn that_signs(&self, purpose: DocumentPurpose) -> DocumentKey {
        match purpose {
            DocumentPurpose::Configuration => self.configuration,
            DocumentPurpose::AuditHead => self.audit_head,
        }
    }
}

fn asked<E: From<HsmError>>(
    ask: impl Fn(DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, E>,
) -> Result<Arc<DocumentKeys>, E> {
    let configurations = ask(DocumentPurpose::Configuration)?;
    Ok(Arc::new(DocumentKeys::of(&configurations, &ask(DocumentPurpose::AuditHead)?)?))
}

/// What is known of them. They change with the catalogue of keys, and whoever follows that has them forgotten.
#[derive(Default)]
pub(crate) struct KnownDocumentKeys(RwLock<Known>);

#[derive(Debug, Clone, Default)]
struct Known {
    /// How often they were forgotten: an answer that was on its way then is used, and not kept.
    forgotten: u64,
    keys: Option<Arc<DocumentKeys>>,
}

impl KnownDocumentKeys {
    /// The keys, asked for if they are not known. Nobody waits meanwhile: two may ask.
    pub(crate) fn get_or_ask<E: From<HsmError>>(
        &self,
        ask: impl Fn(DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, E>,
    ) -> Result<Arc<DocumentKeys>, E> {
        let Known { forgotten, keys } =
            self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(keys) = keys {
            return Ok(keys);
        }
        let keys = asked(ask)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.forgotten == forgotten {
            known.keys = Some(Arc::clone(&keys));
        }
        Ok(keys)
    }

    /// Asks for them again. As long as nobody answers, those of before stay: who is let in needs no security module at any moment.
    pub(crate) fn renew<E: From<HsmError>>(
        &self,
        ask: impl Fn(DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, E>,
    ) -> Result<(), E> {
        let keys = asked(ask)?;
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *known = Known { forgotten: known.forgotten.wrapping_add(1), keys: Some(keys) };
        Ok(())
    }

    /// They are asked for again.
    pub(crate) fn forget(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *known = Known { forgotten: known.forgotten.wrapping_add(1), keys: None };
    }
}
