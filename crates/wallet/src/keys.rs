//! Limited-use keys on the phone, and how much of each is left; single-use keys beside them.

mod single_use;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tapfer_emv::keys::{KeyIndex, LimitedUseKey, SessionKey};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::LimitedUseKeyGrant;

use crate::secret_bytes::SecretBytes;
pub(crate) use single_use::SessionKeys;

/// More keys than this on one token is not a grant but a mistake.
pub(crate) const MAXIMUM_KEYS: usize = 64;

/// What is wrong with the keys in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyGrantError {
    /// The index is not YHHHHCC.
    #[error("a key index is not seven digits YHHHHCC")]
    Index,
    /// Not an AES-128 key.
    #[error("a limited-use key does not have 16 bytes")]
    Length,
    /// No payment could ever be made with the key.
    #[error("a limited-use key is good for no payment: expired, or a limit of nothing")]
    Useless,
    /// Two keys claim one index, or a known index comes with another key.
    #[error("two different limited-use keys claim the same index")]
    Conflict,
    /// More keys than a phone should hold.
    #[error(
        "the payload holds more than {MAXIMUM_KEYS} keys, or more blocks than a phone should hold"
    )]
    TooMany,
    /// Counters of single-use keys run from 1 to 65535.
    #[error("single-use keys are for transaction counters that do not exist")]
    Counter,
    /// Session keys under a person's key that the phone has not got.
    #[error("the payload holds verified keys, but does not say under which person's key")]
    NoPersonKey,
}

/// One key with its limits and its use so far.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    #[serde(with = "index_digits")]
    index: KeyIndex,
    derivation_key_index: u8,
    /// Gone after the last payment. The rest stays until the key is replaced, so that the same key,
    /// sent again, does not start over.
    key: Option<SecretBytes<16>>,
    expires_at: Timestamp,
    maximum_payments: u16,
    maximum_total_minor: i64,
    payments: u16,
    total_minor: i64,
}

impl StoredKey {
    fn from_grant(
        grant: &LimitedUseKeyGrant,
        derivation_key_index: u8,
        now: Timestamp,
    ) -> Result<Self, KeyGrantError> {
        let key = grant.key.expose().try_into().map_err(|_| KeyGrantError::Length)?;
        let is_useless =
            grant.maximum_payments == 0 || grant.maximum_total_minor <= 0 || now > grant.expires_at;
        if is_useless {
            return Err(KeyGrantError::Useless);
        }
        Ok(Self {
            index: grant.key_index.parse().map_err(|_| KeyGrantError::Index)?,
            derivation_key_index,
            key: Some(SecretBytes::new(key)),
            expires_at: grant.expires_at,
            maximum_payments: grant.maximum_payments,
            maximum_total_minor: grant.maximum_total_minor,
            payments: 0,
            total_minor: 0,
        })
    }

    fn payments_left(&self, now: Timestamp) -> u16 {
        match &self.key {
            Some(_) if now <= self.expires_at => {
                self.maximum_payments.saturating_sub(self.payments)
            }
            _ => 0,
        }
    }

    fn total_left(&self) -> i64 {
        self.maximum_total_minor.saturating_sub(self.total_minor)
    }

    fn is_usable(&self, charge_minor: i64, now: Timestamp) -> bool {
        self.payments_left(now) > 0 && charge_minor <= self.total_left()
    }

    /// Whether `other`, freshly granted, is this key once more.
    fn is_same(&self, other: &Self) -> bool {
        let same_key = match (&self.key, &other.key) {
            (Some(mine), Some(theirs)) => bool::from(mine.expose().ct_eq(theirs.expose())),
            // Erased: it was used up, and stays so.
            _ => true,
        };
        same_key && self.derivation_key_index == other.derivation_key_index
    }

    /// Counts one payment and lends the key for it; the key is erased with its last payment.
    fn draw(&mut self, charge_minor: i64, counter: u16) -> Option<DrawnKey> {
        let key = LimitedUseKey::new(*self.key.as_ref()?.expose());
        let drawn = DrawnKey {
            session_key: key.session_key(counter),
            index: self.index,
            derivation_key_index: self.derivation_key_index,
        };
        self.payments = self.payments.checked_add(1)?;
        self.total_minor = self.total_minor.checked_add(charge_minor)?;
        if self.payments >= self.maximum_payments {
            self.key = None;
        }
        Some(drawn)
    }
}

/// A key drawn for one cryptogram; wiped when the cryptogram is made.
pub(crate) struct DrawnKey {
    pub(crate) session_key: SessionKey,
    pub(crate) index: KeyIndex,
    pub(crate) derivation_key_index: u8,
}

