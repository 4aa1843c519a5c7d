//! Limited-use keys: what of a key is used up, and how many keys a token may have.
//!
//! A key's own limits would mean little if a phone could have as many keys as it liked. So new keys
//! take the place of old ones: a token has the keys of one replenishment, and those of the one before
//! it in case the answer was lost on the way. And what keys may be used up within one lifetime is
//! bounded, however often they are renewed.

use alloc::vec::Vec;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::{Currency, Timestamp};

use crate::authorization::PresentedPayment;
use crate::issuers::{Issuer, KeyPolicy};

/// So many replenishments' worth of keys may be used up within one lifetime of a key.
const SETS_IN_A_LIFETIME: i64 = 4;

/// As many session keys as the security module puts into one row.
const MOST_SESSION_KEYS: u16 = 64;

/// Why a token gets no new keys now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The keys of the last hours are used up as fast as the issuer's policy allows.
    #[error(
        "this token has used up as much as the issuer's key policy allows within one lifetime of a \
         key; ask again after {until}"
    )]
    UsedTooFast {
        /// When the first of those keys no longer counts.
        until: Timestamp,
    },
}

/// The transaction counters that a row of single-use session keys is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterRange {
    /// The first.
    pub first: u16,
    /// How many, at least one; the last is at most 65535.
    pub count: u16,
}

impl CounterRange {
    /// So many counters from `first` on, or as many as there are left.
    #[must_use]
    pub fn starting_at(first: u16, count: u16) -> Self {
        let left = u16::MAX.saturating_sub(first).saturating_add(1).max(1);
        Self { first, count: count.min(left) }
    }

    /// Whether a counter has a key of this row.
    #[must_use]
    pub const fn contains(self, counter: u16) -> bool {
        match counter.checked_sub(self.first) {
            Some(offset) => offset < self.count,
            None => false,
        }
    }
}

/// A limited-use key that a phone was given, and what of it is used up. The key itself is derived in
/// the HSM whenever it is needed and kept nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedKey {
    /// Its index YHHHHCC.
    pub index: KeyIndex,
    /// Usable without or with verification of the person.
    pub class: KeyClass,
    /// Generation of the issuer master key that it is derived from.
    pub derivation_key_index: u8,
    /// When the phone was given it.
    pub granted_at: Timestamp,
    /// No payment after this.
    pub expires_at: Timestamp,
    /// How many payments it is good for.
    pub maximum_payments: u16,
    /// What they may add up to, minor units of the issuer's currency.
    pub maximum_total_minor: i64,
    /// Payments so far, approved or not: every cryptogram counts.
    pub used_payments: u16,
    /// What they added up to.
    pub used_total_minor: i64,
    /// The counters whose session keys the phone was given in the key's place; `None` if it was given
    /// the key itself.
    pub counters: Option<CounterRange>,
}

impl GrantedKey {
    /// A fresh key as its issuer has it, for the phone to derive session keys from.
    #[must_use]
    pub const fn new(index: KeyIndex, issuer: &Issuer, now: Timestamp) -> Self {
        let KeyPolicy { maximum_payments, maximum_total_minor, lifetime_seconds, .. } =
            issuer.key_policy;
        Self {
            index,
            class: KeyClass::Unverified,
            derivation_key_index: issuer.derivation_key_index,
            granted_at: now,
            expires_at: now.plus_seconds(lifetime_seconds),
            maximum_payments,
            maximum_total_minor,
            used_payments: 0,
            used_total_minor: 0,
            counters: None,
        }
    }

    /// Single-use session keys that need no verification, in the place of all keys of a replenishment:
    /// together they are good for as much.
    #[must_use]
    pub fn single_use(index: KeyIndex, issuer: &Issuer, first: u16, now: Timestamp) -> Self {
        let policy = &issuer.key_policy;
        let keys = u16::from(policy.keys_per_replenishment);
        let payments = policy.maximum_payments.saturating_mul(keys).min(MOST_SESSION_KEYS);
        let counters = CounterRange::starting_at(first, payments);
        Self {
            maximum_payments: counters.count,
            maximum_total_minor: policy.maximum_total_minor.saturating_mul(i64::from(keys)),
            counters: Some(counters),
            ..Self::new(index, issuer, now)
        }
    }

