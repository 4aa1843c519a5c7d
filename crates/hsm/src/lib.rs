//! The root of trust in the field's verbs: [`PaymentHsm`], and its [`software`] stand-in.
//!
//! Callers name keys (an issuer and a derivation key index, a certification authority's RID and
//! index) and see results. Key bytes do not leave this crate, with one exception: limited-use and
//! session keys, and those only sealed to the device that will pay with them. Person's keys come in
//! sealed, are stored sealed, and never leave.
//!
//! Invariants:
//! - Every backend passes the same contract suite (`tests/contract/main.rs`).
//! - No verb here blocks on anything but the backend; callers on async threads move it off them, and
//!   never hold a database transaction across a call.
//! - Card data comes out only against a [`DetokenizationGrant`]: the proof of a verified cryptogram,
//!   an operator who gives a name and a reason, or, for a token's number alone, its personalisation.
//! - What signs a certificate verifies it before it is given out, so that a fault does not become a
//!   forgery or leak a key.
//!
//! EC-SDSA (ISO/IEC 14888-3, the signature of Kernel 8 certificates) is offered by neither aws-lc-rs
//! nor PKCS#11. The signing keys of certification authorities and issuers are therefore used in this
//! crate's own memory with RustCrypto's P-256, whose constant-time code has not been audited, and are
//! wiped with their holder.

pub mod catalogue;
mod client;
pub mod custody;
mod error;
pub mod exchange;
mod grant;
pub mod key_block;
mod known_answers;
mod merchant;
mod person;
pub mod pkcs11;
pub mod pool;
mod private_file;
pub mod protection_keys;
mod randomness;
mod request;
mod root_check;
pub mod seclusion;
pub mod sharing;
pub mod software;
pub mod vault;
mod vaulted;
mod wiped_json;

pub use catalogue::CatalogueError;
pub use client::{Client, ClientCertificateRequest};
pub use error::{HsmError, KeystoreError};
pub use grant::{DetokenizationGrant, OperatorGrant};
pub use merchant::MerchantCertificateRequest;
pub use person::{
    CardPinSubject, CardPinValue, PersonKeyImport, PersonKeyInUse, PersonKeyRecipient,
    PersonKeySubject, PersonKeyVerdict, SealedPersonKey, SingleUseKeyTerms,
};
pub use private_file::FileStamp;
pub use request::{
    CryptogramRequest, CryptogramVerdict, DemoKeys, DocumentKeyRecord, HsmDescription,
    IccCertificateRequest, IssuerCertificateRequest, IssuerKeys, LimitedUseKeyTerms, PanLookup,
    ProvisioningRequest, Realm, RecordOwner, SealedCardRecord,
};
pub use software::{SoftwareHsm, Unlock};
pub use vaulted::VaultedHsm;

use std::num::NonZeroU32;

use tapfer_emv::certificate::{CaPublicKey, IccCertificate, IssuerCertificate, Rid};
use tapfer_emv::curve::PublicPoint;
pub use tapfer_emv::document::{DocumentPurpose, DocumentSignature};
use tapfer_emv::keys::IssuerMasterKey;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::store_share::STORE_SHARE_LENGTH;
use tapfer_payment_types::{CatalogueMark, DeviceId, IssuerId, Pan, Secret, Timestamp};

use crate::catalogue::KeyState;

/// An ICC certificate lives no longer than this from the moment it is signed: 7 days, in seconds. A
/// stolen phone dies by itself.
pub const MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS: i64 = 7 * 86_400;
/// An issuer certificate lives no longer than this: 10 years of 366 days, in seconds.
pub const MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS: i64 = 3_660 * 86_400;
/// A terminal's certificate lives no longer than this: 7 days, in seconds. What is revoked is forgotten
/// by phones once it has ended.
pub const MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS: i64 = 7 * 86_400;
/// A client's TLS certificate lives no longer than this: 7 days, in seconds.
pub const MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS: i64 = 7 * 86_400;
/// One provisioning holds at most so many limited-use keys.
pub const MAXIMUM_LIMITED_USE_KEYS: usize = 64;

/// One row of single-use keys holds at most so many.
pub const MAXIMUM_SINGLE_USE_KEYS: u16 = 64;

