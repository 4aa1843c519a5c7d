//! Keeping the keys: what the people who do it may do with a catalogue, whatever vault is behind it, and
//! when a key is due.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::{CatalogueMark, Timestamp};

use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
use crate::vault::Vault;
use crate::vaulted::VaultedHsm;
use crate::{HsmError, PaymentHsm as _};

const SECONDS_A_DAY: i64 = 86_400;
const MILLISECONDS_A_DAY: i64 = SECONDS_A_DAY * 1_000;

/// What is done with keys, beside payments.
pub trait KeyCustody {
    /// Every key that there is or was, by owner, purpose and generation.
    ///
    /// # Errors
    /// The catalogue cannot be read, or is not what it should be.
    fn records(&self) -> Result<Vec<KeyRecord>, HsmError>;

    /// Sees that the keys are the newest that others have used, and says which they are: as
    /// [`PaymentHsm::follow_catalogue`].
    ///
    /// # Errors
    /// As [`PaymentHsm::follow_catalogue`].
    fn follow(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError>;

    /// Makes the next generation, which takes over; older ones serve what was made under them. The one until now
    /// signs for the next where devices hold on to it ([`VaultedHsm::succeed_configuration_key`]).
    ///
    /// # Errors
    /// As [`VaultedHsm::add_generation`].
    fn rotate(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError>;

    /// Takes a key on in its life.
    ///
    /// # Errors
    /// As [`VaultedHsm::set_key_state`].
    fn advance(&self, name: KeyName, state: KeyState) -> Result<KeyRecord, HsmError>;
}

impl<V: Vault> KeyCustody for VaultedHsm<V> {
    fn records(&self) -> Result<Vec<KeyRecord>, HsmError> {
        self.key_records()
    }

    fn follow(&self, known: Option<&CatalogueMark>) -> Result<CatalogueMark, HsmError> {
        self.follow_catalogue(known)
    }

    fn rotate(
        &self,
        owner: KeyOwner,
        purpose: KeyPurpose,
        now: Timestamp,
    ) -> Result<KeyRecord, HsmError> {
        match (owner, purpose) {
            (KeyOwner::Platform, KeyPurpose::Configuration) => self.succeed_configuration_key(now),
            _ => self.add_generation(owner, purpose, now),
        }
    }

    fn advance(&self, name: KeyName, state: KeyState) -> Result<KeyRecord, HsmError> {
        self.set_key_state(name, state)
    }
}

/// How long keys are used, and how early to speak of their end. Read from `keys.toml`; what it does not
/// say is as [`KeyPurpose::cryptoperiod_seconds`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyPolicy {
    /// Days before the end from which on it is spoken of.
    pub warn_days: u32,
    /// Cryptoperiods that differ, in days.
    pub cryptoperiod_days: BTreeMap<KeyPurpose, u32>,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self { warn_days: 60, cryptoperiod_days: BTreeMap::new() }
    }
}

/// How a key stands to its cryptoperiod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// It makes what is new, and may go on.
    Current,
    /// It makes what is new, and its end is near.
    DueSoon {
        /// Whole days left.
        days: i64,
    },
    /// It makes what is new, and should not any more.
    Overdue {
        /// Whole days since.
        days: i64,
    },
    /// A newer generation makes what is new.
    Superseded,
    /// Retired or destroyed.
    Ended,
}

impl KeyPolicy {
    /// End of a key's cryptoperiod.
    #[must_use]
    pub fn end(&self, record: &KeyRecord) -> Option<Timestamp> {
        let own = self.cryptoperiod_days.get(&record.name.purpose);
        let from_days = |days: &u32| {
            record.created_at.plus_seconds(i64::from(*days).saturating_mul(SECONDS_A_DAY))
        };
        own.map(from_days).or(record.use_until)
    }

