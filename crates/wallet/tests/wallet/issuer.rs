//! An issuer with its CA, as the platform plays them.

use std::sync::atomic::{AtomicU64, Ordering};

use hpke::{Deserializable, Kem, OpModeS, Serializable};
use tapfer_emv::audit_chain::KnownHead;
use tapfer_emv::certificate::{CaPublicKey, CertificateDate, IccCertificate, IssuerCertificate};
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::document::DocumentPurpose;
use tapfer_emv::ecsdsa;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex, LimitedUseKey};
use tapfer_emv::merchant::{MerchantPrivateKey, MerchantSigner as _};
use tapfer_emv::profile::{CardProfile, Personalisation};
use tapfer_payment_types::configuration::{
    AUDIT_HEAD_FORMAT, Audience, AuditHead, CONFIGURATION_FORMAT, Configuration, Content,
    PhoneConfiguration, Restoration, SignedConfiguration, SignedDocument,
};
use tapfer_payment_types::messages::{
    CardProfileMessage, HexBytes, HexSecret, LimitedUseKeyGrant, MerchantTrust, PROVISIONING_INFO,
    ProvisioningPayload, ReplenishRequest, SealedPayload,
};
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Currency, IssuerId, PanSequenceNumber, RealmId, Timestamp, TokenId};
use tapfer_wallet::Wallet;

use crate::random::TestRng;

pub const NOW: &str = "2026-11-21T12:00:00Z";
pub const AID: [u8; 8] = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
pub const TOKEN_PAN: &str = "6726599999999990124";
/// Up to this, minor units, nobody is asked.
pub const UNVERIFIED_LIMIT: i64 = 2_500;
/// How many payments each key of a grant is good for.
pub const PAYMENTS_PER_KEY: u16 = 4;
const CA_INDEX: u8 = 0xE0;
const RID: [u8; 5] = [0xF0, 0x54, 0x41, 0x50, 0x46];
const EXPIRY: CertificateDate = CertificateDate { year: 2030, month: 12, day: 31 };

pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub struct Issuer {
    pub ca: CaPublicKey,
    pub key: PrivateKey,
    pub profile: CardProfile,
    pub token: TokenId,
    /// Whom the issuer's platform tells its phones to believe.
    pub merchant_trust: MerchantTrust,
    pub realm: RealmId,
    pub id: IssuerId,
    /// Signs what the platform says: configurations, and audit heads.
    pub document_keys: [MerchantPrivateKey; 2],
    master_key: IssuerMasterKey,
}

impl Issuer {
    /// The issuer of one token; another number, another token of the same AID.
    pub fn of_token(number: u8) -> Self {
        Self::with_keys(number, &mut TestRng(7))
    }

    /// Somebody with keys of his own, who gives the same token.
    pub fn stranger() -> Self {
        Self::with_keys(1, &mut TestRng(70))
    }