    /// Session keys under the person's key. Their sum has no limit of its own: every one of them costs
    /// the person's PIN.
    #[must_use]
    pub fn verified(index: KeyIndex, issuer: &Issuer, first: u16, now: Timestamp) -> Self {
        let payments = issuer.key_policy.verified_payments.min(MOST_SESSION_KEYS);
        let counters = CounterRange::starting_at(first, payments);
        Self {
            class: KeyClass::Verified,
            maximum_payments: counters.count,
            maximum_total_minor: i64::MAX,
            counters: Some(counters),
            ..Self::new(index, issuer, now)
        }
    }

    /// Whether the phone was given what a payment under this counter needs.
    #[must_use]
    pub fn covers(&self, counter: u16) -> bool {
        self.counters.is_none_or(|counters| counters.contains(counter))
    }

    /// Whether one more payment stays within the key's limits.
    #[must_use]
    pub fn has_room_for(&self, payment: &PresentedPayment, issuer: Currency) -> bool {
        match self.used_total_minor.checked_add(payment.charge_minor(issuer)) {
            Some(total) => {
                self.used_payments < self.maximum_payments && total <= self.maximum_total_minor
            }
            None => false,
        }
    }

    /// The key after one more payment; stays at the end of its counters.
    #[must_use]
    pub fn after(self, payment: &PresentedPayment, issuer: Currency) -> Self {
        Self {
            used_payments: self.used_payments.saturating_add(1),
            used_total_minor: self.used_total_minor.saturating_add(payment.charge_minor(issuer)),
            ..self
        }
    }

    /// The key after it has been replaced: no payment at `now` or later.
    #[must_use]
    pub const fn ended(self, now: Timestamp) -> Self {
        Self { expires_at: now.plus_millis(-1), ..self }
    }
}

/// New keys are to be granted: what becomes of those that the token was given so far. The result is
/// the keys that end now, because they are neither of the last replenishment nor expired already.
///
/// # Errors
/// [`KeyError`] if there may be no new keys yet.
pub fn replace(
    granted: &[GrantedKey],
    policy: &KeyPolicy,
    now: Timestamp,
) -> Result<Vec<GrantedKey>, KeyError> {
    check_pace(granted, policy, now)?;
    let mut newest_first: Vec<GrantedKey> = granted.to_vec();
    newest_first.sort_by_key(|key| core::cmp::Reverse((key.granted_at, key.index)));
    let mut ended = Vec::new();
    for kind in [Kind::Limited, Kind::SingleUse, Kind::Verified] {
        let of_kind = newest_first.iter().filter(|key| Kind::of(key) == kind);
        let older = of_kind.skip(kind.in_one_replenishment(policy));
        ended.extend(older.filter(|key| now <= key.expires_at).map(|key| key.ended(now)));
    }
    Ok(ended)
}

/// What replaces what: keys take the place of keys of their own kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Limited,
    SingleUse,
    Verified,
}

impl Kind {
    const fn of(key: &GrantedKey) -> Self {
        match (key.class, key.counters) {
            (KeyClass::Verified, _) => Self::Verified,
            (KeyClass::Unverified, Some(_)) => Self::SingleUse,
            (KeyClass::Unverified, None) => Self::Limited,
        }
    }

    /// How many a phone gets at a time: a row of session keys counts as one.
    fn in_one_replenishment(self, policy: &KeyPolicy) -> usize {
        match self {
            Self::Limited => usize::from(policy.keys_per_replenishment),
            Self::SingleUse | Self::Verified => 1,
        }
    }
}

