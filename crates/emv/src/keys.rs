//! The stages of a card's symmetric keys, each its own type:
//! issuer master key → token key → limited-use key → session key.
//!
//! Every stage is AES-ECB of one block under the stage before, which any HSM can do. All keys are
//! wiped on drop, and so are the blocks that hold card numbers.

use core::fmt;
use core::str::FromStr;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256};
use tapfer_payment_types::{PanSequenceNumber, Secret, Timestamp, TokenPan};
use zeroize::Zeroizing;

use crate::packed_decimal::{pack, pack_right_aligned, unpack};

/// One AES block of a key hierarchy.
pub(crate) fn derive(key: &[u8; 16], block: [u8; 16]) -> Secret<[u8; 16]> {
    let mut derived = Secret::new(block);
    Aes128::new(key.into()).encrypt_block(derived.expose_mut().into());
    derived
}

/// What a token key is derived from under the issuer master key: padded PAN ‖ PSN (EMV option C).
///
/// These three blocks are for modules that derive keys inside: AES-ECB of the block under the stage
/// before is the next stage (`CKM_AES_ECB_ENCRYPT_DATA`).
#[must_use]
pub fn token_key_data(pan: &TokenPan, sequence: PanSequenceNumber) -> Secret<[u8; 16]> {
    Secret::new(*CardDigits::of_token(pan, sequence).right_aligned())
}

/// What a limited-use key is derived from under the token key: class ‖ key index ‖ eleven zeros.
#[must_use]
pub fn limited_use_key_data(class: KeyClass, index: KeyIndex) -> [u8; 16] {
    let [a, b, c, d] = index.to_bytes();
    [class.to_byte(), a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// What a session key is derived from under the limited-use key: R = ATC ‖ fourteen zeros (Book E 4.1).
#[must_use]
pub const fn session_key_data(application_transaction_counter: u16) -> [u8; 16] {
    let [high, low] = application_transaction_counter.to_be_bytes();
    [high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

macro_rules! key_stage {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        ///
        /// Wiped on drop; `Debug` shows nothing of it.
        #[derive(Debug)]
        pub struct $name(Secret<[u8; $length]>);

        impl $name {
            /// Takes the key's bytes.
            #[must_use]
            pub const fn new(key: [u8; $length]) -> Self {
                Self(Secret::new(key))
            }

            /// Lends the key's bytes.
            #[must_use]
            pub const fn expose(&self) -> &[u8; $length] {
                self.0.expose()
            }
        }
    };
}

key_stage! {
    /// An issuer's AES-128 master key. In production it never leaves the HSM; the software HSM and
    /// tests hold it.
    IssuerMasterKey, 16
}
key_stage! {
    /// The key of one token: EMV's card master key.
    TokenKey, 16
}
key_stage! {
    /// A key the phone holds for hours and a few payments.
    LimitedUseKey, 16
}
key_stage! {
    /// The key of one transaction.
    SessionKey, 16
}
key_stage! {
    /// An AES-256 card master key: cards of others (Book E allows both lengths).
    CardMasterKey256, 32
}
key_stage! {
    /// The key of one transaction under AES-256.
    SessionKey256, 32
}

impl IssuerMasterKey {
    /// The key of a token: EMV option C, AES-ECB(IMK, padded PAN ‖ PSN).
    #[must_use]
    pub fn token_key(&self, pan: &TokenPan, sequence: PanSequenceNumber) -> TokenKey {
        self.card_key(&CardDigits::of_token(pan, sequence))
    }

    /// The same for any card, of others too.
    #[must_use]
    pub fn card_key(&self, digits: &CardDigits) -> TokenKey {
        TokenKey(derive(self.expose(), *digits.right_aligned()))
    }
}

impl TokenKey {
    /// AES-ECB(token key, class ‖ key index ‖ eleven zeros).
    #[must_use]
    pub fn limited_use_key(&self, class: KeyClass, index: KeyIndex) -> LimitedUseKey {
        LimitedUseKey(derive(self.expose(), limited_use_key_data(class, index)))
    }

    /// A card's session key without a limited-use key between (published vectors, cards of others).
    #[must_use]
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey {
        SessionKey(derive(self.expose(), session_key_data(application_transaction_counter)))
    }
}

impl LimitedUseKey {
    /// AES-ECB(limited-use key, ATC ‖ fourteen zeros).
    #[must_use]
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey {
        SessionKey(derive(self.expose(), session_key_data(application_transaction_counter)))
    }
}

impl CardMasterKey256 {
    /// Two blocks that differ in their third byte, `F0` and `0F` (Book 2 annex A1.3).
    #[must_use]
    pub fn session_key(&self, application_transaction_counter: u16) -> SessionKey256 {
        let cipher = Aes256::new(self.expose().into());
        let mut key = Secret::new([0; 32]);
        for (half, marker) in key.expose_mut().chunks_exact_mut(16).zip([0xF0, 0x0F]) {
            let [high, low, _, rest @ ..] = session_key_data(application_transaction_counter);
            let mut block = Zeroizing::new([0; 16]);
            block
                .iter_mut()
                .zip([high, low, marker].into_iter().chain(rest))
                .for_each(|(to, from)| *to = from);
            cipher.encrypt_block((&mut *block).into());
            half.copy_from_slice(block.as_slice());
        }
        SessionKey256(key)
    }
}

/// Card number and sequence number as key derivations take them: digits only, without asking for a
/// check digit, because cards of others and test vectors have none. Wiped on drop.
#[derive(Debug)]
pub struct CardDigits(Secret<[u8; 16]>);

/// The text is no card number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is derived from a card number of 8 to 19 decimal digits")]
pub struct CardDigitsError;

impl CardDigits {
    /// Takes the digits of a card number.
    ///
    /// # Errors
    /// [`CardDigitsError`] unless it is 8 to 19 decimal digits.
    pub fn new(pan: &str, sequence: PanSequenceNumber) -> Result<Self, CardDigitsError> {
        let is_number = pan.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || !(8..=19).contains(&pan.len()) {
            return Err(CardDigitsError);
        }
        Ok(Self::pack(pan, sequence))
    }

    fn of_token(pan: &TokenPan, sequence: PanSequenceNumber) -> Self {
        Self::pack(pan.expose(), sequence)
    }

    fn pack(pan: &str, sequence: PanSequenceNumber) -> Self {
        let sequence = pack(sequence.value());
        let number = pan.bytes().map(|byte| byte & 0x0F);
        let digits = number.chain([sequence >> 4, sequence & 0x0F]);
        Self(Secret::new(pack_right_aligned(digits)))
    }

    /// PAN ‖ PSN right aligned in sixteen bytes with zeros on the left: Y of option C.
    pub(crate) const fn right_aligned(&self) -> &[u8; 16] {
        self.0.expose()
    }
}

/// Class of a limited-use key: what the person had to do before it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyClass {
    /// `01`: usable without verifying the person.
    Unverified,
    /// `02`: usable only after the person was verified.
    Verified,
}

impl KeyClass {
    /// The byte that stands in derivations and in the IAD.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Unverified => 0x01,
            Self::Verified => 0x02,
        }
    }

    /// Reads the byte; `None` if it is no class.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Unverified),
            0x02 => Some(Self::Verified),
            _ => None,
        }
    }
}

