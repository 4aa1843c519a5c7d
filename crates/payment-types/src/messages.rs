//! What phone and platform say to each other when a token is provisioned and its keys are renewed.
//!
//! The phone sends a [`ReplenishRequest`]; the platform answers with a [`SealedPayload`]: a
//! [`ProvisioningPayload`] as JSON, sealed to the device's key by HPKE (RFC 9180, base mode,
//! DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM) with [`PROVISIONING_INFO`] as `info` and the
//! token id as associated data, so that no proxy on the way sees a key or swaps a payload.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

use crate::configuration::SignedConfiguration;
use crate::policy::{LastVerified, SinceVerified};
use crate::{Currency, TerminalId, Timestamp, TokenId};

/// `info` of the HPKE context that seals a [`ProvisioningPayload`].
pub const PROVISIONING_INFO: &[u8] = b"tapfer-provisioning-1";

/// Bytes that stand in JSON as lower-case hexadecimal digits. Not for secrets.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HexBytes(pub Vec<u8>);

/// The text is not an even number of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not bytes: write them as an even number of hexadecimal digits")]
pub struct HexError;

impl TryFrom<String> for HexBytes {
    type Error = HexError;

    fn try_from(text: String) -> Result<Self, HexError> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(Self).map_err(|_| HexError)
    }
}

impl From<HexBytes> for String {
    fn from(bytes: HexBytes) -> Self {
        HEXLOWER_PERMISSIVE.encode(&bytes.0)
    }
}

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

/// A secret that stands in JSON as hexadecimal digits: wiped on drop, redacted in `Debug`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct HexSecret(Vec<u8>);

impl HexSecret {
    /// Takes ownership of the secret bytes.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Lends the secret bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for HexSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Serialize for HexSecret {
    /// The digits are wiped as soon as they are written.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(&self.0));
        serializer.serialize_str(&digits)
    }
}

impl TryFrom<String> for HexSecret {
    type Error = HexError;

    fn try_from(mut text: String) -> Result<Self, HexError> {
        let decoded = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        text.zeroize();
        decoded.map(Self).map_err(|_| HexError)
    }
}

impl fmt::Debug for HexSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HexSecret(redacted)")
    }
}

/// The phone asks for its profile (the first time) and for fresh keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplenishRequest {
    /// x of the phone's new ICC key, 32 bytes. The phone made the pair; the private key stays there.
    pub icc_public_key: HexBytes,
    /// The application transaction counter of the phone's last transaction, 0 before the first.
    pub application_transaction_counter: u16,
}

/// A payload that only the device can open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPayload {
    /// HPKE encapsulated key: an uncompressed P-256 point, 65 bytes.
    pub encapsulated_key: HexBytes,
    /// HPKE ciphertext with its tag.
    pub ciphertext: HexBytes,
}

