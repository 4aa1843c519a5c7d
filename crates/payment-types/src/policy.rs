//! The issuer's verification policy: when a phone asks its owner for what.
//!
//! One document, the same as a file (`policies/*.toml`), in the platform's store and in the payload that
//! a phone gets. Phone and platform read it through the same functions: [`VerificationPolicy::expected`]
//! says what a payment needs, and [`SinceVerified::after`] counts for both. What is decided at random is
//! the phone's alone; the platform takes more than it expects and never less.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::Currency;
use crate::data_storage::DataStorageRules;
use crate::messages::charge_minor;

const HOUR_MILLIS: i64 = 3_600_000;
/// Three bytes of the version travel in every cryptogram.
pub const MAXIMUM_POLICY_VERSION: u32 = 0x00FF_FFFF;
/// A policy's name has at most so many bytes.
const MAXIMUM_NAME_LENGTH: usize = 40;
/// How many digits a PIN may have (ISO 9564-1, 8.1).
const PIN_LENGTHS: core::ops::RangeInclusive<u8> = 4..=12;
/// How many wrong PINs an issuer may forgive.
const PIN_TRIES: core::ops::RangeInclusive<u8> = 1..=10;

/// What a payment needs of the person, from nothing to the most. A later one stands in for an earlier
/// one, never the other way round.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Nothing: a dark phone in a bag may pay.
    Anything,
    /// The screen is on: someone has the phone in hand.
    #[default]
    ScreenOn,
    /// The phone is unlocked and its screen on.
    Unlocked,
    /// The wallet's own PIN, for this payment: it opens a key of class `02`.
    AppPin,
    /// The card's PIN at the terminal. Where the terminal takes none, there is no payment.
    TerminalPin,
}

/// How the person unlocks the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnlockMethod {
    /// The phone has no lock at all.
    None,
    /// A pattern drawn on the screen: seen over a shoulder, and read from the smear it leaves.
    Pattern,
    /// A number.
    Pin,
    /// A password.
    Password,
    /// Finger or face.
    Biometric,
    /// The device does not say.
    #[default]
    Unknown,
}

/// Whether the terminal must prove whose it is before the phone signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MerchantProofRule {
    /// For every payment.
    Always,
    /// For what is above the limit, or in another currency.
    AboveLimit,
    /// A proof that is offered is checked; a terminal without one is served.
    #[default]
    IfOffered,
}

/// How often a person is asked for more than the amount alone would want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    /// What is asked for then.
    pub with: Requirement,
    /// After so many payments in a row without it, the next one asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_payments: Option<u32>,
    /// So much, minor units, may be paid in a row without it; the payment that goes beyond asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_sum: Option<i64>,
    /// One payment in so many asks, by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_random_one_in: Option<u32>,
}

/// How often a person has to log in at the issuer again before the phone pays on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshLogin {
    /// After so many payments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_payments: Option<u32>,
    /// After so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_hours: Option<u32>,
    /// One payment in so many, by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_random_one_in: Option<u32>,
}

/// What a PIN must be like, and how often a wrong one is forgiven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRules {
    /// How many digits it has, 4 to 12.
    pub length: u8,
    /// After so many wrong ones in a row it is blocked, 1 to 10.
    pub tries: u8,
    /// Whether `0000`, `1234` and their like are refused when a PIN is chosen.
    #[serde(default = "yes")]
    pub refuse_easy: bool,
}

const fn yes() -> bool {
    true
}

impl Default for PinRules {
    fn default() -> Self {
        Self { length: 4, tries: 3, refuse_easy: true }
    }
}

/// The issuer's verification policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerificationPolicy {
    /// What people call it, 1 to 40 bytes.
    pub name: String,
    /// Signed into every cryptogram, at most three bytes. The platform gives it, so a file has none.
    #[serde(default)]
    pub version: u32,
    /// All amounts of the policy are in this currency; a payment in any other counts as above the limit.
    pub currency: Currency,
    /// Minor units, up to and including.
    pub limit: i64,
    /// What a payment up to the limit needs at least.
    pub up_to_limit: Requirement,
    /// What any other payment needs.
    pub above_limit: Requirement,
    /// Which levels the person may choose from for payments up to the limit. The first is the default;
    /// none means that there is no choice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub person_may_choose: Vec<Requirement>,
    /// When a person is asked for more than the amount wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<Asks>,
    /// When a person has to log in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_login: Option<FreshLogin>,
    /// Ways to unlock a phone that the app should advise against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discouraged_unlock: Vec<UnlockMethod>,
    /// Whether a terminal must prove whose it is.
    #[serde(default)]
    pub merchant_proof: MerchantProofRule,
    /// Rules for PINs.
    #[serde(default)]
    pub pin: PinRules,
    /// Which data envelopes of the card a terminal may read and write; none unless it says so.
    #[serde(default, skip_serializing_if = "DataStorageRules::are_shut")]
    pub data_storage: DataStorageRules,
}

