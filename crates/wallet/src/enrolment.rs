//! Getting a token and its keys onto the phone.
//!
//! The phone makes a new ICC key pair for every request and keeps the private half; the platform
//! certifies the public half, derives limited-use keys and seals all of it to the device key (HPKE,
//! RFC 9180, base mode). HPKE in base mode says who can open, not who sealed: that the platform
//! sealed it, the TLS connection it came over says. A payload fits one request only, because it
//! certifies that request's key: an older payload, sent again, is refused.

use alloc::string::ToString;
use alloc::vec::Vec;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::{
    CertificateDate, CertificateError, IccCertificate, IssuerCertificate,
};
use tapfer_emv::configuration::ConfigurationError;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::profile::{CardProfile, ProfileError};
use tapfer_emv::tags;
use tapfer_payment_types::messages::{
    HexBytes, PROVISIONING_INFO, PinStatus, ProvisioningPayload, ReplenishRequest, SealedPayload,
};
use tapfer_payment_types::{Timestamp, TokenId};
use zeroize::Zeroizing;

use crate::configuration::Configured;
use crate::data_storage::DataEnvelopes;
pub use crate::keys::KeyGrantError;
use crate::keys::{KeyReplacement, LimitedUseKeys, SessionKeys};
use crate::pin::TokenPin;
use crate::policy::{Confirmation, History};
use crate::secret_bytes::private_key;
use crate::store::{Snapshot, StoreError};
use crate::token::Token;
use crate::wallet::Wallet;

/// Why a payload is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The phone did not ask, or has taken the answer already.
    #[error("no request for this token is open: ask for keys again")]
    NotRequested,
    /// Sealed to another device or token, or altered on the way.
    #[error("the payload does not open: it is for another device or token, or was altered")]
    Sealed,
    /// It opens, but is not a payload of this version.
    #[error("the payload opens, but its content makes no sense to this version: update the app")]
    Content,
    /// The payload is for another token.
    #[error("the payload is for another token")]
    OtherToken,
    /// The card can't be played.
    #[error("the card profile is unusable")]
    Profile(#[from] ProfileError),
    /// The token is on the phone already, as another card.
    #[error("the token is already on this phone with another card number or application")]
    OtherCard,
    /// The token is on the phone already, and another issuer's key answers for it now.
    #[error(
        "the payload is certified with another key than the token's issuer has: whoever sent it is \
         not the platform that enrolled the token"
    )]
    OtherIssuer,
    /// The issuer's or the ICC certificate is bad.
    #[error("a certificate is unusable")]
    Certificate(#[from] CertificateError),
    /// The ICC certificate is over another key: the answer to an older request.
    #[error("the ICC certificate is not over the key of the open request: ask for keys again")]
    OtherKey,
    /// The limited-use keys are bad.
    #[error("the limited-use keys are unusable")]
    Keys(#[from] KeyGrantError),
    /// Nothing could be paid with it.
    #[error("the payload brings no limited-use key")]
    NoKeys,
    /// The signed configuration is not to be taken: forged, old, or over.
    #[error(transparent)]
    Configuration(ConfigurationError),
    /// The signed configuration is for nobody on this phone.
    #[error(
        "the configuration is for other devices, or for an issuer of which no card is on this phone"
    )]
    OtherPlatform,
    /// The new state can't be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The private half of an ICC key whose certificate is on its way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingKey {
    pub(crate) token: TokenId,
    #[serde(with = "private_key")]
    icc_key: PrivateKey,
}

impl Wallet {
    /// Begins an enrolment or a replenishment: makes a new ICC key pair for the token and returns
    /// what to send to the platform. A request that is still open for the token is replaced.
    ///
    /// Take a [`Wallet::snapshot`] if the answer may come after a restart. Without one the answer is
    /// lost with the process, and nothing worse happens.
    pub fn replenish_request(
        &mut self,
        token: TokenId,
        rng: &mut impl CryptoRng,
    ) -> ReplenishRequest {
        let icc_key = PrivateKey::generate(rng);
        let counter = self.token(token).map_or(0, Token::application_transaction_counter);
        self.pending_keys.retain(|pending| pending.token != token);
        let icc_public_key = HexBytes(icc_key.public_x().bytes().to_vec());
        self.pending_keys.push(PendingKey { token, icc_key });
        ReplenishRequest { icc_public_key, application_transaction_counter: counter }
    }