/// Counts the use of every key granted within the last lifetime, ended or not. Payments with the PIN are
/// counted for themselves, and by number only.
fn check_pace(granted: &[GrantedKey], policy: &KeyPolicy, now: Timestamp) -> Result<(), KeyError> {
    let counts_until = |key: &GrantedKey| key.granted_at.plus_seconds(policy.lifetime_seconds);
    let used = |class| {
        let lately = |key: &&GrantedKey| key.used_payments > 0 && now <= counts_until(key);
        granted.iter().filter(move |key| key.class == class).filter(lately)
    };
    let payments =
        |class| used(class).map(|key| i64::from(key.used_payments)).fold(0, i64::saturating_add);
    let unverified = KeyClass::Unverified;
    let total = used(unverified).map(|key| key.used_total_minor).fold(0, i64::saturating_add);
    let ceiling = |one_key: i64| {
        let set = one_key.saturating_mul(i64::from(policy.keys_per_replenishment));
        set.saturating_mul(SETS_IN_A_LIFETIME)
    };
    let verified_ceiling = i64::from(policy.verified_payments).saturating_mul(SETS_IN_A_LIFETIME);
    let within = [
        (unverified, payments(unverified) < ceiling(i64::from(policy.maximum_payments))),
        (unverified, total < ceiling(policy.maximum_total_minor)),
        (KeyClass::Verified, payments(KeyClass::Verified) < verified_ceiling),
    ];
    let Some((class, _)) = within.into_iter().find(|(_, within)| !within) else { return Ok(()) };
    let until = used(class).map(counts_until).min();
    until.map_or(Ok(()), |until| Err(KeyError::UsedTooFast { until }))
}

#[cfg(test)]
mod tests {
    use super::{CounterRange, GrantedKey, KeyError, replace};
    use crate::issuers::KeyPolicy;
    use proptest::prelude::*;
    use std::vec::Vec;
    use tapfer_emv::keys::{KeyClass, KeyIndex};
    use tapfer_payment_types::Timestamp;

    const POLICY: KeyPolicy = KeyPolicy {
        maximum_payments: 10,
        maximum_total_minor: 25_000,
        lifetime_seconds: 86_400,
        keys_per_replenishment: 3,
        single_use: false,
        verified_payments: 8,
    };

    fn fresh_key(index: KeyIndex, now: Timestamp) -> GrantedKey {
        GrantedKey {
            index,
            class: KeyClass::Unverified,
            derivation_key_index: 1,
            granted_at: now,
            expires_at: now.plus_seconds(POLICY.lifetime_seconds),
            maximum_payments: POLICY.maximum_payments,
            maximum_total_minor: POLICY.maximum_total_minor,
            used_payments: 0,
            used_total_minor: 0,
            counters: None,
        }
    }

    fn row(class: KeyClass, index: KeyIndex, now: Timestamp) -> GrantedKey {
        let counters = Some(CounterRange { first: 1, count: 8 });
        GrantedKey { class, counters, maximum_payments: 8, ..fresh_key(index, now) }
    }

    #[test]
    fn a_range_ends_with_the_last_counter() {
        let range = CounterRange { first: 10, count: 3 };
        for (counter, inside) in [(9, false), (10, true), (12, true), (13, false), (0, false)] {
            assert_eq!(range.contains(counter), inside, "{counter}");
        }
        let last = CounterRange::starting_at(u16::MAX, 64);
        assert_eq!(last, CounterRange { first: u16::MAX, count: 1 });
        assert!(last.contains(u16::MAX) && !last.contains(0));
        assert_eq!(CounterRange::starting_at(65_530, 64).count, 6);
    }

    #[test]
    fn rows_replace_rows_of_their_own_kind() {
        let index = |counter| KeyIndex::at(noon(), counter).unwrap();
        for class in [KeyClass::Unverified, KeyClass::Verified] {
            let (first, second) = (row(class, index(1), noon()), row(class, index(2), noon()));
            let limited = fresh_key(index(0), noon());
            assert_eq!(replace(&[limited, first], &POLICY, noon()).unwrap(), []);
            let ended = replace(&[limited, first, second], &POLICY, noon()).unwrap();
            assert_eq!(ended.len(), 1);
            assert_eq!(ended[0].index, first.index);
        }
    }

