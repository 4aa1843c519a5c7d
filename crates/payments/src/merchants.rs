//! Merchants: who is paid, and how they are called where card and terminal speak.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_emv::merchant::{AcquirerId, MerchantIdentifier, MerchantName, MerchantNameError};
use tapfer_emv::packed_decimal;
use tapfer_payment_types::{MerchantId, RealmId, Timestamp};

use crate::issuers::CountryCode;

/// The text is not a merchant category code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a merchant category code has four digits, such as 5812 for a restaurant")]
pub struct CategoryCodeError;

/// Merchant category code (`9F15`, ISO 18245): four digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MerchantCategoryCode(u16);

impl FromStr for MerchantCategoryCode {
    type Err = CategoryCodeError;

    fn from_str(text: &str) -> Result<Self, CategoryCodeError> {
        if text.len() != 4 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CategoryCodeError);
        }
        text.parse().map(Self).map_err(|_| CategoryCodeError)
    }
}

impl fmt::Display for MerchantCategoryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.0)
    }
}

impl TryFrom<String> for MerchantCategoryCode {
    type Error = CategoryCodeError;

    fn try_from(text: String) -> Result<Self, CategoryCodeError> {
        text.parse()
    }
}

impl From<MerchantCategoryCode> for String {
    fn from(code: MerchantCategoryCode) -> Self {
        alloc::format!("{code}")
    }
}

/// Acquirer identifier (`9F01`, format n 11) of a realm: eleven digits that follow from its id, so that
/// it never changes. No body registered it: among the phones that trust this realm's merchant CA it is
/// unique, and nobody else reads it.
#[must_use]
pub fn acquirer_of(realm: RealmId) -> AcquirerId {
    const ELEVEN_DIGITS: u64 = 100_000_000_000;
    // 33 has no factor in common with the modulus: every letter counts.
    let number = realm.to_string().bytes().fold(0_u64, |sum, letter| {
        sum.wrapping_mul(33).wrapping_add(u64::from(letter)).wrapping_rem(ELEVEN_DIGITS)
    });
    let mut rest = number;
    let mut packed = [0; 6];
    for byte in packed.iter_mut().rev() {
        let two_digits = u8::try_from(rest.wrapping_rem(100)).unwrap_or(0);
        *byte = packed_decimal::pack(two_digits);
        rest = rest.wrapping_div(100);
    }
    packed
}

/// A merchant. What it is owed lies in the ledger account of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merchant {
    /// Its id, and that of its ledger accounts (one a currency).
    pub id: MerchantId,
    /// Its name, as printed on receipts.
    pub name: String,
    /// Where it is.
    pub country: CountryCode,
    /// What it sells.
    pub category_code: MerchantCategoryCode,
    /// When it was set up.
    pub created_at: Timestamp,
}

impl Merchant {
    /// Merchant identifier (`9F16`): the last fifteen characters of its id, which are random.
    #[must_use]
    pub fn identifier(&self) -> MerchantIdentifier {
        let text = self.id.to_string().to_ascii_uppercase();
        // An id is longer than that, and in ASCII.
        text.as_bytes().last_chunk().copied().unwrap_or([b' '; 15])
    }

    /// The name as tills and phones show it, the same bytes on both: what the certificate has room for.
    /// A longer name is cut behind a whole character and ends with `…`; characters that show nothing are
    /// left out. Of a name of which nothing is left the identifier is shown.
    ///
    /// # Errors
    /// None in practice: an identifier is always a name.
    pub fn name_on_tills(&self) -> Result<MerchantName, MerchantNameError> {
        let text: String = self.name.chars().filter_map(shown).collect();
        let text = cut(text.trim());
        text.parse().or_else(|_| String::from_utf8_lossy(&self.identifier()).parse())
    }
}

/// A character as a certificate may hold it.
fn shown(character: char) -> Option<char> {
    if character.is_whitespace() {
        return Some(' ');
    }
    let alone: Result<MerchantName, _> = String::from(character).parse();
    alone.is_ok().then_some(character)
}

/// What fits, and a mark that something is missing.
fn cut(name: &str) -> String {
    const MARK: char = '…';
    if name.len() <= MerchantName::MAXIMUM_LENGTH {
        return String::from(name);
    }
    let room = MerchantName::MAXIMUM_LENGTH.saturating_sub(MARK.len_utf8());
    let begin = name.get(..name.floor_char_boundary(room)).unwrap_or_default();
    let mut shortened = String::from(begin.trim_end());
    shortened.push(MARK);
    shortened
}

#[cfg(test)]
mod tests {
    use super::{Merchant, acquirer_of};
    use tapfer_payment_types::{MerchantId, RealmId, Timestamp};

    fn named(name: &str) -> Merchant {
        let id = MerchantId::new(Timestamp::from_unix_millis(1), [0xA7; 10]);
        let (country, category_code) = ("276".parse().unwrap(), "5812".parse().unwrap());
        Merchant { id, name: name.into(), country, category_code, created_at: id_time() }
    }

    fn id_time() -> Timestamp {
        Timestamp::from_unix_millis(1)
    }

    #[test]
    fn a_name_is_shown_as_far_as_it_fits() {
        let shown = |name: &str| named(name).name_on_tills().unwrap().to_string();
        let forty = "x".repeat(40);
        for (name, on_tills) in [
            ("Mensa", "Mensa"),
            (forty.as_str(), forty.as_str()),
            (&"x".repeat(41), &format!("{}…", "x".repeat(37))),
            (
                "Studierendenwerk Musterstadt am Großen Fluss",
                "Studierendenwerk Musterstadt am Groß…",
            ),
            // 36 bytes and a character of two: cut in front of it.
            (&format!("{}{}", "x".repeat(36), "ß".repeat(9)), &format!("{}…", "x".repeat(36))),
            ("  Café\u{200D}\u{A0}Ada ", "Café Ada"),
        ] {
            assert_eq!(shown(name), on_tills, "{name}");
        }
        let nothing = named("\u{200B}\u{200D}");
        let identifier = String::from_utf8(nothing.identifier().to_vec()).unwrap();
        assert_eq!(nothing.name_on_tills().unwrap().as_str(), identifier);
        assert_eq!(identifier.len(), 15);
    }

    #[test]
    fn an_acquirer_is_eleven_digits_of_its_realm() {
        let of = |random| acquirer_of(RealmId::new(id_time(), random));
        assert_eq!(of([1; 10]), of([1; 10]));
        assert_ne!(of([1; 10]), of([2; 10]));
        assert!(of([3; 10]).iter().all(|byte| byte >> 4 < 10 && byte & 15 < 10));
        assert_eq!(of([4; 10])[0] >> 4, 0, "twelve digits have room, eleven are used");
    }
}
