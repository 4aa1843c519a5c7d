//! The verbs of [`PaymentHsm`], as questions to workers.

use std::num::NonZeroU32;

use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate, Rid};
use tapfer_emv::cryptogram;
use tapfer_emv::curve::PublicX;
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_payment_types::messages::{HexBytes, SealedPayload};
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{CatalogueMark, DeviceId, IssuerId, Pan, Secret, Timestamp};

use super::HsmPool;
use super::member::Member;
use super::wire::{self, Cryptogram, Grant, Provisioning, Reply, Request, Verdict};
use crate::{
    CardPinSubject, CardPinValue, Client, ClientCertificateRequest, CryptogramRequest,
    CryptogramVerdict, DemoKeys, DetokenizationGrant, DocumentKeyRecord, DocumentPurpose,
    DocumentSignature, HsmDescription, HsmError, IccCertificateRequest, IssuerCertificateRequest,
    IssuerKeys, MerchantCertificateRequest, PanLookup, PaymentHsm, PersonKeyImport,
    PersonKeyRecipient, PersonKeyVerdict, ProvisioningRequest, RecordOwner, SealedCardRecord,
    SealedPersonKey,
};

/// The largest piece of randomness asked for at once.
const RANDOM_PIECE: usize = 4096;

fn array<const N: usize>(reply: &Reply<'_>) -> Option<[u8; N]> {
    match reply {
        Reply::Bytes(bytes) => (*bytes).try_into().ok(),
        _ => None,
    }
}

