//! The software module: all keys in one sealed file and in this process's memory.
//!
//! It is the embedded default, to try, to test and for closed loops with little at stake. It keeps keys
//! from whoever reads the disk, not from whoever reads the memory of the process: keys are wiped with
//! their holders, but the memory is not locked, and the compiler may leave copies on the stack. It is
//! **not** production grade, and says so in [`PaymentHsm::describe`].
//!
//! AES-GCM, key wrap, HMAC, HKDF, HPKE, ECDSA and random bytes come from aws-lc-rs; card-key derivations, CMAC
//! and EC-SDSA from the RustCrypto crates beneath `tapfer-emv`; Argon2id from RustCrypto. Known-answer
//! tests of all of them pass before a keystore is touched.

mod certify;
mod file;
mod key_ring;
mod keystore;
mod merchant;
mod person;
mod provisioning;
mod randomness;
mod record;
mod self_test;
mod store_share;
#[cfg(test)]
mod tests;
mod unlock;
mod wiped_json;

use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use aws_lc_rs::hmac;
use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate, Rid};
use tapfer_emv::cryptogram;
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{DeviceId, IssuerId, Pan, RealmId, Secret, Timestamp};

use self::key_ring::{IssuerKeySet, KeyRing, PersonKeySet, SigningKey};
use self::keystore::Keystore;
use self::merchant::MerchantAuthority;
use self::record::Kind;
use self::self_test::KnownAnswerTest;
pub use self::unlock::{MINIMUM_PASSPHRASE_LENGTH, Unlock};
use crate::{
    CardPinSubject, CardPinValue, CryptogramRequest, CryptogramVerdict, DemoKeys,
    DetokenizationGrant, DocumentPurpose, DocumentSignature, HsmDescription, HsmError,
    IccCertificateRequest, IssuerCertificateRequest, IssuerKeys, MerchantCertificateRequest,
    PanLookup, PaymentHsm, PersonKeyImport, PersonKeyRecipient, PersonKeyVerdict,
    ProvisioningRequest, Realm, RecordOwner, SealedCardRecord,
};

/// A security module without hardware. See the [module](self).
///
/// ```
/// use tapfer_hsm::{PaymentHsm, Realm, SoftwareHsm, Unlock};
/// use tapfer_payment_types::{IssuerId, RealmId, Timestamp};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("keystore");
/// let unlock = Unlock::passphrase("correct horse battery staple".to_owned());
/// let now: Timestamp = "2026-11-21T12:00:00Z".parse()?;
/// let realm = RealmId::new(now, [7; 10]);
/// let hsm = SoftwareHsm::create(&path, &unlock, Realm::Demo, realm)?;
/// let mut random = [0; 10];
/// hsm.random(&mut random)?;
/// let keys = hsm.create_issuer(IssuerId::new(now, random), now)?;
/// assert_eq!(keys.derivation_key_index, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SoftwareHsm {
    keystore: Keystore,
    keys: RwLock<Arc<KeyRing>>,
    /// Held while keys are added: one change at a time.
    changing: Mutex<()>,
    known_answer_tests: &'static [KnownAnswerTest],
    /// The test that failed. Set once, and never taken back.
    failed_test: OnceLock<&'static str>,
}

impl SoftwareHsm {
    /// Makes a keystore file without keys and opens it. The realm, its kind and its id, is fixed for
    /// ever.
    ///
    /// # Errors
    /// The file exists or cannot be written; what opens it can be guessed; a self-test failed.
    pub fn create(
        path: &Path,
        unlock: &Unlock,
        realm: Realm,
        realm_id: RealmId,
    ) -> Result<Self, HsmError> {
        self_test::run(self_test::ALL)?;
        let keystore = Keystore::create(path, unlock, realm, realm_id)?;
        Ok(Self::new(keystore, KeyRing::default()))
    }

    /// Opens a keystore file, to use and to add keys. Only one process at a time can.
    ///
    /// # Errors
    /// Each thing that can be wrong with the file has its [`crate::KeystoreError`]; a self-test failed.
    pub fn open(path: &Path, unlock: &Unlock) -> Result<Self, HsmError> {
        self_test::run(self_test::ALL)?;
        let (keystore, keys) = Keystore::open(path, unlock)?;
        Ok(Self::new(keystore, keys))
    }

