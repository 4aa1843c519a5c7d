//! The one place of the command line that brings time and randomness into the house.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tapfer_payment_types::Timestamp;

/// The operating system's random numbers. Without them nothing may go on: it stops the process.
pub(crate) type Random = UnwrapErr<SysRng>;

/// The operating system's random numbers.
pub(crate) const fn random() -> Random {
    UnwrapErr(SysRng)
}

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "the command line brings the time with it")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A point on a clock that only goes forward, for measuring.
#[expect(clippy::disallowed_methods, reason = "the command line measures how long things took")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// The system's monotonic clock, which other programs on this machine read too.
pub(crate) fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(time).unwrap_or_default()
}

/// Processor time of this process so far.
pub(crate) fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// `bytes` random bytes as lower-case hexadecimal digits, for idempotency keys and names.
pub(crate) fn random_hex<const LENGTH: usize>() -> String {
    let mut bytes = [0_u8; LENGTH];
    rand_core::Rng::fill_bytes(&mut random(), &mut bytes);
    data_encoding::HEXLOWER.encode(&bytes)
}
