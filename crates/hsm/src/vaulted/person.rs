//! Person's keys and card PINs: opened, compared and used in here only.
//!
//! A person's key is stored as a card record is ([`super::record`]), bound to its token and generation.
//! Whatever is wrong with what a phone or till sealed, the answer is the same.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{PERSON_KEY_INFO, SealedPayload};
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};
use tapfer_payment_types::{IssuerId, Pin};
use zeroize::Zeroizing;

use super::record::Kind;
use super::shelf::HeldKey;
use super::{VaultedHsm, hpke};
use crate::catalogue::{KeyOwner, KeyPurpose};
use crate::vault::Vault;
use crate::{
    CardPinSubject, CardPinValue, HsmError, PersonKeyImport, PersonKeyInUse, PersonKeySubject,
    PersonKeyVerdict, SealedCardRecord, SealedPersonKey,
};

/// Makes a card's verification value its own kind of HMAC.
const CARD_PIN_VALUE: &[u8] = b"tapfer-card-pin-value-1";

/// Token id ‖ generation, as the phone bound its new key to them.
fn associated_data(subject: PersonKeySubject) -> Vec<u8> {
    [subject.token.to_string().as_bytes(), &subject.generation.to_be_bytes()].concat()
}

const fn kind(subject: PersonKeySubject) -> Kind {
    Kind::PersonKey { token: subject.token, generation: subject.generation }
}

impl<V: Vault> VaultedHsm<V> {
    /// Opens what was sealed to an issuer, with whichever of its keys it was sealed to.
    fn open_sealed(
        &self,
        issuer: IssuerId,
        sealed: &SealedPayload,
        info: &[u8],
        associated: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        let Some(encapsulated) = hpke::Encapsulated::read(&sealed.encapsulated_key.0) else {
            self.active(KeyOwner::Issuer(issuer), KeyPurpose::PersonKeys)?;
            return Err(HsmError::SealedToIssuer);
        };
        for key in self.usable(KeyOwner::Issuer(issuer), KeyPurpose::PersonKeys)? {
            let own = self.public_point(&key)?;
            let shared = self.vault().agree(self.ready(&key)?, encapsulated.point())?;
            let opened =
                hpke::open(&shared, &encapsulated, &own, info, associated, &sealed.ciphertext.0)?;
            if let Some(plain) = opened {
                return Ok(plain);
            }
        }
        Err(HsmError::SealedToIssuer)
    }

    pub(super) fn accept(
        &self,
        import: &PersonKeyImport<'_>,
    ) -> Result<PersonKeyVerdict, HsmError> {
        let subject = import.subject;
        let bound_to = associated_data(subject);
        let plain = self.open_sealed(subject.issuer, import.sealed, PERSON_KEY_INFO, &bound_to)?;
        if plain.len() != 32 {
            return Err(HsmError::SealedToIssuer);
        }
        let (key, proof) = plain.split_at(16);
        if let Some(old) = import.old
            && !self.proves(old, subject, key, proof)?
        {
            return Ok(PersonKeyVerdict::WrongProof);
        }
        let SealedCardRecord(record) = self.seal_record(subject.issuer, kind(subject), key)?;
        Ok(PersonKeyVerdict::Accepted(SealedPersonKey(record)))
    }

    /// Whether a proof was made with the old key, for exactly this new one.
    fn proves(
        &self,
        old: PersonKeyInUse<'_>,
        new: PersonKeySubject,
        new_key: &[u8],
        proof: &[u8],
    ) -> Result<bool, HsmError> {
        let subject = PersonKeySubject { generation: old.generation, ..new };
        let old_key = self.unseal_person_key(subject, old.key)?;
        let new_key: [u8; 16] = new_key.try_into().map_err(|_| HsmError::SealedToIssuer)?;
        let new_key = PersonKey::new(new_key);
        let expected = old_key.change_proof(&new.token.to_string(), new.generation, &new_key);
        Ok(verify_slices_are_equal(expected.expose(), proof).is_ok())
    }

    /// The person's key itself, for as long as the caller needs it.
    pub(super) fn unseal_person_key(
        &self,
        subject: PersonKeySubject,
        sealed: &SealedPersonKey,
    ) -> Result<PersonKey, HsmError> {
        let opened = self.open_record(subject.issuer, kind(subject), &sealed.0)?;
        let bytes = opened.expose().as_slice().try_into();
        bytes.map(PersonKey::new).map_err(|_| HsmError::CardRecord)
    }

    pub(super) fn pin_value(
        &self,
        subject: CardPinSubject,
        sealed: &SealedPayload,
    ) -> Result<CardPinValue, HsmError> {
        let associated = subject.card.to_string();
        let pin = self.open_pin(subject.issuer, sealed, CARD_PIN_INFO, associated.as_bytes())?;
        let key = self.active(KeyOwner::Issuer(subject.issuer), KeyPurpose::CardPins)?;
        self.value_of(&key, subject, &pin).map(CardPinValue)
    }

    /// A value may have been made under any generation, and does not say which.
    pub(super) fn verify_pin(
        &self,
        subject: CardPinSubject,
        value: &CardPinValue,
        sealed: &SealedPayload,
        associated: &[u8],
    ) -> Result<bool, HsmError> {
        let pin = self.open_pin(subject.issuer, sealed, ONLINE_PIN_INFO, associated)?;
        let keys = self.usable(KeyOwner::Issuer(subject.issuer), KeyPurpose::CardPins)?;
        for key in keys {
            let expected = self.value_of(&key, subject, &pin)?;
            if verify_slices_are_equal(&expected, &value.0).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn open_pin(
        &self,
        issuer: IssuerId,
        sealed: &SealedPayload,
        info: &[u8],
        associated: &[u8],
    ) -> Result<Pin, HsmError> {
        let block = self.open_sealed(issuer, sealed, info, associated)?;
        Pin::from_block(&block).map_err(|_| HsmError::SealedToIssuer)
    }

    fn value_of(
        &self,
        key: &HeldKey<V::Key>,
        subject: CardPinSubject,
        pin: &Pin,
    ) -> Result<[u8; 32], HsmError> {
        // A card's id has one length, so the parts cannot run into each other.
        let card = subject.card.to_string();
        let parts = [CARD_PIN_VALUE, card.as_bytes(), pin.expose().as_bytes()];
        self.vault().authenticate(self.ready(key)?, &parts)
    }
}
