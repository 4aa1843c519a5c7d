//! What a node has seen of payments and callers while its database was there, and may go by while it is not: bounded in number, and
//! good for so many minutes. What is changed through this node is forgotten, and seen again with the next payment.

use std::collections::HashSet;
use std::hash::Hash;

use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{ApiKeyId, TerminalId, Timestamp, TokenId};
use tapfer_payments::access::ApiKey;
use tapfer_payments::authorization::Facts;
use tapfer_payments::keys::GrantedKey;

use crate::decided::Decided;
use crate::hot::{Generations, Hot, HotTerminal, Touched};
use crate::idempotency::GivenAnswer;
use crate::{IdempotencyClaim, IdempotencyKey};

/// So many things of each kind are remembered, those that were seen last, or twice as many.
const OF_EACH: usize = 20_000;
/// Of so many tokens keys are looked up at once.
const KEYS_AT_ONCE: usize = 1_000;

#[derive(Debug)]
pub(super) struct Known {
    pub(super) hot: Hot,
    /// When a token last paid in the database.
    seen: Generations<TokenId, Timestamp>,
    /// Keyed hashes of tokens' numbers.
    hashes: Generations<TokenId, Vec<u8>>,
    /// Keys that tokens were given here.
    granted: Generations<TokenId, Vec<GrantedKey>>,
    /// The highest counter that was put to the database with a right cryptogram, whatever came of it.
    tried: Generations<TokenId, u16>,
    api_keys: Generations<ApiKeyId, (ApiKey, Timestamp)>,
    api_keys_by_hash: Generations<[u8; 32], ApiKeyId>,
    /// Requests that were begun in the database.
    begun: Generations<(ApiKeyId, IdempotencyKey), ()>,
    /// Tokens that pay with keys which were given elsewhere or long ago: of these the others are to be looked up.
    unknown_keys: HashSet<TokenId>,
    /// How often something was forgotten.
    forgotten: u64,
}

