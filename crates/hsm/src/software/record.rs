//! Envelope encryption of card records and person's keys: a data key for each record, wrapped by the
//! issuer's record key.
//!
//! Layout: format `01`, generation of the record key, wrapped data key (40 bytes, AES-256 key wrap,
//! NIST SP 800-38F), nonce (12), ciphertext, tag (16). AES-256-GCM; the associated data are a label,
//! issuer and owner, and all bytes before the nonce. Each data key encrypts one record, so that a
//! random nonce cannot repeat under a key.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use tapfer_payment_types::{IssuerId, Secret, TokenId};
use zeroize::Zeroizing;

use super::key_ring::IssuerKeySet;
use super::randomness;
use crate::{HsmError, RecordOwner, SealedCardRecord};

const FORMAT: u8 = 1;
const CARD_LABEL: &[u8] = b"tapfer-card-record-1";
const PERSON_KEY_LABEL: &[u8] = b"tapfer-person-key-record-1";
const WRAPPED_LENGTH: usize = 40;
const HEAD_LENGTH: usize = 2 + WRAPPED_LENGTH;

const FAILED: HsmError = HsmError::Internal { operation: "sealing a card record" };

/// What a record holds, and whose it is. Authenticated with it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A card's or token's number.
    Number(RecordOwner),
    /// A person's key.
    PersonKey { token: TokenId, generation: u32 },
}

pub(super) fn seal(
    keys: &IssuerKeySet,
    issuer: IssuerId,
    kind: Kind,
    record: &[u8],
) -> Result<SealedCardRecord, HsmError> {
    let (&generation, record_key) = keys.record_keys.last_key_value().ok_or(FAILED)?;
    let data_key = randomness::secret::<32>()?;
    let mut out = vec![FORMAT, generation];
    out.extend_from_slice(&wrap(record_key, &data_key)?);
    let associated = associated_data(issuer, kind, &out);

    let nonce = randomness::bytes()?;
    let mut content = Zeroizing::new(record.to_vec());
    let tag = cipher(&data_key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut content).ok()
        })
        .ok_or(FAILED)?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&content);
    out.extend_from_slice(tag.as_ref());
    Ok(SealedCardRecord(out))
}

pub(super) fn open(
    keys: &IssuerKeySet,
    issuer: IssuerId,
    kind: Kind,
    sealed: &SealedCardRecord,
) -> Result<Secret<Vec<u8>>, HsmError> {
    try_open(keys, issuer, kind, &sealed.0).ok_or(HsmError::CardRecord)
}

/// `None` whatever is wrong: how a record is damaged is nobody's business.
fn try_open(
    keys: &IssuerKeySet,
    issuer: IssuerId,
    kind: Kind,
    sealed: &[u8],
) -> Option<Secret<Vec<u8>>> {
    let (head, rest) = sealed.split_at_checked(HEAD_LENGTH)?;
    let (&nonce, content) = rest.split_first_chunk::<{ aead::NONCE_LEN }>()?;
    let [FORMAT, generation, wrapped @ ..] = head else { return None };
    let data_key = unwrap(keys.record_keys.get(generation)?, wrapped)?;

    let associated = Aad::from(associated_data(issuer, kind, head));
    let mut content = Secret::new(content.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length =
        cipher(&data_key)?.open_in_place(nonce, associated, content.expose_mut()).ok()?.len();
    content.expose_mut().truncate(length);
    Some(content)
}

fn associated_data(issuer: IssuerId, kind: Kind, head: &[u8]) -> Vec<u8> {
    // Ids have one length behind a prefix that is their type's own, and so has a generation, so that the
    // parts cannot run into each other.
    let (label, owner) = match kind {
        Kind::Number(RecordOwner::Card(card)) => (CARD_LABEL, card.to_string().into_bytes()),
        Kind::Number(RecordOwner::Token(token)) => (CARD_LABEL, token.to_string().into_bytes()),
        Kind::PersonKey { token, generation } => {
            let owner = [token.to_string().as_bytes(), &generation.to_be_bytes()].concat();
            (PERSON_KEY_LABEL, owner)
        }
    };
    [label, issuer.to_string().as_bytes(), &owner, head].concat()
}

fn cipher(key: &Secret<[u8; 32]>) -> Option<LessSafeKey> {
    UnboundKey::new(&aead::AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

fn wrap(
    record_key: &Secret<[u8; 32]>,
    data_key: &Secret<[u8; 32]>,
) -> Result<[u8; WRAPPED_LENGTH], HsmError> {
    let mut wrapped = [0; WRAPPED_LENGTH];
    AesKek::new(&key_wrap::AES_256, record_key.expose())
        .and_then(|kek| kek.wrap(data_key.expose(), &mut wrapped).map(|_| ()))
        .map_err(|_| FAILED)?;
    Ok(wrapped)
}

fn unwrap(record_key: &Secret<[u8; 32]>, wrapped: &[u8]) -> Option<Secret<[u8; 32]>> {
    // The library asks for room for one block more than the key.
    let mut room = Zeroizing::new([0; WRAPPED_LENGTH]);
    let kek = AesKek::new(&key_wrap::AES_256, record_key.expose()).ok()?;
    let plain = kek.unwrap(wrapped, &mut *room).ok()?;
    let mut data_key = Secret::new([0; 32]);
    data_key.expose_mut().copy_from_slice(plain.first_chunk::<32>()?);
    Some(data_key)
}