    fn with_keys(number: u8, mut rng: &mut TestRng) -> Self {
        let (ca_key, key) = (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng));
        let mut certificate = IssuerCertificate {
            issuer_identifier: [0x67, 0x26, 0x59, 0xFF, 0xFF],
            expiry: EXPIRY,
            serial: [0, 0, 1],
            rid: RID,
            ca_index: CA_INDEX,
            public_key: key.public_x(),
            signature: [0; 64],
        };
        certificate.signature = ecsdsa::sign(&ca_key, &certificate.message(), &mut rng);
        let profile = CardProfile::personalise(&Personalisation {
            aid: &AID,
            label: "TAPFER DEMO",
            token_pan: TOKEN_PAN,
            sequence: number,
            expiry: EXPIRY,
            issuer_country: 276,
            ca_index: CA_INDEX,
            issuer_certificate: &certificate.encode(),
        });
        Self {
            ca: CaPublicKey { rid: RID, index: CA_INDEX, key: ca_key.public_x() },
            key,
            profile: profile.unwrap(),
            token: TokenId::new(now(), [number; 10]),
            merchant_trust: MerchantTrust::default(),
            realm: RealmId::new(now(), [1; 10]),
            id: IssuerId::new(now(), [number; 10]),
            document_keys: [0; 2].map(|_| MerchantPrivateKey::generate(&mut rng)),
            master_key: IssuerMasterKey::new([0xA5; 16]),
        }
    }

    pub fn new() -> Self {
        Self::of_token(1)
    }

    pub fn limited_use_key(&self, index: KeyIndex) -> LimitedUseKey {
        self.key_of(KeyClass::Unverified, index)
    }

    pub fn key_of(&self, class: KeyClass, index: KeyIndex) -> LimitedUseKey {
        let sequence: PanSequenceNumber = self.profile.sequence_number().unwrap();
        self.master_key
            .token_key(&TOKEN_PAN.parse().unwrap(), sequence)
            .limited_use_key(class, index)
    }

    /// Key number `counter` of the hour of `at`, good for six hours.
    pub fn grant(&self, at: Timestamp, counter: u8) -> LimitedUseKeyGrant {
        let index = KeyIndex::at(at, counter).unwrap();
        LimitedUseKeyGrant {
            key_index: index.to_string(),
            key: HexSecret::new(self.limited_use_key(index).expose().to_vec()),
            expires_at: at.plus_seconds(6 * 3_600 + i64::from(counter)),
            maximum_payments: PAYMENTS_PER_KEY,
            maximum_total_minor: 15_000,
        }
    }

    /// A payload with two keys and a certificate for a day, which is later than the keys.
    pub fn payload(&self, request: &ReplenishRequest, at: Timestamp) -> ProvisioningPayload {
        ProvisioningPayload {
            token: self.token,
            profile: CardProfileMessage::from(&self.profile),
            icc_certificate: HexBytes(self.certify(request, at.plus_seconds(86_400)).encode()),
            derivation_key_index: 1,
            limited_use_keys: vec![self.grant(at, 0), self.grant(at, 1)],
            single_use_keys: Vec::new(),
            verified_keys: Vec::new(),
            person_key_recipient: None,
            pin: None,
            since_verified: None,
            last_verified: None,
            counter_heard: None,
            logged_in_at: None,
            payments_since_login: None,
            configuration: self.sign_configuration(&self.configuration(at)),
        }
    }

    /// What the platform tells its phones, in a version that no document had before.
    pub fn configuration(&self, at: Timestamp) -> Configuration {
        static VERSION: AtomicU64 = AtomicU64::new(1);
        let [_, auditor] = &self.document_keys;
        let beginning = KnownHead::beginning(self.realm);
        Configuration {
            format: CONFIGURATION_FORMAT.into(),
            realm: self.realm,
            audience: Audience::Phones(self.id),
            restoration: Restoration::NEVER,
            version: VERSION.fetch_add(1, Ordering::Relaxed),
            issued_at: at,
            expires_at: at.plus_seconds(7 * 86_400),
            audit_key: HexBytes(auditor.public_key().bytes().to_vec()),
            audit_head: self.audit_head(Restoration::NEVER, 0, beginning.hash),
            content: Content::Phones(PhoneConfiguration {
                policy: VerificationPolicy::by_limit(3, Currency::EUR, UNVERIFIED_LIMIT),
                merchant_trust: self.merchant_trust.clone(),
            }),
        }
    }

    /// A signed end of the platform's audit chain.
    pub fn audit_head(
        &self,
        restoration: Restoration,
        sequence: u64,
        hash: [u8; 32],
    ) -> SignedDocument {
        let head = AuditHead {
            format: AUDIT_HEAD_FORMAT.into(),
            realm: self.realm,
            restoration,
            sequence,
            hash: HexBytes(hash.to_vec()),
            at: now(),
        };
        let [_, auditor] = &self.document_keys;
        let document = serde_json::to_string(&head).unwrap();
        sign_document(auditor, DocumentPurpose::AuditHead, document)
    }

    pub fn sign_configuration(&self, configuration: &Configuration) -> SignedConfiguration {
        let [signer, _] = &self.document_keys;
        let document = serde_json::to_string(configuration).unwrap();
        let configuration = sign_document(signer, DocumentPurpose::Configuration, document);
        SignedConfiguration { configuration, successions: Vec::new() }
    }

    /// Another configuration in a payload, signed as well.
    pub fn configure(
        &self,
        payload: &mut ProvisioningPayload,
        change: impl FnOnce(&mut Configuration),
    ) {
        let document = &payload.configuration.configuration.document;
        let mut configuration: Configuration = serde_json::from_str(document).unwrap();
        change(&mut configuration);
        payload.configuration = self.sign_configuration(&configuration);
    }

    /// Another policy in a payload.
    pub fn set_policy(
        &self,
        payload: &mut ProvisioningPayload,
        change: impl FnOnce(&mut VerificationPolicy),
    ) {
        self.configure(payload, |configuration| {
            if let Content::Phones(content) = &mut configuration.content {
                change(&mut content.policy);
            }
        });
    }

    pub fn certify(&self, request: &ReplenishRequest, expiry: Timestamp) -> IccCertificate {
        let x: [u8; 32] = request.icc_public_key.0.as_slice().try_into().unwrap();
        let calendar = expiry.calendar();
        let mut certificate = IccCertificate {
            expiry: CertificateDate::of(expiry),
            hour: calendar.hour,
            minute: calendar.minute,
            serial: [1; 6],
            sda_hash: self.profile.sda_hash(),
            public_key: PublicX::from_bytes(&x).unwrap(),
            signature: [0; 64],
        };
        certificate.signature = ecsdsa::sign(
            &self.key,
            &certificate.message(),
            &mut TestRng(expiry.unix_millis() as u64),
        );
        certificate
    }

    /// Enrols the token, or replenishes it, with what the platform would send.
    pub fn provision(&self, wallet: &mut Wallet, at: Timestamp) {
        let request = wallet.replenish_request(self.token, &mut TestRng(at.unix_millis() as u64));
        let sealed = seal(wallet, self.token, &self.payload(&request, at));
        wallet.accept(self.token, &sealed, at).unwrap();
    }
}

fn sign_document(
    key: &MerchantPrivateKey,
    purpose: DocumentPurpose,
    document: String,
) -> SignedDocument {
    let signature = key.sign(&purpose.message(document.as_bytes())).unwrap();
    SignedDocument {
        document,
        key: HexBytes(key.public_key().bytes().to_vec()),
        signature: HexBytes(signature.to_vec()),
    }
}

/// Seals a payload to a wallet's device key.
pub fn seal(wallet: &Wallet, token: TokenId, payload: &ProvisioningPayload) -> SealedPayload {
    seal_bytes(wallet, token, &serde_json::to_vec(payload).unwrap())
}

pub fn seal_bytes(wallet: &Wallet, token: TokenId, content: &[u8]) -> SealedPayload {
    type DeviceKem = hpke::kem::DhP256HkdfSha256;
    let public = <DeviceKem as Kem>::PublicKey::from_bytes(&wallet.device_public_key()).unwrap();
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<hpke::aead::AesGcm256, hpke::kdf::HkdfSha256, DeviceKem>(
            &OpModeS::Base,
            &public,
            PROVISIONING_INFO,
            content,
            token.to_string().as_bytes(),
            &mut TestRng(content.len() as u64),
        )
        .unwrap();
    SealedPayload {
        encapsulated_key: HexBytes(encapsulated.to_bytes().to_vec()),
        ciphertext: HexBytes(ciphertext),
    }
}
