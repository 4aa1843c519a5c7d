//! Issuers: who gives out cards, in which number ranges and under which limits.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payment_types::{Currency, IssuerId, Timestamp};

/// What is wrong with an issuer's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// A number prefix is 6 to 8 digits.
    #[error("a number prefix has 6 to 8 decimal digits")]
    Prefix,
    /// An application identifier is 5 to 16 bytes.
    #[error("an application identifier has 5 to 16 bytes")]
    ApplicationIdentifier,
    /// A country is a three-digit code.
    #[error("a country is a numeric ISO 3166-1 code of three digits, such as 276")]
    Country,
    /// The limits do not make sense.
    #[error("{0} must not be negative, and keys must be good for something")]
    Limit(&'static str),
}

/// The leading 6 to 8 digits of an issuer's numbers (ISO/IEC 7812-1). No two issuers share a range.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NumberPrefix(String);

impl NumberPrefix {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a number can begin with both prefixes.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl FromStr for NumberPrefix {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if digits && (6..=8).contains(&text.len()) {
            Ok(Self(String::from(text)))
        } else {
            Err(IssuerError::Prefix)
        }
    }
}

impl TryFrom<String> for NumberPrefix {
    type Error = IssuerError;

    fn try_from(text: String) -> Result<Self, IssuerError> {
        text.parse()
    }
}

impl From<NumberPrefix> for String {
    fn from(prefix: NumberPrefix) -> Self {
        prefix.0
    }
}

impl fmt::Debug for NumberPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A country by its numeric ISO 3166-1 code, written as three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CountryCode(u16);

impl CountryCode {
    /// Checks the range.
    ///
    /// # Errors
    /// [`IssuerError::Country`] for 0 and above 999.
    pub const fn new(numeric: u16) -> Result<Self, IssuerError> {
        if numeric == 0 || numeric > 999 { Err(IssuerError::Country) } else { Ok(Self(numeric)) }
    }

    /// The numeric code, 1 to 999.
    #[must_use]
    pub const fn numeric(self) -> u16 {
        self.0
    }
}

impl FromStr for CountryCode {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, IssuerError> {
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(IssuerError::Country);
        }
        text.parse().map_err(|_| IssuerError::Country).and_then(Self::new)
    }
}

impl TryFrom<String> for CountryCode {
    type Error = IssuerError;

    fn try_from(text: String) -> Result<Self, IssuerError> {
        text.parse()
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl From<CountryCode> for String {
    fn from(country: CountryCode) -> Self {
        alloc::format!("{country}")
    }
}

/// An application identifier (`4F`, `84`, `9F06`): 5 to 16 bytes, the first five being the RID
/// (ISO/IEC 7816-5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApplicationIdentifier(Vec<u8>);

impl ApplicationIdentifier {
    /// Checks the length.
    ///
    /// # Errors
    /// [`IssuerError::ApplicationIdentifier`].
    pub fn new(bytes: &[u8]) -> Result<Self, IssuerError> {
        if (5..=16).contains(&bytes.len()) {
            Ok(Self(bytes.to_vec()))
        } else {
            Err(IssuerError::ApplicationIdentifier)
        }
    }

    /// All bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How far the keys go that a phone is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPolicy {
    /// Payments for each limited-use key.
    pub maximum_payments: u16,
    /// What those payments may add up to, minor units of the issuer's currency.
    pub maximum_total_minor: i64,
    /// How long a key and the device certificate renewed with it live.
    pub lifetime_seconds: i64,
    /// How many keys a phone gets at a time.
    pub keys_per_replenishment: u8,
    /// Whether a phone gets, in the place of those keys, a session key for each of the next counters: as
    /// many as the keys would be good for, 64 at most, and each for one payment only.
    #[serde(default)]
    pub single_use: bool,
    /// How many session keys under the person's key (class `02`) a phone gets at a time, once it has a
    /// PIN: 1 to 64.
    #[serde(default = "default_verified_payments")]
    pub verified_payments: u16,
}

/// Half of what the security module gives at a time: counters pass with unverified payments too.
const fn default_verified_payments() -> u16 {
    32
}

impl Default for KeyPolicy {
    /// Three keys of ten payments and 250.00 each, and 32 payments with the PIN, for one day.
    fn default() -> Self {
        Self {
            maximum_payments: 10,
            maximum_total_minor: 25_000,
            lifetime_seconds: 86_400,
            keys_per_replenishment: 3,
            single_use: false,
            verified_payments: default_verified_payments(),
        }
    }
}

/// An issuer. Its keys stay in the HSM, which finds them by the issuer's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// Its name, as shown on phones.
    pub name: String,
    /// Where it is at home.
    pub country: CountryCode,
    /// Range of its card numbers, if it lets the platform make them.
    pub pan_prefix: Option<NumberPrefix>,
    /// Range of its tokens.
    pub token_prefix: NumberPrefix,
    /// The currency its cards are kept in.
    pub currency: Currency,
    /// Its application identifier.
    pub aid: ApplicationIdentifier,
    /// Up to this amount, minor units, a payment needs no verification of the person.
    pub unverified_limit_minor: i64,
    /// Version of the verification policy that phones get.
    pub policy_version: u32,
    /// How far limited-use keys go.
    pub key_policy: KeyPolicy,
    /// Generation of the issuer master key: byte 1 of the IAD.
    pub derivation_key_index: u8,
    /// Issuer certificate `90`, signed by the scheme's CA.
    pub certificate: Vec<u8>,
    /// When it was set up.
    pub created_at: Timestamp,
}

impl Issuer {
    /// The policy that an issuer begins with: its limit and nothing else.
    ///
    /// # Errors
    /// [`IssuerError::Limit`] if the limit makes no sense.
    pub fn first_policy(&self) -> Result<VerificationPolicy, IssuerError> {
        let (currency, limit) = (self.currency, self.unverified_limit_minor);
        let policy = VerificationPolicy::by_limit(self.policy_version, currency, limit);
        policy.check().map_err(|_| IssuerError::Limit("the unverified limit"))?;
        Ok(policy)
    }

    /// Whether the limits make sense.
    ///
    /// # Errors
    /// [`IssuerError::Limit`] naming the one that does not.
    pub const fn check(&self) -> Result<(), IssuerError> {
        if self.unverified_limit_minor < 0 {
            return Err(IssuerError::Limit("the unverified limit"));
        }
        let policy = &self.key_policy;
        if policy.maximum_payments == 0
            || policy.maximum_total_minor <= 0
            || policy.lifetime_seconds <= 0
            || policy.keys_per_replenishment == 0
            || policy.verified_payments == 0
        {
            return Err(IssuerError::Limit("the key policy"));
        }
        Ok(())
    }
}
