//! Issuer application data `9F10` of the platform's own cards: 32 bytes, cryptogram version `C8`.
//!
//! | bytes | content |
//! |---|---|
//! | 0 | `1F`, the length of what follows |
//! | 1 | derivation key index: which issuer master key |
//! | 2 | cryptogram version `C8` |
//! | 3..9 | method, screen and lock and decision, key class, merchant proven, relay checked, integrity verdict |
//! | 9..13 | key index YHHHHCC |
//! | 13..16 | policy version |
//! | 16..24 | which terminal proved itself, [`MerchantIdentity`]; zero: none did |
//! | 24..32 | IAD-MAC |

use crate::keys::{KeyClass, KeyIndex};
use crate::merchant::MerchantIdentity;

/// Offset of the IAD-MAC, as the card says in `9F8107`.
pub const IAD_MAC_OFFSET: u8 = 24;

/// Length byte in front.
const LENGTH: u8 = 0x1F;
/// Cryptogram version: all 32 bytes are signed, AES-CMAC, limited-use key.
const CRYPTOGRAM_VERSION: u8 = 0xC8;
const SCREEN_ON: u8 = 0x80;
const UNLOCKED: u8 = 0x40;
const DECLINED: u8 = 0x20;

/// How the person was verified on the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationMethod {
    /// `00`: not at all.
    None,
    /// `01`: the phone was unlocked.
    DeviceUnlock,
    /// `02`: the PIN of the wallet.
    Pin,
    /// `03`: the phone left it to the card's PIN at the terminal.
    TerminalPin,
}

impl VerificationMethod {
    const fn to_byte(self) -> u8 {
        match self {
            Self::None => 0x00,
            Self::DeviceUnlock => 0x01,
            Self::Pin => 0x02,
            Self::TerminalPin => 0x03,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x00 => Some(Self::None),
            0x01 => Some(Self::DeviceUnlock),
            0x02 => Some(Self::Pin),
            0x03 => Some(Self::TerminalPin),
            _ => None,
        }
    }
}

/// What the phone says about itself, the person and the tap: six bytes, of which the fourth says
/// whether the merchant was proven and follows from [`IssuerApplicationData::merchant_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationResults {
    /// Byte 1: how the person was verified.
    pub method: VerificationMethod,
    /// Byte 2, `80`: the screen was on.
    pub screen_on: bool,
    /// Byte 2, `40`: the phone was unlocked.
    pub unlocked: bool,
    /// Byte 2, `20`: the card declined. The cryptogram information data `9F27` that says the same is
    /// not signed, so without this bit a declined payment could be passed on as a request.
    pub declined: bool,
    /// Byte 3: class of the limited-use key.
    pub key_class: KeyClass,
    /// Byte 5, `01`: the relay check was performed.
    pub relay_checked: bool,
    /// Byte 6: verdict on the integrity of phone and app; 0 = no verdict.
    pub integrity_verdict: u8,
}

impl VerificationResults {
    fn encode(self, merchant_proven: bool) -> [u8; 6] {
        let screen = if self.screen_on { SCREEN_ON } else { 0 };
        let lock = if self.unlocked { UNLOCKED } else { 0 };
        let decision = if self.declined { DECLINED } else { 0 };
        [
            self.method.to_byte(),
            screen | lock | decision,
            self.key_class.to_byte(),
            u8::from(merchant_proven),
            u8::from(self.relay_checked),
            self.integrity_verdict,
        ]
    }

    fn parse(bytes: [u8; 5]) -> Option<Self> {
        let [method, state, class, relay_checked, integrity_verdict] = bytes;
        let known_state = state & !(SCREEN_ON | UNLOCKED | DECLINED) == 0;
        known_state.then_some(Self {
            method: VerificationMethod::from_byte(method)?,
            screen_on: state & SCREEN_ON != 0,
            unlocked: state & UNLOCKED != 0,
            declined: state & DECLINED != 0,
            key_class: KeyClass::from_byte(class)?,
            relay_checked: flag(relay_checked)?,
            integrity_verdict,
        })
    }
}

const fn flag(byte: u8) -> Option<bool> {
    match byte {
        0x00 => Some(false),
        0x01 => Some(true),
        _ => None,
    }
}

