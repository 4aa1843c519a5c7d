//! Person's keys and card PINs: opened, compared and used in here only.
//!
//! A person's key is stored as a card record is ([`super::record`]), bound to its token and generation.
//! Whatever is wrong with what a phone or till sealed, the answer is the same.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use rustls::crypto::hpke::{EncapsulatedSecret, HpkePrivateKey};
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::Pin;
use tapfer_payment_types::messages::{PERSON_KEY_INFO, SealedPayload};
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};
use zeroize::Zeroizing;

use super::key_ring::{IssuerKeySet, PersonKeySet};
use super::provisioning::HPKE;
use super::record::{self, Kind};
use crate::{
    CardPinSubject, CardPinValue, HsmError, PersonKeyImport, PersonKeyInUse, PersonKeySubject,
    PersonKeyVerdict, SealedCardRecord, SealedPersonKey,
};

/// Makes a card's verification value its own kind of HMAC.
const CARD_PIN_VALUE: &[u8] = b"tapfer-card-pin-value-1";

/// Opens what was sealed to an issuer. `None`, whatever is wrong.
fn open(
    keys: &PersonKeySet,
    sealed: &SealedPayload,
    info: &[u8],
    associated: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let private = HpkePrivateKey::from(keys.private.expose().to_vec());
    let encapsulated = EncapsulatedSecret(sealed.encapsulated_key.0.clone());
    let opened = HPKE.open(&encapsulated, info, associated, &sealed.ciphertext.0, &private);
    opened.ok().map(Zeroizing::new)
}

/// Token id ‖ generation, as the phone bound its new key to them.
fn associated_data(subject: PersonKeySubject) -> Vec<u8> {
    [subject.token.to_string().as_bytes(), &subject.generation.to_be_bytes()].concat()
}

pub(super) fn accept(
    issuer_keys: &IssuerKeySet,
    keys: &PersonKeySet,
    import: &PersonKeyImport<'_>,
) -> Result<PersonKeyVerdict, HsmError> {
    let subject = import.subject;
    let plain = open(keys, import.sealed, PERSON_KEY_INFO, &associated_data(subject))
        .filter(|plain| plain.len() == 32)
        .ok_or(HsmError::SealedToIssuer)?;
    let (key, proof) = plain.split_at(16);
    if let Some(old) = import.old
        && !proves(issuer_keys, old, subject, key, proof)?
    {
        return Ok(PersonKeyVerdict::WrongProof);
    }
    let SealedCardRecord(record) = record::seal(issuer_keys, subject.issuer, kind(subject), key)?;
    Ok(PersonKeyVerdict::Accepted(SealedPersonKey(record)))
}

/// Whether a proof was made with the old key, for exactly this new one.
fn proves(
    issuer_keys: &IssuerKeySet,
    old: PersonKeyInUse<'_>,
    new: PersonKeySubject,
    new_key: &[u8],
    proof: &[u8],
) -> Result<bool, HsmError> {
    let subject = PersonKeySubject { generation: old.generation, ..new };
    let old_key = unseal(issuer_keys, subject, old.key)?;
    let new_key: [u8; 16] = new_key.try_into().map_err(|_| HsmError::SealedToIssuer)?;
    let new_key = PersonKey::new(new_key);
    let expected = old_key.change_proof(&new.token.to_string(), new.generation, &new_key);
    Ok(verify_slices_are_equal(expected.expose(), proof).is_ok())
}

const fn kind(subject: PersonKeySubject) -> Kind {
    Kind::PersonKey { token: subject.token, generation: subject.generation }
}

/// The person's key itself, for as long as the caller needs it.
pub(super) fn unseal(
    issuer_keys: &IssuerKeySet,
    subject: PersonKeySubject,
    sealed: &SealedPersonKey,
) -> Result<PersonKey, HsmError> {
    let record = SealedCardRecord(sealed.0.clone());
    let opened = record::open(issuer_keys, subject.issuer, kind(subject), &record)?;
    let bytes = opened.expose().as_slice().try_into();
    bytes.map(PersonKey::new).map_err(|_| HsmError::CardRecord)
}

pub(super) fn card_pin_value(
    keys: &PersonKeySet,
    subject: CardPinSubject,
    sealed: &SealedPayload,
) -> Result<CardPinValue, HsmError> {
    let associated = subject.card.to_string();
    let pin = open_pin(keys, sealed, CARD_PIN_INFO, associated.as_bytes())?;
    Ok(CardPinValue(value_of(keys, subject, &pin)?))
}

pub(super) fn verify_card_pin(
    keys: &PersonKeySet,
    subject: CardPinSubject,
    value: &CardPinValue,
    sealed: &SealedPayload,
    associated: &[u8],
) -> Result<bool, HsmError> {
    let pin = open_pin(keys, sealed, ONLINE_PIN_INFO, associated)?;
    Ok(verify_slices_are_equal(&value_of(keys, subject, &pin)?, &value.0).is_ok())
}

fn open_pin(
    keys: &PersonKeySet,
    sealed: &SealedPayload,
    info: &[u8],
    associated: &[u8],
) -> Result<Pin, HsmError> {
    open(keys, sealed, info, associated)
        .and_then(|block| Pin::from_block(&block).ok())
        .ok_or(HsmError::SealedToIssuer)
}

fn value_of(keys: &PersonKeySet, subject: CardPinSubject, pin: &Pin) -> Result<[u8; 32], HsmError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, keys.card_pin_key.expose());
    let mut context = hmac::Context::with_key(&key);
    // A card's id has one length, so the parts cannot run into each other.
    let card = subject.card.to_string();
    for part in [CARD_PIN_VALUE, card.as_bytes(), pin.expose().as_bytes()] {
        context.update(part);
    }
    context.sign().as_ref().try_into().map_err(|_| HsmError::Internal { operation: "HMAC" })
}