    /// Opens a keystore file beside a process that has it open already. Sees the keys of this moment,
    /// and cannot add any.
    ///
    /// # Errors
    /// As [`SoftwareHsm::open`].
    pub fn open_read_only(path: &Path, unlock: &Unlock) -> Result<Self, HsmError> {
        self_test::run(self_test::ALL)?;
        let (keystore, keys) = Keystore::open_read_only(path, unlock)?;
        Ok(Self::new(keystore, keys))
    }

    /// Whether there is any key in it yet.
    ///
    /// # Errors
    /// A self-test failed.
    pub fn holds_keys(&self) -> Result<bool, HsmError> {
        let keys = self.keys()?;
        Ok(!(keys.issuers.is_empty()
            && keys.authorities.is_empty()
            && keys.merchant_authority.is_none()))
    }

    fn new(keystore: Keystore, keys: KeyRing) -> Self {
        Self {
            keystore,
            keys: RwLock::new(Arc::new(keys)),
            changing: Mutex::new(()),
            known_answer_tests: self_test::ALL,
            failed_test: OnceLock::new(),
        }
    }

    /// The keys of this moment. Every verb that touches a key comes through here, and none gets past a
    /// failed self-test.
    fn keys(&self) -> Result<Arc<KeyRing>, HsmError> {
        self.health()?;
        // A panic elsewhere cannot leave the ring half changed: it is swapped as a whole.
        Ok(Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner)))
    }

    fn issuer(&self, issuer: IssuerId) -> Result<Arc<IssuerKeySet>, HsmError> {
        let keys = self.keys()?;
        keys.issuers.get(&issuer).cloned().ok_or(HsmError::UnknownIssuer(issuer))
    }

    fn persons(&self, issuer: IssuerId) -> Result<Arc<PersonKeySet>, HsmError> {
        self.keys()?.persons.get(&issuer).cloned().ok_or(HsmError::UnknownIssuer(issuer))
    }

    fn store_share_key(&self, issuer: IssuerId) -> Result<Arc<Secret<[u8; 32]>>, HsmError> {
        self.keys()?.store_shares.get(&issuer).cloned().ok_or(HsmError::UnknownIssuer(issuer))
    }

    fn document_signer(
        &self,
        purpose: DocumentPurpose,
    ) -> Result<Arc<MerchantAuthority>, HsmError> {
        self.keys()?.documents.get(&purpose).cloned().ok_or(HsmError::UnknownDocumentKey)
    }

    fn authority(&self, rid: Rid, index: u8) -> Result<Arc<SigningKey>, HsmError> {
        let keys = self.keys()?;
        keys.authorities.get(&(rid, index)).cloned().ok_or(HsmError::UnknownAuthority { index })
    }

    fn merchant_authority(&self) -> Result<Arc<MerchantAuthority>, HsmError> {
        self.keys()?.merchant_authority.clone().ok_or(HsmError::UnknownMerchantAuthority)
    }

    /// Changes a copy of the keys, writes it to the disk, and only then lets others see it.
    fn change<T>(
        &self,
        apply: impl FnOnce(&mut KeyRing) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = KeyRing::clone(&*self.keys()?);
        let answer = apply(&mut next)?;
        self.keystore.write(&next)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(answer)
    }

    fn add_issuer(
        &self,
        issuer: IssuerId,
        generate: impl FnOnce() -> Result<IssuerKeySet, HsmError>,
    ) -> Result<IssuerKeys, HsmError> {
        self.change(|ring| {
            if ring.issuers.contains_key(&issuer) {
                return Err(HsmError::IssuerExists(issuer));
            }
            let keys = generate()?;
            let public = public_side(issuer, &keys);
            ring.issuers.insert(issuer, Arc::new(keys));
            ring.persons.insert(issuer, Arc::new(PersonKeySet::generate()?));
            ring.store_shares.insert(issuer, Arc::new(randomness::secret()?));
            Ok(public)
        })
    }

    fn demand_demo_realm(&self) -> Result<(), HsmError> {
        self.health()?;
        match self.keystore.realm {
            Realm::Demo => Ok(()),
            Realm::Production => Err(HsmError::NotADemoRealm),
        }
    }
}

