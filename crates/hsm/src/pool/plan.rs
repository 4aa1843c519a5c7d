//! What happens next to one call: ask, wait, ask somewhere else too, or give up. Pure: time comes in, and
//! nothing here knows what a worker is.

use std::time::Duration;

use crate::HsmError;

/// Whether a verb may be asked of two modules at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing that lasts: asked twice, it is as good as asked once.
    Reads,
    /// It makes keys: asked twice it might make two.
    Makes,
}

/// How long what may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// From the first question to the end of the call.
    pub(super) deadline: Duration,
    /// From a question without an answer to the next one elsewhere.
    pub(super) hedge_after: Duration,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask a worker that was not asked yet: [`Plan::asked`] or [`Plan::nobody_to_ask`].
    Ask,
    /// Wait for an answer until then.
    WaitUntil(Duration),
    /// The call is over.
    GiveUp(Ending),
}

/// How a call ends without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nobody that could be asked is left, and this is what they said.
    NobodyLeft(Vec<String>),
    /// The time is over.
    TooLate,
    /// It may have been done or not.
    Unknown(String),
}

impl Ending {
    /// What the caller is told.
    pub(super) fn into_error(self, deadline: Duration) -> HsmError {
        match self {
            Self::NobodyLeft(causes) => HsmError::Down { cause: causes.join("; ") },
            Self::Unknown(cause) => HsmError::Down { cause },
            Self::TooLate => {
                let milliseconds = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                HsmError::DeadlinePassed { milliseconds }
            }
        }
    }
}

/// One call on its way.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    effect: Effect,
    begun: Duration,
    patience: Patience,
    /// When a question last went out, or was to go out and found nobody.
    last_asked: Duration,
    /// Questions out.
    asked: usize,
    /// Questions that came to nothing.
    failed: usize,
    everybody_was_asked: bool,
    /// Who could be asked owed as much as it may: there may be room by then.
    room_at: Option<Duration>,
    causes: Vec<String>,
}

