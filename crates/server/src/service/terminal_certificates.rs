//! Certificates with which terminals prove to phones whose they are, and whom phones are told to believe
//! (docs/adr/0008-merchant-proof.md).
//!
//! A certificate is written down before it leaves the house: what is not written down could not be
//! revoked. Phones hear of revoked ones with every replenishment.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_hsm::catalogue::{KeyOwner, KeyPurpose};
use tapfer_hsm::{DocumentPurpose, HsmError, MerchantCertificateRequest};
use tapfer_payment_types::messages::{
    HexBytes, MAXIMUM_REVOKED_SERIALS, MerchantTrust, terminal_key_possession,
};
use tapfer_payment_types::{TerminalCertificateId, TerminalId, Timestamp};
use tapfer_payments::terminals::{
    CERTIFICATE_LIFE_SECONDS, MAXIMUM_CERTIFICATE_LIFE_SECONDS, MINIMUM_CERTIFICATE_LIFE_SECONDS,
    Terminal, TerminalCertificate,
};
use tapfer_storage::{Page, Slice, StoredResponse};

use crate::api;
use crate::service::answer::{Answered, created, done};
use crate::service::caller::Caller;
use crate::service::repetition::Repetition;
use crate::service::{Service, ServiceError};

fn certified(certificate: &TerminalCertificate) -> StoredResponse {
    created(&api::terminals::TerminalCertificate::from(certificate))
}

fn revoked(terminal: &Terminal) -> StoredResponse {
    done(&api::terminals::Terminal::from(terminal))
}

impl Service {
    /// The merchant CA's key, made if there is none: when the realm is made, or by the first start after
    /// terminals came to be certified.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn ensure_merchant_authority(
        &self,
        now: Timestamp,
    ) -> Result<MerchantCaKey, ServiceError> {
        match self.merchant_ca_key() {
            Err(ServiceError::Hsm(HsmError::UnknownMerchantAuthority)) => {
                let key = self.ask_hsm("create_merchant_authority", |hsm| {
                    hsm.create_merchant_authority(now)
                })?;
                self.note_new_keys(KeyOwner::Platform, &[KeyPurpose::MerchantAuthority], now)?;
                Ok(key)
            }
            result => result,
        }
    }

    /// The keys that sign documents of the platform, made if there are none.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`].
    pub(super) fn ensure_document_keys(&self, now: Timestamp) -> Result<(), ServiceError> {
        let any = DocumentPurpose::Configuration;
        match self.ask_hsm("document_key", |hsm| hsm.document_key(any)) {
            Err(ServiceError::Hsm(HsmError::UnknownDocumentKey)) => {
                self.ask_hsm("create_document_keys", |hsm| hsm.create_document_keys(now))?;
                let purposes = DocumentPurpose::ALL.map(KeyPurpose::from);
                self.note_new_keys(KeyOwner::Platform, &purposes, now)
            }
            result => result.map(drop),
        }
    }

    pub(super) fn merchant_ca_key(&self) -> Result<MerchantCaKey, ServiceError> {
        self.ask_hsm("merchant_ca_key", |hsm| hsm.merchant_ca_key())
    }

    /// Certifies the key of the terminal that asks, with its own API key.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn certify_terminal(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TerminalId,
        request: &api::terminals::CreateTerminalCertificate,
    ) -> Result<Answered, ServiceError> {
        if caller.as_terminal()? != id {
            return Err(caller.hide("terminal"));
        }
        self.once(caller, repetition, certified, |write| {
            let public_key = proven_key(id, request)?;
            let expires_at = write.now.plus_seconds(life_seconds(request)?);
            let certificate = self.sign_certificate(id, public_key, expires_at, write.now)?;
            let certificate = TerminalCertificate {
                id: TerminalCertificateId::new(write.now, self.random()?),
                terminal: id,
                serial: certificate.serial,
                certificate: certificate.encode(),
                created_at: write.now,
                expires_at: certificate.expires_at(),
                revoked_at: None,
            };
            Ok(self.storage.add_terminal_certificate(certificate, write)?)
        })
    }

    fn sign_certificate(
        &self,
        id: TerminalId,
        public_key: PublicPoint,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<MerchantCertificate, ServiceError> {
        let terminal = self.storage.terminal(id)?.ok_or(ServiceError::NotFound("terminal"))?;
        let merchant = self.storage.merchant(terminal.merchant)?;
        let merchant = merchant.ok_or(ServiceError::Damaged("a terminal's merchant"))?;
        let name = merchant.name_on_tills();
        let name = name.map_err(|_| ServiceError::Damaged("a merchant's name"))?;
        let request = MerchantCertificateRequest {
            acquirer: self.acquirer,
            merchant: merchant.identifier(),
            terminal: terminal.identification.bytes(),
            name,
            public_key,
            serial: self.random()?,
            expires_at,
            now,
        };
        self.ask_hsm("sign_merchant_certificate", |hsm| hsm.sign_merchant_certificate(&request))
    }

    /// Certificates of a terminal.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn list_terminal_certificates(
        &self,
        caller: &Caller,
        id: TerminalId,
        page: Page<TerminalCertificateId>,
    ) -> Result<Slice<TerminalCertificate, TerminalCertificateId>, ServiceError> {
        self.terminal(caller, id)?;
        Ok(self.storage.list_terminal_certificates(id, page)?)
    }

    /// Ends a terminal for good, with everything that is good only with it. No request that begins after
    /// the answer gets in with its API keys.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn revoke_terminal(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        id: TerminalId,
        request: api::terminals::RevokeTerminal,
    ) -> Result<Answered, ServiceError> {
        caller.merchant_scope()?;
        self.terminal(caller, id)?;
        self.once(caller, repetition, revoked, |write| {
            Ok(self.storage.revoke_terminal(id, String::from(request.reason), write)?)
        })
    }

    /// Whom a phone is to believe from now on.
    ///
    /// # Errors
    /// [`ServiceError`] of store or security module.
    pub(super) fn merchant_trust(&self, now: Timestamp) -> Result<MerchantTrust, ServiceError> {
        let revoked = self.storage.revoked_certificates(now, MAXIMUM_REVOKED_SERIALS)?;
        Ok(MerchantTrust {
            authorities: vec![HexBytes(self.merchant_ca_key()?.bytes().to_vec())],
            revoked_serials: revoked.iter().map(|serial| HexBytes(serial.to_vec())).collect(),
        })
    }
}