/// A security module that speaks the field's verbs.
///
/// All verbs may be called from several threads at once. They are synchronous: a backend may wait for
/// a device or a disk.
pub trait PaymentHsm: Send + Sync {
    /// What this module is, and whether it may guard real money.
    fn describe(&self) -> HsmDescription;

    /// What was found out about the module behind it when it was opened, if there is one.
    fn report(&self) -> Option<pkcs11::ModuleReport> {
        None
    }

    /// Whether the module serves.
    ///
    /// # Errors
    /// What keeps it from serving.
    fn health(&self) -> Result<(), HsmError>;

    /// How its workers stand, where it has some.
    fn pool(&self) -> Option<pool::PoolStatus> {
        None
    }

    /// Takes over what other processes have changed in the catalogue of keys, and says which version that is:
    /// whoever keeps the answer and gives it as `known` the next time is shown nothing older, and nothing that
    /// was made from something older. As long as the catalogue does not come from `known`, no key is used.
    ///
    /// # Errors
    /// The catalogue cannot be read, or does not come from what was known ([`CatalogueError::RolledBack`],
    /// [`CatalogueError::Forked`], [`CatalogueError::Tampered`]); the module failed.
    fn follow_catalogue(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError>;

    /// Fills `out` with random bytes fit for keys, token numbers and ids.
    ///
    /// # Errors
    /// The system failed.
    fn random(&self, out: &mut [u8]) -> Result<(), HsmError>;

    /// Makes the key of a certification authority.
    ///
    /// # Errors
    /// [`HsmError::AuthorityExists`]; or the system failed.
    fn create_certification_authority(
        &self,
        rid: Rid,
        index: u8,
        now: Timestamp,
    ) -> Result<CaPublicKey, HsmError>;

    /// The public key of a certification authority, for terminals to trust.
    ///
    /// # Errors
    /// [`HsmError::UnknownAuthority`]
    fn ca_public_key(&self, rid: Rid, index: u8) -> Result<CaPublicKey, HsmError>;

    /// Makes all keys of an issuer: issuer master key (derivation key index 1), EC-SDSA signing key,
    /// PAN look-up key, the key that wraps the keys of card records, the key that person's keys and PINs
    /// are sealed to, and those of card PINs and of shares of phones' stores. No verb makes one later.
    ///
    /// # Errors
    /// [`HsmError::IssuerExists`]; or the system failed.
    fn create_issuer(&self, issuer: IssuerId, now: Timestamp) -> Result<IssuerKeys, HsmError>;

    /// The public side of an issuer's keys.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`]
    fn issuer_keys(&self, issuer: IssuerId) -> Result<IssuerKeys, HsmError>;

    /// Signs an issuer's public key with a certification authority's key (Book E chapter 5, `90`).
    ///
    /// # Errors
    /// [`HsmError::CertificateLife`] or [`HsmError::Certificate`] if a terminal would refuse it;
    /// [`HsmError::UnknownIssuer`], [`HsmError::UnknownAuthority`].
    fn issue_issuer_certificate(
        &self,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError>;

    /// Signs a phone's public key with its issuer's key (Book E chapter 5, `9F46`).
    ///
    /// # Errors
    /// [`HsmError::CertificateLife`] if it would live longer than
    /// [`MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS`] or be dead already; [`HsmError::UnknownIssuer`].
    fn sign_icc_certificate(
        &self,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError>;

    /// Makes the key of the authority that certifies terminals. A realm has one.
    ///
    /// # Errors
    /// [`HsmError::MerchantAuthorityExists`]; or the system failed.
    fn create_merchant_authority(&self, now: Timestamp) -> Result<MerchantCaKey, HsmError>;

    /// The public key of the authority that certifies terminals, for phones to trust.
    ///
    /// # Errors
    /// [`HsmError::UnknownMerchantAuthority`]
    fn merchant_ca_key(&self) -> Result<MerchantCaKey, HsmError>;

    /// Signs a terminal's public key with the merchant CA's key (ECDSA P-256 with SHA-256).
    ///
    /// # Errors
    /// [`HsmError::CertificateLife`] if it would live longer than
    /// [`MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS`] or be dead already;
    /// [`HsmError::MerchantCertificate`] if a phone would refuse it;
    /// [`HsmError::UnknownMerchantAuthority`].
    fn sign_merchant_certificate(
        &self,
        request: &MerchantCertificateRequest,
    ) -> Result<MerchantCertificate, HsmError>;

    /// Makes the keys by which the platform knows its callers: the authority that signs clients' TLS
    /// certificates, and the key behind [`PaymentHsm::repetition_secret`]. A realm has them once.
    ///
    /// # Errors
    /// [`HsmError::AccessKeysExist`]; or the system failed.
    fn create_access_keys(&self, now: Timestamp) -> Result<(), HsmError>;

    /// Certificates of the authority of clients, X.509 in DER, signed by themselves: one for each generation
    /// of its key that is not destroyed, the newest first. Each asking signs them anew.
    ///
    /// # Errors
    /// [`HsmError::UnknownAccessKeys`]
    fn client_authorities(&self) -> Result<Vec<Vec<u8>>, HsmError>;

    /// Signs a TLS certificate of a terminal or a phone, X.509 in DER (RFC 5280). That the client holds the
    /// private key is for the caller to see.
    ///
    /// # Errors
    /// [`HsmError::CertificateLife`] if it would live longer than
    /// [`MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS`] or be dead already; [`HsmError::UnknownAccessKeys`].
    fn sign_client_certificate(
        &self,
        request: &ClientCertificateRequest,
    ) -> Result<Vec<u8>, HsmError>;

    /// What the platform tells repeated requests apart by, and seals answers with that are shown once. The
    /// same each time it is asked for.
    ///
    /// # Errors
    /// [`HsmError::UnknownAccessKeys`]
    fn repetition_secret(&self) -> Result<Secret<[u8; 32]>, HsmError>;

    /// Makes the keys that sign documents of the platform, one for each purpose. A realm has them once.
    ///
    /// # Errors
    /// [`HsmError::DocumentKeysExist`]; or the system failed.
    fn create_document_keys(&self, now: Timestamp) -> Result<(), HsmError>;

    /// The public keys of a purpose, of every generation that there was, the oldest first: what was signed once can be
    /// verified, and how the one that signs now came to be it.
    ///
    /// # Errors
    /// [`HsmError::UnknownDocumentKey`]
    fn document_keys(&self, purpose: DocumentPurpose) -> Result<Vec<DocumentKeyRecord>, HsmError>;

    /// The one of them that verifies what is signed now, for phones and terminals to trust.
    ///
    /// # Errors
    /// [`HsmError::UnknownDocumentKey`]
    fn document_key(&self, purpose: DocumentPurpose) -> Result<PublicPoint, HsmError> {
        let keys = self.document_keys(purpose)?;
        let newest = keys.iter().rev().find(|record| record.state == KeyState::Active);
        newest.map(|record| record.key.into()).ok_or(HsmError::UnknownDocumentKey)
    }

    /// Signs [`DocumentPurpose::message`] of a document (ECDSA P-256 with SHA-256). Whether the document
    /// should be signed is the caller's to decide.
    ///
    /// # Errors
    /// [`HsmError::UnknownDocumentKey`], or the module failed.
    fn sign_document(
        &self,
        purpose: DocumentPurpose,
        document: &[u8],
    ) -> Result<DocumentSignature, HsmError>;

    /// Derives the session key the card must have used, and compares its cryptogram in constant time.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`], or the module failed. A wrong cryptogram is no error but a
    /// [`CryptogramVerdict`].
    fn verify_cryptogram(
        &self,
        request: &CryptogramRequest<'_>,
    ) -> Result<CryptogramVerdict, HsmError>;

    /// The same for payments that are at hand together: each verdict as if it were asked for alone, in the order of the
    /// requests. A pool has many of them on their way at once and wakes its caller once for many answers, which
    /// beside a fast module costs less than a call for each.
    fn verify_cryptograms(
        &self,
        requests: &[CryptogramRequest<'_>],
    ) -> Vec<Result<CryptogramVerdict, HsmError>> {
        requests.iter().map(|request| self.verify_cryptogram(request)).collect()
    }

    /// Derives limited-use keys, completes the payload with them and seals it to the device, so that
    /// nobody between module and phone sees a key.
    ///
    /// # Errors
    /// [`HsmError::Recipient`], [`HsmError::LimitedUseKeys`], [`HsmError::UnknownIssuer`],
    /// [`HsmError::UnknownDerivationKey`].
    fn seal_provisioning(
        &self,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError>;

    /// The key that phones seal a person's key to, and tills a PIN.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`], or the module failed.
    fn person_key_recipient(&self, issuer: IssuerId) -> Result<PersonKeyRecipient, HsmError>;

    /// Takes a person's key in, if the phone proves that it knows the old one, where there is one to be
    /// proven. The key opens again only inside, for the same token and generation. The proof is compared
    /// in constant time; counting wrong ones is the caller's.
    ///
    /// # Errors
    /// [`HsmError::SealedToIssuer`], whatever is wrong with what the phone sealed;
    /// [`HsmError::CardRecord`] if the old key was stored damaged; [`HsmError::UnknownIssuer`].
    fn accept_person_key(&self, import: &PersonKeyImport<'_>)
    -> Result<PersonKeyVerdict, HsmError>;

    /// What to keep of a card's PIN, which arrives sealed to its issuer with the card's id as
    /// associated data.
    ///
    /// # Errors
    /// [`HsmError::SealedToIssuer`], whatever is wrong with it; [`HsmError::UnknownIssuer`].
    fn card_pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError>;

    /// Whether a PIN that was entered at a terminal is the card's. `associated` says what the terminal
    /// bound it to. Compares in constant time. Counting wrong ones is the caller's.
    ///
    /// # Errors
    /// [`HsmError::SealedToIssuer`], whatever is wrong with it; [`HsmError::UnknownIssuer`].
    fn verify_card_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError>;

    /// The platform's share in the key of one phone's store, in one epoch. The same each time it is asked
    /// for: whether a phone gets it is the caller's to decide.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`], or the module failed.
    fn store_share(
        &self,
        issuer: IssuerId,
        device: DeviceId,
        epoch: NonZeroU32,
    ) -> Result<Secret<[u8; STORE_SHARE_LENGTH]>, HsmError>;

    /// Encrypts a record so that only [`PaymentHsm::open_card_record`] for the same issuer and owner
    /// gives it back.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`], or the module failed.
    fn seal_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError>;

    /// Decrypts a record for whoever shows a grant that covers it.
    ///
    /// # Errors
    /// [`HsmError::GrantElsewhere`] if the grant is for another record; [`HsmError::CardRecord`] if
    /// the record is damaged or belongs to another owner or issuer; [`HsmError::UnknownIssuer`].
    fn open_card_record(
        &self,
        issuer: IssuerId,
        owner: RecordOwner,
        record: &SealedCardRecord,
        grant: &DetokenizationGrant<'_>,
    ) -> Result<Secret<Vec<u8>>, HsmError>;

    /// Keyed hash of the whole card number, to find a card by its number without storing it in clear.
    ///
    /// # Errors
    /// [`HsmError::UnknownIssuer`], or the module failed.
    fn pan_lookup(&self, issuer: IssuerId, pan: &Pan) -> Result<PanLookup, HsmError>;

    /// The same for numbers that are at hand together: each as if it were asked for alone, in their order.
    fn pan_lookups(&self, numbers: &[(IssuerId, Pan)]) -> Vec<Result<PanLookup, HsmError>> {
        numbers.iter().map(|(issuer, pan)| self.pan_lookup(*issuer, pan)).collect()
    }

    /// Gives out an issuer's keys, in a demo realm only, so that anyone can recompute a cryptogram.
    ///
    /// # Errors
    /// [`HsmError::NotADemoRealm`], [`HsmError::UnknownIssuer`], [`HsmError::UnknownDerivationKey`].
    fn demo_keys(&self, issuer: IssuerId, derivation_key_index: u8) -> Result<DemoKeys, HsmError>;

    /// Makes an issuer as [`PaymentHsm::create_issuer`] does, but with a published master key, in a
    /// demo realm only: golden vectors and cards of others.
    ///
    /// # Errors
    /// [`HsmError::NotADemoRealm`], [`HsmError::IssuerExists`].
    fn import_demo_issuer(
        &self,
        issuer: IssuerId,
        issuer_master_key: IssuerMasterKey,
        now: Timestamp,
    ) -> Result<IssuerKeys, HsmError>;
}
