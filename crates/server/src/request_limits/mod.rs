//! How often somebody may ask, and what follows from wrong credentials (docs/adr/0022-access.md).
//!
//! Each node counts for itself, in memory: what is bounded here is load, and no money depends on it. Times come in as
//! what has passed since the start, so that no test has to wait.

mod lines;
mod lockout;
mod quota;
mod rate;

use core::time::Duration;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tapfer_payment_types::{ApiKeyId, Timestamp};
use tapfer_payments::access::Role;

use self::lines::Lines;
use self::lockout::Lockout;
use self::quota::Quota;
use self::rate::Buckets;
use crate::clock::Stopwatch;
use crate::connections::client_of;
use crate::metrics;

pub use self::rate::Rate;

/// How often somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// One API key of a terminal or a phone, and the certificates that stand for it.
    pub machine: Rate,
    /// One API key of the operator, an issuer or a merchant, and its access tokens.
    pub server: Rate,
    /// Requests that one API key of an issuer or a merchant may make between midnight and midnight, UTC.
    pub a_day: u64,
    /// Wrong credentials of one address before it has to pause; 0: it never has to. Behind a proxy that hides the
    /// addresses of clients, they would all pause together.
    pub wrong_credentials: u32,
    /// Lines of the log, of each kind, about requests of nobody knows whom.
    pub strangers_lines: Rate,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            machine: Rate { a_second: 200, burst: 1_000 },
            server: Rate { a_second: 2_000, burst: 10_000 },
            a_day: 10_000_000,
            wrong_credentials: 10,
            strangers_lines: Rate { a_second: 10, burst: 100 },
        }
    }
}

/// What anybody may have who says nobody who he is: the interface's description, which is long.
const DESCRIPTIONS: Rate = Rate { a_second: 2, burst: 40 };

/// A request that comes too soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSoon {
    /// Which limit was reached.
    pub(crate) limit: ReachedLimit,
    /// When to ask again.
    pub(crate) after: Duration,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReachedLimit {
    /// Requests of one API key.
    Rate(Rate),
    /// Requests of one API key in a day.
    Quota(u64),
    /// Wrong credentials from one address.
    WrongCredentials,
    /// Descriptions of the interface for one address.
    Description(Rate),
}

impl ReachedLimit {
    /// As it stands in metrics and headers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rate(_) => "rate",
            Self::Quota(_) => "quota",
            Self::WrongCredentials => "wrong-credentials",
            Self::Description(_) => "description",
        }
    }
}

/// Lines of the log that anybody can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrangersLine {
    /// That there was a request.
    Access,
    /// That its credentials were none.
    Refusal,
    /// That an address has to pause.
    Pause,
}

/// Counts requests, and says who comes too soon.
pub(crate) struct RequestGate {
    limits: RequestLimits,
    start: Stopwatch,
    rates: Mutex<Buckets<ApiKeyId>>,
    descriptions: Mutex<Buckets<IpAddr>>,
    quota: Mutex<Quota>,
    lockout: Mutex<Lockout>,
    access_lines: Mutex<Lines>,
    refusal_lines: Mutex<Lines>,
    pause_lines: Mutex<Lines>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can stop half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RequestGate {
    /// A gate through which nobody has come yet.
    pub(crate) fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            start: Stopwatch::start(),
            rates: Mutex::default(),
            descriptions: Mutex::default(),
            quota: Mutex::default(),
            lockout: Mutex::new(Lockout::new(limits.wrong_credentials)),
            access_lines: Mutex::default(),
            refusal_lines: Mutex::default(),
            pause_lines: Mutex::default(),
        }
    }

    /// Whether one more request of an API key may pass, at this time of day.
    pub(crate) fn pass(&self, key: ApiKeyId, role: Role, now: Timestamp) -> Result<(), TooSoon> {
        let (rate, has_quota) = match role {
            Role::Terminal | Role::Device => (self.limits.machine, false),
            Role::Issuer | Role::Merchant => (self.limits.server, true),
            Role::Operator => (self.limits.server, false),
        };
        let passed = lock(&self.rates).take(key, rate, self.start.elapsed());
        let too_soon = match passed {
            Err(after) => TooSoon { limit: ReachedLimit::Rate(rate), after },
            Ok(()) if !has_quota => return Ok(()),
            Ok(()) => match lock(&self.quota).count(key, self.limits.a_day, now) {
                Ok(()) => return Ok(()),
                Err(after) => TooSoon { limit: ReachedLimit::Quota(self.limits.a_day), after },
            },
        };
        metrics::request_limited(too_soon.limit.name());
        Err(too_soon)
    }

    /// Whether an address may have the interface's description once more.
    pub(crate) fn may_be_described_to(&self, from: IpAddr) -> Result<(), TooSoon> {
        let taken = lock(&self.descriptions).take(from, DESCRIPTIONS, self.start.elapsed());
        taken.map_err(|after| {
            let limit = ReachedLimit::Description(DESCRIPTIONS);
            metrics::request_limited(limit.name());
            TooSoon { limit, after }
        })
    }

    /// Whether credentials from an address may be looked up. `credential` is a hash of them.
    pub(crate) fn may_try(&self, from: IpAddr, credential: &[u8; 32]) -> Result<(), TooSoon> {
        let tried = lock(&self.lockout).may_try(from, credential, self.start.elapsed());
        tried.map_err(|after| {
            metrics::request_limited(ReachedLimit::WrongCredentials.name());
            TooSoon { limit: ReachedLimit::WrongCredentials, after }
        })
    }

    /// What came of looking them up.
    pub(crate) fn tried(&self, from: IpAddr, credential: &[u8; 32], is_right: bool) {
        if is_right {
            lock(&self.lockout).right(credential);
            return;
        }
        let pause = lock(&self.lockout).wrong(from, credential, self.start.elapsed());
        let written = pause.zip(pause.and_then(|_| self.may_write(StrangersLine::Pause)));
        if let Some((pause, left_out)) = written {
            tracing::warn!(
                target: "tapfer::security",
                event = "credentials_pause",
                client = %client_of(from),
                seconds = pause.as_secs(),
                left_out,
                "wrong credentials came from this address again and again: it has to pause"
            );
        }
    }

    /// Whether a line about a stranger's request may be written, and how many were left out before it: whoever fills the disk
    /// with lines stops payments.
    pub(crate) fn may_write(&self, line: StrangersLine) -> Option<u64> {
        let lines = match line {
            StrangersLine::Access => &self.access_lines,
            StrangersLine::Refusal => &self.refusal_lines,
            StrangersLine::Pause => &self.pause_lines,
        };
        lock(lines).take(self.limits.strangers_lines, self.start.elapsed())
    }
}