    /// Takes the platform's answer: opens it, checks every part of it, and only then changes the
    /// wallet. A known token keeps its counter; the new keys take the place of the old ones.
    ///
    /// Persist the snapshot it returns; until then a crash loses the new keys, and nothing else.
    ///
    /// # Errors
    /// [`AcceptError`]; the wallet is unchanged, and the request stays open. [`AcceptError::Store`]
    /// alone comes after the change: take another snapshot.
    pub fn accept(
        &mut self,
        token: TokenId,
        sealed: &SealedPayload,
        now: Timestamp,
    ) -> Result<Snapshot, AcceptError> {
        let icc_key = self.take_pending_key(token).ok_or(AcceptError::NotRequested)?;
        let checked = open(&self.device_key, token, sealed)
            .and_then(|payload| Checked::new(payload, self, &icc_key, now));
        match checked {
            Ok(checked) => {
                self.install(token, checked, icc_key, now);
                Ok(self.snapshot()?)
            }
            Err(error) => {
                self.pending_keys.push(PendingKey { token, icc_key });
                Err(error)
            }
        }
    }

    fn take_pending_key(&mut self, token: TokenId) -> Option<PrivateKey> {
        let position = self.pending_keys.iter().position(|pending| pending.token == token)?;
        Some(self.pending_keys.swap_remove(position).icc_key)
    }

    fn install(&mut self, id: TokenId, checked: Checked, icc_key: PrivateKey, now: Timestamp) {
        let Checked { profile, certificate, configured, keys, person } = checked;
        let by = configured.by;
        if let Some(token) = self.token_mut(id) {
            let latest = token.clock(now).latest;
            token.history.keep_login_due(&token.policy, latest);
            // A clock that went wrong once must not keep good keys from being used.
            token.latest = Some(now);
            if token.has_only_expired_keys(latest) {
                token.history.keys_had_expired(token.application_transaction_counter);
            }
            token.profile = profile;
            token.configured_by = Some(by);
            token.set_certificate(&certificate, icc_key);
            // Before the keys: how far they count depends on what the policy says now.
            self.configure(configured, now);
            if let Some(token) = self.token_mut(id) {
                token.install_keys(keys, person);
            }
            return;
        }
        self.default_token.get_or_insert(id);
        let mut token = Token {
            id,
            profile,
            icc_key,
            icc_certificate: HexBytes(certificate.encode()),
            icc_certificate_expires_at: certificate.expires_at(),
            application_transaction_counter: 0,
            policy: configured.content().policy.clone(),
            merchant_trust: configured.content().merchant_trust.clone(),
            configured_by: Some(by),
            configuration_expires_at: None,
            chosen_level: None,
            history: History::new(now),
            data_envelopes: DataEnvelopes::default(),
            keys: LimitedUseKeys::default(),
            single_use: SessionKeys::default(),
            verified: SessionKeys::default(),
            pin: TokenPin::default(),
            latest: Some(now),
        };
        token.install_keys(keys, person);
        self.tokens.push(token);
        self.configure(configured, now);
    }
}

/// A payload in which everything has been found good.
struct Checked {
    profile: CardProfile,
    certificate: IccCertificate,
    configured: Configured,
    keys: GrantedKeys,
    person: PersonNews,
}

/// Keys of every class, found good.
pub(crate) struct GrantedKeys {
    pub(crate) limited_use: KeyReplacement,
    pub(crate) single_use: SessionKeys,
    pub(crate) verified: SessionKeys,
}

/// What the platform says about the person.
pub(crate) struct PersonNews {
    pub(crate) recipient: Option<HexBytes>,
    pub(crate) pin: Option<PinStatus>,
    pub(crate) confirmation: Confirmation,
}

impl Checked {
    fn new(
        payload: ProvisioningPayload,
        wallet: &Wallet,
        icc_key: &PrivateKey,
        now: Timestamp,
    ) -> Result<Self, AcceptError> {
        let known = wallet.token(payload.token);
        let profile = CardProfile::try_from(&payload.profile)?;
        check_same_card(known, &profile)?;
        let issuer = issuer_certificate(&profile)?;
        check_same_issuer(known, &issuer)?;
        let certificate = check_certificate(&payload, &profile, &issuer, icc_key, now)?;
        let configured =
            wallet.check_configuration(&payload.configuration, Some(payload.token), now)?;
        let keys = GrantedKeys::new(&payload, known, now)?;
        let person = PersonNews::of(&payload);
        Ok(Self { profile, certificate, configured, keys, person })
    }
}

impl GrantedKeys {
    fn new(
        payload: &ProvisioningPayload,
        known: Option<&Token>,
        now: Timestamp,
    ) -> Result<Self, AcceptError> {
        // Declines are signed as well, with keys that need no PIN.
        if payload.limited_use_keys.is_empty() && payload.single_use_keys.is_empty() {
            return Err(AcceptError::NoKeys);
        }
        if !payload.verified_keys.is_empty() && payload.pin.is_none() {
            return Err(KeyGrantError::NoPersonKey.into());
        }
        let derivation = payload.derivation_key_index;
        let none = LimitedUseKeys::default();
        let held = known.map_or(&none, |token| &token.keys);
        let granted = Self {
            limited_use: held.replaced(&payload.limited_use_keys, derivation, now)?,
            single_use: SessionKeys::granted(&payload.single_use_keys, derivation, now)?,
            verified: SessionKeys::granted(&payload.verified_keys, derivation, now)?,
        };
        granted.check_indices(known)?;
        Ok(granted)
    }

