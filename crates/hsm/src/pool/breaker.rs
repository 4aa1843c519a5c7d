//! Whether a member is asked: closed (it is), open (it is not, until a probe may go), half open (a probe is
//! on its way). Pure: time comes in.

use std::time::Duration;

/// So many failures behind one another open the breaker.
const FAILURES_TO_OPEN: u32 = 3;
/// From opening to the first probe.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// From one failed probe to the next, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// So many failed probes behind one another, and the member's processes are ended: what is wrong may be in them.
const PROBES_TO_RENEW: u32 = 8;
/// From one such end to the next, at least; doubles each time.
const FIRST_RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// And at most.
const LONGEST_RENEWAL_PAUSE: Duration = Duration::from_secs(300);

/// The breaker of one member.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    state: State,
    /// Failures since the last success.
    failures: u32,
    /// The pause before the next probe.
    pause: Duration,
    cause: Option<String>,
    transitions: u64,
    /// Since one was answered, or since the processes were ended last.
    failed_probes: u32,
    /// A probe was answered, and no call since.
    is_on_trial: bool,
    /// Not before this are processes ended again.
    renewal_at: Duration,
    renewal_pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: State::Closed,
            failures: 0,
            pause: FIRST_PAUSE,
            cause: None,
            transitions: 0,
            failed_probes: 0,
            is_on_trial: false,
            renewal_at: Duration::ZERO,
            renewal_pause: FIRST_RENEWAL_PAUSE,
        }
    }
}

impl Breaker {
    /// Whether calls may go to the member.
    pub(super) fn admits(&self) -> bool {
        self.state == State::Closed
    }