    /// How each key stands, in the order of `records`, which are all of a catalogue's.
    #[must_use]
    pub fn standings(&self, records: &[KeyRecord], now: Timestamp) -> Vec<Standing> {
        let newest = |record: &KeyRecord| {
            let same = |other: &&KeyRecord| {
                (other.name.owner, other.name.purpose) == (record.name.owner, record.name.purpose)
            };
            let active = records.iter().filter(same).filter(|key| key.state == KeyState::Active);
            active.map(|key| key.name.generation).max()
        };
        let standing = |record: &KeyRecord| match record.state {
            KeyState::Retired | KeyState::Destroyed => Standing::Ended,
            KeyState::Active if newest(record) != Some(record.name.generation) => {
                Standing::Superseded
            }
            KeyState::Active => self.standing_of_current(record, now),
        };
        records.iter().map(standing).collect()
    }

    fn standing_of_current(&self, record: &KeyRecord, now: Timestamp) -> Standing {
        let Some(end) = self.end(record) else { return Standing::Current };
        let left = end.millis_since(now);
        let days = left.saturating_abs().div_euclid(MILLISECONDS_A_DAY);
        if left <= 0 {
            Standing::Overdue { days }
        } else if days < i64::from(self.warn_days) {
            Standing::DueSoon { days }
        } else {
            Standing::Current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyPolicy, Standing};
    use crate::Realm;
    use crate::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyRecord, KeyState};
    use crate::vault::NewKey;
    use tapfer_payment_types::{IssuerId, Timestamp};

    const NOW: Timestamp = Timestamp::from_unix_millis(1_795_262_400_000);
    const DAY: i64 = 86_400;

    fn record(purpose: KeyPurpose, generation: u8, state: KeyState) -> KeyRecord {
        let owner = KeyOwner::Issuer(IssuerId::new(NOW, [1; 10]));
        let key = NewKey { wrapped: vec![1; 24], public: None, check_value: [1; 3] };
        let name = KeyName { owner, purpose, generation };
        let record = KeyRecord::new(name, Realm::Demo, key, NOW);
        KeyRecord { state, ..record }
    }

    #[test]
    fn only_the_generation_that_makes_what_is_new_can_be_due() {
        use KeyState::{Active, Destroyed, Retired};
        let records = [(1, Destroyed), (2, Retired), (3, Active), (4, Active)]
            .map(|(generation, state)| record(KeyPurpose::IssuerMaster, generation, state));
        let policy = KeyPolicy::default();
        let in_years = |years: i64| NOW.plus_seconds(years * 366 * DAY);
        let standings = |now| policy.standings(&records, now);
        let (ended, superseded) = (Standing::Ended, Standing::Superseded);
        assert_eq!(standings(NOW), [ended, ended, superseded, Standing::Current]);
        let due = Standing::DueSoon { days: 59 };
        let before_the_end = in_years(1).plus_seconds(-59 * DAY - 1);
        assert_eq!(standings(before_the_end).last(), Some(&due));
        assert_eq!(standings(before_the_end.plus_seconds(-DAY)).last(), Some(&Standing::Current));
        assert_eq!(standings(in_years(1)).last(), Some(&Standing::Overdue { days: 0 }));
        let overdue = [ended, ended, superseded, Standing::Overdue { days: 366 }];
        assert_eq!(standings(in_years(2)), overdue);
    }

    #[test]
    fn a_policy_shortens_cryptoperiods_and_gives_one_to_keys_without() {
        let records = [
            record(KeyPurpose::IssuerMaster, 1, KeyState::Active),
            record(KeyPurpose::PanLookup, 1, KeyState::Active),
        ];
        let in_two_days = NOW.plus_seconds(2 * DAY);
        let standings = |policy: &KeyPolicy| policy.standings(&records, in_two_days);
        assert_eq!(standings(&KeyPolicy::default()), [Standing::Current; 2]);
        let cryptoperiod_days =
            [(KeyPurpose::IssuerMaster, 1), (KeyPurpose::PanLookup, 3)].into_iter().collect();
        let policy = KeyPolicy { warn_days: 5, cryptoperiod_days };
        let expected = [Standing::Overdue { days: 1 }, Standing::DueSoon { days: 1 }];
        assert_eq!(standings(&policy), expected);
    }
}
