//! What is kept in memory of one token, card, issuer and terminal: whatever a decision may ask about it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::{Money, Timestamp};
use tapfer_payments::authorization::SpentCounter;
use tapfer_payments::cards::Card;
use tapfer_payments::integrity::IntegrityPolicy;
use tapfer_payments::issuers::Issuer;
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::merchants::Merchant;
use tapfer_payments::pins::{CardPin, PersonKeyState, VerificationHistory};
use tapfer_payments::policies::IssuedPolicy;
use tapfer_payments::terminals::Terminal;
use tapfer_payments::tokens::Token;

/// So many of a token's newest counters are kept at least: a phone repeats itself with its last ones.
pub(crate) const COUNTERS: usize = 8;
/// And so many at most, before the oldest are let go.
const MOST_COUNTERS: usize = 4 * COUNTERS;

/// A token and what was used of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotToken {
    pub(crate) token: Arc<Token>,
    /// Keyed hash of its number.
    pub(crate) number_hash: Vec<u8>,
    /// How the person was verified so far.
    pub(crate) history: VerificationHistory,
    /// When she last logged in, or was enrolled.
    pub(crate) logged_in_at: Timestamp,
    pub(crate) person_key: Option<PersonKeyState>,
    /// The highest counter with a right cryptogram.
    pub(crate) highest_counter: Option<u16>,
    pub(crate) counters: SpentCounters,
    /// Keys that payments named.
    pub(crate) keys: HashMap<(KeyClass, KeyIndex), GrantedKey>,
}

impl HotToken {
    /// Lets old counters go, and keys that have expired by now. The tables must know all of them.
    pub(super) fn trim(&mut self, now: Timestamp) {
        self.counters.trim();
        self.keys.retain(|_, key| key.expires_at > now);
    }
}

/// The newest spent counters of a token: all from some number on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SpentCounters {
    newest: BTreeMap<u16, SpentCounter>,
    /// Below this number there may be more; 0 if all are here.
    complete_from: u32,
}

impl SpentCounters {
    /// The newest ones; not all, if there are as many as were asked for.
    pub(crate) fn new(newest: BTreeMap<u16, SpentCounter>) -> Self {
        let all = newest.len() < COUNTERS;
        let lowest = newest.keys().next().copied().unwrap_or(0);
        Self { newest, complete_from: if all { 0 } else { lowest.into() } }
    }

    /// None above this number; of all others only the tables know.
    pub(crate) fn above(spent: Option<u16>) -> Self {
        let complete_from = spent.map_or(0, |spent| u32::from(spent).saturating_add(1));
        Self { newest: BTreeMap::new(), complete_from }
    }

    /// Some; of every other one only the tables know.
    pub(crate) const fn only(some: BTreeMap<u16, SpentCounter>) -> Self {
        Self { newest: some, complete_from: u32::MAX }
    }

    /// What spent a counter; an error where only the tables know.
    pub(super) fn get(&self, counter: u16) -> Result<Option<SpentCounter>, OnlyInTables> {
        match self.newest.get(&counter) {
            None if u32::from(counter) < self.complete_from => Err(OnlyInTables),
            found => Ok(found.copied()),
        }
    }

    /// Those that are here.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, SpentCounter)> {
        self.newest.iter().map(|(counter, by)| (*counter, *by))
    }

    /// As the tables do it: a right cryptogram may spend a counter that a wrong PIN was remembered with, and nothing
    /// else is ever replaced.
    pub(super) fn spend(&mut self, counter: u16, by: SpentCounter) {
        let spent = self.newest.entry(counter).or_insert(by);
        if by.verified && !spent.verified {
            *spent = by;
        }
    }

    /// Lets the oldest go. The tables must know all that are here.
    pub(super) fn trim(&mut self) {
        if self.newest.len() > MOST_COUNTERS {
            let drop = self.newest.len().saturating_sub(COUNTERS);
            if let Some(&lowest) = self.newest.keys().nth(drop) {
                self.newest = self.newest.split_off(&lowest);
                self.complete_from = lowest.into();
            }
        }
    }
}

/// It is not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnlyInTables;

/// A card and its money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotCard {
    pub(crate) card: Arc<Card>,
    /// What it can spend.
    pub(crate) available: Money,
    /// Its PIN for terminals.
    pub(crate) pin: Option<CardPin>,
}

