//! Signed configurations: what phones and terminals are told, published again when it changes or grows old
//! (docs/adr/0016-signed-configuration-and-audit-heads.md).

use std::sync::PoisonError;

use aws_lc_rs::digest::{Context, SHA256};
use tapfer_emv::document::{DocumentKey, DocumentPurpose};
use tapfer_payment_types::configuration::{
    Audience, CONFIGURATION_FORMAT, CardAuthority, CardIssuer, Configuration, Content,
    MAXIMUM_DOCUMENT_LENGTH, PhoneConfiguration, RevokedIssuerCertificate, SignedConfiguration,
    SignedDocument, TerminalTrust,
};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{IssuerId, Timestamp};
use tapfer_payments::access::Principal;
use tapfer_storage::{PublishedConfiguration, StorageError};

use crate::api::issuers::Trust;
use crate::service::caller::Caller;
use crate::service::{Service, ServiceError};

/// A configuration lives so long: seven days, as long as the longest-lived keys of a phone.
const LIFE_SECONDS: i64 = 7 * 86_400;
/// One that has not changed is signed again after this, with the newest audit head: six hours.
const RENEWAL_SECONDS: i64 = 6 * 3_600;
/// Two that publish at the same moment, of two processes: the slower one looks again.
const ATTEMPTS: usize = 8;