fn keep<K: Eq + Hash, V>(kept: &mut Generations<K, V>, key: K, value: V) {
    kept.insert(key, value);
    if kept.is_full() {
        kept.grow_old();
    }
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            hot: Hot::new(OF_EACH),
            seen: Generations::new(OF_EACH),
            hashes: Generations::new(OF_EACH),
            granted: Generations::new(OF_EACH),
            tried: Generations::new(OF_EACH),
            api_keys: Generations::new(OF_EACH),
            api_keys_by_hash: Generations::new(OF_EACH),
            begun: Generations::new(OF_EACH),
            unknown_keys: HashSet::new(),
            forgotten: 0,
        }
    }

    /// How often something was forgotten: what was loaded before that is not remembered behind it.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// A token has this number.
    pub(super) fn has_number(&mut self, token: TokenId, number_hash: &[u8]) {
        keep(&mut self.hashes, token, number_hash.to_vec());
    }

    /// A payment with this counter is put to the database, and its cryptogram was right: a wrong one names any counter.
    pub(super) fn tries(&mut self, token: TokenId, counter: u16) {
        let highest = self.tried.get(&token).map_or(counter, |before| counter.max(*before));
        keep(&mut self.tried, token, highest);
        self.hot.spend_up_to(token, counter);
    }

    /// The database has decided a payment on these facts, which used its counter or did not.
    pub(super) fn decided(&mut self, facts: &Facts, uses_counter: bool, decided: &Decided) {
        let Some(token) = facts.token.as_ref().map(|known| known.token.id) else { return };
        let Some(hash) = self.hashes.get(&token).cloned() else { return };
        let counter = facts.presented.application_transaction_counter();
        // What spent the counter of this payment is known, if something did.
        let of_this = match uses_counter {
            true if decided.spent.is_some() => counter.checked_sub(1),
            true => Some(counter),
            false => None,
        };
        let tried =
            self.tried.get(&token).copied().filter(|tried| !uses_counter || *tried > counter);
        let tried = tried.max(of_this);
        let keys = self.granted.get(&token).cloned().unwrap_or_default();
        if let Some(key) = facts.token.as_ref().and_then(|known| known.key)
            && !self.hot.knows_key(token, &key)
            && !keys.iter().any(|granted| granted.index == key.index)
            && self.unknown_keys.len() < OF_EACH
        {
            self.unknown_keys.insert(token);
        }
        match self.hot.remember(hash, facts, &keys, tried, decided) {
            Ok(()) => keep(&mut self.seen, token, decided.authorization.created_at),
            Err(_) => self.seen.remove(&token),
        }
        if self.hot.is_full() {
            self.hot.let_go();
        }
    }

    /// A token was given these keys.
    pub(super) fn granted(&mut self, token: TokenId, keys: &[GrantedKey]) {
        self.hot.regrant(token, keys);
        keep(&mut self.granted, token, keys.to_vec());
    }

    /// Tokens of which not all keys are known, some of them; nobody else gets these.
    pub(super) fn take_unknown_keys(&mut self) -> Vec<TokenId> {
        let some: Vec<_> = self.unknown_keys.iter().copied().take(KEYS_AT_ONCE).collect();
        self.unknown_keys.retain(|token| !some.contains(token));
        some
    }

    /// A key that a token has beside those that are known.
    pub(super) fn has_key(&mut self, token: TokenId, key: GrantedKey) {
        self.hot.add_key(token, key);
    }

    /// When the token with this number last paid in the database.
    pub(super) fn seen(&self, number_hash: &[u8]) -> Option<Timestamp> {
        self.seen.get(&self.hot.token_of(number_hash)?).copied()
    }

    pub(super) fn terminal(&self, id: TerminalId) -> Option<&HotTerminal> {
        self.hot.terminal(id)
    }

    /// Somebody has changed it.
    pub(super) fn forget(&mut self, touched: Touched) {
        if is_skipped(Control::StandInBlocks) {
            return;
        }
        if let Touched::Token(token) = touched {
            self.granted.remove(&token);
            self.seen.remove(&token);
        }
        self.hot.forget(touched);
        self.forgotten = self.forgotten.wrapping_add(1);
    }

    /// The ids of what is remembered, by the table that it stands in.
    pub(super) fn ids(&self, table: &str) -> Vec<String> {
        match table {
            "api_keys" => self.api_keys.iter().map(|(id, _)| id.to_string()).collect(),
            table => self.hot.ids(table),
        }
    }

    /// An API key is as the database has it at this moment.
    pub(super) fn api_key(&mut self, key: &ApiKey, now: Timestamp) {
        if key.revoked_at.is_some() {
            self.api_keys.remove(&key.id);
            return;
        }
        keep(&mut self.api_keys_by_hash, key.secret_hash, key.id);
        keep(&mut self.api_keys, key.id, (key.clone(), now));
    }

    /// An API key, and when it was seen in force.
    pub(super) fn api_key_of(&self, id: ApiKeyId) -> Option<&(ApiKey, Timestamp)> {
        self.api_keys.get(&id)
    }

    /// The same by the hash of its secret.
    pub(super) fn api_key_by_hash(&self, hash: &[u8; 32]) -> Option<&(ApiKey, Timestamp)> {
        self.api_key_of(*self.api_keys_by_hash.get(hash)?)
    }

    pub(super) fn forget_api_key(&mut self, id: ApiKeyId) {
        self.api_keys.remove(&id);
        self.forgotten = self.forgotten.wrapping_add(1);
    }

    pub(super) fn forget_api_keys(&mut self) {
        self.api_keys.clear();
        self.forgotten = self.forgotten.wrapping_add(1);
    }

    /// A request is begun in the database.
    pub(super) fn begins(&mut self, claim: &IdempotencyClaim) {
        keep(&mut self.begun, (claim.api_key, claim.key.clone()), ());
    }

    /// What was answered alone is booked, and so its request is the database's.
    pub(super) fn has_answered(&mut self, given: &GivenAnswer) {
        keep(&mut self.begun, (given.api_key, given.key.clone()), ());
    }

    /// Whether a request was begun in the database.
    pub(super) fn has_begun(&self, claim: &IdempotencyClaim) -> bool {
        self.begun.get(&(claim.api_key, claim.key.clone())).is_some()
    }
}
