//! Which issuer a number belongs to, by its first digits. Kept in memory, because every payment asks.

use std::sync::{PoisonError, RwLock};

use tapfer_payment_types::IssuerId;
use tapfer_payments::issuers::{Issuer, NumberPrefix};

/// Token ranges and their issuers. Ranges do not overlap: the store sees to that.
#[derive(Debug, Default)]
pub(super) struct IssuerDirectory(RwLock<Vec<(NumberPrefix, IssuerId)>>);

impl IssuerDirectory {
    /// The issuer in whose range of tokens a number lies, as far as is known here.
    pub(super) fn of_token(&self, digits: &str) -> Option<IssuerId> {
        let ranges = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = ranges.iter().find(|(prefix, _)| digits.starts_with(prefix.as_str()));
        found.map(|(_, issuer)| *issuer)
    }

    /// Learns all issuers anew: one may have been created since, perhaps by another process.
    pub(super) fn refresh(&self, issuers: &[Issuer]) {
        let ranges =
            issuers.iter().map(|issuer| (issuer.token_prefix.clone(), issuer.id)).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = ranges;
    }
}
