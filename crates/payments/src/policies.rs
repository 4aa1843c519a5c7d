//! Versions of an issuer's verification policy: which of them a payment is judged by.
//!
//! A phone signs the version it obeyed into every cryptogram, and the platform judges the payment by that
//! same version, so that a payment is never declined for a rule that the phone could not know. A version
//! that was replaced is good for as long as a key lives that may have been given out with it: after that
//! every phone has met the platform again, and got the new one.

use alloc::string::String;

use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Currency, Timestamp};

use crate::issuers::KeyPolicy;

/// Why a policy is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// It makes no sense, or is in another currency than the issuer's cards.
    #[error("the policy cannot be used: {0}")]
    Unusable(String),
    /// Three bytes are full.
    #[error("this issuer has had all the versions that a cryptogram can name")]
    VersionsUsedUp,
}

/// One version of an issuer's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedPolicy {
    /// The document, with the version that the platform gave it.
    pub policy: VerificationPolicy,
    /// When the issuer set it.
    pub created_at: Timestamp,
    /// When the next version took its place.
    pub replaced_at: Option<Timestamp>,
}

impl IssuedPolicy {
    /// Whether a payment at `now` may still be judged by it, made with a key that was given at
    /// `granted_at`. Keys that came with a newer policy do not pay by an older one.
    #[must_use]
    pub fn is_acceptable(&self, keys: &KeyPolicy, granted_at: Timestamp, now: Timestamp) -> bool {
        self.replaced_at
            .is_none_or(|at| granted_at <= at && now <= at.plus_seconds(keys.lifetime_seconds))
    }
}

/// The next version of an issuer's policy, ready to be written down.
///
/// # Errors
/// [`PolicyRefusal`].
pub fn next_version(
    current: u32,
    currency: Currency,
    mut policy: VerificationPolicy,
) -> Result<VerificationPolicy, PolicyRefusal> {
    policy.version = current.checked_add(1).ok_or(PolicyRefusal::VersionsUsedUp)?;
    if policy.currency != currency {
        let text = "its currency is not that of the issuer's cards";
        return Err(PolicyRefusal::Unusable(String::from(text)));
    }
    policy.check().map_err(|error| PolicyRefusal::Unusable(alloc::format!("{error}")))?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::{IssuedPolicy, PolicyRefusal, next_version};
    use crate::issuers::KeyPolicy;
    use tapfer_payment_types::policy::VerificationPolicy;
    use tapfer_payment_types::{Currency, Timestamp};

    fn policy() -> VerificationPolicy {
        VerificationPolicy::by_limit(0, Currency::EUR, 2_500)
    }

    #[test]
    fn versions_rise_and_end() {
        assert_eq!(next_version(1, Currency::EUR, policy()).unwrap().version, 2);
        let end = next_version(0x00FF_FFFF, Currency::EUR, policy());
        assert!(matches!(end, Err(PolicyRefusal::Unusable(_))));
        let end = next_version(u32::MAX, Currency::EUR, policy());
        assert_eq!(end, Err(PolicyRefusal::VersionsUsedUp));
        let foreign = next_version(1, "CHF".parse().unwrap(), policy());
        assert!(matches!(foreign, Err(PolicyRefusal::Unusable(_))));
        let negative = VerificationPolicy::by_limit(0, Currency::EUR, -1);
        assert!(next_version(1, Currency::EUR, negative).is_err());
    }

    #[test]
    fn an_old_version_is_good_as_long_as_a_key_given_with_it() {
        let keys = KeyPolicy::default();
        let (set, replaced) = (Timestamp::from_unix_millis(0), Timestamp::from_unix_millis(1_000));
        let mut issued = IssuedPolicy { policy: policy(), created_at: set, replaced_at: None };
        let end = replaced.plus_seconds(keys.lifetime_seconds);
        assert!(issued.is_acceptable(&keys, set, end.plus_millis(1)), "the newest has no end");
        issued.replaced_at = Some(replaced);
        assert!(issued.is_acceptable(&keys, replaced, end));
        assert!(!issued.is_acceptable(&keys, replaced, end.plus_millis(1)));
        let later = replaced.plus_millis(1);
        assert!(!issued.is_acceptable(&keys, later, end), "the key came with a newer policy");
    }
}
