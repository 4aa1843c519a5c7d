//! The verbs.

use std::num::NonZeroU32;

use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate, Rid};
use tapfer_emv::cryptogram;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{CatalogueMark, DeviceId, IssuerId, Pan, Secret, Timestamp};

use super::VaultedHsm;
use super::record::Kind;
use super::shelf::Draft;
use crate::catalogue::{KeyOwner, KeyPurpose, KeyState};
use crate::pkcs11::ModuleReport;
use crate::vault::{CardKeyPath, Vault};
use crate::{
    CardPinSubject, CardPinValue, ClientCertificateRequest, CryptogramRequest, CryptogramVerdict,
    DemoKeys, DetokenizationGrant, DocumentKeyRecord, DocumentPurpose, DocumentSignature,
    HsmDescription, HsmError, IccCertificateRequest, IssuerCertificateRequest, IssuerKeys,
    MerchantCertificateRequest, PanLookup, PaymentHsm, PersonKeyImport, PersonKeyRecipient,
    PersonKeyVerdict, ProvisioningRequest, RecordOwner, SealedCardRecord,
};

/// Makes the secret of repeated requests its own kind of HMAC.
const REPETITION_LABEL: &[u8] = b"tapfer-repeated-requests-1";
/// Makes a share of a store its own kind of HMAC.
const STORE_SHARE_LABEL: &[u8] = b"tapfer-store-share-1";

fn missing_public_key() -> HsmError {
    HsmError::Internal { operation: "reading a public key of the catalogue" }
}

impl<V: Vault> VaultedHsm<V> {
    /// Makes an issuer with all its keys; `master` makes the issuer master key.
    fn add_issuer(
        &self,
        issuer: IssuerId,
        now: Timestamp,
        master: impl FnOnce(&mut Draft<'_, V>, KeyOwner) -> Result<(), HsmError>,
    ) -> Result<IssuerKeys, HsmError> {
        let owner = KeyOwner::Issuer(issuer);
        let others = KeyPurpose::OF_AN_ISSUER.into_iter();
        let others = others.filter(|purpose| *purpose != KeyPurpose::IssuerMaster);
        self.working()?.change(|draft| {
            if draft.has(owner, KeyPurpose::IssuerMaster) {
                return Err(HsmError::IssuerExists(issuer));
            }
            master(draft, owner)?;
            others.into_iter().try_for_each(|purpose| draft.generate(owner, purpose, now).map(drop))
        })?;
        self.public_side(issuer)
    }

    /// Generation of an issuer's master key, to derive or to show.
    fn master_key(
        &self,
        issuer: IssuerId,
        index: u8,
    ) -> Result<Option<std::sync::Arc<super::shelf::HeldKey<V::Key>>>, HsmError> {
        let found = self.generation(KeyOwner::Issuer(issuer), KeyPurpose::IssuerMaster, index)?;
        Ok(found.filter(|held| held.record.state != KeyState::Destroyed))
    }
}

impl<V: Vault> PaymentHsm for VaultedHsm<V> {
    fn describe(&self) -> HsmDescription {
        let vault = self.vault().describe();
        let shelf = self.shelves.now();
        HsmDescription {
            backend: vault.backend,
            says_it_is_hardware: vault.says_it_is_hardware,
            realm: shelf.catalogue.realm,
            realm_id: shelf.catalogue.realm_id,
            notice: vault.notice,
        }
    }

    fn report(&self) -> Option<ModuleReport> {
        self.vault().report()
    }

    fn health(&self) -> Result<(), HsmError> {
        self.shelves.follow(None)?;
        self.vault().health()
    }