/// Everything a phone needs to pay with one token until the keys run out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisioningPayload {
    /// Which token this is.
    pub token: TokenId,
    /// The static side of the card.
    pub profile: CardProfileMessage,
    /// ICC certificate `9F46` over the phone's key, good for hours.
    pub icc_certificate: HexBytes,
    /// Identifies the issuer master key generation, byte 1 of the IAD.
    pub derivation_key_index: u8,
    /// Keys that may be used without verifying the person, oldest first.
    pub limited_use_keys: Vec<LimitedUseKeyGrant>,
    /// Single-use mode: session keys that need no verification, in the place of
    /// [`limited_use_keys`](Self::limited_use_keys) or beside them.
    #[serde(default)]
    pub single_use_keys: Vec<SingleUseKeys>,
    /// Session keys under the person's key (class `02`); none before a PIN is set.
    #[serde(default)]
    pub verified_keys: Vec<SingleUseKeys>,
    /// Where a person's key is sealed to: an uncompressed P-256 point, 65 bytes. Without one the issuer
    /// has no PINs.
    #[serde(default)]
    pub person_key_recipient: Option<HexBytes>,
    /// How the platform stands to the PIN.
    #[serde(default)]
    pub pin: Option<PinStatus>,
    /// Payments since the person was last verified, as the platform counts them: it alone knows whether
    /// a PIN was right. Without it the phone keeps its own count.
    #[serde(default)]
    pub since_verified: Option<SinceVerified>,
    /// The last payment in which the person was verified.
    #[serde(default)]
    pub last_verified: Option<LastVerified>,
    /// The highest transaction counter that the platform has heard in a right cryptogram: a payment behind
    /// it is still on its way, and in none of the counts.
    #[serde(default)]
    pub counter_heard: Option<u16>,
    /// When the person last logged in at the issuer, as the issuer told the platform.
    #[serde(default)]
    pub logged_in_at: Option<Timestamp>,
    /// Payments since then, as the platform counts them. Without it the phone keeps its own count.
    #[serde(default)]
    pub payments_since_login: Option<u32>,
    /// What the phone obeys, signed: policy, and whom it believes when a terminal says who it is.
    pub configuration: SignedConfiguration,
}

/// Which terminals' certificates a phone believes. It comes with every configuration and takes the
/// place of what was known before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantTrust {
    /// Public keys x ‖ y on P-256 of the authorities that certify terminals, 64 bytes each. None: no
    /// terminal can prove anything.
    pub authorities: Vec<HexBytes>,
    /// Serial numbers, 6 bytes each, of certificates that were revoked before their end. At most
    /// [`MAXIMUM_REVOKED_SERIALS`]; of more than that merchants take turns.
    pub revoked_serials: Vec<HexBytes>,
}

/// What a terminal signs with the key it wants certified, to show that it holds it (ECDSA over P-256
/// with SHA-256): a label of its own, the terminal's id and the key x ‖ y. It proves nothing else, so
/// that it may be sent again.
#[must_use]
pub fn terminal_key_possession(terminal: TerminalId, public_key: &[u8; 64]) -> Vec<u8> {
    let terminal = alloc::format!("{terminal}");
    [b"tapfer-terminal-key-1".as_slice(), terminal.as_bytes(), public_key].concat()
}

/// What a phone has its hardware attest (`setAttestationChallenge`): a label, the platform's question and the
/// phone's own public key, 114 bytes of the 128 that the hardware takes. The app makes it from the key of
/// its own wallet, so that what is attested is the phone that pays, and not another one that was lent.
#[must_use]
pub fn attestation_challenge(question: &[u8; 32], device_public_key: &[u8]) -> Vec<u8> {
    [b"tapfer-attested-1".as_slice(), question, device_public_key].concat()
}

/// Most authorities in a [`MerchantTrust`]: one, its successor, and those of platforms beside.
pub const MAXIMUM_MERCHANT_AUTHORITIES: usize = 8;
/// Most serial numbers in a [`MerchantTrust`]: 6 KiB of JSON at the most.
pub const MAXIMUM_REVOKED_SERIALS: usize = 400;

impl MerchantTrust {
    /// Whether keys and serial numbers have their lengths, and there are not too many. Whether a key is
    /// a point on the curve is for whoever verifies with it.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        self.authorities.len() <= MAXIMUM_MERCHANT_AUTHORITIES
            && self.authorities.iter().all(|key| key.0.len() == 64)
            && self.revoked_serials.len() <= MAXIMUM_REVOKED_SERIALS
            && self.revoked_serials.iter().all(|serial| serial.0.len() == 6)
    }

    /// Whether this serial number was revoked.
    #[must_use]
    pub fn has_revoked(&self, serial: [u8; 6]) -> bool {
        self.revoked_serials.iter().any(|revoked| revoked.0 == serial)
    }
}