fn public_side(issuer: IssuerId, keys: &IssuerKeySet) -> IssuerKeys {
    IssuerKeys {
        issuer,
        derivation_key_index: keys.derivation_key_index(),
        public_key: keys.signing_key.public,
    }
}

impl fmt::Debug for SoftwareHsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareHsm({:?})", self.keystore.realm)
    }
}

impl PaymentHsm for SoftwareHsm {
    fn describe(&self) -> HsmDescription {
        HsmDescription {
            backend: "software",
            production_grade: false,
            realm: self.keystore.realm,
            realm_id: self.keystore.realm_id,
            notice: "Keys are kept in a sealed file and in the memory of this process, not in \
                     certified hardware: not for production.",
        }
    }

    fn health(&self) -> Result<(), HsmError> {
        match self.failed_test.get() {
            None => Ok(()),
            Some(test) => Err(HsmError::SelfTestFailed { test }),
        }
    }

    fn self_test(&self) -> Result<(), HsmError> {
        self.health()?;
        self_test::run(self.known_answer_tests).inspect_err(|error| {
            if let HsmError::SelfTestFailed { test } = error {
                self.failed_test.get_or_init(|| test);
            }
        })
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        self.health()?;
        randomness::fill(out)
    }

    fn create_certification_authority(
        &self,
        rid: Rid,
        index: u8,
        _now: Timestamp,
    ) -> Result<CaPublicKey, HsmError> {
        self.change(|ring| {
            if ring.authorities.contains_key(&(rid, index)) {
                return Err(HsmError::AuthorityExists { index });
            }
            let authority = SigningKey::generate()?;
            let key = authority.public;
            ring.authorities.insert((rid, index), Arc::new(authority));
            Ok(CaPublicKey { rid, index, key })
        })
    }

    fn ca_public_key(&self, rid: Rid, index: u8) -> Result<CaPublicKey, HsmError> {
        Ok(CaPublicKey { rid, index, key: self.authority(rid, index)?.public })
    }

    fn create_issuer(&self, issuer: IssuerId, _now: Timestamp) -> Result<IssuerKeys, HsmError> {
        self.add_issuer(issuer, IssuerKeySet::generate)
    }