/// YHHHHCC: last digit of the year, hour of the year from 0001, counter within the hour.
///
/// Seven digits as text; packed in four bytes with a zero in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyIndex {
    year_digit: u8,
    hour_of_year: u16,
    counter: u8,
}

/// The digits are no key index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key index is seven digits YHHHHCC with the hour of the year from 0001 to 8784")]
pub struct KeyIndexError;

impl KeyIndex {
    /// The index of the `counter`th key made in this hour (UTC), counting from 0.
    ///
    /// # Errors
    /// [`KeyIndexError`] if the counter is above 99.
    pub fn at(now: Timestamp, counter: u8) -> Result<Self, KeyIndexError> {
        let calendar = now.calendar();
        let full_days = calendar.day_of_year.saturating_sub(1);
        let hour = full_days.saturating_mul(24).saturating_add(u16::from(calendar.hour));
        let year_digit = u8::try_from(calendar.year.wrapping_rem(10)).map_err(|_| KeyIndexError)?;
        Self::new(year_digit, hour.saturating_add(1), counter)
    }

    fn new(year_digit: u8, hour_of_year: u16, counter: u8) -> Result<Self, KeyIndexError> {
        // A leap year has 366 days of 24 hours.
        if year_digit > 9 || !(1..=8784).contains(&hour_of_year) || counter > 99 {
            return Err(KeyIndexError);
        }
        Ok(Self { year_digit, hour_of_year, counter })
    }

    /// Seven digits packed into four bytes behind a zero.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 4] {
        let hour = self.hour_of_year;
        let hundreds = u8::try_from(hour.wrapping_div(100)).unwrap_or(u8::MAX);
        let units = u8::try_from(hour.wrapping_rem(100)).unwrap_or(u8::MAX);
        [self.year_digit, pack(hundreds), pack(units), pack(self.counter)]
    }

    /// Reads the four bytes.
    ///
    /// # Errors
    /// [`KeyIndexError`] if they are not a zero and seven digits, or the hour is none.
    pub fn from_bytes(bytes: [u8; 4]) -> Result<Self, KeyIndexError> {
        let [year_digit, hundreds, units, counter] = bytes;
        let number = |byte| unpack(byte).ok_or(KeyIndexError);
        let hundreds = u16::from(number(hundreds)?);
        let hour = hundreds.saturating_mul(100).saturating_add(u16::from(number(units)?));
        Self::new(year_digit, hour, number(counter)?)
    }
}

impl fmt::Display for KeyIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04}{:02}", self.year_digit, self.hour_of_year, self.counter)
    }
}

impl FromStr for KeyIndex {
    type Err = KeyIndexError;

    fn from_str(text: &str) -> Result<Self, KeyIndexError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() != 7 || !is_number {
            return Err(KeyIndexError);
        }
        Self::from_bytes(pack_right_aligned(text.bytes().map(|byte| byte & 0x0F)))
    }
}
