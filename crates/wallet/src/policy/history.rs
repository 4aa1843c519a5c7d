//! What a token has paid since its owner was last asked: what counts, sums and chance go by.

use alloc::vec::Vec;

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use tapfer_emv::iad::VerificationMethod;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::policy::{LastVerified, Requirement, SinceVerified, VerificationPolicy};

use super::Decision;

/// So many payments are remembered that the platform may not have heard of. Of more than that, and a grant can be
/// larger, the oldest are taken to have come there: after the platform's next answer the phone may then count fewer
/// payments than were made. The platform counts all of them when they come in, and declines what went too far.
const MAXIMUM_UNHEARD: usize = 256;

/// The history of one token, persisted with the use of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    since_verified: SinceVerified,
    /// Payments that the platform had not heard of when it answered last, the oldest first.
    #[serde(default)]
    unheard: Vec<Counted>,
    /// Chance asked at this transaction counter, and was not answered yet.
    ask_due_since: Option<u16>,
    /// At this transaction counter all keys had run out of time: the phone lay idle, or in other hands.
    fresh_check_due_since: Option<u16>,
    /// A PIN was entered, and the platform has not said yet whether it was right.
    awaits_confirmation: bool,
    logged_in_at: Timestamp,
    payments_since_login: u32,
    /// Chance wants a login, or one was due by a clock that was set back since; and there was none.
    login_is_drawn: bool,
}

impl History {
    /// A new token: its owner has just logged in to get it.
    #[must_use]
    pub fn new(enrolled_at: Timestamp) -> Self {
        Self {
            since_verified: SinceVerified::default(),
            unheard: Vec::new(),
            ask_due_since: None,
            fresh_check_due_since: None,
            awaits_confirmation: false,
            logged_in_at: enrolled_at,
            payments_since_login: 0,
            login_is_drawn: false,
        }
    }

    /// Payments since the person met what the policy asks for now and then.
    #[must_use]
    pub const fn since_verified(&self) -> &SinceVerified {
        &self.since_verified
    }

    /// Whether only the platform can say what became of a PIN: replenish to hear it.
    #[must_use]
    pub const fn awaits_confirmation(&self) -> bool {
        self.awaits_confirmation
    }

    /// Lets chance have its say about the payment with this transaction counter. What it asks for stays
    /// due until it is done: tapping again does not throw the dice again.
    pub fn draw_lots(
        &mut self,
        policy: &VerificationPolicy,
        counter: u16,
        rng: &mut impl CryptoRng,
    ) {
        let ask = policy.asks.as_ref().and_then(|asks| asks.at_random_one_in);
        let login = policy.fresh_login.as_ref().and_then(|login| login.at_random_one_in);
        if ask.is_some_and(|one_in| falls(one_in, rng)) {
            self.ask_due_since.get_or_insert(counter);
        }
        self.login_is_drawn |= login.is_some_and(|one_in| falls(one_in, rng));
    }

    /// The keys had all run out of time when new ones came. The next payment needs the person, whatever
    /// its amount.
    pub fn keys_had_expired(&mut self, counter: u16) {
        self.fresh_check_due_since.get_or_insert(counter);
    }

    /// What the history asks of the person beyond count and sum, which the policy itself adds up.
    #[must_use]
    pub fn asks_for(&self, policy: &VerificationPolicy) -> Requirement {
        let by_chance = match &policy.asks {
            Some(asks) if self.ask_due_since.is_some() => asks.with,
            _ => Requirement::Anything,
        };
        let freshly = self.fresh_check_due_since.map_or(Requirement::Anything, |_| fresh(policy));
        by_chance.max(freshly)
    }

    /// Whether the person has to log in before anything is paid.
    ///
    /// The login is between the person and the issuer, who tells the platform; the phone pays on when
    /// the platform's next answer says so, and has no other way to be told.
    #[must_use]
    pub fn login_is_due(&self, policy: &VerificationPolicy, now: Timestamp) -> bool {
        let Some(rule) = &policy.fresh_login else { return false };
        let since = now.millis_since(self.logged_in_at);
        self.login_is_drawn || rule.is_due(self.payments_since_login, since)
    }

    /// A login that time has made due stays so until there is one, whatever the clock says later.
    pub(crate) fn keep_login_due(&mut self, policy: &VerificationPolicy, latest: Timestamp) {
        let since = latest.millis_since(self.logged_in_at);
        self.login_is_drawn |=
            policy.fresh_login.as_ref().is_some_and(|rule| rule.is_due(0, since));
    }