fn bytes(reply: &Reply<'_>) -> Option<Vec<u8>> {
    match reply {
        Reply::Bytes(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

/// A version of the catalogue.
pub(super) const fn mark(reply: &Reply<'_>) -> Option<CatalogueMark> {
    match reply {
        Reply::Catalogue(mark) => Some(*mark),
        _ => None,
    }
}

fn nothing(reply: &Reply<'_>) -> Option<()> {
    matches!(reply, Reply::Nothing).then_some(())
}

fn issuer_keys(issuer: IssuerId) -> impl Fn(&Reply<'_>) -> Option<IssuerKeys> {
    move |reply| match reply {
        Reply::IssuerKeys { derivation_key_index, public_key } => Some(IssuerKeys {
            issuer,
            derivation_key_index: *derivation_key_index,
            public_key: PublicX::from_bytes(public_key).ok()?,
        }),
        _ => None,
    }
}

fn ca_key(rid: Rid, index: u8) -> impl Fn(&Reply<'_>) -> Option<CaPublicKey> {
    move |reply| {
        let key = PublicX::from_bytes(&array(reply)?).ok()?;
        Some(CaPublicKey { rid, index, key })
    }
}

fn merchant_ca(reply: &Reply<'_>) -> Option<MerchantCaKey> {
    MerchantCaKey::from_bytes(&array(reply)?).ok()
}

fn purpose(purpose: DocumentPurpose) -> u8 {
    let place = DocumentPurpose::ALL.iter().position(|known| *known == purpose);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn look_up(issuer: IssuerId, pan: &Pan) -> Request<'_> {
    Request::PanLookup { issuer: issuer.to_bits(), pan: pan.expose() }
}

fn verdict(request: &CryptogramRequest<'_>, reply: &Reply<'_>) -> Option<CryptogramVerdict> {
    match reply {
        // The proof is made here, by comparing what the module computed with what the card sent.
        Reply::Verdict(Verdict::Verified(computed)) => {
            let (token, input, received) = (request.token, request.input, request.received);
            let proof = cryptogram::verify(token, input, received, |_| *computed);
            proof.ok().map(CryptogramVerdict::Verified)
        }
        Reply::Verdict(Verdict::Mismatch) => Some(CryptogramVerdict::Mismatch),
        Reply::Verdict(Verdict::UnknownDerivationKey) => {
            Some(CryptogramVerdict::UnknownDerivationKey)
        }
        _ => None,
    }
}

/// `None` where the thing is not there, for [`Shared::make`](super::shared::Shared::make).
fn found<T>(
    looked: Result<T, HsmError>,
    is_missing: impl Fn(&HsmError) -> bool,
) -> Result<Option<T>, HsmError> {
    match looked {
        Ok(thing) => Ok(Some(thing)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is true of all members: a pool is as good as the worst of them, and who has not been asked yet counts as
/// the worst.
fn worst(first: HsmDescription, members: &[Option<HsmDescription>]) -> HsmDescription {
    let says = |hardware: bool| {
        move |member: &Option<HsmDescription>| {
            member.is_some_and(|member| member.says_it_is_hardware == hardware)
        }
    };
    let says_it_is_hardware = members.iter().all(says(true));
    let notice = match members.iter().any(says(false)) {
        true if members.iter().any(says(true)) => {
            "Keys are kept by several PKCS#11 modules, and one of them at least is software, by its own word: not \
             for production."
        }
        false if !says_it_is_hardware => {
            "Keys are kept by several PKCS#11 modules, and not every one could be asked yet whether it is hardware."
        }
        // All that have said something say the same.
        _ => first.notice,
    };
    HsmDescription { says_it_is_hardware, notice, ..first }
}

impl PaymentHsm for HsmPool {
    fn describe(&self) -> HsmDescription {
        let members: Vec<_> = self.shared.members.iter().map(Member::description).collect();
        worst(self.description, &members)
    }

    fn health(&self) -> Result<(), HsmError> {
        if self.shared.serves() {
            return Ok(());
        }
        Err(HsmError::Down { cause: self.shared.causes().join("; ") })
    }

    fn pool(&self) -> Option<super::PoolStatus> {
        Some(self.shared.status())
    }

    /// One worker says what the newest version is, and whether it comes from the one that the caller knows as well
    /// as from the one that workers have used; all others follow before whatever they are asked next.
    fn follow_catalogue(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError> {
        if let Some(known) = known {
            self.shared.told_of(known);
        }
        let follow = |request: &Request<'_>| self.shared.read(request, &mark);
        let newest: Result<Vec<_>, _> = self.shared.follow_newest().iter().map(follow).collect();
        let newest = newest.and_then(|newest| {
            newest
                .last()
                .copied()
                .ok_or(HsmError::Internal { operation: "following the catalogue" })
        });
        if let Ok(newest) = &newest {
            self.shared.remember(newest);
        }
        self.shared.broadcast_change(None);
        newest
    }

    fn random(&self, out: &mut [u8]) -> Result<(), HsmError> {
        for piece in out.chunks_mut(RANDOM_PIECE) {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            let fit = |reply: &Reply<'_>| {
                let random = bytes(reply).filter(|bytes| bytes.len() == piece.len());
                random.map(Secret::new)
            };
            let random = self.shared.read(&Request::Random { length }, &fit)?;
            piece.copy_from_slice(random.expose());
        }
        Ok(())
    }

    fn create_certification_authority(
        &self,
        rid: Rid,
        index: u8,
        now: Timestamp,
    ) -> Result<CaPublicKey, HsmError> {
        let request = Request::CreateCertificationAuthority { rid, index, now: now.unix_millis() };
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownAuthority { .. });
        let exists = |error: &HsmError| matches!(error, HsmError::AuthorityExists { .. });
        let look = || found(self.ca_public_key(rid, index), is_missing);
        self.shared.make(&request, &ca_key(rid, index), exists, look)
    }

    fn ca_public_key(&self, rid: Rid, index: u8) -> Result<CaPublicKey, HsmError> {
        self.shared.read(&Request::CaPublicKey { rid, index }, &ca_key(rid, index))
    }

    fn create_issuer(&self, issuer: IssuerId, now: Timestamp) -> Result<IssuerKeys, HsmError> {
        let request = Request::CreateIssuer { issuer: issuer.to_bits(), now: now.unix_millis() };
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownIssuer(_));
        let exists = |error: &HsmError| matches!(error, HsmError::IssuerExists(_));
        let look = || found(self.issuer_keys(issuer), is_missing);
        self.shared.make(&request, &issuer_keys(issuer), exists, look)
    }

    fn issuer_keys(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError> {
        let request = Request::IssuerKeys { issuer: issuer.to_bits() };
        self.shared.read(&request, &issuer_keys(issuer))
    }

    fn issue_issuer_certificate(
        &self,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError> {
        let question = Request::IssueIssuerCertificate {
            issuer: request.issuer.to_bits(),
            rid: request.rid,
            ca_index: request.ca_index,
            issuer_identifier: request.issuer_identifier,
            expiry: (request.expiry.year, request.expiry.month, request.expiry.day),
            serial: request.serial,
            now: request.now.unix_millis(),
        };
        self.shared.read(&question, &|reply| IssuerCertificate::parse(&bytes(reply)?).ok())
    }

    fn sign_icc_certificate(
        &self,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError> {
        let question = Request::SignIccCertificate {
            issuer: request.issuer.to_bits(),
            public_key: *request.public_key.bytes(),
            sda_hash: request.sda_hash,
            serial: request.serial,
            expires_at: request.expires_at.unix_millis(),
            now: request.now.unix_millis(),
        };
        self.shared.read(&question, &|reply| IccCertificate::parse(&bytes(reply)?).ok())
    }

    fn create_merchant_authority(&self, now: Timestamp) -> Result<MerchantCaKey, HsmError> {
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownMerchantAuthority);
        let exists = |error: &HsmError| matches!(error, HsmError::MerchantAuthorityExists);
        let look = || found(self.merchant_ca_key(), is_missing);
        let request = Request::CreateMerchantAuthority { now: now.unix_millis() };
        self.shared.make(&request, &merchant_ca, exists, look)
    }

    fn merchant_ca_key(&self) -> Result<MerchantCaKey, HsmError> {
        self.shared.read(&Request::MerchantCaKey, &merchant_ca)
    }

    fn sign_merchant_certificate(
        &self,
        request: &MerchantCertificateRequest,
    ) -> Result<MerchantCertificate, HsmError> {
        let question = Request::SignMerchantCertificate {
            acquirer: request.acquirer,
            merchant: request.merchant,
            terminal: request.terminal,
            name: request.name.as_str(),
            public_key: &request.public_key.bytes(),
            serial: request.serial,
            expires_at: request.expires_at.unix_millis(),
            now: request.now.unix_millis(),
        };
        self.shared.read(&question, &|reply| MerchantCertificate::parse(&bytes(reply)?).ok())
    }

    fn create_access_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownAccessKeys);
        let exists = |error: &HsmError| matches!(error, HsmError::AccessKeysExist);
        let look = || found(self.repetition_secret().map(drop), is_missing);
        let request = Request::CreateAccessKeys { now: now.unix_millis() };
        self.shared.make(&request, &nothing, exists, look)
    }

    fn client_authorities(&self) -> Result<Vec<Vec<u8>>, HsmError> {
        self.shared.read(&Request::ClientAuthorities, &|reply| match reply {
            Reply::Bytes(json) => serde_json::from_slice::<Vec<HexBytes>>(json)
                .ok()
                .map(|certificates| certificates.into_iter().map(|HexBytes(der)| der).collect()),
            _ => None,
        })
    }

    fn sign_client_certificate(
        &self,
        request: &ClientCertificateRequest,
    ) -> Result<Vec<u8>, HsmError> {
        let (is_device, client) = match request.client {
            Client::Terminal(id) => (false, id.to_bits()),
            Client::Device(id) => (true, id.to_bits()),
        };
        let question = Request::SignClientCertificate {
            is_device,
            client,
            api_key: request.api_key.to_bits(),
            public_key: &request.public_key.bytes(),
            expires_at: request.expires_at.unix_millis(),
            now: request.now.unix_millis(),
        };
        self.shared.read(&question, &bytes)
    }

    fn repetition_secret(&self) -> Result<Secret<[u8; 32]>, HsmError> {
        self.shared.read(&Request::RepetitionSecret, &|reply| array(reply).map(Secret::new))
    }

    fn create_document_keys(&self, now: Timestamp) -> Result<(), HsmError> {
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownDocumentKey);
        let exists = |error: &HsmError| matches!(error, HsmError::DocumentKeysExist);
        let look = || found(self.document_key(DocumentPurpose::AuditHead).map(|_| ()), is_missing);
        let request = Request::CreateDocumentKeys { now: now.unix_millis() };
        self.shared.make(&request, &nothing, exists, look)
    }

    fn document_keys(&self, of: DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, HsmError> {
        let request = Request::DocumentKeys { purpose: purpose(of) };
        self.shared.read(&request, &|reply| match reply {
            Reply::Bytes(json) => serde_json::from_slice(json).ok(),
            _ => None,
        })
    }

    fn sign_document(
        &self,
        of: DocumentPurpose,
        document: &[u8],
    ) -> Result<DocumentSignature, HsmError> {
        self.shared.read(&Request::SignDocument { purpose: purpose(of), document }, &array)
    }

    fn verify_cryptogram(
        &self,
        request: &CryptogramRequest<'_>,
    ) -> Result<CryptogramVerdict, HsmError> {
        let question = Request::VerifyCryptogram(Cryptogram::from(request));
        self.shared.read(&question, &|reply| verdict(request, reply))
    }

    fn verify_cryptograms(
        &self,
        requests: &[CryptogramRequest<'_>],
    ) -> Vec<Result<CryptogramVerdict, HsmError>> {
        let question = |request| Request::VerifyCryptogram(Cryptogram::from(request));
        let questions: Vec<_> = requests.iter().map(question).collect();
        self.shared.read_all(&questions, &|place, reply| verdict(requests.get(place)?, reply))
    }

    fn seal_provisioning(
        &self,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError> {
        let documents = wire::provisioning_documents(&request)?;
        let question = Request::SealProvisioning(Provisioning::of(&request, &documents));
        self.shared.read(&question, &|reply| match reply {
            Reply::Sealed(encapsulated_key, ciphertext) => Some(SealedPayload {
                encapsulated_key: HexBytes(encapsulated_key.to_vec()),
                ciphertext: HexBytes(ciphertext.to_vec()),
            }),
            _ => None,
        })
    }

    fn person_key_recipient(&self, issuer: IssuerId) -> Result<PersonKeyRecipient, HsmError> {
        let request = Request::PersonKeyRecipient { issuer: issuer.to_bits() };
        self.shared.read(&request, &|reply| array(reply).map(PersonKeyRecipient))
    }

    fn accept_person_key(
        &self,
        import: &PersonKeyImport<'_>,
    ) -> Result<PersonKeyVerdict, HsmError> {
        let request = Request::AcceptPersonKey {
            issuer: import.subject.issuer.to_bits(),
            token: import.subject.token.to_bits(),
            generation: import.subject.generation,
            encapsulated_key: &import.sealed.encapsulated_key.0,
            ciphertext: &import.sealed.ciphertext.0,
            old: import.old.as_ref().map(|old| (old.generation, &*old.key.0)),
        };
        self.shared.read(&request, &|reply| match reply {
            Reply::Bytes(key) => Some(PersonKeyVerdict::Accepted(SealedPersonKey(key.to_vec()))),
            Reply::Nothing => Some(PersonKeyVerdict::WrongProof),
            _ => None,
        })
    }

    fn card_pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError> {
        let request = Request::CardPinValue {
            issuer: subject.issuer.to_bits(),
            card: subject.card.to_bits(),
            encapsulated_key: &sealed.encapsulated_key.0,
            ciphertext: &sealed.ciphertext.0,
        };
        self.shared.read(&request, &|reply| array(reply).map(CardPinValue))
    }

    fn verify_card_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError> {
        let request = Request::VerifyCardPin {
            issuer: subject.issuer.to_bits(),
            card: subject.card.to_bits(),
            value: value.0,
            encapsulated_key: &sealed.encapsulated_key.0,
            ciphertext: &sealed.ciphertext.0,
            associated,
        };
        self.shared.read(&request, &|reply| match reply {
            Reply::Boolean(is_right) => Some(*is_right),
            _ => None,
        })
    }

    fn store_share(
        &self,
        issuer: IssuerId,
        device: DeviceId,
        epoch: NonZeroU32,
    ) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError> {
        let request = Request::StoreShare {
            issuer: issuer.to_bits(),
            device: device.to_bits(),
            epoch: epoch.get(),
        };
        self.shared.read(&request, &|reply| array(reply).map(Secret::new))
    }

    fn seal_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError> {
        let request =
            Request::SealCardRecord { issuer: issuer.to_bits(), owner: owner.into(), record };
        self.shared.read(&request, &|reply| bytes(reply).map(SealedCardRecord))
    }

    fn open_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &SealedCardRecord,
        grant: &DetokenizationGrant<'_>,
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        // Asked here already: a proof stays in the process that made it.
        if !grant.covers(owner) {
            return Err(HsmError::GrantElsewhere);
        }
        let grant = match grant {
            DetokenizationGrant::Payment(proof) => Grant::Payment {
                token: proof.token().to_bits(),
                input: proof.input().into(),
                cryptogram: *proof.cryptogram(),
            },
            DetokenizationGrant::Operator(operator) => {
                Grant::Operator { actor: operator.actor(), reason: operator.reason() }
            }
            DetokenizationGrant::Personalisation(token) => {
                Grant::Personalisation { token: token.to_bits() }
            }
        };
        let (issuer, owner) = (issuer.to_bits(), owner.into());
        let request = Request::OpenCardRecord { issuer, owner, record: &record.0, grant };
        self.shared.read(&request, &|reply| bytes(reply).map(Secret::new))
    }

    fn pan_lookup(&self, issuer: IssuerId, pan: &Pan) -> Result<PanLookup, HsmError> {
        self.shared.read(&look_up(issuer, pan), &|reply| array(reply).map(PanLookup))
    }

    fn pan_lookups(&self, numbers: &[(IssuerId, Pan)]) -> Vec<Result<PanLookup, HsmError>> {
        let questions = numbers.iter();
        let questions = questions.map(|(issuer, pan)| look_up(*issuer, pan)).collect::<Vec<_>>();
        self.shared.read_all(&questions, &|_, reply| array(reply).map(PanLookup))
    }

    fn demo_keys(&self, issuer: IssuerId, index: u8) -> Result<DemoKeys, HsmError> {
        let request = Request::DemoKeys { issuer: issuer.to_bits(), index };
        let keys = |reply: &Reply<'_>| {
            array(reply).map(|key| DemoKeys { issuer_master_key: IssuerMasterKey::new(key) })
        };
        self.shared.read(&request, &keys)
    }

    fn import_demo_issuer(
        &self,
        issuer: IssuerId,
        issuer_master_key: IssuerMasterKey,
        now: Timestamp,
    ) -> Result<IssuerKeys, HsmError> {
        let request = Request::ImportDemoIssuer {
            issuer: issuer.to_bits(),
            key: *issuer_master_key.expose(),
            now: now.unix_millis(),
        };
        let exists = |error: &HsmError| matches!(error, HsmError::IssuerExists(_));
        let look = || self.imported(issuer, &issuer_master_key);
        self.shared.make(&request, &issuer_keys(issuer), exists, look)
    }
}

impl HsmPool {
    /// The issuer, if it is there and has this key: an issuer of another key was not made by this call.
    fn imported(
        &self,
        issuer: IssuerId,
        key: &IssuerMasterKey,
    ) -> Result<Option<IssuerKeys>, HsmError> {
        let is_missing = |error: &HsmError| matches!(error, HsmError::UnknownIssuer(_));
        let Some(keys) = found(self.issuer_keys(issuer), is_missing)? else { return Ok(None) };
        let present = self.demo_keys(issuer, keys.derivation_key_index)?;
        // Demo keys are shown to everyone: no secret is compared here.
        match present.issuer_master_key.expose() == key.expose() {
            true => Ok(Some(keys)),
            false => Err(HsmError::IssuerExists(issuer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tapfer_payment_types::{RealmId, Timestamp};

    use super::worst;
    use crate::{HsmDescription, Realm};

    fn module(says_it_is_hardware: bool) -> HsmDescription {
        HsmDescription {
            backend: "pkcs11",
            says_it_is_hardware,
            realm: Realm::Production,
            realm_id: RealmId::new(Timestamp::from_unix_millis(1), [1; 10]),
            notice: if says_it_is_hardware { "hardware" } else { "software" },
        }
    }

    /// Whichever greeted first.
    #[test]
    fn a_pool_is_as_good_as_its_worst_member() {
        let (hard, soft) = (module(true), module(false));
        for first in [hard, soft] {
            let mixed = worst(first, &[Some(hard), Some(soft)]);
            assert!(!mixed.says_it_is_hardware);
            assert!(mixed.notice.contains("one of them at least is software"), "{}", mixed.notice);
        }
        let unknown = worst(hard, &[Some(hard), None]);
        assert!(!unknown.says_it_is_hardware && unknown.notice.contains("could be asked yet"));
        let soft_at_least = worst(soft, &[None, Some(soft)]);
        assert_eq!((soft_at_least.says_it_is_hardware, soft_at_least.notice), (false, "software"));
        let all = worst(hard, &[Some(hard), Some(hard)]);
        assert_eq!((all.says_it_is_hardware, all.notice), (true, "hardware"));
    }
}