/// The static side of a card as it travels: see `tapfer_emv::profile::CardProfile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardProfileMessage {
    /// Application identifier.
    pub aid: HexBytes,
    /// Application label, printable ASCII.
    pub label: String,
    /// Application interchange profile.
    pub aip: HexBytes,
    /// Processing options data object list.
    pub pdol: HexBytes,
    /// Card risk management data object list 1.
    pub cdol1: HexBytes,
    /// Records, without the ICC certificate's.
    pub records: Vec<RecordMessage>,
}

/// One record of the card.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordMessage {
    /// Short file identifier, 1 to 10.
    pub short_file_identifier: u8,
    /// Record number, from 1.
    pub number: u8,
    /// Value of template `70`.
    pub value: HexBytes,
    /// Whether the record travels encrypted in template `DA`.
    pub encrypted: bool,
    /// Whether the record is part of the SDA hash.
    pub signed: bool,
}

/// Shows where the record stands and how long it is: its value is card data.
impl fmt::Debug for RecordMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { short_file_identifier, number, value, encrypted, signed } = self;
        write!(f, "RecordMessage({short_file_identifier}.{number}, {} bytes, ", value.0.len())?;
        write!(f, "encrypted: {encrypted}, signed: {signed})")
    }
}

/// One limited-use key and how far it goes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitedUseKeyGrant {
    /// Key index YHHHHCC, seven digits.
    pub key_index: String,
    /// AES-128 key.
    pub key: HexSecret,
    /// The phone does not use the key after this.
    pub expires_at: Timestamp,
    /// How many payments the key is good for.
    pub maximum_payments: u16,
    /// How much those payments may add up to, minor units of the policy's currency.
    pub maximum_total_minor: i64,
}

/// How much of a key's [`LimitedUseKeyGrant::maximum_total_minor`] one payment takes up. Phone and
/// platform both count by this, or one of them would think a key good that the other finds used up.
///
/// A foreign amount cannot be added to the total, and a card's decline moves no money: both count as
/// a payment only. `currency_numeric` is what the terminal says (`5F2A`), `declined` what the card
/// signs.
#[must_use]
pub const fn charge_minor(
    issuer_currency: Currency,
    amount_minor: i64,
    currency_numeric: u16,
    declined: bool,
) -> i64 {
    let is_domestic = currency_numeric == issuer_currency.numeric();
    if is_domestic && !declined { amount_minor } else { 0 }
}

/// Session keys of a row of transaction counters, each good for one payment.
///
/// Block `i` belongs to counter `first_counter + i`. A counter that is used, for whatever, takes its
/// block with it, in every list. An index (YHHHHCC) is never given twice to one token, in no class and
/// under no person's key: two blocks around one session key would tell two PINs at once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SingleUseKeys {
    /// Index YHHHHCC of the limited-use key that the session keys come from; that key itself never
    /// reaches the phone.
    pub key_index: String,
    /// The phone does not use the keys after this.
    pub expires_at: Timestamp,
    /// Counter of the first block.
    pub first_counter: u16,
    /// 16 bytes each. Class `01`: the session key. Class `02`: the session key as one AES-128-ECB block
    /// under the person's key of generation [`PinStatus::generation`], without anything that would tell
    /// a right key from a wrong one.
    pub blocks: Vec<HexSecret>,
}

/// `info` of the HPKE context that seals a person's key to the issuer.
pub const PERSON_KEY_INFO: &[u8] = b"tapfer-person-key-1";

