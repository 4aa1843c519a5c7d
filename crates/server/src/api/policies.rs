//! Verification policies: what issuers demand of the person.

use serde::{Deserialize, Serialize};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::policy::VerificationPolicy;
use utoipa::ToSchema;

/// When a phone asks its owner for what: the same document as the files in `policies/`.
///
/// The shape of [`VerificationPolicy`], for the interface's description.
#[derive(ToSchema)]
#[schema(as = VerificationPolicy)]
#[expect(dead_code, reason = "describes a type of another crate")]
pub(crate) struct VerificationPolicySchema {
    /// What people call it.
    #[schema(min_length = 1, max_length = 40)]
    name: String,
    /// Signed into every cryptogram. The platform gives it; what is sent does not matter.
    #[schema(maximum = 16_777_215)]
    version: Option<u32>,
    /// All amounts are in this currency; a payment in any other counts as above the limit.
    #[schema(example = "EUR")]
    currency: String,
    /// Minor units, up to and including.
    #[schema(minimum = 0)]
    limit: i64,
    /// What a payment up to the limit needs at least.
    up_to_limit: RequirementSchema,
    /// What any other payment needs.
    above_limit: RequirementSchema,
    /// Which levels the person may choose from; the first is the default.
    person_may_choose: Option<Vec<RequirementSchema>>,
    /// When a person is asked for more than the amount wants: `with` and at least one of
    /// `every_payments`, `every_sum`, `at_random_one_in`.
    #[schema(value_type = Option<Object>)]
    asks: Option<()>,
    /// When a person has to log in again: at least one of `every_payments`, `every_hours`,
    /// `at_random_one_in`.
    #[schema(value_type = Option<Object>)]
    fresh_login: Option<()>,
    /// Ways to unlock a phone that the app advises against.
    discouraged_unlock: Option<Vec<String>>,
    /// Whether a terminal must prove whose it is: `always`, `above_limit` or `if_offered`.
    merchant_proof: Option<String>,
    /// `length` 4 to 12, `tries` 1 to 10, `refuse_easy`.
    #[schema(value_type = Option<Object>)]
    pin: Option<()>,
}

/// What a payment needs of the person, from nothing to the most.
#[derive(ToSchema)]
#[schema(as = Requirement)]
#[expect(dead_code, reason = "describes a type of another crate")]
#[serde(rename_all = "snake_case")]
#[derive(Serialize)]
pub(crate) enum RequirementSchema {
    /// Nothing.
    Anything,
    /// The screen is on.
    ScreenOn,
    /// The phone is unlocked and its screen on.
    Unlocked,
    /// The wallet's own PIN.
    AppPin,
    /// The card's PIN at the terminal.
    TerminalPin,
}

/// The policy that an issuer's phones are given now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuerPolicy {
    /// The document.
    #[schema(value_type = VerificationPolicySchema)]
    pub policy: VerificationPolicy,
    /// When it was set.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<&tapfer_payments::policies::IssuedPolicy> for IssuerPolicy {
    fn from(issued: &tapfer_payments::policies::IssuedPolicy) -> Self {
        Self { policy: issued.policy.clone(), created_at: issued.created_at }
    }
}
