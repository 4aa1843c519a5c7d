//! Personal identification numbers as they travel to an issuer: 4 to 12 digits in one block.
//!
//! The block is the plain text PIN field of ISO 9564-1 format 4: control `4` and length in the first byte,
//! digits in four bits each, filled with `A` to eight bytes, then eight random bytes. So a sealed PIN has
//! one length, whatever the PIN. What stands around it (HPKE, RFC 9180) is not of that standard.

use core::str::FromStr;

use alloc::string::String;

use crate::Secret;

/// `info` of the HPKE context in which a card's new PIN travels to its issuer; the card's id is the
/// associated data.
pub const CARD_PIN_INFO: &[u8] = b"tapfer-card-pin-1";
/// `info` of the HPKE context in which a PIN travels that was entered at a terminal; the ids of payment
/// intent and terminal, one after the other, are the associated data.
pub const ONLINE_PIN_INFO: &[u8] = b"tapfer-online-pin-1";

/// Fewest digits of a PIN (ISO 9564-1).
pub const SHORTEST_PIN: usize = 4;
/// Most digits of a PIN (ISO 9564-1).
pub const LONGEST_PIN: usize = 12;
/// Length of a PIN block in bytes.
pub const PIN_BLOCK_LENGTH: usize = 16;

/// Format 4 of ISO 9564-1, in the upper half of the first byte.
const CONTROL: u8 = 0x40;
/// Fills the places behind the last digit.
const FILL: u8 = 0x0A;
/// Eight bytes hold control, length and 14 digits or fillers.
const FIELD_LENGTH: usize = 8;

/// A PIN: decimal digits, wiped on drop, never shown.
#[derive(Debug)]
pub struct Pin(Secret<String>);

/// The text or block is no PIN. Says nothing about what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a PIN has {SHORTEST_PIN} to {LONGEST_PIN} decimal digits")]
pub struct PinError;

impl Pin {
    /// The digits.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// How many digits it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.expose().len()
    }

    /// Packs it into a block; `random` fills the second half.
    #[must_use]
    pub fn to_block(&self, random: [u8; 8]) -> Secret<[u8; PIN_BLOCK_LENGTH]> {
        let length = u8::try_from(self.length()).unwrap_or(0);
        let mut digits = self.expose().bytes().map(|digit| digit & 0x0F);
        let mut block = Secret::new([0; PIN_BLOCK_LENGTH]);
        let (field, rest) = block.expose_mut().split_at_mut(FIELD_LENGTH);
        for (position, byte) in field.iter_mut().enumerate() {
            *byte = if position == 0 {
                CONTROL | length
            } else {
                let (high, low) = (digits.next().unwrap_or(FILL), digits.next().unwrap_or(FILL));
                high << 4 | low
            };
        }
        rest.copy_from_slice(&random);
        block
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`PinError`], whatever is wrong with it.
    pub fn from_block(block: &[u8]) -> Result<Self, PinError> {
        if block.len() != PIN_BLOCK_LENGTH {
            return Err(PinError);
        }
        let (first, digits) =
            block.get(..FIELD_LENGTH).and_then(<[u8]>::split_first).ok_or(PinError)?;
        let length = usize::from(first & 0x0F);
        if first & 0xF0 != CONTROL || !(SHORTEST_PIN..=LONGEST_PIN).contains(&length) {
            return Err(PinError);
        }
        let nibbles = || digits.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
        let is_digit = nibbles().take(length).all(|nibble| nibble <= 9);
        if !is_digit || nibbles().skip(length).any(|nibble| nibble != FILL) {
            return Err(PinError);
        }
        // Sized in advance, so that no unwiped copy is left behind by growing.
        let mut text = Secret::new(String::with_capacity(LONGEST_PIN));
        let digit = |nibble: u8| core::char::from_digit(u32::from(nibble), 10);
        text.expose_mut().extend(nibbles().take(length).filter_map(digit));
        Ok(Self(text))
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_decimal || !(SHORTEST_PIN..=LONGEST_PIN).contains(&text.len()) {
            return Err(PinError);
        }
        Ok(Self(Secret::new(String::from(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::{Pin, PinError};
    use proptest::prelude::*;

    #[test]
    fn the_block_is_that_of_format_4() {
        let pin: Pin = "12345".parse().unwrap();
        let block = pin.to_block([0x5C; 8]);
        let expected = [0x45, 0x12, 0x34, 0x5A, 0xAA, 0xAA, 0xAA, 0xAA];
        assert_eq!(block.expose()[..8], expected);
        assert_eq!(block.expose()[8..], [0x5C; 8]);
        assert_eq!(format!("{pin:?}"), "Pin(Secret(redacted))");
    }

    #[test]
    fn nothing_else_is_a_pin() {
        for text in ["", "123", "1234567890123", "12a4", "１２３４", " 1234", "+123"] {
            assert_eq!(text.parse::<Pin>().map(|_| ()), Err(PinError), "{text}");
        }
        let good = [0x44, 0x12, 0x34, 0xAA, 0xAA, 0xAA, 0xAA, 0xAA, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Pin::from_block(&good).is_ok());
        for (position, value) in [(0, 0x34), (0, 0x43), (0, 0x4D), (1, 0x1A), (3, 0x5A), (7, 0xA0)]
        {
            let mut bad = good;
            bad[position] = value;
            assert!(Pin::from_block(&bad).is_err(), "{position}: {value:02X}");
        }
        assert!(Pin::from_block(&good[..15]).is_err());
        assert!(Pin::from_block(&[]).is_err());
    }

    proptest! {
        #[test]
        fn blocks_read_back(digits in "[0-9]{4,12}", random in any::<[u8; 8]>()) {
            let block = digits.parse::<Pin>().unwrap().to_block(random);
            let back = Pin::from_block(block.expose()).unwrap();
            prop_assert_eq!(back.expose(), digits);
        }

        #[test]
        fn any_block_is_answered(block in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(pin) = Pin::from_block(&block) {
                let again = pin.to_block([0; 8]);
                prop_assert_eq!(&again.expose()[..8], &block[..8]);
            }
        }
    }
}