impl Service {
    /// The configuration of the caller, or another one that it may see.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn configuration(
        &self,
        caller: &Caller,
        audience: Option<Audience>,
    ) -> Result<SignedConfiguration, ServiceError> {
        let own = match caller.principal {
            Principal::Device(id) => {
                let device = self.storage.device(id)?.ok_or(ServiceError::NotFound("device"))?;
                Audience::Phones(device.issuer)
            }
            Principal::Issuer(id) => Audience::Phones(id),
            Principal::Terminal(_) | Principal::Merchant(_) | Principal::Operator => {
                Audience::Terminals
            }
        };
        let audience = audience.unwrap_or(own);
        if audience != own && caller.principal != Principal::Operator {
            return Err(caller.hide("configuration"));
        }
        if let Audience::Phones(issuer) = audience {
            self.issuer_of_phones(issuer)?;
        }
        self.current_configuration(audience, self.now())
    }

    fn issuer_of_phones(&self, issuer: IssuerId) -> Result<(), ServiceError> {
        self.storage.issuer(issuer)?.map(drop).ok_or(ServiceError::NotFound("issuer"))
    }

    /// What an audience is told now: the published document, or a new one if it does not say so any more.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(super) fn current_configuration(
        &self,
        audience: Audience,
        now: Timestamp,
    ) -> Result<SignedConfiguration, ServiceError> {
        let mut attempts = ATTEMPTS;
        loop {
            // One at a time: the others find what the first has published.
            let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
            let content = self.content(audience, now)?;
            let digest = self.digest(&content)?;
            let published = self.storage.configuration(audience)?;
            let restoration = self.storage.audit_end()?.restoration;
            let is_current = |published: &PublishedConfiguration| {
                (published.content, published.restoration) == (digest, restoration)
                    && (0..RENEWAL_SECONDS.saturating_mul(1_000))
                        .contains(&now.millis_since(published.issued_at))
            };
            if let Some(current) = published.as_ref().filter(|found| is_current(found)) {
                return self.with_successions(current.signed.clone());
            }
            let version = published.map_or(0, |before| before.version).saturating_add(1);
            let published = self.sign_configuration(audience, version, content, digest, now)?;
            let signed = published.signed.clone();
            attempts = attempts.saturating_sub(1);
            match self.storage.publish_configuration(published, now) {
                Err(StorageError::Conflict) if attempts > 0 => {}
                result => {
                    result?;
                    return self.with_successions(signed);
                }
            }
        }
    }

    fn sign_configuration(
        &self,
        audience: Audience,
        version: u64,
        content: Content,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<PublishedConfiguration, ServiceError> {
        let (head, audit_head) = self.sign_audit_head(now)?;
        let restoration = head.restoration;
        let document = Configuration {
            format: CONFIGURATION_FORMAT.to_owned(),
            realm: self.hsm.describe().realm_id,
            audience,
            restoration,
            version,
            issued_at: now,
            expires_at: now.plus_seconds(LIFE_SECONDS),
            audit_key: audit_head.key.clone(),
            audit_head,
            content,
        };
        let signed = self.sign(DocumentPurpose::Configuration, &document)?;
        let issued_at = now;
        Ok(PublishedConfiguration {
            audience,
            restoration,
            version,
            content: digest,
            issued_at,
            signed,
        })
    }

    /// Signs a document, and verifies it as its readers will.
    pub(super) fn sign<T: serde::Serialize>(
        &self,
        purpose: DocumentPurpose,
        document: &T,
    ) -> Result<SignedDocument, ServiceError> {
        let document =
            serde_json::to_string(document).map_err(|_| ServiceError::Damaged("a document"))?;
        if document.len() > MAXIMUM_DOCUMENT_LENGTH {
            let detail =
                "there are too many issuers for one signed configuration: devices would refuse it";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        let key = self.document_key(purpose)?;
        let signature =
            self.ask_hsm("sign_document", |hsm| hsm.sign_document(purpose, document.as_bytes()))?;
        let signed = SignedDocument {
            document,
            key: HexBytes(key.bytes().to_vec()),
            signature: HexBytes(signature.to_vec()),
        };
        let verified: Result<serde::de::IgnoredAny, _> = key.read(purpose, &signed);
        verified.map_err(|_| ServiceError::Damaged("the signature of a document"))?;
        Ok(signed)
    }

    /// The key that signs for a purpose now.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn document_key(
        &self,
        purpose: DocumentPurpose,
    ) -> Result<DocumentKey, ServiceError> {
        self.ask_hsm("document_key", |hsm| hsm.document_key(purpose)).map(DocumentKey::from)
    }

    /// Realm and public key, as a line of text.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(crate) fn configuration_key(&self) -> Result<String, ServiceError> {
        let key = self.document_key(DocumentPurpose::Configuration)?;
        let key = String::from(HexBytes(key.bytes().to_vec()));
        Ok(format!("{} {key}\n", self.hsm.describe().realm_id))
    }

    fn with_successions(
        &self,
        configuration: SignedDocument,
    ) -> Result<SignedConfiguration, ServiceError> {
        let successions = self.storage.key_successions()?;
        Ok(SignedConfiguration { configuration, successions })
    }

    /// Content and signing keys in 32 bytes: whatever changes, the document is made anew.
    fn digest(&self, content: &Content) -> Result<[u8; 32], ServiceError> {
        let content =
            serde_json::to_vec(content).map_err(|_| ServiceError::Damaged("a configuration"))?;
        let mut digest = Context::new(&SHA256);
        for purpose in DocumentPurpose::ALL {
            digest.update(&self.document_key(purpose)?.bytes());
        }
        digest.update(&content);
        let digest = digest.finish();
        digest.as_ref().try_into().map_err(|_| ServiceError::Damaged("a digest"))
    }

    fn content(&self, audience: Audience, now: Timestamp) -> Result<Content, ServiceError> {
        Ok(match audience {
            Audience::Phones(issuer) => {
                let policy = self.storage.policy(issuer)?;
                Content::Phones(PhoneConfiguration {
                    policy: policy.ok_or(ServiceError::Damaged("a policy"))?.policy,
                    merchant_trust: self.merchant_trust(now)?,
                })
            }
            Audience::Terminals => Content::Terminals(for_terminals(self.trust_of(None)?)),
        })
    }
}

fn for_terminals(trust: Trust) -> TerminalTrust {
    let platform = CardAuthority {
        rid: trust.rid,
        ca_index: trust.ca_index,
        public_key_x: trust.ca_public_key_x,
    };
    let others = trust.other_authorities.into_iter().map(|other| CardAuthority {
        rid: other.rid,
        ca_index: other.ca_index,
        public_key_x: other.ca_public_key_x,
    });
    let issuers = trust.issuers.into_iter().map(|issuer| CardIssuer {
        aid: issuer.aid,
        certificate: issuer.certificate,
        pin_key: issuer.pin_key,
    });
    let revoked = trust.revoked_certificates.into_iter().map(|revoked| RevokedIssuerCertificate {
        rid: revoked.rid,
        ca_index: revoked.ca_index,
        serial: revoked.serial,
    });
    TerminalTrust {
        authorities: [platform].into_iter().chain(others).collect(),
        issuers: issuers.collect(),
        revoked_certificates: revoked.collect(),
    }
}