    /// `closed`, `open` or `half_open`.
    pub(super) const fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen => "half_open",
        }
    }

    /// What the member said when it failed last; `None` after a success.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// How often it went from one state to another.
    pub(super) const fn transitions(&self) -> u64 {
        self.transitions
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self) {
        if self.state == State::Closed {
            self.failures = 0;
            self.pause = FIRST_PAUSE;
            self.cause = None;
            self.failed_probes = 0;
            self.is_on_trial = false;
            self.renewal_pause = FIRST_RENEWAL_PAUSE;
        }
    }

    /// A call failed, through the module's fault.
    pub(super) fn failed(&mut self, now: Duration, cause: String) {
        self.failures = self.failures.saturating_add(1);
        self.cause = Some(cause);
        if self.state == State::Closed && self.failures >= FAILURES_TO_OPEN {
            if self.is_on_trial {
                // Its health was good and its work is not: as bad as a probe that fails.
                self.failed_probes = self.failed_probes.saturating_add(1);
            }
            self.open(now);
        }
    }

    /// The member does not answer at all: no more calls until a probe was answered.
    pub(super) fn trip(&mut self, now: Duration, cause: String) {
        self.cause = Some(cause);
        if self.state == State::Closed {
            self.open(now);
        }
    }

    /// Whether a probe is due; it counts as sent then.
    pub(super) fn take_probe(&mut self, now: Duration) -> bool {
        match self.state {
            State::Open { until } if now >= until => {
                self.enter(State::HalfOpen);
                true
            }
            _ => false,
        }
    }

    /// What came of the probe.
    pub(super) fn probed(&mut self, now: Duration, outcome: Result<(), String>) {
        if self.state != State::HalfOpen {
            return;
        }
        match outcome {
            Ok(()) => {
                // The pause stays long until a call succeeds: a module whose health is good and whose work
                // is not must not be asked again and again.
                self.failures = FAILURES_TO_OPEN.saturating_sub(1);
                self.is_on_trial = true;
                self.enter(State::Closed);
            }
            Err(cause) => {
                self.cause = Some(cause);
                self.failed_probes = self.failed_probes.saturating_add(1);
                self.open(now);
            }
        }
    }

    /// Whether the member's processes should be ended now, because probes fail and fail; counts as done then. A
    /// module whose device is away for long gets few new processes, and one that only a new process mends gets one
    /// within seconds.
    pub(super) fn wants_new_processes(&mut self, now: Duration) -> bool {
        if self.failed_probes < PROBES_TO_RENEW || now < self.renewal_at {
            return false;
        }
        self.failed_probes = 0;
        self.renewal_at = now.saturating_add(self.renewal_pause);
        self.renewal_pause = self.renewal_pause.saturating_mul(2).min(LONGEST_RENEWAL_PAUSE);
        true
    }

    fn open(&mut self, now: Duration) {
        self.enter(State::Open { until: now.saturating_add(self.pause) });
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.transitions = self.transitions.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Breaker, FIRST_PAUSE, LONGEST_PAUSE};

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn open(breaker: &mut Breaker, now: Duration) {
        for _ in 0..3 {
            breaker.failed(now, "CKR_DEVICE_ERROR".to_owned());
        }
        assert!(!breaker.admits());
    }

    #[test]
    fn single_failures_do_not_open_it() {
        let mut breaker = Breaker::default();
        for millis in 0..50 {
            breaker.failed(at(millis), "CKR_DEVICE_ERROR".to_owned());
            breaker.failed(at(millis), "CKR_DEVICE_ERROR".to_owned());
            breaker.succeeded();
            assert!(breaker.admits());
        }
        assert_eq!(breaker.transitions(), 0);
        assert_eq!(breaker.cause(), None);
    }

    #[test]
    fn one_probe_at_a_time_and_success_closes_it() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(1_000));
        assert!(!breaker.take_probe(at(1_000)), "too early");
        assert!(breaker.take_probe(at(1_000) + FIRST_PAUSE));
        assert!(!breaker.take_probe(at(9_000)), "one is on its way");
        assert_eq!((breaker.name(), breaker.admits()), ("half_open", false));
        breaker.probed(at(9_000), Ok(()));
        assert!(breaker.admits());
        assert_eq!(breaker.transitions(), 3);
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(0));
        let (mut now, mut pause) = (at(0), FIRST_PAUSE);
        for _ in 0..10 {
            assert!(!breaker.take_probe(now + pause - at(1)));
            assert!(breaker.take_probe(now + pause));
            now += pause;
            breaker.probed(now, Err("CKR_TOKEN_NOT_PRESENT".to_owned()));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(pause, LONGEST_PAUSE);
        assert_eq!(breaker.cause(), Some("CKR_TOKEN_NOT_PRESENT"));
    }

    /// Fails every probe until the processes are ended, at most so long. Gives when.
    fn until_renewed(
        breaker: &mut Breaker,
        mut now: Duration,
        at_most: Duration,
    ) -> Option<Duration> {
        let end = now.saturating_add(at_most);
        while now < end {
            now = now.saturating_add(at(25));
            if breaker.take_probe(now) {
                breaker.probed(now, Err("CKR_DEVICE_ERROR".to_owned()));
                if breaker.wants_new_processes(now) {
                    return Some(now);
                }
            }
        }
        None
    }

    #[test]
    fn probes_that_fail_and_fail_get_new_processes_with_growing_pauses() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(1_000));
        let long = Duration::from_secs(3600);
        let first = until_renewed(&mut breaker, at(1_000), long).unwrap();
        assert!(first < at(10_000), "within seconds: {first:?}");
        let (mut before, mut pause) = (first, super::FIRST_RENEWAL_PAUSE);
        for _ in 0..8 {
            let next = until_renewed(&mut breaker, before, long).unwrap();
            assert!(next - before >= pause && next - before < pause + at(9_000), "{next:?}");
            (before, pause) = (next, (pause * 2).min(super::LONGEST_RENEWAL_PAUSE));
        }
        assert_eq!(pause, super::LONGEST_RENEWAL_PAUSE);
    }

    #[test]
    fn a_member_whose_health_is_good_and_whose_work_is_not_gets_new_processes_too() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(0));
        let renewed = (1..400).map(|step| at(step * 25)).find(|now| {
            if breaker.take_probe(*now) {
                breaker.probed(*now, Ok(()));
                breaker.failed(*now, "CKR_FUNCTION_FAILED".to_owned());
            }
            breaker.wants_new_processes(*now)
        });
        assert!(renewed.is_some());
    }

    #[test]
    fn a_member_that_serves_now_and_then_keeps_its_processes() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(0));
        let mut now = at(0);
        for _ in 0..50 {
            assert_eq!(until_renewed(&mut breaker, now, at(3_000)), None);
            now += at(3_000);
            while !breaker.take_probe(now) {
                now += at(25);
            }
            breaker.probed(now, Ok(()));
            breaker.succeeded();
            open(&mut breaker, now);
        }
    }

    #[test]
    fn one_failure_behind_a_probe_opens_it_again() {
        let mut breaker = Breaker::default();
        open(&mut breaker, at(0));
        assert!(breaker.take_probe(at(100)));
        breaker.probed(at(100), Ok(()));
        breaker.failed(at(101), "CKR_DEVICE_ERROR".to_owned());
        assert!(!breaker.admits());
        assert!(!breaker.take_probe(at(250)), "and the pause has grown");
        assert!(breaker.take_probe(at(301)));
        breaker.probed(at(301), Ok(()));
        breaker.succeeded();
        breaker.failed(at(302), "CKR_DEVICE_ERROR".to_owned());
        assert!(breaker.admits(), "a call that succeeded counts");
    }
}