    fn issuer_keys(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError> {
        Ok(public_side(issuer, &*self.issuer(issuer)?))
    }

    fn issue_issuer_certificate(
        &self,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError> {
        let public_key = self.issuer(request.issuer)?.signing_key.public;
        let authority = self.authority(request.rid, request.ca_index)?;
        certify::issuer_certificate(&authority, public_key, request)
    }

    fn sign_icc_certificate(
        &self,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError> {
        certify::icc_certificate(&self.issuer(request.issuer)?.signing_key, request)
    }

    fn create_merchant_authority(&self, _now: Timestamp) -> Result<MerchantCaKey, HsmError> {
        self.change(|ring| {
            if ring.merchant_authority.is_some() {
                return Err(HsmError::MerchantAuthorityExists);
            }
            let authority = MerchantAuthority::generate()?;
            let key = authority.public;
            ring.merchant_authority = Some(Arc::new(authority));
            Ok(key)
        })
    }

    fn merchant_ca_key(&self) -> Result<MerchantCaKey, HsmError> {
        Ok(self.merchant_authority()?.public)
    }

    fn sign_merchant_certificate(
        &self,
        request: &MerchantCertificateRequest,
    ) -> Result<MerchantCertificate, HsmError> {
        merchant::certificate(&*self.merchant_authority()?, request)
    }

    fn create_document_keys(&self, _now: Timestamp) -> Result<(), HsmError> {
        self.change(|ring| {
            if !ring.documents.is_empty() {
                return Err(HsmError::DocumentKeysExist);
            }
            for purpose in DocumentPurpose::ALL {
                ring.documents.insert(purpose, Arc::new(MerchantAuthority::generate()?));
            }
            Ok(())
        })
    }

    fn document_key(&self, purpose: DocumentPurpose) -> Result<PublicPoint, HsmError> {
        self.document_signer(purpose)?.public_point()
    }

    fn sign_document(
        &self,
        purpose: DocumentPurpose,
        document: &[u8],
    ) -> Result<DocumentSignature, HsmError> {
        merchant::document(&*self.document_signer(purpose)?, purpose, document)
    }

    fn verify_cryptogram(
        &self,
        request: &CryptogramRequest<'_>,
    ) -> Result<CryptogramVerdict, HsmError> {
        let keys = self.issuer(request.issuer)?;
        let Some(master_key) = keys.master_keys.get(&request.derivation_key_index) else {
            return Ok(CryptogramVerdict::UnknownDerivationKey);
        };
        let session_key = master_key
            .token_key(request.token_pan, request.sequence)
            .limited_use_key(request.key_class, request.key_index)
            .session_key(request.input.application_transaction_counter);
        let compared =
            cryptogram::verify(request.token, request.input, request.received, |input| {
                cryptogram::application_cryptogram(&session_key, input)
            });
        Ok(compared.map_or(CryptogramVerdict::Mismatch, CryptogramVerdict::Verified))
    }

    fn seal_provisioning(
        &self,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError> {
        let (issuer, index) = (request.issuer, request.derivation_key_index);
        let keys = self.issuer(issuer)?;
        let master_key =
            keys.master_keys.get(&index).ok_or(HsmError::UnknownDerivationKey { issuer, index })?;
        let recipient = self.persons(issuer)?.public;
        provisioning::seal(&keys, master_key, &recipient, request)
    }

    fn person_key_recipient(&self, issuer: IssuerId) -> Result<PersonKeyRecipient, HsmError> {
        Ok(PersonKeyRecipient(self.persons(issuer)?.public))
    }

    fn accept_person_key(
        &self,
        import: &PersonKeyImport<'_>,
    ) -> Result<PersonKeyVerdict, HsmError> {
        let persons = self.persons(import.subject.issuer)?;
        person::accept(&*self.issuer(import.subject.issuer)?, &persons, import)
    }

    fn card_pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError> {
        person::card_pin_value(&*self.persons(subject.issuer)?, subject, sealed)
    }

    fn verify_card_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError> {
        let persons = self.persons(subject.issuer)?;
        person::verify_card_pin(&persons, subject, value, sealed, associated)
    }

    fn store_share(
        &self,
        issuer: IssuerId,
        device: DeviceId,
        epoch: NonZeroU32,
    ) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError> {
        store_share::derive(&*self.store_share_key(issuer)?, device, epoch)
    }

    fn seal_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError> {
        record::seal(&*self.issuer(issuer)?, issuer, Kind::Number(owner), record)
    }

    fn open_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &SealedCardRecord,
        grant: &DetokenizationGrant<'_>,
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        if !grant.covers(owner) {
            return Err(HsmError::GrantElsewhere);
        }
        record::open(&*self.issuer(issuer)?, issuer, Kind::Number(owner), record)
    }

    fn pan_lookup(&self, issuer: IssuerId, pan: &Pan) -> Result<PanLookup, HsmError> {
        let keys = self.issuer(issuer)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, keys.lookup_key.expose());
        let tag = hmac::sign(&key, pan.expose().as_bytes());
        let hash = tag.as_ref().try_into();
        hash.map(PanLookup).map_err(|_| HsmError::Internal { operation: "HMAC" })
    }

    fn demo_keys(&self, issuer: IssuerId, index: u8) -> Result<DemoKeys, HsmError> {
        self.demand_demo_realm()?;
        let keys = self.issuer(issuer)?;
        let key =
            keys.master_keys.get(&index).ok_or(HsmError::UnknownDerivationKey { issuer, index })?;
        Ok(DemoKeys { issuer_master_key: IssuerMasterKey::new(*key.expose()) })
    }

    fn import_demo_issuer(
        &self,
        issuer: IssuerId,
        issuer_master_key: IssuerMasterKey,
        _now: Timestamp,
    ) -> Result<IssuerKeys, HsmError> {
        self.demand_demo_realm()?;
        self.add_issuer(issuer, || IssuerKeySet::generate_with(issuer_master_key))
    }
}
