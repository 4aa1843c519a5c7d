//! Envelope encryption of card records and person's keys: a data key for each record, wrapped by the
//! issuer's record key.
//!
//! Layout: format `01`, generation of the record key, wrapped data key (40 bytes, AES-256 key wrap,
//! NIST SP 800-38F), nonce (12), ciphertext, tag (16). AES-256-GCM; the associated data are a label,
//! issuer and owner, and all bytes before the nonce. Each data key encrypts one record, so that a
//! random nonce cannot repeat under a key.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use tapfer_payment_types::{IssuerId, Secret, TokenId};
use zeroize::Zeroizing;

use super::VaultedHsm;
use crate::catalogue::{KeyOwner, KeyPurpose};
use crate::vault::Vault;
use crate::{HsmError, RecordOwner, SealedCardRecord, randomness};

const FORMAT: u8 = 1;
const CARD_LABEL: &[u8] = b"tapfer-card-record-1";
const PERSON_KEY_LABEL: &[u8] = b"tapfer-person-key-record-1";
const WRAPPED_LENGTH: usize = 40;
const HEAD_LENGTH: usize = 2 + WRAPPED_LENGTH;

const FAILED: HsmError = HsmError::Internal { operation: "sealing a card record" };

impl SealedCardRecord {
    /// What every record begins with, a person's key as well, whose key was wrapped by this generation of the issuer's
    /// record key: to count them.
    #[must_use]
    pub const fn prefix(generation: u8) -> [u8; 2] {
        [FORMAT, generation]
    }
}

/// What a record holds, and whose it is. Authenticated with it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A card's or token's number.
    Number(RecordOwner),
    /// A person's key.
    PersonKey { token: TokenId, generation: u32 },
}

impl<V: Vault> VaultedHsm<V> {
    pub(super) fn seal_record(
        &self,
        issuer: IssuerId,
        kind: Kind,
        record: &[u8],
    ) -> Result<SealedCardRecord, HsmError> {
        let record_key = self.active(KeyOwner::Issuer(issuer), KeyPurpose::CardRecords)?;
        let mut data_key = Secret::new([0; 32]);
        self.vault().random(data_key.expose_mut())?;
        let wrapped = self.vault().wrap_data_key(self.ready(&record_key)?, &data_key)?;
        let mut out = SealedCardRecord::prefix(record_key.record.name.generation).to_vec();
        out.extend_from_slice(&wrapped);
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

    /// How a record is damaged is nobody's business; that its key was destroyed is.
    pub(super) fn open_record(
        &self,
        issuer: IssuerId,
        kind: Kind,
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, HsmError> {
        let owner = KeyOwner::Issuer(issuer);
        let parts = Parts::of(sealed);
        // Asked for in any case: an unknown issuer is told from a damaged record.
        let generation = parts.as_ref().map_or(0, |parts| parts.generation);
        let record_key = self.generation(owner, KeyPurpose::CardRecords, generation)?;
        let (Some(record_key), Some(parts)) = (record_key, parts) else {
            return Err(HsmError::CardRecord);
        };
        let data_key = self.vault().unwrap_data_key(self.ready(&record_key)?, parts.wrapped)?;
        let data_key = data_key.ok_or(HsmError::CardRecord)?;
        parts.open(&data_key, issuer, kind).ok_or(HsmError::CardRecord)
    }
}

/// A sealed record taken apart.
struct Parts<'a> {
    head: &'a [u8],
    generation: u8,
    wrapped: &'a [u8; WRAPPED_LENGTH],
    nonce: [u8; aead::NONCE_LEN],
    content: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a [u8]) -> Option<Self> {
        let (head, rest) = sealed.split_at_checked(HEAD_LENGTH)?;
        let (&nonce, content) = rest.split_first_chunk()?;
        let [FORMAT, generation, wrapped @ ..] = head else { return None };
        Some(Self {
            head,
            generation: *generation,
            wrapped: wrapped.try_into().ok()?,
            nonce,
            content,
        })
    }

    fn open(
        &self,
        data_key: &Secret<[u8; 32]>,
        issuer: IssuerId,
        kind: Kind,
    ) -> Option<Secret<Vec<u8>>> {
        let associated = Aad::from(associated_data(issuer, kind, self.head));
        let mut content = Secret::new(self.content.to_vec());
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let length =
            cipher(data_key)?.open_in_place(nonce, associated, content.expose_mut()).ok()?.len();
        content.expose_mut().truncate(length);
        Some(content)
    }
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
