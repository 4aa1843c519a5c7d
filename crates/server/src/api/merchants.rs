//! Merchants.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{ApiKeyId, MerchantId, Timestamp};
use tapfer_payments::issuers::CountryCode;
use tapfer_payments::merchants::MerchantCategoryCode;
use utoipa::ToSchema;

use crate::api::ShortText;

/// A new merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateMerchant {
    /// The name that stands on receipts.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub name: ShortText,
    /// ISO 3166 numeric country code, three digits.
    #[schema(value_type = String, pattern = "^[0-9]{3}$", example = "276")]
    pub country: CountryCode,
    /// ISO 18245 merchant category code, four digits.
    #[schema(value_type = String, pattern = "^[0-9]{4}$", example = "5814")]
    pub category_code: MerchantCategoryCode,
}

/// A merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Merchant {
    /// The merchant's id.
    #[schema(value_type = String)]
    pub id: MerchantId,
    /// The name that stands on receipts.
    pub name: String,
    /// The name as tills and phones show it, at most 40 bytes of UTF-8: a longer one is cut and ends with
    /// `…`.
    pub name_on_tills: String,
    /// ISO 3166 numeric country code.
    #[schema(value_type = String)]
    pub country: CountryCode,
    /// ISO 18245 merchant category code.
    #[schema(value_type = String)]
    pub category_code: MerchantCategoryCode,
    /// When the merchant was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A new merchant and the key that opens the interface to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedMerchant {
    /// The merchant.
    #[serde(flatten)]
    pub merchant: Merchant,
    /// The merchant's API key. It is shown this once.
    pub api_key: String,
    /// The API key's id: what it is revoked by, and the client id of OAuth 2.
    #[schema(value_type = String)]
    pub api_key_id: ApiKeyId,
}

impl From<&tapfer_payments::merchants::Merchant> for Merchant {
    fn from(merchant: &tapfer_payments::merchants::Merchant) -> Self {
        Self {
            id: merchant.id,
            name: merchant.name.clone(),
            name_on_tills: merchant
                .name_on_tills()
                .map(|name| name.to_string())
                .unwrap_or_default(),
            country: merchant.country,
            category_code: merchant.category_code,
            created_at: merchant.created_at,
        }
    }
}
