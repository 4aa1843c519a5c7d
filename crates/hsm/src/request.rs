//! What callers ask a security module, and what it answers.

use core::fmt;

use serde::{Deserialize, Serialize};
use tapfer_emv::certificate::{CertificateDate, Rid};
use tapfer_emv::cryptogram::{CryptogramInput, CryptogramVerified};
use tapfer_emv::curve::PublicX;
use tapfer_emv::document::DocumentKey;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, KeyIndex};
use tapfer_payment_types::configuration::{SignedConfiguration, SignedDocument};
use tapfer_payment_types::messages::{CardProfileMessage, HexBytes, PinStatus};
use tapfer_payment_types::policy::{LastVerified, SinceVerified};
use tapfer_payment_types::{
    CardId, IssuerId, PanSequenceNumber, RealmId, Timestamp, TokenId, TokenPan,
};

use crate::catalogue::KeyState;
use crate::{PersonKeyInUse, SingleUseKeyTerms};

/// What a set of keys is for. Fixed when the set is made, and authenticated with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realm {
    /// To try and to show: keys may be looked at.
    Demo,
    /// Real cards: no key is ever shown.
    Production,
}

/// What a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HsmDescription {
    /// Name of the backend, such as `software`.
    pub backend: &'static str,
    /// Whether every module calls itself hardware: their own word, no certificate. Show it wherever a person looks.
    pub says_it_is_hardware: bool,
    /// What its keys are for.
    pub realm: Realm,
    /// Whose keys they are: the database that goes with them has the same id.
    pub realm_id: RealmId,
    /// What a person should know about this backend, in one sentence.
    pub notice: &'static str,
}

/// The public side of an issuer's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerKeys {
    /// Whose keys.
    pub issuer: IssuerId,
    /// The newest generation of the issuer master key: byte 1 of the IAD of cards made now.
    pub derivation_key_index: u8,
    /// The EC-SDSA key that signs ICC certificates.
    pub public_key: PublicX,
}

/// What goes into an issuer certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerCertificateRequest {
    /// Whose public key is certified.
    pub issuer: IssuerId,
    /// Which certification authority signs.
    pub rid: Rid,
    /// Index of the authority's key.
    pub ca_index: u8,
    /// Leading 3 to 10 digits of the card numbers, a digit in four bits, filled with `F`.
    pub issuer_identifier: [u8; 5],
    /// Last day.
    pub expiry: CertificateDate,
    /// Serial number, the authority's choice.
    pub serial: [u8; 3],
    /// The time now.
    pub now: Timestamp,
}

/// What goes into an ICC certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IccCertificateRequest {
    /// Who signs.
    pub issuer: IssuerId,
    /// x of the phone's public key.
    pub public_key: PublicX,
    /// SDA hash of the phone's card profile.
    pub sda_hash: [u8; 32],
    /// Serial number, the issuer's choice.
    pub serial: [u8; 6],
    /// End of life. The certificate is good to the end of the minute this falls in.
    pub expires_at: Timestamp,
    /// The time now.
    pub now: Timestamp,
}

/// A cryptogram and everything that says which key must have made it.
#[derive(Debug)]
pub struct CryptogramRequest<'a> {
    /// Whose card.
    pub issuer: IssuerId,
    /// Generation of the issuer master key, from the IAD.
    pub derivation_key_index: u8,
    /// The token; the proof will name it.
    pub token: TokenId,
    /// The number the phone paid with.
    pub token_pan: &'a TokenPan,
    /// Its sequence number.
    pub sequence: PanSequenceNumber,
    /// Class of the limited-use key, from the IAD.
    pub key_class: KeyClass,
    /// Index of the limited-use key, from the IAD.
    pub key_index: KeyIndex,
    /// What the card signed; its transaction counter selects the session key.
    pub input: &'a CryptogramInput,
    /// The cryptogram the card gave.
    pub received: &'a [u8; 8],
}

