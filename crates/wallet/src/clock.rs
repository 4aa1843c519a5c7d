//! The device's clock, which may be set back, and the wallet's, which may not.

use tapfer_payment_types::Timestamp;

use crate::wallet::Wallet;

/// The time of a tap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// What the device says. A minute that a person was given is counted by it.
    pub(crate) now: Timestamp,
    /// The latest that any tap was told: what has ended by it has ended, and stays so.
    pub(crate) latest: Timestamp,
}

impl Wallet {
    /// The time of a tap, which is remembered. Keys, certificates and logins that were over at an earlier tap
    /// are not good again because the clock was set back; the platform's next answer is what starts afresh.
    pub(crate) fn clock(&mut self, now: Timestamp) -> Clock {
        let latest = self.latest.map_or(now, |latest| latest.max(now));
        self.latest = Some(latest);
        Clock { now, latest }
    }
}