/// What makes no sense in a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No name, or too long, or not for people's eyes.
    #[error("a policy's name has 1 to 40 bytes and no control characters")]
    Name,
    /// More than three bytes.
    #[error("a policy's version is at most 16777215: three bytes of it travel in every cryptogram")]
    Version,
    /// Negative.
    #[error("a policy's limit is a number of minor units, not below zero")]
    Limit,
    /// Small payments would need more than large ones.
    #[error("above_limit asks for less than up_to_limit: turn them round")]
    Order,
    /// A level that would undercut the issuer, or stands there twice.
    #[error("person_may_choose offers a level below up_to_limit, or one level twice")]
    Choice,
    /// No occasion at all, or one that can't be met.
    #[error("asks needs every_payments, every_sum or at_random_one_in, each at least 1")]
    Asks,
    /// It asks for what every payment shows anyway.
    #[error("asks.with must be more than up_to_limit, or it asks for nothing")]
    AsksForNothing,
    /// No occasion at all, or one that can't be met.
    #[error("fresh_login needs every_payments, every_hours or at_random_one_in, each at least 1")]
    FreshLogin,
    /// Not what PIN pads take.
    #[error("pin.length is 4 to 12 digits")]
    PinLength,
    /// An envelope that there is not, or one twice.
    #[error("data_storage names envelopes by numbers from 1 to 10, each once")]
    DataStorage,
    /// None, or so many that counting is pointless.
    #[error("pin.tries is 1 to 10")]
    PinTries,
}

/// Payments since the person last met [`Asks::with`], as phone and platform count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinceVerified {
    /// How many.
    pub payments: u32,
    /// How much, minor units of the policy's currency. Foreign payments add nothing.
    pub sum_minor: i64,
}

/// The last payment in which the person was verified, as the platform found it: the cryptogram was
/// right, and so was the PIN if there was one. Whether the payment was approved does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastVerified {
    /// Its application transaction counter.
    pub application_transaction_counter: u16,
    /// How far, [`Requirement::Unlocked`] or more.
    pub reached: Requirement,
}

/// What a payment showed of phone and person: what the phone signed, and what the issuer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// The phone says that its screen was on.
    pub screen_on: bool,
    /// The phone says that it verified its owner by its lock, and that it was unlocked.
    pub unlocked: bool,
    /// The cryptogram was made with a key of class `02`: the wallet's PIN was right.
    pub app_pin: bool,
    /// The card's PIN was entered at the terminal, and was right.
    pub terminal_pin: bool,
}

impl Shown {
    /// The most that this meets.
    #[must_use]
    pub const fn reached(self) -> Requirement {
        match self {
            Self { terminal_pin: true, .. } => Requirement::TerminalPin,
            Self { app_pin: true, .. } => Requirement::AppPin,
            // An unlocked phone with a dark screen lies on a table.
            Self { unlocked: true, screen_on: true, .. } => Requirement::Unlocked,
            Self { screen_on: true, .. } => Requirement::ScreenOn,
            _ => Requirement::Anything,
        }
    }
}

impl SinceVerified {
    /// The count behind a payment that met `reached`: it starts again if that is what the policy asks
    /// for now and then. `charge_minor` is what [`charge_minor`] says of the payment.
    #[must_use]
    pub fn after(
        self,
        policy: &VerificationPolicy,
        charge_minor: i64,
        reached: Requirement,
    ) -> Self {
        if policy.asks.as_ref().is_none_or(|asks| reached >= asks.with) {
            return Self::default();
        }
        self.and_one_more(charge_minor)
    }

    /// The count behind one more payment that does not start it again.
    #[must_use]
    pub const fn and_one_more(self, charge_minor: i64) -> Self {
        Self {
            payments: self.payments.saturating_add(1),
            sum_minor: self.sum_minor.saturating_add(charge_minor),
        }
    }
}

impl Asks {
    fn check(&self, up_to_limit: Requirement) -> Result<(), PolicyError> {
        let occasions = [
            self.every_payments.map(|count| count > 0),
            self.every_sum.map(|sum| sum > 0),
            self.at_random_one_in.map(|count| count > 0),
        ];
        if !occasions.iter().flatten().all(|sane| *sane) || occasions == [None; 3] {
            return Err(PolicyError::Asks);
        }
        if self.with <= up_to_limit {
            return Err(PolicyError::AsksForNothing);
        }
        Ok(())
    }

    /// Whether count or sum ask with a payment that adds `charge_minor`.
    fn are_due(&self, charge_minor: i64, since: SinceVerified) -> bool {
        let sum = since.sum_minor.saturating_add(charge_minor);
        self.every_payments.is_some_and(|most| since.payments >= most)
            || self.every_sum.is_some_and(|most| sum > most)
    }
}

impl FreshLogin {
    fn check(&self) -> Result<(), PolicyError> {
        let occasions = [self.every_payments, self.every_hours, self.at_random_one_in];
        let sane = occasions.iter().flatten().all(|count| *count > 0) && occasions != [None; 3];
        if sane { Ok(()) } else { Err(PolicyError::FreshLogin) }
    }

