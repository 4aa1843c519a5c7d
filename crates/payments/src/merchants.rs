//! Merchants: who is paid.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{MerchantId, Timestamp};

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
