//! Setting and changing a PIN: a new person's key, told to the platform so that both sides agree
//! afterwards whatever is lost on the way.
//!
//! ```text
//! phone                                                platform
//! new key, kept beside the old one ── persisted
//!            ── generation g+1, sealed key ‖ proof ──►  checks the proof, keeps the key
//!            ◄── PIN status, generation g+1 ──
//! the new key takes the old one's place ── persisted
//! ```
//!
//! A phone that dies in between finds the request in its store and sends it again; the platform knows
//! it. If the platform's generation shows in any other answer first, that settles it as well
//! ([`TokenPin::agree`]).

use alloc::string::ToString;
use alloc::vec::Vec;

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};
use rand_core::CryptoRng;
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{
    HexBytes, PERSON_KEY_INFO, PinStatus, SealedPayload, SetPersonKeyRequest,
};
use tapfer_payment_types::policy::PinRules;
use tapfer_payment_types::{Pin, Secret, TokenId};

use super::choice::{PinChoiceError, check_choice};
use super::lock::{PinHardness, PinHardnessError, PinLock};
use super::{KeptKey, PendingKey, TokenPin};
use crate::store::StoreError;

/// Why a PIN can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetPinError {
    /// No such token.
    #[error(transparent)]
    UnknownToken(#[from] crate::UnknownToken),
    /// The issuer has no PINs.
    #[error("the issuer of this card has no PIN for the phone")]
    NotOffered,
    /// The PIN is not good enough.
    #[error(transparent)]
    Choice(#[from] PinChoiceError),
    /// There is a PIN, and it was not given.
    #[error("to change the PIN, enter the old one as well")]
    OldPinNeeded,
    /// The platform knows a PIN that this phone does not.
    #[error("this phone has lost the key of its PIN: ask your issuer for a reset")]
    ResetNeeded,
    /// The answer to the last change is outstanding.
    #[error("the last new PIN has not been confirmed yet: go online first")]
    Unconfirmed,
    /// Argon2id does not take the parameters.
    #[error(transparent)]
    Hardness(#[from] PinHardnessError),
    /// The issuer's key is no key.
    #[error("the issuer's key for PINs is unusable: fetch keys again")]
    Recipient,
    /// The new state can't be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a change is about.
pub(crate) struct NewPin<'a> {
    pub(crate) token: TokenId,
    pub(crate) pin: &'a Pin,
    pub(crate) old: Option<&'a Pin>,
    pub(crate) rules: &'a PinRules,
    pub(crate) hardness: PinHardness,
}

impl TokenPin {
    /// Makes a new person's key under a new PIN, and the request that tells the platform. Persist it
    /// before the request leaves the phone.
    pub(crate) fn set(
        &mut self,
        new: &NewPin<'_>,
        rng: &mut impl CryptoRng,
    ) -> Result<(), SetPinError> {
        check_choice(new.pin, new.rules)?;
        if self.pending.is_some() {
            return Err(SetPinError::Unconfirmed);
        }
        let recipient = self.recipient.as_ref().ok_or(SetPinError::NotOffered)?;
        let old = self.old_key(new.old)?;
        let generation = self.next_generation()?;
        let mut bytes = Secret::new([0; 16]);
        rng.fill_bytes(bytes.expose_mut());
        let key = PersonKey::new(*bytes.expose());
        let lock = PinLock::new(&key, new.pin, new.hardness, rng)?;
        let request = seal(&key, old.as_ref(), new.token, generation, recipient, rng)?;
        self.pending = Some(PendingKey { kept: KeptKey { generation, lock }, request });
        Ok(())
    }

    /// The key that a change has to prove; `None` where nothing is to be proven.
    fn old_key(&self, old: Option<&Pin>) -> Result<Option<PersonKey>, SetPinError> {
        let status = self.status.as_ref();
        if status.is_some_and(|status| status.reset_granted) {
            return Ok(None);
        }
        match (&self.kept, old) {
            (Some(kept), Some(old)) => Ok(Some(kept.lock.open(old)?)),
            (Some(_), None) => Err(SetPinError::OldPinNeeded),
            (None, _) if status.is_some_and(|status| status.generation > 0) => {
                Err(SetPinError::ResetNeeded)
            }
            (None, _) => Ok(None),
        }
    }

    fn next_generation(&self) -> Result<u32, SetPinError> {
        self.known_generation().checked_add(1).ok_or(SetPinError::ResetNeeded)
    }

    /// The request whose answer is outstanding, as it was sealed.
    pub(crate) fn request(&self) -> Option<SetPersonKeyRequest> {
        self.pending.as_ref().map(|pending| SetPersonKeyRequest {
            generation: pending.kept.generation,
            sealed_key: pending.request.clone(),
        })
    }

    /// The newest generation that the phone knows of, its own or the platform's.
    fn known_generation(&self) -> u32 {
        let told = self.status.as_ref().map_or(0, |status| status.generation);
        told.max(self.generation())
    }

    /// Whether the platform said this before something that the phone has heard already: an answer was
    /// overtaken by a later one. Generations never fall.
    fn is_overtaken(&self, status: &PinStatus) -> bool {
        status.generation < self.known_generation()
    }

    /// Takes the platform's word on which person's key is in force, unless it was overtaken. Says whether
    /// the phone's own has become another: then the session keys under the old one are worth nothing.
    pub(crate) fn agree(&mut self, status: PinStatus) -> bool {
        if self.is_overtaken(&status) {
            return false;
        }
        let before = self.generation();
        let is_applied = |pending: &mut PendingKey| pending.kept.generation <= status.generation;
        if let Some(pending) = self.pending.take_if(is_applied) {
            self.kept = Some(pending.kept);
        }
        // A key that the platform does not have opens nothing any more.
        self.kept.take_if(|kept| kept.generation != status.generation);
        self.status = Some(status);
        let has_changed = self.generation() != before;
        if has_changed {
            self.forget();
        }
        has_changed
    }

    /// The platform's answer to the request, by which it is settled. A generation below the request's is a
    /// refusal, whatever it came with: the old PIN was wrong, say, and the same request sent again would
    /// cost one more try. What is said of the generation counts more than a refusal, which may answer a
    /// request that was carried out before.
    pub(crate) fn settled(&mut self, status: PinStatus) -> bool {
        let has_changed = self.agree(status);
        self.pending = None;
        has_changed
    }

    /// Takes the key to seal to, as the platform sent it.
    pub(crate) fn set_recipient(&mut self, recipient: Option<HexBytes>) {
        self.recipient = recipient;
    }
}

/// New key ‖ proof of the old one, sealed to the issuer. The proof is inside: beside the sealed key, in
/// the store or in a recording, it would be something to test PINs against.
fn seal(
    key: &PersonKey,
    old: Option<&PersonKey>,
    token: TokenId,
    generation: u32,
    recipient: &HexBytes,
    rng: &mut impl CryptoRng,
) -> Result<SealedPayload, SetPinError> {
    let token = token.to_string();
    let proof = old.map(|old| old.change_proof(&token, generation, key));
    let mut plain = Secret::new([0; 32]);
    let (first, second) = plain.expose_mut().split_at_mut(16);
    first.copy_from_slice(key.expose());
    if let Some(proof) = &proof {
        second.copy_from_slice(proof.expose());
    }
    let recipient = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(&recipient.0)
        .map_err(|_| SetPinError::Recipient)?;
    let associated: Vec<u8> = [token.as_bytes(), &generation.to_be_bytes()].concat();
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeS::Base,
            &recipient,
            PERSON_KEY_INFO,
            plain.expose(),
            &associated,
            rng,
        )
        .map_err(|_| SetPinError::Recipient)?;
    Ok(SealedPayload {
        encapsulated_key: HexBytes(encapsulated.to_bytes().to_vec()),
        ciphertext: HexBytes(ciphertext),
    })
}
