//! The public keys of signed documents, as the security module gave them last.

use std::sync::{PoisonError, RwLock};

use tapfer_emv::document::{DocumentKey, DocumentPurpose};

/// The keys that sign now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DocumentKeys {
    /// Signs configurations.
    pub(crate) configuration: DocumentKey,
    /// Signs ends of the audit chain.
    pub(crate) audit_head: DocumentKey,
}

impl DocumentKeys {
    pub(crate) const fn of(self, purpose: DocumentPurpose) -> DocumentKey {
        match purpose {
            DocumentPurpose::Configuration => self.configuration,
            DocumentPurpose::AuditHead => self.audit_head,
        }
    }
}

/// What is known of them. They change with the catalogue of keys, and whoever follows that has them forgotten.
#[derive(Default)]
pub(crate) struct KnownDocumentKeys(RwLock<Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// How often they were forgotten: an answer that was on its way then is used, and not kept.
    forgotten: u64,
    keys: Option<DocumentKeys>,
}

impl KnownDocumentKeys {
    /// The keys, asked for if they are not known. Nobody waits meanwhile: two may ask.
    pub(crate) fn get_or_ask<E>(
        &self,
        ask: impl Fn(DocumentPurpose) -> Result<DocumentKey, E>,
    ) -> Result<DocumentKeys, E> {
        let Known { forgotten, keys } = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = keys {
            return Ok(keys);
        }
        let keys = DocumentKeys {
            configuration: ask(DocumentPurpose::Configuration)?,
            audit_head: ask(DocumentPurpose::AuditHead)?,
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.forgotten == forgotten {
            known.keys = Some(keys);
        }
        Ok(keys)
    }

    /// They are asked for again.
    pub(crate) fn forget(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *known = Known { forgotten: known.forgotten.wrapping_add(1), keys: None };
    }
}