/// An issuer and what it asks of payments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotIssuer {
    pub(crate) issuer: Arc<Issuer>,
    /// The version of its policy that phones are given now.
    pub(crate) current: Arc<IssuedPolicy>,
    /// Versions that payments named.
    pub(crate) policies: HashMap<u32, Arc<IssuedPolicy>>,
    pub(crate) integrity_policy: Option<Arc<IntegrityPolicy>>,
}

/// A terminal and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HotTerminal {
    pub(crate) terminal: Arc<Terminal>,
    pub(crate) merchant: Arc<Merchant>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::{COUNTERS, HotToken, MOST_COUNTERS, OnlyInTables, SpentCounters};
    use tapfer_emv::keys::{KeyClass, KeyIndex};
    use tapfer_payment_types::{
        AuthorizationId, CardId, DeviceId, IssuerId, PanSequenceNumber, PaymentIntentId,
        TerminalId, Timestamp, TokenId,
    };
    use tapfer_payments::authorization::SpentCounter;
    use tapfer_payments::keys::GrantedKey;
    use tapfer_payments::pins::VerificationHistory;
    use tapfer_payments::tokens::{Token, TokenState};

    fn by(number: u8, verified: bool) -> SpentCounter {
        let now = Timestamp::from_unix_millis(1);
        SpentCounter {
            authorization: AuthorizationId::new(now, [number; 10]),
            payment_intent: PaymentIntentId::new(now, [number; 10]),
            terminal: TerminalId::new(now, [number; 10]),
            cryptogram: Some([number; 8]),
            verified,
        }
    }

    #[test]
    fn a_counter_is_spent_once_and_a_wrong_pin_spends_none() {
        let mut spent = SpentCounters::new(BTreeMap::new());
        assert_eq!(spent.get(7), Ok(None));
        spent.spend(7, by(1, false));
        spent.spend(7, by(2, false));
        assert_eq!(spent.get(7), Ok(Some(by(1, false))));
        spent.spend(7, by(3, true));
        spent.spend(7, by(4, true));
        spent.spend(7, by(5, false));
        assert_eq!(spent.get(7), Ok(Some(by(3, true))));
    }

    #[test]
    fn keys_that_have_expired_are_let_go() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let token = Token {
            id: TokenId::new(now, [5; 10]),
            issuer: IssuerId::new(now, [1; 10]),
            card: CardId::new(now, [3; 10]),
            device: DeviceId::new(now, [4; 10]),
            last_four: "0001".into(),
            sequence_number: PanSequenceNumber::ZERO,
            state: TokenState::Active,
            created_at: now,
        };
        let key = |days: i64| GrantedKey {
            index: KeyIndex::at(now.plus_seconds(days * 86_400), 1).unwrap(),
            class: KeyClass::Unverified,
            derivation_key_index: 1,
            granted_at: now,
            expires_at: now.plus_seconds(days * 86_400),
            maximum_payments: 1,
            maximum_total_minor: 1,
            used_payments: 1,
            used_total_minor: 1,
            counters: None,
        };
        let keys = (1..=365).map(key).map(|key| ((key.class, key.index), key)).collect();
        let mut kept = HotToken {
            token: Arc::new(token),
            number_hash: Vec::new(),
            history: VerificationHistory::default(),
            logged_in_at: now,
            person_key: None,
            highest_counter: None,
            counters: SpentCounters::default(),
            keys,
        };
        kept.trim(now.plus_seconds(360 * 86_400));
        let mut left: Vec<_> = kept.keys.into_values().map(|key| key.expires_at).collect();
        left.sort();
        assert_eq!(left, [361, 362, 363, 364, 365].map(|days| now.plus_seconds(days * 86_400)));
    }

    #[test]
    fn what_is_not_here_is_not_taken_for_unspent() {
        let loaded =
            (10..10 + u16::try_from(COUNTERS).unwrap()).map(|number| (number, by(1, true)));
        let mut spent = SpentCounters::new(loaded.collect());
        assert_eq!(spent.get(9), Err(OnlyInTables));
        assert_eq!(spent.get(1_000), Ok(None));
        let all = SpentCounters::new(BTreeMap::from([(10, by(1, true))]));
        assert_eq!(all.get(9), Ok(None), "all there are");
        for number in 18..18 + u16::try_from(2 * MOST_COUNTERS).unwrap() {
            spent.spend(number, by(2, true));
            spent.trim();
            assert_eq!(spent.get(number), Ok(Some(by(2, true))));
            assert_eq!(
                spent.get(10),
                if number < 42 { Ok(Some(by(1, true))) } else { Err(OnlyInTables) }
            );
        }
        assert!(spent.newest.len() <= MOST_COUNTERS);
    }
}
