//! The languages that people read.

use serde::{Deserialize, Serialize};

/// A language that cardholders and cashiers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// German.
    #[serde(rename = "de")]
    German,
}

impl Language {
    /// The first language of a card's preference (`5F2D`, up to four ISO 639-1 codes, filled with
    /// zeros) that is known, or else the till's own (Book 4, 11.1).
    #[must_use]
    pub fn choose(preference: &[u8], till: Self) -> Self {
        let known = |code: &[u8]| match code {
            [b'e' | b'E', b'n' | b'N'] => Some(Self::English),
            [b'd' | b'D', b'e' | b'E'] => Some(Self::German),
            _ => None,
        };
        preference.chunks_exact(2).find_map(known).unwrap_or(till)
    }
}