    /// Counts a payment for which the card asks the issuer. A decline counts as nothing.
    ///
    /// What was asked of the phone's lock is done. Whether a PIN was right only the platform knows: that
    /// is done when it says so ([`Self::confirmed`]), and until then the payment counts as unverified.
    pub fn count(&mut self, policy: &VerificationPolicy, payment: Counted, decision: Decision) {
        let by_pin = match decision {
            Decision::Online { method, .. } => method == VerificationMethod::Pin,
            Decision::AskAtTerminal => false,
            Decision::AskPerson(_) | Decision::Decline(_) => return,
        };
        self.awaits_confirmation |= by_pin || decision == Decision::AskAtTerminal;
        self.payments_since_login = self.payments_since_login.saturating_add(1);
        self.unheard.push(Counted { by_pin, ..payment });
        let too_many = self.unheard.len().saturating_sub(MAXIMUM_UNHEARD);
        self.unheard.drain(..too_many);
        self.add(policy, payment);
        self.settle(policy, u16::MAX, payment.reached);
    }

    fn add(&mut self, policy: &VerificationPolicy, payment: Counted) {
        let Counted { charge_minor, reached, .. } = payment;
        self.since_verified = self.since_verified.after(policy, charge_minor, reached);
    }

    /// Takes the platform's word: how the last verified payment was verified, what was paid since, and
    /// when the person logged in. What was paid and has not come there yet is added to its count.
    pub fn confirmed(&mut self, policy: &VerificationPolicy, news: &Confirmation) {
        self.awaits_confirmation = false;
        let heard = news.heard.unwrap_or(u16::MAX);
        self.unheard.retain(|payment| payment.counter > heard);
        if let Some(since) = news.since_verified {
            self.since_verified = since;
            // Not by PIN: if it was wrong, the platform never hears the cryptogram of a payment in it.
            for payment in self.unheard.clone().into_iter().filter(|payment| !payment.by_pin) {
                self.add(policy, payment);
            }
        }
        if let Some(last) = news.last_verified {
            self.settle(policy, last.application_transaction_counter, last.reached);
        }
        if let Some(at) = news.logged_in_at.filter(|at| *at > self.logged_in_at) {
            self.logged_in_at = at;
            self.payments_since_login = 0;
            self.login_is_drawn = false;
        }
        if let Some(payments) = news.since_login {
            // Of those before the login some may never come there, and nothing is paid while a login is due: they
            // would count for ever. One with a wrong PIN counts until the platform has heard a later one: so the
            // phone asks sooner.
            let unheard =
                self.unheard.iter().filter(|payment| payment.at >= self.logged_in_at).count();
            let unheard = u32::try_from(unheard).unwrap_or(u32::MAX);
            self.payments_since_login = payments.saturating_add(unheard);
        }
    }

    /// Strikes out what was due when a payment with this counter met `reached`.
    fn settle(&mut self, policy: &VerificationPolicy, counter: u16, reached: Requirement) {
        let was_due = |since: &mut u16| *since <= counter;
        if policy.asks.as_ref().is_none_or(|asks| reached >= asks.with) {
            self.ask_due_since.take_if(was_due);
        }
        if reached >= fresh(policy) {
            self.fresh_check_due_since.take_if(was_due);
        }
    }
}

/// A payment for which the card has asked the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// Its application transaction counter.
    pub counter: u16,
    /// What it adds to a sum, minor units of the policy's currency.
    pub charge_minor: i64,
    /// What it showed of the person.
    pub reached: Requirement,
    /// Made with the wallet's PIN, right or wrong.
    #[serde(default)]
    pub by_pin: bool,
    /// When, by the phone's clock.
    pub at: Timestamp,
}

/// What the platform says about the person when it sends keys; each part may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confirmation {
    /// Payments since the person met what the policy asks for now and then.
    pub since_verified: Option<SinceVerified>,
    /// The last payment in which the person was verified.
    pub last_verified: Option<LastVerified>,
    /// The person's last login at the issuer.
    pub logged_in_at: Option<Timestamp>,
    /// Payments since then.
    pub since_login: Option<u32>,
    /// The highest counter of a payment that all this takes into account; missing: of every payment.
    pub heard: Option<u16>,
}

/// A fresh check of the person: what the policy wants for a large payment, and the lock at least.
fn fresh(policy: &VerificationPolicy) -> Requirement {
    policy.above_limit.max(Requirement::Unlocked)
}

/// One chance in `one_in`. The remainder of 64 random bits favours small numbers by less than 2^-31.
fn falls(one_in: u32, rng: &mut impl CryptoRng) -> bool {
    rng.next_u64().checked_rem(u64::from(one_in)) == Some(0)
}
