//! Signed configurations: what phones and terminals are told, published again when it changes or grows old
//! (docs/adr/0016-signed-configuration-and-audit-heads.md).

use std::sync::Arc;

use tapfer_emv::document::DocumentPurpose;
use tapfer_hsm::DocumentKeyRecord;
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
use crate::service::document_keys::DocumentKeys;
use crate::service::{Service, ServiceError};

/// A configuration lives so long: seven days, as long as the longest-lived keys of a phone.
const LIFE_SECONDS: i64 = 7 * 86_400;
/// One that has not changed is signed again after this, with the newest audit head, when a device asks: whoever
/// has asked knows the audit chain as it was an hour before, or later.
const RENEWAL_SECONDS: i64 = 3_600;
/// Modules and this service meet a new key one after the other: behind the first attempt all have followed.
const SIGNING_ATTEMPTS: usize = 3;
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
    /// Each version has its event in the audit log, so none is higher than the log is long: whoever puts a document
    /// into the database that he has signed himself cannot use up the numbers.
    ///
    /// Nobody waits for another here. Two that sign at the same moment find out when they publish, and the slower
    /// one takes what the other has published.
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
            let content = self.content(audience, now)?;
            let keys = self.document_keys()?;
            let end = self.storage.audit_end()?;
            let before = self.storage.configuration(audience)?;
            let said = before.as_ref().and_then(|signed| self.said_before(signed, &keys));
            let said = said.filter(|said| {
                said.audience == audience
                    && said.restoration == end.restoration
                    && said.version <= end.sequence.saturating_add(1)
            });
            if let (Some(said), Some(signed)) = (&said, &before)
                && said.content == content
                && signed.key.0 == keys.configuration.bytes()
                && said.audit_key.0 == keys.audit_head.bytes()
                && (0..RENEWAL_SECONDS.saturating_mul(1_000))
                    .contains(&now.millis_since(said.issued_at))
            {
                let configuration = signed.clone();
                return Ok(SignedConfiguration {
                    configuration,
                    successions: keys.successions.clone(),
                });
            }
            let version = said.map_or(0, |said| said.version).saturating_add(1);
            let (keys, signed) = self.sign_configuration(audience, version, content, now)?;
            let published = PublishedConfiguration { audience, version, signed: signed.clone() };
            attempts = attempts.saturating_sub(1);
            match self.storage.publish_configuration(published, before, now) {
                Err(StorageError::Conflict) if attempts > 0 => {}
                result => {
                    result?;
                    let successions = keys.successions.clone();
                    return Ok(SignedConfiguration { configuration: signed, successions });
                }
            }
        }
    }

    /// What a document says that this platform signed: with the key of now, or with one that it followed.
    /// What stands beside a document in the database, and what nobody signed, counts for nothing.
    fn said_before(&self, signed: &SignedDocument, keys: &DocumentKeys) -> Option<Configuration> {
        let signed_by = tapfer_emv::document::key(&signed.key.0)?;
        let is_own = signed_by == keys.configuration
            || keys.successions.iter().any(|step| step.key == signed.key);
        let said: Configuration =
            signed_by.read(DocumentPurpose::Configuration, signed).ok().filter(|_| is_own)?;
        (said.realm == self.hsm.describe().realm_id).then_some(said)
    }

    fn sign_configuration(
        &self,
        audience: Audience,
        version: u64,
        content: Content,
        now: Timestamp,
    ) -> Result<(Arc<DocumentKeys>, SignedDocument), ServiceError> {
        let (head, audit_head) = self.sign_audit_head(now)?;
        let document = Configuration {
            format: CONFIGURATION_FORMAT.to_owned(),
            realm: self.hsm.describe().realm_id,
            audience,
            restoration: head.restoration,
            version,
            issued_at: now,
            expires_at: now.plus_seconds(LIFE_SECONDS),
            audit_key: audit_head.key.clone(),
            audit_head,
            content,
        };
        self.sign(DocumentPurpose::Configuration, &document)
    }

    /// Signs a document, and verifies it as its readers will. Gives the keys of which one has signed.
    pub(super) fn sign<T: serde::Serialize>(
        &self,
        purpose: DocumentPurpose,
        document: &T,
    ) -> Result<(Arc<DocumentKeys>, SignedDocument), ServiceError> {
        let document =
            serde_json::to_string(document).map_err(|_| ServiceError::Damaged("a document"))?;
        if document.len() > MAXIMUM_DOCUMENT_LENGTH {
            let detail =
                "there are too many issuers for one signed configuration: devices would refuse it";
            return Err(ServiceError::Conflict(detail.to_owned()));
        }
        for attempt in 1..=SIGNING_ATTEMPTS {
            let keys = self.document_keys()?;
            let key = keys.that_signs(purpose);
            let signature = self
                .ask_hsm("sign_document", |hsm| hsm.sign_document(purpose, document.as_bytes()))?;
            let signed = SignedDocument {
                document: document.clone(),
                key: HexBytes(key.bytes().to_vec()),
                signature: HexBytes(signature.to_vec()),
            };
            let verified: Result<serde::de::IgnoredAny, _> = key.read(purpose, &signed);
            if verified.is_ok() {
                return Ok((keys, signed));
            }
            // A module that follows the catalogue sooner than others, and this service, signs with a newer key.
            tracing::info!(target: "tapfer::keys", attempt, "a document is signed with another key");
            self.follow_catalogue()?;
            self.document_keys.forget();
        }
        let detail = "the key that signs documents is just being followed by the next; ask again";
        Err(ServiceError::Contention(detail))
    }

    /// The keys that sign documents. Asked for once, and again when the catalogue of keys has changed.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn document_keys(&self) -> Result<Arc<DocumentKeys>, ServiceError> {
        self.document_keys.get_or_ask(|purpose| self.ask_document_keys(purpose))
    }

    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn ask_document_keys(
        &self,
        purpose: DocumentPurpose,
    ) -> Result<Vec<DocumentKeyRecord>, ServiceError> {
        self.ask_hsm("document_keys", |hsm| hsm.document_keys(purpose))
    }

    /// Realm and public key, as a line of text.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(crate) fn configuration_key(&self) -> Result<String, ServiceError> {
        let key = self.document_keys()?.configuration;
        let key = String::from(HexBytes(key.bytes().to_vec()));
        Ok(format!("{} {key}\n", self.hsm.describe().realm_id))
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
            Audience::Terminals => Content::Terminals(for_terminals(self.trust_of(None, now)?)),
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
