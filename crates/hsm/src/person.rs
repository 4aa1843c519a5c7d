//! What only the person knows, as a security module deals with it: the person's key that a phone and its
//! issuer share, and the PIN of a card.

use core::fmt;

use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::messages::SealedPayload;
use tapfer_payment_types::{CardId, IssuerId, Timestamp, TokenId};

/// Public key of an issuer to which phones seal a new person's key, and tills a PIN: an uncompressed
/// P-256 point for HPKE (RFC 9180, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersonKeyRecipient(pub [u8; 65]);

/// Which person's key: of which token, and the how manyth. Authenticated with the key, so that whoever
/// can write to the database cannot put an old one, or another's, in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PersonKeySubject {
    /// Whose card.
    pub issuer: IssuerId,
    /// On which phone.
    pub token: TokenId,
    /// 1 for the first PIN, one more for every new one.
    pub generation: u32,
}

/// A person's key under the module's own key: opaque bytes to store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedPersonKey(pub Vec<u8>);

impl fmt::Debug for SealedPersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedPersonKey({} bytes)", self.0.len())
    }
}

/// A person's key to work with: the how manyth it is, and the key as the module sealed it.
#[derive(Debug, Clone, Copy)]
pub struct PersonKeyInUse<'a> {
    /// Generation of the key.
    pub generation: u32,
    /// The key.
    pub key: &'a SealedPersonKey,
}

/// A new person's key, as a phone sealed it to its issuer.
#[derive(Debug)]
pub struct PersonKeyImport<'a> {
    /// Which key it will be.
    pub subject: PersonKeySubject,
    /// New key ‖ proof of the old one, 32 bytes, sealed with token id ‖ generation as associated data.
    pub sealed: &'a SealedPayload,
    /// The key that it takes the place of, if the phone has to prove that it knows it. `None` for the
    /// first, and where the issuer granted a reset.
    pub old: Option<PersonKeyInUse<'a>>,
}

/// What came of an import. Not an error: a wrong proof is a wrong PIN, for the caller to count.
#[must_use]
#[derive(Debug)]
pub enum PersonKeyVerdict {
    /// The key, for keeping.
    Accepted(SealedPersonKey),
    /// The phone does not know the old key.
    WrongProof,
}

/// A row of single-use session keys: one for each transaction counter in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SingleUseKeyTerms {
    /// Index YHHHHCC of the limited-use key that they are derived from; the phone never gets that one.
    pub key_index: KeyIndex,
    /// The phone does not use any of them after this.
    pub expires_at: Timestamp,
    /// Counter of the first.
    pub first_counter: u16,
    /// How many: at least one, and none beyond counter 65535.
    pub count: u16,
}

/// Whose PIN a card's verification value is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardPinSubject {
    /// Who gave the card out.
    pub issuer: IssuerId,
    /// Which card.
    pub card: CardId,
}

/// HMAC-SHA-256 over card id and PIN under a key that stays in the module: compares, and tells nobody
/// the PIN. Whoever has the key could try all PINs, so the key is of that issuer alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CardPinValue(pub [u8; 32]);

impl fmt::Debug for CardPinValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardPinValue(redacted)")
    }
}
