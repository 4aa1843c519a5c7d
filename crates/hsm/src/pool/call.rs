//! One call: from the request to the answer of whichever worker gives it. Decides nothing itself: when to ask
//! whom is in [`super::plan`], [`super::order`] and [`super::breaker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use super::order::{self, Candidate};
use super::plan::{Effect, Ending, Patience, Plan, Step};
use super::shared::{Shared, framed};
use super::slot::{Event, Slot};
use super::wire::{Answer, Reply, Request};
use super::worker::{Purpose, Unfit};
use crate::HsmError;

/// How often a verb that makes keys is tried, each time after it was seen that nothing was made.
const ATTEMPTS_TO_MAKE: usize = 3;

/// A worker, in one of its lives.
type Life = (usize, u64);

/// What a call came to.
enum Outcome<T> {
    Answered { worker: usize, answer: Result<T, HsmError> },
    Ended { ending: Ending, asked: Vec<Life> },
}

/// How an answer is read from a reply. `None`: it is no reply to this verb.
pub(super) type Reader<'r, T> = &'r dyn Fn(&Reply<'_>) -> Option<T>;

impl Shared {
    /// Asks for something that changes nothing.
    pub(super) fn read<T>(
        &self,
        request: &Request<'_>,
        reader: Reader<'_, T>,
    ) -> Result<T, HsmError> {
        let _place = self.enter()?;
        let (deadline, hedge_after) = (self.limits.deadline(), self.limits.hedge_after());
        let outcome =
            self.call(Effect::Reads, request, reader, Patience { deadline, hedge_after })?;
        match outcome {
            Outcome::Answered { answer, .. } => answer,
            Outcome::Ended { ending, .. } => Err(self.refuse(ending.into_error(deadline))),
        }
    }

    /// Asks for keys to be made, at most once: when it is unknown what came of it, `look` says what there is.
    /// The other workers know the new catalogue before the answer is given.
    pub(super) fn make<T>(
        &self,
        request: &Request<'_>,
        reader: Reader<'_, T>,
        exists: impl Fn(&HsmError) -> bool,
        look: impl Fn() -> Result<Option<T>, HsmError>,
    ) -> Result<T, HsmError> {
        let deadline = self.limits.making_deadline();
        let mut last = HsmError::Down { cause: self.causes().join("; ") };
        for attempt in 0..ATTEMPTS_TO_MAKE {
            let place = self.enter()?;
            let patience = Patience { deadline, hedge_after: deadline };
            let outcome = self.call(Effect::Makes, request, reader, patience)?;
            drop(place);
            match outcome {
                Outcome::Answered { worker, answer: Ok(made) } => {
                    self.broadcast_change(Some(worker));
                    return Ok(made);
                }
                // An earlier attempt had made it after all.
                Outcome::Answered { answer: Err(error), .. } if attempt > 0 && exists(&error) => {}
                Outcome::Answered { answer: Err(error), .. } => return Err(error),
                Outcome::Ended { ending: ending @ Ending::Unknown(_), asked } => {
                    // Whoever may still be at it must not finish it behind our back.
                    asked.iter().for_each(|life| {
                        self.end_life(*life, "it was asked for keys and gave no answer")
                    });
                    last = ending.into_error(deadline);
                }
                Outcome::Ended { ending, .. } => {
                    return Err(self.refuse(ending.into_error(deadline)));
                }
            }
            self.broadcast_change(None);
            // Whoever was asked may have been the only one, and is started again now.
            self.wait(deadline, || self.serves());
            if let Some(made) = look()? {
                return Ok(made);
            }
        }
        Err(self.refuse(last))
    }

    /// Asks every worker that serves.
    pub(super) fn everyone(&self, request: &Request<'_>) -> Result<(), HsmError> {
        let mut asked = Vec::new();
        for (place, worker) in self.workers.iter().enumerate() {
            let slot = Arc::new(Slot::default());
            let mut frame = framed(request).ok_or_else(too_large)?;
            let (now, patience) = (self.clock.now(), self.limits.making_deadline());
            if worker.ask(None, &mut frame, Purpose::Call(Arc::clone(&slot)), now, patience).is_ok()
            {
                asked.push((place, slot));
            }
        }
        if asked.is_empty() {
            return Err(self.refuse(HsmError::Down { cause: self.causes().join("; ") }));
        }
        asked.into_iter().try_for_each(|(_, slot)| match slot.take(self.limits.making_deadline()) {
            Some(Event::Answered { message, .. }) => {
                decode(&message, &|reply| matches!(reply, Reply::Nothing).then_some(()))
            }
            Some(Event::Lost { cause }) => Err(HsmError::Down { cause }),
            None => Err(HsmError::DeadlinePassed { milliseconds: self.limits.making_deadline_ms }),
        })
    }

    fn call<T>(
        &self,
        effect: Effect,
        request: &Request<'_>,
        reader: Reader<'_, T>,
        patience: Patience,
    ) -> Result<Outcome<T>, HsmError> {
        let mut frame = framed(request).ok_or_else(too_large)?;
        let slot = Arc::new(Slot::default());
        let mut plan = Plan::new(effect, self.clock.now(), patience);
        let mut asked: Vec<Life> = Vec::new();
        loop {
            let now = self.clock.now();
            match plan.next(now) {
                Step::Ask => self.ask(&mut plan, &mut frame, &slot, &mut asked, now)?,
                Step::WaitUntil(until) => match slot.take(until.saturating_sub(now)) {
                    None => {}
                    Some(Event::Lost { cause }) => plan.failed(cause),
                    Some(Event::Answered { worker, message }) => match decode(&message, reader) {
                        Err(error) if error.is_of_the_module() => {
                            let cause = self.blame(worker, &error);
                            plan.failed(cause);
                        }
                        answer => {
                            self.praise(worker);
                            return Ok(Outcome::Answered { worker, answer });
                        }
                    },
                },
                Step::GiveUp(ending) => return Ok(Outcome::Ended { ending, asked }),
            }
        }
    }

    fn ask(
        &self,
        plan: &mut Plan,
        frame: &mut Zeroizing<Vec<u8>>,
        slot: &Arc<Slot>,
        asked: &mut Vec<Life>,
        now: Duration,
    ) -> Result<(), HsmError> {
        let Some(life) = self.choose(asked, now)? else {
            // A hedge that finds nobody is no reason to blame anybody.
            plan.nobody_to_ask(if plan.is_hedging() { Vec::new() } else { self.causes() });
            return Ok(());
        };
        let Some(worker) = self.workers.get(life.0) else { return Ok(()) };
        asked.push(life);
        // What makes keys may take its time without being thought stalled.
        let patience = if plan.makes() { self.limits.making_deadline() } else { Duration::ZERO };
        let purpose = Purpose::Call(Arc::clone(slot));
        // Who went away meanwhile counts as not asked: the next one is.
        if worker.ask(Some(life.1), frame, purpose, now, patience).is_ok() {
            let counter = if plan.is_hedging() {
                Some(&self.hedges)
            } else {
                plan.is_retrying().then_some(&self.retries)
            };
            if let Some(counter) = counter {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            plan.asked(now);
        }
        Ok(())
    }

    /// The worker to ask next; `None` if there is none but those that were asked.
    fn choose(&self, asked: &[Life], now: Duration) -> Result<Option<Life>, HsmError> {
        let (mut lives, mut candidates, mut is_full) = (Vec::new(), Vec::new(), false);
        let was_asked = |member: usize| {
            asked
                .iter()
                .any(|(place, _)| self.workers.get(*place).is_some_and(|one| one.member == member))
        };
        for (place, worker) in self.workers.iter().enumerate() {
            if !self.member_of(worker).is_some_and(|member| member.breaker().admits()) {
                continue;
            }
            match worker.standing(now, &self.limits) {
                Ok(standing) if !asked.contains(&(place, standing.life)) => {
                    lives.push((place, standing.life));
                    candidates.push(Candidate {
                        waiting: standing.waiting,
                        latency: standing.latency,
                        is_elsewhere: !was_asked(worker.member),
                    });
                }
                Ok(_) | Err(Unfit::Away(_)) => {}
                Err(Unfit::Full) => is_full = true,
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen =
            order::choose(&candidates, now, turn).and_then(|place| lives.get(place).copied());
        if chosen.is_none() && is_full && asked.is_empty() {
            return Err(
                self.refuse(HsmError::QueueFull { waiting: self.waiting.load(Ordering::Relaxed) })
            );
        }
        Ok(chosen)
    }

    fn praise(&self, worker: usize) {
        if let Some(member) = self.workers.get(worker).and_then(|worker| self.member_of(worker)) {
            member.succeeded();
        }
    }

    fn blame(&self, worker: usize, error: &HsmError) -> String {
        let cause = error.to_string();
        let Some(member) = self.workers.get(worker).and_then(|worker| self.member_of(worker))
        else {
            return cause;
        };
        member.failed(self.clock.now(), cause.clone());
        format!("{}: {cause}", member.name())
    }

    fn end_life(&self, (place, life): Life, cause: &str) {
        if let Some(worker) = self.workers.get(place) {
            let mut state = worker.state();
            if state.life == life {
                state.end(cause);
            }
        }
    }

    fn enter(&self) -> Result<Place<'_>, HsmError> {
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(&self.waiting);
        if before >= self.limits.queue {
            return Err(self.refuse(HsmError::QueueFull { waiting: before }));
        }
        Ok(place)
    }

    fn refuse(&self, error: HsmError) -> HsmError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        error
    }
}

/// A place in the bounded queue, until the call is over.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

const fn too_large() -> HsmError {
    HsmError::Internal { operation: "framing a request that is too large" }
}

fn decode<T>(message: &[u8], reader: Reader<'_, T>) -> Result<T, HsmError> {
    let nonsense = || HsmError::ModuleFailed {
        operation: "reading a worker's answer".to_owned(),
        cause: "it is none to this question".to_owned(),
    };
    match postcard::from_bytes::<Answer<'_>>(message) {
        Ok(Answer::Done(reply)) => reader(&reply).ok_or_else(nonsense),
        Ok(Answer::Failed(error)) => Err(error),
        Err(_) => Err(nonsense()),
    }
}
