//! What a node may promise alone, and why it promises nothing.

use std::collections::HashMap;

use tapfer_payment_types::{Currency, Money, Timestamp, TokenId};

/// What a node may promise alone while its database is away. An issuer may lose so much at each node that stands in at the same
/// time: a card that pays at several of them is seen by none of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandInLimits {
    /// The currency of all amounts; nothing is paid in another.
    pub currency: Currency,
    /// The most for one payment, minor units.
    pub payment_minor: i64,
    /// The most payments of one token.
    pub token_payments: u32,
    /// The most of one token, minor units.
    pub token_minor: i64,
    /// The most payments of this node.
    pub node_payments: u32,
    /// The most of this node, minor units.
    pub node_minor: i64,
    /// So many minutes behind the moment at which the database was seen to be away nothing is promised any more.
    pub minutes: u32,
    /// Cards and API keys that this node has seen in force so many minutes ago at most are good.
    pub known_minutes: u32,
}

/// Limits that make no sense together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StandInLimitsError(&'static str);

/// More than this would be no stand-in, but a second platform.
const MOST_MINUTES: u32 = 24 * 60;
const MOST_PAYMENTS: u32 = 10_000;

impl StandInLimits {
    /// # Errors
    /// A limit is nothing, or below one that is part of it, or past what a stand-in is for.
    pub const fn checked(self) -> Result<Self, StandInLimitsError> {
        let Self { payment_minor, token_minor, node_minor, .. } = self;
        let Self { token_payments, node_payments, minutes, known_minutes, .. } = self;
        let wrong = if payment_minor < 1 || payment_minor > token_minor || token_minor > node_minor
        {
            "amounts are above zero, and rise from one payment to those of a token and those of the node"
        } else if token_payments < 1 || token_payments > node_payments {
            "counts are above zero, and a token has no more of them than the node"
        } else if node_payments > MOST_PAYMENTS {
            "a node promises 10000 payments at most"
        } else if minutes < 1 || minutes > MOST_MINUTES {
            "minutes are 1 to 1440"
        } else if known_minutes < 1 || known_minutes > MOST_MINUTES {
            "known_minutes are 1 to 1440"
        } else {
            return Ok(self);
        };
        Err(StandInLimitsError(wrong))
    }
}

