//! The name a person sees on phone and till.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// 1 to 40 bytes of UTF-8 that a person can read: no control characters, nothing invisible, nothing
/// that turns the direction of the writing, no space at either end. A name that looks like another
/// one's must at least be made of letters that are there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantName(String);

/// The text is no merchant name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerchantNameError {
    /// Empty, or more than a certificate has room for.
    #[error("a merchant name has 1 to 40 bytes of UTF-8, this one has {0}: shorten it")]
    Length(usize),
    /// Not UTF-8.
    #[error("the merchant name is not UTF-8")]
    Utf8,
    /// A character that does not show, or changes how others show.
    #[error("a merchant name has no control characters, invisible characters or outer spaces")]
    Unreadable,
}

impl MerchantName {
    /// The most bytes of a name.
    pub const MAXIMUM_LENGTH: usize = 40;

    /// Reads a name as it stands in a certificate.
    ///
    /// # Errors
    /// [`MerchantNameError`].
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, MerchantNameError> {
        check_length(bytes.len())?;
        core::str::from_utf8(bytes).map_err(|_| MerchantNameError::Utf8)?.parse()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MerchantName {
    type Err = MerchantNameError;

    fn from_str(text: &str) -> Result<Self, MerchantNameError> {
        check_length(text.len())?;
        if text.trim() != text || text.chars().any(hides) {
            return Err(MerchantNameError::Unreadable);
        }
        Ok(Self(String::from(text)))
    }
}

impl fmt::Display for MerchantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn check_length(length: usize) -> Result<(), MerchantNameError> {
    if 1 <= length && length <= MerchantName::MAXIMUM_LENGTH {
        Ok(())
    } else {
        Err(MerchantNameError::Length(length))
    }
}

/// Control characters, and the format characters of Unicode that show nothing or reorder their
/// neighbours (soft hyphen, zero width, directional marks and overrides, separators, tags).
fn hides(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00AD}'
                | '\u{034F}'
                | '\u{061C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::{MerchantName, MerchantNameError};

    #[test]
    fn names_that_can_be_read() {
        for name in ["A", "Café Müller", "Bäckerei 東京", &"x".repeat(40)] {
            assert_eq!(name.parse::<MerchantName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_deceive_are_refused() {
        let parse = |text: &str| text.parse::<MerchantName>().unwrap_err();
        assert_eq!(parse(""), MerchantNameError::Length(0));
        assert_eq!(parse(&"ü".repeat(21)), MerchantNameError::Length(42));
        for name in
            [" Shop", "Shop ", "Sh\nop", "\u{1B}[2J", "S\u{200B}hop", "\u{202E}pohS", "\u{00AD}x"]
        {
            assert_eq!(parse(name), MerchantNameError::Unreadable, "{name:?}");
        }
        assert_eq!(MerchantName::from_utf8(&[b'A', 0xFF]), Err(MerchantNameError::Utf8));
    }
}