    /// No index is given twice, in no class. Two blocks around one session key, under two person's
    /// keys, would be something to test two PINs against.
    fn check_indices(&self, known: Option<&Token>) -> Result<(), KeyGrantError> {
        let single_use = || self.single_use.indices().chain(self.verified.indices());
        let mut indices: Vec<_> = self.limited_use.indices().chain(single_use()).collect();
        let count = indices.len();
        indices.sort_unstable();
        indices.dedup();
        let is_held =
            |index| known.is_some_and(|token| token.key_indices().any(|held| held == index));
        if indices.len() != count || single_use().any(is_held) {
            return Err(KeyGrantError::Conflict);
        }
        Ok(())
    }
}

impl PersonNews {
    fn of(payload: &ProvisioningPayload) -> Self {
        Self {
            recipient: payload.person_key_recipient.clone(),
            pin: payload.pin,
            confirmation: Confirmation {
                since_verified: payload.since_verified,
                last_verified: payload.last_verified,
                logged_in_at: payload.logged_in_at,
                since_login: payload.payments_since_login,
                heard: payload.counter_heard,
            },
        }
    }
}

/// Counter and keys belong to one card number: a token that becomes another card would mix them.
fn check_same_card(known: Option<&Token>, profile: &CardProfile) -> Result<(), AcceptError> {
    let Some(known) = known else { return Ok(()) };
    let is_same = known.profile.token_pan() == profile.token_pan()
        && known.profile.sequence_number() == profile.sequence_number()
        && known.profile.aid == profile.aid;
    if is_same { Ok(()) } else { Err(AcceptError::OtherCard) }
}

fn issuer_certificate(profile: &CardProfile) -> Result<IssuerCertificate, CertificateError> {
    let certificate = profile.data_object(tags::ISSUER_CERTIFICATE).unwrap_or_default();
    IssuerCertificate::parse(certificate)
}

/// The sealing tells nobody who sealed: anyone who knows the device's public key can. But only the
/// issuer can certify the key that the phone has just made, and that certificate is in the payload and
/// nowhere else. So the issuer whose key enrolled the token is the only one to change it.
fn check_same_issuer(known: Option<&Token>, issuer: &IssuerCertificate) -> Result<(), AcceptError> {
    let Some(known) = known else { return Ok(()) };
    if issuer_certificate(&known.profile)?.public_key == issuer.public_key {
        return Ok(());
    }
    Err(AcceptError::OtherIssuer)
}

/// The certificate must be over the phone's own key and this profile, signed by the issuer whose
/// certificate the card presents, or every terminal would refuse the card.
fn check_certificate(
    payload: &ProvisioningPayload,
    profile: &CardProfile,
    issuer: &IssuerCertificate,
    icc_key: &PrivateKey,
    now: Timestamp,
) -> Result<IccCertificate, AcceptError> {
    let certificate = IccCertificate::parse(&payload.icc_certificate.0)?;
    if certificate.public_key != icc_key.public_x() {
        return Err(AcceptError::OtherKey);
    }
    if CertificateDate::of(now) > issuer.expiry {
        return Err(CertificateError::Expired.into());
    }
    certificate.verify(&issuer.public_key, &profile.sda_hash(), now)?;
    Ok(certificate)
}

type DeviceKem = DhP256HkdfSha256;

fn open(
    device_key: &PrivateKey,
    token: TokenId,
    sealed: &SealedPayload,
) -> Result<ProvisioningPayload, AcceptError> {
    let private = <DeviceKem as Kem>::PrivateKey::from_bytes(device_key.to_bytes().expose())
        .map_err(|_| AcceptError::Sealed)?;
    let encapsulated = <DeviceKem as Kem>::EncappedKey::from_bytes(&sealed.encapsulated_key.0)
        .map_err(|_| AcceptError::Sealed)?;
    let content: Zeroizing<Vec<u8>> = hpke::single_shot_open::<AesGcm256, HkdfSha256, DeviceKem>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        PROVISIONING_INFO,
        &sealed.ciphertext.0,
        token.to_string().as_bytes(),
    )
    .map(Zeroizing::new)
    .map_err(|_| AcceptError::Sealed)?;
    let payload: ProvisioningPayload =
        serde_json::from_slice(&content).map_err(|_| AcceptError::Content)?;
    if payload.token == token { Ok(payload) } else { Err(AcceptError::OtherToken) }
}