/// The key that is to be certified. Whoever asks must hold its private half: a certificate over a key of
/// somebody else would let a terminal pass on proofs that another one made.
fn proven_key(
    terminal: TerminalId,
    request: &api::terminals::CreateTerminalCertificate,
) -> Result<PublicPoint, ServiceError> {
    let invalid = |detail: &str| ServiceError::Invalid(detail.to_owned());
    let bytes: [u8; 64] = request
        .public_key
        .0
        .as_slice()
        .try_into()
        .map_err(|_| invalid("public_key is a point on P-256: x and y, 64 bytes"))?;
    let point = PublicPoint::from_bytes(&bytes)
        .map_err(|_| invalid("public_key is not a point on P-256: send x and y, 64 bytes"))?;
    let uncompressed = [[0x04].as_slice(), &bytes].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, uncompressed)
        .verify(&terminal_key_possession(terminal, &bytes), &request.possession.0)
        .map_err(|_| {
            invalid(
                "possession does not verify: sign tapfer-terminal-key-1, the terminal's id and \
                 public_key with the private key (ECDSA P-256 with SHA-256, r and s, 64 bytes)",
            )
        })?;
    Ok(point)
}

fn life_seconds(request: &api::terminals::CreateTerminalCertificate) -> Result<i64, ServiceError> {
    let seconds = request.lifetime_seconds.unwrap_or(CERTIFICATE_LIFE_SECONDS);
    let bounds = MINIMUM_CERTIFICATE_LIFE_SECONDS..=MAXIMUM_CERTIFICATE_LIFE_SECONDS;
    if bounds.contains(&seconds) {
        return Ok(seconds);
    }
    Err(ServiceError::Invalid(
        "lifetime_seconds is 600 to 604800: ten minutes to seven days".into(),
    ))
}
