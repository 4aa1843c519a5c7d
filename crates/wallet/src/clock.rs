//! The device's clock, which may be set back, and the wallet's, which may not.

use tapfer_payment_types::Timestamp;

use crate::token::Token;
use crate::wallet::Wallet;

/// The time of a tap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// What the device says. A minute that a person was given is counted by it.
    pub(crate) now: Timestamp,
    /// The latest that any tap was told since the token's platform last answered: what has ended by it has ended,
    /// and stays so.
    pub(crate) latest: Timestamp,
}

impl Wallet {
    /// Remembers the time of a tap, for every token.
    pub(crate) fn tell_time(&mut self, now: Timestamp) {
        self.tokens.iter_mut().for_each(|token| token.latest = Some(token.clock(now).latest));
    }
}

impl Token {
    /// The time, as this token has it. Keys, certificates and logins that were over at an earlier tap are not good
    /// again because the clock was set back; the next answer of the token's own platform is what starts afresh.
    pub(crate) fn clock(&self, now: Timestamp) -> Clock {
        Clock { now, latest: self.latest.map_or(now, |latest| latest.max(now)) }
    }
}