/// What came of a cryptogram. Not an error: declining is an answer.
#[must_use]
#[derive(Debug)]
pub enum CryptogramVerdict {
    /// It is right, and here is the proof.
    Verified(CryptogramVerified),
    /// The key gives another cryptogram for this data.
    Mismatch,
    /// The card names a generation of the master key that its issuer does not have.
    UnknownDerivationKey,
}

/// Which limited-use key to derive, and how far it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitedUseKeyTerms {
    /// Key index YHHHHCC.
    pub key_index: KeyIndex,
    /// The phone does not use the key after this.
    pub expires_at: Timestamp,
    /// How many payments the key is good for; at least 1.
    pub maximum_payments: u16,
    /// How much those payments may add up to, minor units of the policy's currency.
    pub maximum_total_minor: i64,
}

/// Everything a phone gets, but for the keys that the module adds.
#[derive(Debug)]
pub struct ProvisioningRequest<'a> {
    /// Whose card.
    pub issuer: IssuerId,
    /// Generation of the issuer master key to derive from.
    pub derivation_key_index: u8,
    /// Which token; also the associated data of the sealing.
    pub token: TokenId,
    /// The token's number.
    pub token_pan: &'a TokenPan,
    /// Its sequence number.
    pub sequence: PanSequenceNumber,
    /// The device's HPKE public key: an uncompressed P-256 point.
    pub recipient: &'a [u8; 65],
    /// The static side of the card.
    pub profile: CardProfileMessage,
    /// ICC certificate `9F46` over the phone's key.
    pub icc_certificate: HexBytes,
    /// Keys that may be used without verifying the person (class `01`), oldest first.
    pub limited_use_keys: &'a [LimitedUseKeyTerms],
    /// Session keys of class `01`, each for one counter, in their place or beside them.
    pub single_use_keys: &'a [SingleUseKeyTerms],
    /// Session keys of class `02`, which leave the module under the person's key only.
    pub verified_keys: &'a [SingleUseKeyTerms],
    /// The person's key, if the token has one.
    pub person_key: Option<PersonKeyInUse<'a>>,
    /// How the platform stands to the PIN.
    pub pin: Option<PinStatus>,
    /// Payments since the person was last verified, as the platform counts them.
    pub since_verified: Option<SinceVerified>,
    /// The last payment in which the person was verified.
    pub last_verified: Option<LastVerified>,
    /// The highest counter of a payment that both take into account.
    pub counter_heard: Option<u16>,
    /// When the person last logged in at the issuer.
    pub logged_in_at: Option<Timestamp>,
    /// Payments since then.
    pub payments_since_login: Option<u32>,
    /// What the phone obeys, signed.
    pub configuration: SignedConfiguration,
}

/// Whose number a record holds. It is authenticated with the record, so that whoever can write to the
/// database cannot exchange one record for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOwner {
    /// A card's own number.
    Card(CardId),
    /// The number that stands for a card on one phone.
    Token(TokenId),
}

/// An encrypted card record: opaque bytes to store.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedCardRecord(pub Vec<u8>);

impl fmt::Debug for SealedCardRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedCardRecord({} bytes)", self.0.len())
    }
}

/// HMAC-SHA-256 over a whole card number under the issuer's look-up key (PCI DSS 3.5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PanLookup(pub [u8; 32]);

impl fmt::Debug for PanLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PanLookup(redacted)")
    }
}

/// A key that signs documents, or once did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentKeyRecord {
    /// Verifies what it signed.
    pub key: DocumentKey,
    /// The newest that is active signs. What one that is destroyed has signed, somebody else may have signed too.
    pub state: KeyState,
    /// What the key before it signed for it, where devices hold on to the one that they know. Of the newest alone, of as
    /// many as devices follow ([`tapfer_payment_types::configuration::MAXIMUM_SUCCESSIONS`]).
    pub succession: Option<SignedDocument>,
}

/// Keys of a demo issuer, for everyone to see.
pub struct DemoKeys {
    /// AES-128 issuer master key.
    pub issuer_master_key: IssuerMasterKey,
}

impl fmt::Debug for DemoKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DemoKeys(redacted)")
    }
}
