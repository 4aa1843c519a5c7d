//! Terminals: where a merchant is paid.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{MerchantId, TerminalId, Timestamp};

/// The text is not a terminal identification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a terminal identification has eight letters and digits")]
pub struct TerminalIdentificationError;

/// Terminal identification (`9F1C`): eight letters or digits, unique on the platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TerminalIdentification(String);

/// No letter looks like a digit, so that a person can read one out over the telephone.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl TerminalIdentification {
    /// A new identification from forty random bits; the store refuses one that is taken.
    #[must_use]
    pub fn from_random(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        let bits = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let letters = (0..8_u32).rev().map(|position| {
            let shifted = bits.checked_shr(position.saturating_mul(5)).unwrap_or(0) & 31;
            let letter = usize::try_from(shifted).ok().and_then(|index| ALPHABET.get(index));
            char::from(letter.copied().unwrap_or(b'0'))
        });
        Self(letters.collect())
    }

    /// The eight characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TerminalIdentification {
    type Err = TerminalIdentificationError;

    fn from_str(text: &str) -> Result<Self, TerminalIdentificationError> {
        if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(String::from(text)))
        } else {
            Err(TerminalIdentificationError)
        }
    }
}

impl fmt::Display for TerminalIdentification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TerminalIdentification {
    type Error = TerminalIdentificationError;

    fn try_from(text: String) -> Result<Self, TerminalIdentificationError> {
        text.parse()
    }
}

impl From<TerminalIdentification> for String {
    fn from(identification: TerminalIdentification) -> Self {
        identification.0
    }
}

/// A terminal of a merchant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Its id.
    pub id: TerminalId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// What the merchant calls it.
    pub label: String,
    /// What it calls itself in card data.
    pub identification: TerminalIdentification,
    /// When it was set up.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::TerminalIdentification;
    use proptest::prelude::*;

    #[test]
    fn forty_bits_give_eight_characters() {
        assert_eq!(TerminalIdentification::from_random([0; 5]).as_str(), "00000000");
        assert_eq!(TerminalIdentification::from_random([255; 5]).as_str(), "ZZZZZZZZ");
    }

    proptest! {
        #[test]
        fn what_is_made_is_read_back(random in any::<[u8; 5]>()) {
            let made = TerminalIdentification::from_random(random);
            prop_assert_eq!(made.as_str().parse::<TerminalIdentification>().unwrap(), made);
        }
    }
}