    /// Whether so many payments and so much time since the last login ask for another one. Phone and platform
    /// agree on it; what chance asks for is the phone's alone.
    #[must_use]
    pub fn is_due(&self, payments: u32, millis: i64) -> bool {
        let life = self.every_hours.map(|hours| i64::from(hours).saturating_mul(HOUR_MILLIS));
        self.every_payments.is_some_and(|most| payments >= most)
            || life.is_some_and(|life| millis >= life)
    }
}

impl VerificationPolicy {
    /// The simplest policy: screen on up to a limit in minor units, unlocked above.
    #[must_use]
    pub fn by_limit(version: u32, currency: Currency, limit: i64) -> Self {
        Self {
            name: String::from("limit"),
            version,
            currency,
            limit,
            up_to_limit: Requirement::ScreenOn,
            above_limit: Requirement::Unlocked,
            person_may_choose: Vec::new(),
            asks: None,
            fresh_login: None,
            discouraged_unlock: Vec::new(),
            merchant_proof: MerchantProofRule::IfOffered,
            pin: PinRules::default(),
            data_storage: DataStorageRules::default(),
        }
    }

    /// Whether the policy makes sense. Nobody obeys one that does not: not the platform that is given
    /// it, and not a phone that gets it.
    ///
    /// # Errors
    /// [`PolicyError`] names the first thing that does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        let is_shown = |c: char| !c.is_control();
        let lengths = 1..=MAXIMUM_NAME_LENGTH;
        if !lengths.contains(&self.name.len()) || !self.name.chars().all(is_shown) {
            return Err(PolicyError::Name);
        }
        if self.version > MAXIMUM_POLICY_VERSION {
            return Err(PolicyError::Version);
        }
        if self.limit < 0 {
            return Err(PolicyError::Limit);
        }
        if self.above_limit < self.up_to_limit {
            return Err(PolicyError::Order);
        }
        self.check_choice()?;
        self.asks.as_ref().map_or(Ok(()), |asks| asks.check(self.up_to_limit))?;
        self.fresh_login.as_ref().map_or(Ok(()), FreshLogin::check)?;
        if !PIN_LENGTHS.contains(&self.pin.length) {
            return Err(PolicyError::PinLength);
        }
        if !PIN_TRIES.contains(&self.pin.tries) {
            return Err(PolicyError::PinTries);
        }
        if self.data_storage.are_sane() { Ok(()) } else { Err(PolicyError::DataStorage) }
    }

    fn check_choice(&self) -> Result<(), PolicyError> {
        let mut levels = self.person_may_choose.clone();
        levels.sort_unstable();
        levels.dedup();
        let no_level_twice = levels.len() == self.person_may_choose.len();
        let none_undercuts = levels.first().is_none_or(|lowest| *lowest >= self.up_to_limit);
        if no_level_twice && none_undercuts { Ok(()) } else { Err(PolicyError::Choice) }
    }

    /// Whether an amount (minor units) in a currency (`5F2A`) is within the limit. No other currency is:
    /// its amounts can't be compared.
    #[must_use]
    pub fn is_within_limit(&self, amount_minor: i64, currency_numeric: u16) -> bool {
        currency_numeric == self.currency.numeric() && amount_minor <= self.limit
    }

    /// What a payment needs at least: by its amount, and by count and sum since the person was last
    /// verified. Phone and platform agree on it. The phone may ask for more, because its owner chose so
    /// or because chance did.
    #[must_use]
    pub fn expected(
        &self,
        amount_minor: i64,
        currency_numeric: u16,
        since: &SinceVerified,
    ) -> Requirement {
        let by_amount = if self.is_within_limit(amount_minor, currency_numeric) {
            self.up_to_limit
        } else {
            self.above_limit
        };
        let charge = charge_minor(self.currency, amount_minor, currency_numeric, false);
        match &self.asks {
            Some(asks) if asks.are_due(charge, *since) => by_amount.max(asks.with),
            _ => by_amount,
        }
    }

    /// Whether a payment needs a terminal that has proven whose it is.
    #[must_use]
    pub fn demands_merchant_proof(&self, amount_minor: i64, currency_numeric: u16) -> bool {
        match self.merchant_proof {
            MerchantProofRule::Always => true,
            MerchantProofRule::AboveLimit => !self.is_within_limit(amount_minor, currency_numeric),
            MerchantProofRule::IfOffered => false,
        }
    }

    /// The level in force for payments up to the limit, given what the person once chose. A choice that
    /// the policy no longer offers becomes the next stricter one, or the strictest there is.
    #[must_use]
    pub fn level(&self, chosen: Option<Requirement>) -> Requirement {
        let offered = self.person_may_choose.iter().copied();
        let Some(chosen) = chosen else {
            return self.person_may_choose.first().copied().unwrap_or(self.up_to_limit);
        };
        let next = offered.clone().filter(|level| *level >= chosen).min();
        next.or_else(|| offered.max()).unwrap_or(self.up_to_limit)
    }

    /// Whether any payment may need this of the person.
    #[must_use]
    pub fn may_require(&self, requirement: Requirement) -> bool {
        self.up_to_limit == requirement
            || self.above_limit == requirement
            || self.person_may_choose.contains(&requirement)
            || self.asks.as_ref().is_some_and(|asks| asks.with == requirement)
    }
}