    fn follow_catalogue(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError> {
        self.shelves.follow(known)
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        self.working()?.vault.random(out)
    }

    fn create_certification_authority(
        &self,
        rid: Rid,
        index: u8,
        now: Timestamp,
    ) -> Result<CaPublicKey, HsmError> {
        let (owner, purpose) =
            (KeyOwner::Authority { rid, index }, KeyPurpose::CertificationAuthority);
        self.working()?.change(|draft| {
            if draft.has(owner, purpose) {
                return Err(HsmError::AuthorityExists { index });
            }
            draft.generate(owner, purpose, now)
        })?;
        self.ca_public_key(rid, index)
    }

    fn ca_public_key(&self, rid: Rid, index: u8) -> Result<CaPublicKey, HsmError> {
        let owner = KeyOwner::Authority { rid, index };
        let usable = self.usable(owner, KeyPurpose::CertificationAuthority)?;
        let newest = usable.first().ok_or(HsmError::UnknownAuthority { index })?;
        Ok(CaPublicKey { rid, index, key: self.public_x(newest)? })
    }

    fn create_issuer(&self, issuer: IssuerId, now: Timestamp) -> Result<IssuerKeys, HsmError> {
        self.add_issuer(issuer, now, |draft, owner| {
            draft.generate(owner, KeyPurpose::IssuerMaster, now).map(drop)
        })
    }

    fn issuer_keys(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError> {
        self.public_side(issuer)
    }

    fn issue_issuer_certificate(
        &self,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError> {
        let public_key = self.public_side(request.issuer)?.public_key;
        let owner = KeyOwner::Authority { rid: request.rid, index: request.ca_index };
        let authority = self.active(owner, KeyPurpose::CertificationAuthority)?;
        self.certify_issuer(&authority, public_key, request)
    }

    fn sign_icc_certificate(
        &self,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError> {
        let owner = KeyOwner::Issuer(request.issuer);
        let signing = self.active(owner, KeyPurpose::IccCertificates)?;
        self.certify_icc(&signing, request)
    }

    fn create_merchant_authority(&self, now: Timestamp) -> Result<MerchantCaKey, HsmError> {
        let (owner, purpose) = (KeyOwner::Platform, KeyPurpose::MerchantAuthority);
        let made = self.working()?.change(|draft| {
            if draft.has(owner, purpose) {
                return Err(HsmError::MerchantAuthorityExists);
            }
            draft.generate(owner, purpose, now)
        })?;
        made.public.map(MerchantCaKey::from).ok_or_else(missing_public_key)
    }

    fn merchant_ca_key(&self) -> Result<MerchantCaKey, HsmError> {
        let key = self.active(KeyOwner::Platform, KeyPurpose::MerchantAuthority)?;
        self.public_point(&key).map(MerchantCaKey::from)
    }

    fn sign_merchant_certificate(
        &self,
        request: &MerchantCertificateRequest,
    ) -> Result<MerchantCertificate, HsmError> {
        let key = self.active(KeyOwner::Platform, KeyPurpose::MerchantAuthority)?;
        self.certify_terminal(&key, request)
    }

    fn create_access_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        let (owner, purposes) = (KeyOwner::Platform, KeyPurpose::OF_ACCESS);
        self.working()?.change(|draft| {
            if purposes.iter().any(|purpose| draft.has(owner, *purpose)) {
                return Err(HsmError::AccessKeysExist);
            }
            purposes
                .into_iter()
                .try_for_each(|purpose| draft.generate(owner, purpose, now).map(drop))
        })
    }

    fn client_authorities(&self) -> Result<Vec<Vec<u8>>, HsmError> {
        let usable = self.usable(KeyOwner::Platform, KeyPurpose::ClientAuthority)?;
        usable.iter().map(|authority| self.client_authority(authority)).collect()
    }

    fn sign_client_certificate(
        &self,
        request: &ClientCertificateRequest,
    ) -> Result<Vec<u8>, HsmError> {
        let authority = self.active(KeyOwner::Platform, KeyPurpose::ClientAuthority)?;
        self.certify_client(&authority, request)
    }

    fn repetition_secret(&self) -> Result<Secret<[u8; 32]>, HsmError> {
        let key = self.active(KeyOwner::Platform, KeyPurpose::RepeatedRequests)?;
        self.vault().authenticate(self.ready(&key)?, &[REPETITION_LABEL]).map(Secret::new)
    }

    fn create_document_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        self.working()?.change(|draft| {
            let purposes = DocumentPurpose::ALL.map(KeyPurpose::from);
            if purposes.iter().any(|purpose| draft.has(KeyOwner::Platform, *purpose)) {
                return Err(HsmError::DocumentKeysExist);
            }
            purposes
                .into_iter()
                .try_for_each(|purpose| draft.generate(KeyOwner::Platform, purpose, now).map(drop))
        })
    }

    fn document_keys(&self, purpose: DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, HsmError> {
        self.generations_that_sign(purpose)
    }

    fn sign_document(
        &self,
        purpose: DocumentPurpose,
        document: &[u8],
    ) -> Result<DocumentSignature, HsmError> {
        let key = self.active(KeyOwner::Platform, purpose.into())?;
        let signature = self.vault().sign(self.ready(&key)?, &purpose.message(document))?;
        let verifies = purpose.is_signed_by(&self.public_point(&key)?, document, &signature);
        let faulty = HsmError::Internal { operation: "signing a document" };
        if verifies { Ok(signature) } else { Err(faulty) }
    }

    fn verify_cryptogram(
        &self,
        request: &CryptogramRequest<'_>,
    ) -> Result<CryptogramVerdict, HsmError> {
        let Some(master) = self.master_key(request.issuer, request.derivation_key_index)? else {
            return Ok(CryptogramVerdict::UnknownDerivationKey);
        };
        let path = CardKeyPath {
            token_pan: request.token_pan,
            sequence: request.sequence,
            key_class: request.key_class,
            key_index: request.key_index,
            application_transaction_counter: request.input.application_transaction_counter,
        };
        let message = request.input.encode();
        let expected =
            self.vault().application_cryptogram(self.ready(&master)?, &path, &message)?;
        let compared =
            cryptogram::verify(request.token, request.input, request.received, |_| expected);
        Ok(compared.map_or(CryptogramVerdict::Mismatch, CryptogramVerdict::Verified))
    }

    fn seal_provisioning(
        &self,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError> {
        let (issuer, index) = (request.issuer, request.derivation_key_index);
        let master = self.master_key(issuer, index)?;
        let master = master.ok_or(HsmError::UnknownDerivationKey { issuer, index })?;
        if master.record.state != KeyState::Active {
            return Err(HsmError::KeyRetired(master.record.name));
        }
        self.provision(&master, request)
    }

    fn person_key_recipient(&self, issuer: IssuerId) -> Result<PersonKeyRecipient, HsmError> {
        let key = self.active(KeyOwner::Issuer(issuer), KeyPurpose::PersonKeys)?;
        self.public_point(&key).map(|point| PersonKeyRecipient(super::hpke::uncompressed(&point)))
    }

    fn accept_person_key(
        &self,
        import: &PersonKeyImport<'_>,
    ) -> Result<PersonKeyVerdict, HsmError> {
        self.accept(import)
    }

    fn card_pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError> {
        self.pin_value(subject, sealed)
    }

    fn verify_card_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError> {
        self.verify_pin(subject, value, sealed, associated)
    }

    fn store_share(
        &self,
        issuer: IssuerId,
        device: DeviceId,
        epoch: NonZeroU32,
    ) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError> {
        let key = self.active(KeyOwner::Issuer(issuer), KeyPurpose::StoreShares)?;
        // An id has one length, so that the parts cannot run into each other.
        let (device, epoch) = (device.to_string(), epoch.get().to_be_bytes());
        let parts = [STORE_SHARE_LABEL, device.as_bytes(), &epoch];
        self.vault().authenticate(self.ready(&key)?, &parts).map(Secret::new)
    }

    fn seal_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError> {
        self.seal_record(issuer, Kind::Number(owner), record)
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
        self.open_record(issuer, Kind::Number(owner), &record.0)
    }

    fn pan_lookup(&self, issuer: IssuerId, pan: &Pan) -> Result<PanLookup, HsmError> {
        let key = self.active(KeyOwner::Issuer(issuer), KeyPurpose::PanLookup)?;
        let parts = [pan.expose().as_bytes()];
        self.vault().authenticate(self.ready(&key)?, &parts).map(PanLookup)
    }

    fn demo_keys(&self, issuer: IssuerId, index: u8) -> Result<DemoKeys, HsmError> {
        self.demand_demo_realm()?;
        let master = self.master_key(issuer, index)?;
        let master = master.ok_or(HsmError::UnknownDerivationKey { issuer, index })?;
        let released = self.vault().release(self.ready(&master)?)?;
        let bytes = released.expose().first_chunk().filter(|_| released.expose().len() == 16);
        let bytes = bytes.ok_or(HsmError::Internal { operation: "releasing a master key" })?;
        Ok(DemoKeys { issuer_master_key: IssuerMasterKey::new(*bytes) })
    }

    fn import_demo_issuer(
        &self,
        issuer: IssuerId,
        issuer_master_key: IssuerMasterKey,
        now: Timestamp,
    ) -> Result<IssuerKeys, HsmError> {
        self.demand_demo_realm()?;
        let clear = Secret::new(issuer_master_key.expose().to_vec());
        self.add_issuer(issuer, now, |draft, owner| {
            draft.import(owner, KeyPurpose::IssuerMaster, &clear, now).map(drop)
        })
    }
}