macro_rules! refusals {
    ($($(#[$meta:meta])* $name:ident = ($word:literal, $text:literal),)+) => {
        /// Why a node that stands in does not do something. Nothing of it was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum StandInRefusal { $($(#[$meta])* $name,)+ }

        impl StandInRefusal {
            /// Each of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// In words, for whoever asked.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

refusals! {
    /// It is no part of a small payment.
    NotOffered = ("not_offered", "meanwhile this node takes small payments and nothing else"),
    /// It was made in the database.
    DatabaseIntent = ("database_intent", "this payment was begun in the database, which alone may decide it: make a new one"),
    /// The request was begun in the database.
    DatabaseRequest = ("database_request", "this request was begun in the database, which alone knows whether it was done"),
    /// Who calls was not seen lately.
    UnknownCaller = ("unknown_caller", "this node has not seen this API key in force lately"),
    /// The terminal has not paid here.
    UnknownTerminal = ("unknown_terminal", "this node has not seen a payment at this terminal"),
    /// The token, or what it pays with, was not seen lately.
    UnknownToken = ("unknown_token", "this node has not seen a payment with this card lately"),
    /// The phone pays with a key that was not seen.
    UnknownKey = ("unknown_key", "this node has not seen the key that the phone pays with; with another one it may go"),
    /// The counter may be spent.
    Counter = ("counter", "this tap is older than the last one that was seen: tap again"),
    /// A PIN would have to be judged.
    Pin = ("pin", "PINs are judged in the database alone, where wrong ones are counted"),
    /// Another currency.
    Currency = ("currency", "this node takes another currency meanwhile"),
    /// Too much for one payment.
    PaymentAmount = ("payment_amount", "the amount is above what this node may decide alone"),
    /// Too many payments of the token.
    TokenPayments = ("token_payments", "this card has paid as often as this node may let it alone"),
    /// Too much of the token.
    TokenAmount = ("token_amount", "this card has paid as much as this node may let it alone"),
    /// Too many payments of the node.
    NodePayments = ("node_payments", "this node has decided as many payments as it may alone"),
    /// Too much of the node.
    NodeAmount = ("node_amount", "this node has decided as much as it may alone"),
    /// Too long.
    Minutes = ("minutes", "the database is away for longer than this node may decide alone"),
    /// Too much is kept.
    Full = ("full", "this node keeps as many requests as it may alone"),
    /// Its journal cannot be written.
    Journal = ("journal", "this node cannot keep what it would decide"),
    /// What was promised is booked first.
    Booking = ("booking", "the database is there again, and what this node promised meanwhile is booked first"),
}

/// What was promised since the database was there.
#[derive(Debug, Default)]
pub(super) struct Promised {
    pub(super) payments: u32,
    pub(super) minor: i64,
    of_tokens: HashMap<TokenId, (u32, i64)>,
}

impl Promised {
    /// Whether one more payment is within the limits.
    pub(super) fn allows(
        &self,
        limits: &StandInLimits,
        token: TokenId,
        amount: Money,
    ) -> Result<(), StandInRefusal> {
        allows_amount(limits, amount)?;
        let (payments, minor) = self.of_tokens.get(&token).copied().unwrap_or_default();
        let is_above = |minor: i64, most| minor.saturating_add(amount.minor) > most;
        let reached = [
            (payments >= limits.token_payments, StandInRefusal::TokenPayments),
            (is_above(minor, limits.token_minor), StandInRefusal::TokenAmount),
            (self.payments >= limits.node_payments, StandInRefusal::NodePayments),
            (is_above(self.minor, limits.node_minor), StandInRefusal::NodeAmount),
        ];
        reached.iter().find(|(is_reached, _)| *is_reached).map_or(Ok(()), |(_, limit)| Err(*limit))
    }

    /// One more was promised.
    pub(super) fn add(&mut self, token: TokenId, amount: Money) {
        let (payments, minor) = self.of_tokens.entry(token).or_default();
        *payments = payments.saturating_add(1);
        *minor = minor.saturating_add(amount.minor);
        self.payments = self.payments.saturating_add(1);
        self.minor = self.minor.saturating_add(amount.minor);
    }
}

/// Whether so much may be paid at all: an intent that no card could pay is not made.
pub(super) fn allows_amount(limits: &StandInLimits, amount: Money) -> Result<(), StandInRefusal> {
    match amount {
        amount if amount.currency != limits.currency => Err(StandInRefusal::Currency),
        amount if amount.minor > limits.payment_minor => Err(StandInRefusal::PaymentAmount),
        _ => Ok(()),
    }
}

/// Whether something seen at one time is still good at another. A clock that was set back makes nothing good.
pub(super) fn is_within(minutes: u32, seen: Timestamp, now: Timestamp) -> bool {
    now.millis_since(seen) >= 0 && !is_past(minutes, seen, now)
}

/// Whether so many minutes have passed. A clock that was set back lets none pass.
pub(super) fn is_past(minutes: u32, since: Timestamp, now: Timestamp) -> bool {
    now.millis_since(since) > i64::from(minutes).saturating_mul(60_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Promised, StandInLimits, StandInRefusal, is_past, is_within};
    use tapfer_payment_types::{Currency, Money, Timestamp, TokenId};

    const LIMITS: StandInLimits = StandInLimits {
        currency: Currency::EUR,
        payment_minor: 10,
        token_payments: 3,
        token_minor: 25,
        node_payments: 4,
        node_minor: 35,
        minutes: 5,
        known_minutes: 5,
    };

    fn token(number: u8) -> TokenId {
        TokenId::new(Timestamp::from_unix_millis(1), [number; 10])
    }

    #[test]
    fn each_limit_is_reached_by_what_is_above_it() {
        let mut promised = Promised::default();
        let mut pay = |number, minor| {
            let (token, amount) = (token(number), Money::new(minor, Currency::EUR));
            promised.allows(&LIMITS, token, amount).map(|()| promised.add(token, amount))
        };
        assert_eq!(pay(1, 11), Err(StandInRefusal::PaymentAmount));
        assert_eq!(pay(1, 10), Ok(()));
        assert_eq!(pay(1, 10), Ok(()));
        assert_eq!(pay(1, 6), Err(StandInRefusal::TokenAmount));
        assert_eq!(pay(1, 5), Ok(()));
        assert_eq!(pay(1, 1), Err(StandInRefusal::TokenPayments));
        assert_eq!(pay(2, 10), Ok(()));
        assert_eq!(pay(3, 1), Err(StandInRefusal::NodePayments));
        let mut promised = Promised::default();
        (1..=3).for_each(|number| promised.add(token(number), Money::new(10, Currency::EUR)));
        let allows =
            |minor, currency| promised.allows(&LIMITS, token(4), Money::new(minor, currency));
        assert_eq!(allows(6, Currency::EUR), Err(StandInRefusal::NodeAmount));
        assert_eq!(allows(5, Currency::EUR), Ok(()));
        assert_eq!(allows(5, "SEK".parse().unwrap()), Err(StandInRefusal::Currency));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        assert!(LIMITS.checked().is_ok());
        let nonsense = [
            StandInLimits { payment_minor: 0, ..LIMITS },
            StandInLimits { payment_minor: 26, ..LIMITS },
            StandInLimits { token_minor: 36, ..LIMITS },
            StandInLimits { token_payments: 0, ..LIMITS },
            StandInLimits { token_payments: 5, ..LIMITS },
            StandInLimits { node_payments: 10_001, ..LIMITS },
            StandInLimits { minutes: 0, ..LIMITS },
            StandInLimits { known_minutes: 1_441, ..LIMITS },
        ];
        for limits in nonsense {
            assert!(limits.checked().is_err(), "{limits:?}");
        }
    }

    #[test]
    fn what_was_seen_ages_and_a_clock_set_back_makes_nothing_young() {
        let at = |seconds: i64| Timestamp::from_unix_millis(seconds * 1_000);
        assert!(is_within(5, at(0), at(300)));
        assert!(!is_within(5, at(0), at(301)));
        assert!(!is_within(5, at(1), at(0)));
        assert!(is_past(5, at(0), at(301)));
        assert!(!is_past(5, at(0), at(300)) && !is_past(5, at(1), at(0)));
    }

    #[test]
    fn words_are_distinct() {
        let words: BTreeSet<_> = StandInRefusal::ALL.iter().map(|one| one.as_str()).collect();
        assert_eq!(words.len(), StandInRefusal::ALL.len());
    }
}