    #[test]
    fn payments_with_the_pin_have_a_pace_of_their_own() {
        let index = |counter| KeyIndex::at(noon(), counter).unwrap();
        let mut keys: Vec<_> = (0..4).map(|n| row(KeyClass::Verified, index(n), noon())).collect();
        keys.iter_mut().for_each(|key| key.used_payments = 8);
        assert!(replace(&keys, &POLICY, noon()).is_err());
        keys[0].used_payments = 7;
        assert!(replace(&keys, &POLICY, noon()).is_ok());
        keys[0].used_total_minor = i64::MAX;
        assert!(replace(&keys, &POLICY, noon()).is_ok(), "their sum does not count");
    }

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// Replenishes as the platform does: ends what is replaced, adds what is new.
    fn replenish(keys: &mut Vec<GrantedKey>, now: Timestamp) -> Result<(), KeyError> {
        for ended in replace(keys, &POLICY, now)? {
            *keys.iter_mut().find(|key| key.index == ended.index).unwrap() = ended;
        }
        for _ in 0..POLICY.keys_per_replenishment {
            let number = i64::try_from(keys.len()).unwrap();
            let hour = noon().plus_seconds(number.div_euclid(100).wrapping_mul(3_600));
            let index = KeyIndex::at(hour, u8::try_from(number.rem_euclid(100)).unwrap());
            keys.push(fresh_key(index.unwrap(), now));
        }
        Ok(())
    }

    fn alive(keys: &[GrantedKey], now: Timestamp) -> Vec<KeyIndex> {
        keys.iter().filter(|key| now <= key.expires_at).map(|key| key.index).collect()
    }

    #[test]
    fn the_keys_of_the_last_two_grants_are_alive_even_in_one_moment() {
        let mut keys = Vec::new();
        for _ in 0..5 {
            replenish(&mut keys, noon()).unwrap();
            let newest: Vec<_> = keys.iter().rev().take(6).rev().map(|key| key.index).collect();
            assert_eq!(alive(&keys, noon()), newest);
        }
    }

    #[test]
    fn a_phone_that_uses_nothing_may_renew_before_the_end() {
        let mut keys = Vec::new();
        for half_days in 0..10 {
            replenish(&mut keys, noon().plus_seconds(half_days * 43_200)).unwrap();
        }
    }

    #[test]
    fn keys_are_used_up_so_fast_and_no_faster() {
        for (payments, total) in [(10, 1), (1, 25_000)] {
            let mut keys = Vec::new();
            for _ in 0..4 {
                replenish(&mut keys, noon()).unwrap();
                for key in keys.iter_mut().rev().take(3) {
                    (key.used_payments, key.used_total_minor) = (payments, total);
                }
            }
            let until = noon().plus_seconds(86_400);
            let refused = Err(KeyError::UsedTooFast { until });
            assert_eq!(replenish(&mut keys, noon().plus_seconds(3_600)), refused);
            assert_eq!(replenish(&mut keys, until), refused);
            replenish(&mut keys, until.plus_millis(1)).unwrap();
        }
    }

    proptest! {
        /// Whatever a phone does and whenever: what it can still pay is bounded by two replenishments,
        /// and what it has paid within a lifetime by six.
        #[test]
        fn the_limits_hold_whatever_a_phone_does(steps in prop::collection::vec((any::<bool>(), 0_i64..7_200), 1..200)) {
            let (mut keys, mut now, mut paid) = (Vec::new(), noon(), Vec::new());
            for (renews, seconds) in steps {
                now = now.plus_seconds(seconds);
                if renews {
                    let _ = replenish(&mut keys, now);
                }
                for key in keys.iter_mut().filter(|key| now <= key.expires_at) {
                    if key.used_total_minor < key.maximum_total_minor {
                        paid.push((now, key.maximum_total_minor.wrapping_sub(key.used_total_minor)));
                        key.used_payments = 1;
                        key.used_total_minor = key.maximum_total_minor;
                    }
                }
                prop_assert!(alive(&keys, now).len() <= 6);
                let lately = paid.iter().filter(|(at, _)| now.millis_since(*at) < 86_400_000);
                prop_assert!(lately.map(|(_, minor)| minor).sum::<i64>() <= 6 * 3 * 25_000);
            }
        }
    }
}