/// All limited-use keys of a token.
#[derive(Serialize, Deserialize, Default)]
#[serde(transparent)]
pub(crate) struct LimitedUseKeys(Vec<StoredKey>);

impl LimitedUseKeys {
    /// Whether a payment that takes up `charge_minor` finds a key.
    pub(crate) fn can_pay(&self, charge_minor: i64, now: Timestamp) -> bool {
        self.0.iter().any(|key| key.is_usable(charge_minor, now))
    }

    /// Takes the key that expires first among those that can pay, and counts the payment.
    pub(crate) fn draw(
        &mut self,
        charge_minor: i64,
        counter: u16,
        now: Timestamp,
    ) -> Option<DrawnKey> {
        self.0
            .iter_mut()
            .filter(|key| key.is_usable(charge_minor, now))
            .min_by_key(|key| key.expires_at)?
            .draw(charge_minor, counter)
    }

    /// Indices of all keys, used up or not.
    pub(crate) fn indices(&self) -> impl Iterator<Item = KeyIndex> {
        self.0.iter().map(|key| key.index)
    }

    /// When the keys end, used up or not.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().map(|key| key.expires_at)
    }

    /// Index of the key that the next payment draws, if it is small enough for it.
    pub(crate) fn next_index(&self, now: Timestamp) -> Option<KeyIndex> {
        let usable = self.0.iter().filter(|key| key.is_usable(0, now));
        usable.min_by_key(|key| key.expires_at).map(|key| key.index)
    }

    /// How many payments all keys together are good for now.
    pub(crate) fn payments_left(&self, now: Timestamp) -> u32 {
        self.0.iter().map(|key| u32::from(key.payments_left(now))).sum()
    }

    /// The largest amount a single payment can have now, minor units of the policy's currency.
    pub(crate) fn largest_payment(&self, now: Timestamp) -> i64 {
        let usable = self.0.iter().filter(|key| key.is_usable(0, now));
        usable.map(StoredKey::total_left).max().unwrap_or(0)
    }

    /// The largest amount that a single payment could have when the keys were new. Without any, as much as
    /// there is.
    pub(crate) fn largest_grant(&self) -> i64 {
        self.0.iter().map(|key| key.maximum_total_minor).max().unwrap_or(i64::MAX)
    }

    /// When the last key that is usable now expires.
    pub(crate) fn expire_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.iter().filter(|key| key.is_usable(0, now)).map(|key| key.expires_at).max()
    }

    /// The granted keys in the place of these: what the platform gave before ends with a new grant. A
    /// key that is already known keeps its use so far.
    pub(crate) fn replaced(
        &self,
        grants: &[LimitedUseKeyGrant],
        derivation_key_index: u8,
        now: Timestamp,
    ) -> Result<KeyReplacement, KeyGrantError> {
        if grants.len() > MAXIMUM_KEYS {
            return Err(KeyGrantError::TooMany);
        }
        let mut change = KeyReplacement::default();
        for grant in grants {
            let candidate = StoredKey::from_grant(grant, derivation_key_index, now)?;
            let mut known = self.0.iter().chain(&change.new);
            match known.find(|key| key.index == candidate.index) {
                Some(key) if key.is_same(&candidate) => change.kept.push(key.index),
                Some(_) => return Err(KeyGrantError::Conflict),
                None => change.new.push(candidate),
            }
        }
        Ok(change)
    }

    /// Carries out what [`Self::replaced`] has checked.
    pub(crate) fn apply(&mut self, change: KeyReplacement) {
        self.0.retain(|key| change.kept.contains(&key.index));
        self.0.extend(change.new);
    }
}

/// Granted keys that were checked: those that the phone has already, and those that are new to it.
#[derive(Default)]
pub(crate) struct KeyReplacement {
    kept: Vec<KeyIndex>,
    new: Vec<StoredKey>,
}

impl KeyReplacement {
    /// Indices of all of them.
    pub(crate) fn indices(&self) -> impl Iterator<Item = KeyIndex> {
        self.kept.iter().copied().chain(self.new.iter().map(|key| key.index))
    }
}

/// A key index as its seven digits.
pub(crate) mod index_digits {
    use alloc::string::String;

    use serde::{Deserialize, Deserializer, Serializer, de};
    use tapfer_emv::keys::KeyIndex;

    pub(crate) fn serialize<S: Serializer>(index: &KeyIndex, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(index)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<KeyIndex, D::Error> {
        String::deserialize(input)?.parse().map_err(de::Error::custom)
    }
}