impl Plan {
    pub(super) const fn new(effect: Effect, now: Duration, patience: Patience) -> Self {
        Self {
            effect,
            begun: now,
            patience,
            last_asked: now,
            asked: 0,
            failed: 0,
            everybody_was_asked: false,
            room_at: None,
            causes: Vec::new(),
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Duration) -> Step {
        let deadline = self.begun.saturating_add(self.patience.deadline);
        let open = self.asked.saturating_sub(self.failed);
        if self.effect == Effect::Makes && self.failed > 0 {
            return Step::GiveUp(Ending::Unknown(self.causes.join("; ")));
        }
        if now >= deadline {
            return Step::GiveUp(match self.effect {
                Effect::Makes if open > 0 => Ending::Unknown("no answer in time".to_owned()),
                _ => Ending::TooLate,
            });
        }
        if open == 0 {
            if self.room_at.is_some_and(|room_at| now < room_at) {
                return Step::WaitUntil(self.look_again_at());
            }
            return if self.everybody_was_asked {
                Step::GiveUp(Ending::NobodyLeft(core::mem::take(&mut self.causes)))
            } else {
                Step::Ask
            };
        }
        if self.effect == Effect::Makes {
            return Step::WaitUntil(deadline);
        }
        let hedge_at = self.last_asked.saturating_add(self.patience.hedge_after);
        if now >= hedge_at { Step::Ask } else { Step::WaitUntil(hedge_at.min(deadline)) }
    }

    /// Whether the next question goes out although one is not answered yet.
    pub(super) const fn is_hedging(&self) -> bool {
        self.asked > self.failed
    }

    /// Whether the next question goes out because one has failed.
    pub(super) const fn is_retrying(&self) -> bool {
        self.failed > 0 && self.asked == self.failed
    }

    /// Whether it makes keys.
    pub(super) fn makes(&self) -> bool {
        self.effect == Effect::Makes
    }

    /// A question went out.
    pub(super) const fn asked(&mut self, now: Duration) {
        self.asked = self.asked.saturating_add(1);
        self.last_asked = now;
    }

    /// A question came to nothing: the module failed, or its worker is gone.
    pub(super) fn failed(&mut self, cause: String) {
        self.failed = self.failed.saturating_add(1);
        self.causes.push(cause);
    }

    /// Somebody is left to ask, who owes as much as it may: asked again after a while, there is room, or it is gone.
    pub(super) const fn no_room(&mut self, now: Duration) {
        self.last_asked = now;
        self.room_at = Some(now.saturating_add(self.patience.hedge_after));
    }

    /// When to look again whether there is room.
    pub(super) fn look_again_at(&self) -> Duration {
        let deadline = self.begun.saturating_add(self.patience.deadline);
        self.room_at.map_or(deadline, |room_at| room_at.min(deadline))
    }

    /// Nobody is left to ask, for these reasons. While a question is out, somebody may come back: it is tried again
    /// after a while.
    pub(super) fn nobody_to_ask(&mut self, now: Duration, causes: Vec<String>) {
        self.last_asked = now;
        self.everybody_was_asked = !self.is_hedging();
        for cause in causes {
            if !self.causes.contains(&cause) {
                self.causes.push(cause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Effect, Ending, Patience, Plan, Step};

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn plan(effect: Effect) -> Plan {
        Plan::new(effect, at(1_000), Patience { deadline: at(2_000), hedge_after: at(50) })
    }

    #[test]
    fn an_unanswered_question_is_asked_elsewhere_too() {
        let mut plan = plan(Effect::Reads);
        assert_eq!(plan.next(at(1_000)), Step::Ask);
        plan.asked(at(1_000));
        assert_eq!(plan.next(at(1_001)), Step::WaitUntil(at(1_050)));
        assert_eq!(plan.next(at(1_050)), Step::Ask);
        assert!(plan.is_hedging() && !plan.is_retrying());
        plan.asked(at(1_050));
        assert_eq!(plan.next(at(1_100)), Step::Ask);
        plan.nobody_to_ask(at(1_100), Vec::new());
        assert_eq!(plan.next(at(1_100)), Step::WaitUntil(at(1_150)));
        assert_eq!(plan.next(at(3_000)), Step::GiveUp(Ending::TooLate));
    }

    #[test]
    fn who_comes_back_while_another_hangs_is_asked() {
        let mut plan = plan(Effect::Reads);
        plan.asked(at(1_000));
        // The other member is being started again, for a second.
        let mut now = at(1_000);
        for _ in 0..20 {
            assert_eq!(plan.next(now), Step::WaitUntil(now + at(50)));
            now += at(50);
            assert_eq!(plan.next(now), Step::Ask);
            plan.nobody_to_ask(now, Vec::new());
        }
        now += at(50);
        assert_eq!(plan.next(now), Step::Ask);
        plan.asked(now);
        plan.failed("it did not answer for 1000 ms".to_owned());
        assert_eq!(plan.next(now), Step::WaitUntil(now + at(50)), "one of the two may answer");
        plan.failed("ended by signal 9".to_owned());
        assert_eq!(plan.next(now), Step::Ask);
    }

    #[test]
    fn a_failure_is_tried_elsewhere_at_once_until_nobody_is_left() {
        let mut plan = plan(Effect::Reads);
        for cause in ["CKR_DEVICE_ERROR", "ended by signal 9"] {
            assert_eq!(plan.next(at(1_000)), Step::Ask);
            plan.asked(at(1_000));
            plan.failed(cause.to_owned());
            assert!(plan.is_retrying() && !plan.is_hedging());
        }
        assert_eq!(plan.next(at(1_000)), Step::Ask);
        plan.nobody_to_ask(at(1_000), vec!["ended by signal 9".to_owned()]);
        let causes = ["CKR_DEVICE_ERROR", "ended by signal 9"].map(str::to_owned).to_vec();
        assert_eq!(plan.next(at(1_000)), Step::GiveUp(Ending::NobodyLeft(causes)));
    }

    #[test]
    fn a_failure_that_finds_the_other_member_full_waits_for_room() {
        let mut plan = plan(Effect::Reads);
        plan.asked(at(1_000));
        plan.failed("ended by signal 9".to_owned());
        let mut now = at(1_000);
        while now < at(2_950) {
            assert_eq!(plan.next(now), Step::Ask);
            plan.no_room(now);
            assert_eq!(plan.next(now), Step::WaitUntil(now + at(50)));
            now += at(50);
        }
        let mut unlucky = plan.clone();
        unlucky.no_room(at(2_980));
        assert_eq!(unlucky.next(at(2_980)), Step::WaitUntil(at(3_000)), "no longer than it may");
        assert_eq!(unlucky.next(at(3_000)), Step::GiveUp(Ending::TooLate));
        // There is room at last.
        plan.asked(now);
        assert_eq!(plan.next(now), Step::WaitUntil(at(3_000)));
    }

    #[test]
    fn a_hedge_that_finds_the_other_member_full_tries_it_again_later() {
        let mut plan = plan(Effect::Reads);
        plan.asked(at(1_000));
        assert_eq!(plan.next(at(1_050)), Step::Ask);
        plan.no_room(at(1_050));
        assert_eq!(plan.next(at(1_060)), Step::WaitUntil(at(1_100)));
        assert_eq!(plan.next(at(1_100)), Step::Ask);
        plan.failed("ended by signal 9".to_owned());
        assert_eq!(plan.next(at(1_100)), Step::Ask, "at once");
    }

    #[test]
    fn while_one_may_still_answer_the_call_goes_on() {
        let mut plan = plan(Effect::Reads);
        plan.asked(at(1_000));
        plan.asked(at(1_050));
        plan.failed("CKR_DEVICE_ERROR".to_owned());
        assert_eq!(plan.next(at(1_060)), Step::WaitUntil(at(1_100)));
    }

    #[test]
    fn what_makes_keys_is_asked_once() {
        let mut silent = plan(Effect::Makes);
        silent.asked(at(1_000));
        assert_eq!(silent.next(at(1_500)), Step::WaitUntil(at(3_000)));
        let unknown = Ending::Unknown("no answer in time".to_owned());
        assert_eq!(silent.next(at(3_000)), Step::GiveUp(unknown));

        let mut lost = plan(Effect::Makes);
        lost.asked(at(1_000));
        lost.failed("ended by signal 9".to_owned());
        let unknown = Ending::Unknown("ended by signal 9".to_owned());
        assert_eq!(lost.next(at(1_001)), Step::GiveUp(unknown), "and never asked again from here");
    }
}