/// The whole of `9F10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerApplicationData {
    /// Which generation of the issuer master key the card's keys come from.
    pub derivation_key_index: u8,
    /// What the phone says about the tap.
    pub results: VerificationResults,
    /// Which limited-use key signed.
    pub key_index: KeyIndex,
    /// Version of the verification policy the phone obeyed; three bytes travel, so it counts
    /// modulo 2^24.
    pub policy_version: u32,
    /// Which terminal proved to the phone that it asks for this payment; `None` if none did.
    pub merchant_identity: Option<MerchantIdentity>,
    /// Binds the tap's channel into what the issuer verifies; zeros until it is computed.
    pub iad_mac: [u8; 8],
}

/// The bytes are not issuer application data of this platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IadError {
    /// Not 32 bytes behind a length of `1F`.
    #[error("issuer application data is 32 bytes, the first of them 1F")]
    Length,
    /// Another cryptogram version than `C8`.
    #[error("the cryptogram version is not C8: the card is not one of this platform's")]
    CryptogramVersion,
    /// Codes that no phone of this platform sends.
    #[error("the verification results hold codes that this version does not know")]
    VerificationResults,
    /// The key index is not YHHHHCC.
    #[error("the key index is not seven digits YHHHHCC")]
    KeyIndex,
    /// A proven merchant without its identity, or the other way round.
    #[error("the merchant's identity is there without the proof, or the proof without it")]
    MerchantIdentity,
}

impl IssuerApplicationData {
    /// The 32 bytes of `9F10`.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let [method, state, class, merchant, relay, integrity] =
            self.results.encode(self.merchant_identity.is_some());
        let [index_0, index_1, index_2, index_3] = self.key_index.to_bytes();
        let [_, policy_0, policy_1, policy_2] = self.policy_version.to_be_bytes();
        let [i0, i1, i2, i3, i4, i5, i6, i7] =
            self.merchant_identity.map_or([0; 8], MerchantIdentity::bytes);
        let [m0, m1, m2, m3, m4, m5, m6, m7] = self.iad_mac;
        [
            LENGTH,
            self.derivation_key_index,
            CRYPTOGRAM_VERSION,
            method,
            state,
            class,
            merchant,
            relay,
            integrity,
            index_0,
            index_1,
            index_2,
            index_3,
            policy_0,
            policy_1,
            policy_2,
            i0,
            i1,
            i2,
            i3,
            i4,
            i5,
            i6,
            i7,
            m0,
            m1,
            m2,
            m3,
            m4,
            m5,
            m6,
            m7,
        ]
    }

    /// Reads `9F10`; what was signed is what [`encode`](Self::encode) gives back, byte for byte.
    ///
    /// # Errors
    /// [`IadError`] for anything that a phone of this platform would not send.
    pub fn parse(bytes: &[u8]) -> Result<Self, IadError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| IadError::Length)?;
        let [length, derivation_key_index, version, rest @ ..] = bytes;
        if length != LENGTH {
            return Err(IadError::Length);
        }
        if version != CRYPTOGRAM_VERSION {
            return Err(IadError::CryptogramVersion);
        }
        let [r0, r1, r2, merchant_proven, r4, r5, k0, k1, k2, k3, p0, p1, p2, rest @ ..] = rest;
        let [i0, i1, i2, i3, i4, i5, i6, i7, iad_mac @ ..] = rest;
        let merchant_identity = MerchantIdentity::from_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
        let merchant_proven = flag(merchant_proven).ok_or(IadError::VerificationResults)?;
        if merchant_proven != merchant_identity.is_some() {
            return Err(IadError::MerchantIdentity);
        }
        Ok(Self {
            derivation_key_index,
            results: VerificationResults::parse([r0, r1, r2, r4, r5])
                .ok_or(IadError::VerificationResults)?,
            key_index: KeyIndex::from_bytes([k0, k1, k2, k3]).map_err(|_| IadError::KeyIndex)?,
            policy_version: u32::from_be_bytes([0, p0, p1, p2]),
            merchant_identity,
            iad_mac,
        })
    }
}
