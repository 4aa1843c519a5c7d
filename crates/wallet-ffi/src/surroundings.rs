//! The one place that brings the phone's time and randomness into the wallet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tapfer_payment_types::Timestamp;

/// The operating system's random numbers. Without them nothing may go on: it panics, and the wallet
/// closes.
pub(crate) const fn random() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// The phone's time of day, UTC.
#[expect(clippy::disallowed_methods, reason = "the phone's clock comes into the wallet here")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A point in time as the app's language has it. `None` before 1970.
pub(crate) fn to_app(timestamp: Timestamp) -> Option<SystemTime> {
    let millis = u64::try_from(timestamp.unix_millis()).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
