//! What a cryptogram under the person's key (class `02`) says, and when a wrong one counts as a wrong PIN.
//!
//! A wrong PIN gives a wrong cryptogram, so whoever can learn whether a cryptogram is right can try PINs.
//! Therefore one rule: **where a wrong one does not count, a right one is not told from it.** It counts if
//! the terminal waits for this payment, the token is active, the phone was given a key for this counter,
//! the counter is fresh (or was spent by another cryptogram), and the PIN is not blocked. Then a wrong one
//! costs a try, and a right one gives all tries back, if the payment is approved or fails for want of money
//! alone. Everywhere else the answer is the same for both, and nothing is written down that would differ.
//!
//! A wrong cryptogram, and any while the PIN is blocked, is remembered with its counter, the first one of each:
//! the same once more costs no second try and is not approved later. It uses up nothing else: nobody who never had
//! the phone can spend its counters, make its next payments stale, or have it taken for a copy.

use tapfer_emv::keys::KeyClass;
use tapfer_payment_types::Timestamp;

use super::facts::{Facts, TokenFacts};
use crate::tokens::TokenStatus;

/// How a presented cryptogram is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PersonKeyUse {
    /// It is not of class `02`, or no key for it was ever given: as the comparison says.
    AsCompared,
    /// It counts, right or wrong.
    Attempt,
    /// The PIN is blocked: it does not count, and is remembered.
    Blocked,
    /// It does not count.
    Ignored,
}

/// How the cryptogram of these facts is to be taken.
pub(super) fn person_key_use(facts: &Facts, now: Timestamp) -> PersonKeyUse {
    let Some(token) = facts.token.as_ref().filter(|token| is_founded(token, facts)) else {
        return PersonKeyUse::AsCompared;
    };
    let is_active = token.token.state.status() == TokenStatus::Active
        && facts.terminal.terminal.revocation.is_none();
    let is_armed = facts.intent.is_armed_at(facts.terminal.id(), now);
    if !is_active || !is_armed || !is_countable(token, facts) {
        return PersonKeyUse::Ignored;
    }
    match token.person_key {
        Some(state) if !state.is_blocked(&token.pin_rules) => PersonKeyUse::Attempt,
        _ => PersonKeyUse::Blocked,
    }
}

/// Whether the phone was given a key of class `02` for this counter: an outsider's invention is not worth
/// more than any other wrong cryptogram.
fn is_founded(token: &TokenFacts, facts: &Facts) -> bool {
    let counter = facts.presented.application_transaction_counter();
    let claims = facts.presented.input.application_data();
    claims.is_some_and(|data| data.results.key_class == KeyClass::Verified)
        && token.key.is_some_and(|key| key.class == KeyClass::Verified && key.covers(counter))
}

fn is_countable(token: &TokenFacts, facts: &Facts) -> bool {
    let counter = facts.presented.application_transaction_counter();
    let is_not_stale = token.highest_counter.is_none_or(|highest| counter >= highest);
    match token.counter_spent {
        Some(spent) if spent.cryptogram == Some(facts.presented.cryptogram) => false,
        Some(spent) => spent.verified || is_not_stale,
        None => is_not_stale,
    }
}