/// The phone gives the platform a new person's key, because a PIN was set or changed.
///
/// HPKE as for a [`ProvisioningPayload`], to [`ProvisioningPayload::person_key_recipient`], `info` =
/// [`PERSON_KEY_INFO`], associated data = the token id's text ‖ `generation` (4 bytes, big endian). The
/// plaintext is 32 bytes: the new person's key ‖ a proof of the old one,
/// AES-CMAC(old person's key, `tapfer-pin-change-1` ‖ token id's text ‖ generation (4) ‖ new key), or
/// sixteen zeros where there is no old one or the issuer granted a reset. The proof is inside, because
/// outside it would be something to test a PIN against, in recordings and in the phone's own store.
///
/// `generation` is one more than the platform's; the same request once more, byte for byte, is answered
/// as the first time, so that a lost answer does no harm: a wrong proof costs one try, however often it is
/// sent, and stays refused. Any other request with the platform's current
/// generation is refused. A new generation ends the class `02` keys that were given under the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPersonKeyRequest {
    /// Number of the new key, from 1.
    pub generation: u32,
    /// The sealed key and proof.
    pub sealed_key: SealedPayload,
}

/// How the platform stands to the wallet's PIN of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinStatus {
    /// Number of the person's key in force; 0 before the first.
    pub generation: u32,
    /// How many wrong PINs are left before it is blocked.
    pub tries_left: u8,
    /// Too many were wrong: no verified payment until the issuer resets.
    pub blocked: bool,
    /// The issuer lets the person choose a new PIN without the old one, once.
    pub reset_granted: bool,
}

#[cfg(test)]
mod tests {
    use super::{HexBytes, HexSecret, MAXIMUM_REVOKED_SERIALS, MerchantTrust, charge_minor};
    use crate::Currency;

    #[test]
    fn only_what_may_move_money_is_charged() {
        let (euro, yen) = (978, 392);
        for (currency, declined, charge) in
            [(euro, false, 700), (euro, true, 0), (yen, false, 0), (yen, true, 0), (0, false, 0)]
        {
            assert_eq!(charge_minor(Currency::EUR, 700, currency, declined), charge);
        }
    }

    #[test]
    fn hexadecimal_round_trip() {
        let bytes: HexBytes = serde_json::from_str("\"00FFab\"").unwrap();
        assert_eq!(bytes.0, [0x00, 0xFF, 0xAB]);
        assert_eq!(serde_json::to_string(&bytes).unwrap(), "\"00ffab\"");
        assert!(serde_json::from_str::<HexBytes>("\"0\"").is_err());
        assert!(serde_json::from_str::<HexBytes>("\"zz\"").is_err());
    }

    #[test]
    fn merchant_trust_is_bounded() {
        let trust = |authorities: Vec<usize>, serials: Vec<usize>| MerchantTrust {
            authorities: authorities.into_iter().map(|length| HexBytes(vec![1; length])).collect(),
            revoked_serials: serials.into_iter().map(|length| HexBytes(vec![2; length])).collect(),
        };
        assert!(trust(vec![], vec![]).is_well_formed());
        assert!(trust(vec![64; 8], vec![6; MAXIMUM_REVOKED_SERIALS]).is_well_formed());
        assert!(!trust(vec![64; 9], vec![]).is_well_formed());
        assert!(!trust(vec![64, 63], vec![]).is_well_formed());
        assert!(!trust(vec![64], vec![6, 5]).is_well_formed());
        assert!(!trust(vec![], vec![6; MAXIMUM_REVOKED_SERIALS + 1]).is_well_formed());
        assert!(trust(vec![], vec![6]).has_revoked([2; 6]));
        assert!(!trust(vec![], vec![6]).has_revoked([2, 2, 2, 2, 2, 3]));
    }

    #[test]
    fn a_record_is_not_printed() {
        let value = HexBytes(vec![0x5A, 2, 0x41, 0x11]);
        let record = super::RecordMessage {
            short_file_identifier: 2,
            number: 1,
            value,
            encrypted: true,
            signed: true,
        };
        let shown = "RecordMessage(2.1, 4 bytes, encrypted: true, signed: true)";
        assert_eq!(format!("{record:?}"), shown);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret: HexSecret = serde_json::from_str("\"0102\"").unwrap();
        assert_eq!(secret.expose(), [1, 2]);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"0102\"");
        assert_eq!(format!("{secret:?}"), "HexSecret(redacted)");
    }
}
