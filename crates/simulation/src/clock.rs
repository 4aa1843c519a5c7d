//! The time of a simulated world, and clocks that go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tapfer_payment_types::Timestamp;
use tapfer_server::clock::Clock;

/// A machine's clock: what it shows is what somebody sets.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock(Arc<AtomicI64>);

impl MachineClock {
    pub(crate) fn showing(time: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(time.unix_millis())))
    }

    pub(crate) fn set(&self, time: Timestamp) {
        self.0.store(time.unix_millis(), Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}
