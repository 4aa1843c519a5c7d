//! For how long what has ended is kept.

use serde::{Deserialize, Serialize};
use tapfer_payments::retention::RetentionLimit;
use utoipa::ToSchema;

use crate::api::ShortText;

/// Another limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// So many days behind its end; no less than refunds and disputes need.
    #[schema(minimum = 180, maximum = 3650)]
    pub days: u16,
    /// The reason, for the record.
    #[schema(value_type = String, min_length = 1, max_length = 140)]
    pub reason: ShortText,
}

/// For how long what has ended is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retention {
    /// So many days behind the closing of a card, or the end of a token.
    #[schema(minimum = 180, maximum = 3650)]
    pub days: u16,
}

impl From<RetentionLimit> for Retention {
    fn from(limit: RetentionLimit) -> Self {
        Self { days: limit.days() }
    }
}
