//! Card numbers: the primary account number, and the token that stands for it on a phone.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use zeroize::Zeroize;

/// What is wrong with a card number. The number itself is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PanError {
    /// Not 12 to 19 decimal digits.
    #[error("a card number has 12 to 19 decimal digits")]
    Length,
    /// The check digit is wrong.
    #[error("the card number's check digit is wrong")]
    CheckDigit,
    /// A sequence number is 0 to 99.
    #[error("a card sequence number is 0 to 99")]
    SequenceNumber,
}

/// The digits of a card number, wiped on drop (ISO/IEC 7812-1).
#[derive(Clone, PartialEq, Eq, Hash)]
struct Digits(String);

impl Digits {
    fn parse(text: &str) -> Result<Self, PanError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || !(12..=19).contains(&text.len()) {
            return Err(PanError::Length);
        }
        if luhn_sum(text).checked_rem(10) != Some(0) {
            return Err(PanError::CheckDigit);
        }
        Ok(Self(String::from(text)))
    }

    fn last_four(&self) -> &str {
        self.0.get(self.0.len().saturating_sub(4)..).unwrap_or_default()
    }
}

impl Drop for Digits {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Luhn sum over the digits, the last one being the check digit (ISO/IEC 7812-1 annex B).
fn luhn_sum(digits: &str) -> u32 {
    digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(position, byte)| {
            let digit = u32::from(byte.wrapping_sub(b'0'));
            let doubled = digit.saturating_mul(2);
            match (position & 1 == 0, doubled > 9) {
                (true, _) => digit,
                (false, true) => doubled.saturating_sub(9),
                (false, false) => doubled,
            }
        })
        .sum()
}

/// The check digit that completes `digits` to a card number, as an ASCII digit.
#[must_use]
pub fn check_digit(digits: &str) -> char {
    let mut padded = String::from(digits);
    padded.push('0');
    let remainder = luhn_sum(&padded).checked_rem(10).unwrap_or(0);
    padded.zeroize();
    match remainder {
        0 => '0',
        other => char::from_digit(10_u32.saturating_sub(other), 10).unwrap_or('0'),
    }
}

macro_rules! card_number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        ///
        /// Prints redacted, and is wiped on drop. Whoever needs the digits calls `expose`.
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name(Digits);

        impl $name {
            /// All digits, in clear.
            #[must_use]
            pub fn expose(&self) -> &str {
                &self.0.0
            }

            /// The last four digits, which may be shown to anyone.
            #[must_use]
            pub fn last_four(&self) -> &str {
                self.0.last_four()
            }
        }

        impl FromStr for $name {
            type Err = PanError;

            fn from_str(text: &str) -> Result<Self, PanError> {
                Digits::parse(text).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(…{})"), self.last_four())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "…{}", self.last_four())
            }
        }
    };
}

card_number! {
    /// A primary account number: the number of the card itself.
    Pan
}
card_number! {
    /// A token: the number that stands for a card on one device.
    TokenPan
}

/// Sequence number of a card with the same number (`5F34`), 0 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PanSequenceNumber(u8);

impl PanSequenceNumber {
    /// The usual sequence number.
    pub const ZERO: Self = Self(0);

    /// Checks the range.
    ///
    /// # Errors
    /// [`PanError::SequenceNumber`] above 99.
    pub const fn new(value: u8) -> Result<Self, PanError> {
        if value > 99 { Err(PanError::SequenceNumber) } else { Ok(Self(value)) }
    }

    /// The number, 0 to 99.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Pan, PanError, PanSequenceNumber, TokenPan, check_digit};
    use proptest::prelude::*;

    const PUBLISHED_TEST_PAN: &str = "4111111111111111";

    #[test]
    fn prints_redacted() {
        let pan: Pan = PUBLISHED_TEST_PAN.parse().unwrap();
        assert_eq!(std::format!("{pan} {pan:?}"), "…1111 Pan(…1111)");
        let token: TokenPan = PUBLISHED_TEST_PAN.parse().unwrap();
        assert_eq!(std::format!("{token:?}"), "TokenPan(…1111)");
    }

    #[test]
    fn says_what_is_wrong_without_the_number() {
        assert_eq!("4111111111111112".parse::<Pan>(), Err(PanError::CheckDigit));
        for text in [
            "",
            "4111",
            "41111111111111111111",
            "411111111111111A",
            "４１１１１１１１１１１１１１１１",
        ] {
            assert_eq!(text.parse::<Pan>(), Err(PanError::Length), "{text}");
        }
        assert_eq!(PanSequenceNumber::new(100), Err(PanError::SequenceNumber));
    }

    proptest! {
        #[test]
        fn a_check_digit_completes_any_number(digits in "[0-9]{11,18}") {
            let number = std::format!("{digits}{}", check_digit(&digits));
            prop_assert!(number.parse::<Pan>().is_ok());
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = text.parse::<Pan>();
        }
    }
}
