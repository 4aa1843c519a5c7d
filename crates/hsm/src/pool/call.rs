//! Calls that only read: from requests to the answers of whichever workers give them. Decides nothing itself: when to
//! ask whom is in [`super::plan`], [`super::order`] and [`super::breaker`].

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use super::order::{self, Candidate};
use super::plan::{Effect, Ending, Patience, Plan, Step};
use super::shared::{Shared, framed};
use super::slot::{Event, Slot, What};
use super::wire::{Answer, Reply, Request};
use super::worker::{Purpose, Question, Unfit};
use crate::HsmError;

/// So many questions of one caller are on their way at once, the others behind them.
const WINDOW: usize = 64;

/// A worker, in one of its lives.
pub(super) type Life = (usize, u64);

/// What a question came to.
pub(super) enum Outcome<T> {
    Answered {
        worker: usize,
        answer: Result<T, HsmError>,
    },
    Ended {
        ending: Ending,
        asked: Vec<Life>,
    },
    /// It was asked of nobody.
    Refused(HsmError),
}

/// How an answer is read from a reply. `None`: it is no reply to this verb.
pub(super) type Reader<'r, T> = &'r dyn Fn(&Reply<'_>) -> Option<T>;
/// The same for several questions: which one, and the reply to it.
pub(super) type ReaderOfMany<'r, T> = &'r dyn Fn(usize, &Reply<'_>) -> Option<T>;

/// One question on its way.
struct Call<T> {
    frame: Zeroizing<Vec<u8>>,
    /// What is answered says that the module serves.
    asks_module: bool,
    plan: Plan,
    asked: Vec<Life>,
    outcome: Option<Outcome<T>>,
}

/// Until what happens a caller waits.
struct Pause {
    /// So many answers.
    wanted: usize,
    /// Or this time.
    until: Duration,
}

/// Where a question stands.
enum Stand {
    WaitsUntil(Duration),
    IsOver,
    /// It was asked of nobody yet, and every worker that could be asked owes as much as it may.
    FindsAllFull,
}

impl<T> Call<T> {
    fn new(plan: Plan, request: &Request<'_>) -> Self {
        let framed = framed(request);
        let outcome = framed.is_none().then(|| Outcome::Refused(too_large()));
        let asks_module = !request.asks_no_module();
        Self { frame: framed.unwrap_or_default(), asks_module, plan, asked: Vec::new(), outcome }
    }
}

impl Shared {
    /// Asks for something that changes nothing.
    pub(super) fn read<T>(
        &self,
        request: &Request<'_>,
        reader: Reader<'_, T>,
    ) -> Result<T, HsmError> {
        let answer = self.read_all(slice::from_ref(request), &|_, reply| reader(reply)).pop();
        answer.unwrap_or(Err(HsmError::Internal { operation: "asking a worker" }))
    }

    /// Asks for several things that change nothing: each as if it were asked alone, and all by one deadline; more than
    /// the queue holds one part after the other.
    pub(super) fn read_all<T>(
        &self,
        requests: &[Request<'_>],
        reader: ReaderOfMany<'_, T>,
    ) -> Vec<Result<T, HsmError>> {
        let mut answers = Vec::with_capacity(requests.len());
        for part in requests.chunks(self.limits.queue.max(1)) {
            let first = answers.len();
            let reader =
                |place: usize, reply: &Reply<'_>| reader(first.saturating_add(place), reply);
            answers.extend(self.read_part(part, &reader));
        }
        answers
    }

    fn read_part<T>(
        &self,
        requests: &[Request<'_>],
        reader: ReaderOfMany<'_, T>,
    ) -> Vec<Result<T, HsmError>> {
        let (deadline, hedge_after) = (self.limits.deadline(), self.limits.hedge_after());
        let _place = match self.enter(requests.len()) {
            Ok(place) => place,
            Err(waiting) => {
                let full = |_| Err(self.refuse(HsmError::QueueFull { waiting }));
                return requests.iter().map(full).collect();
            }
        };
        let outcomes =
            self.call(Effect::Reads, requests, reader, Patience { deadline, hedge_after });
        let answer = |outcome| match outcome {
            Outcome::Answered { answer, .. } => answer,
            Outcome::Ended { ending, .. } => Err(self.refuse(ending.into_error(deadline))),
            Outcome::Refused(error) => Err(self.refuse(error)),
        };
        outcomes.into_iter().map(answer).collect()
    }

    /// What comes of each question, in their order.
    pub(super) fn call<T>(
        &self,
        effect: Effect,
        requests: &[Request<'_>],
        reader: ReaderOfMany<'_, T>,
        patience: Patience,
    ) -> Vec<Outcome<T>> {
        let slot = Arc::new(Slot::default());
        let plan = Plan::new(effect, self.clock.now(), patience);
        let mut calls: Vec<_> =
            requests.iter().map(|request| Call::new(plan.clone(), request)).collect();
        loop {
            let now = self.clock.now();
            let Some(Pause { wanted, until }) = self.advance(&mut calls, &slot, now) else { break };
            for Event { question, what } in slot.take(wanted, until.saturating_sub(now)) {
                if let Some(call) = calls.get_mut(question) {
                    self.hear(call, what, &|reply| reader(question, reply));
                }
            }
        }
        let unasked = || Outcome::Refused(HsmError::Internal { operation: "asking a worker" });
        calls.into_iter().map(|call| call.outcome.unwrap_or_else(unasked)).collect()
    }

    /// Asks whatever there is to be asked now. `None` when all is over.
    fn advance<T>(&self, calls: &mut [Call<T>], slot: &Arc<Slot>, now: Duration) -> Option<Pause> {
        let (mut touched, mut waiting, mut until) = (Vec::new(), 0_usize, None);
        let mut all_are_out = true;
        let open = calls.iter_mut().enumerate().filter(|(_, call)| call.outcome.is_none());
        for (place, call) in open {
            let purpose = Purpose::Call(Arc::clone(slot), place);
            match self.step(call, &purpose, &mut touched, now) {
                Stand::IsOver => {}
                Stand::WaitsUntil(look) => {
                    waiting = waiting.saturating_add(1);
                    until = Some(until.map_or(look, |sooner: Duration| sooner.min(look)));
                }
                // There will be room when those before it are answered.
                Stand::FindsAllFull => {
                    all_are_out = false;
                    if until.is_none() {
                        call.plan.no_room(now);
                        until = Some(call.plan.look_again_at());
                    }
                    break;
                }
            }
            if waiting == WINDOW {
                all_are_out = false;
                break;
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for worker in touched.into_iter().filter_map(|place: usize| self.workers.get(place)) {
            worker.send();
        }
        // Where more is to be asked, there is room for it when half of what is out is answered.
        let wanted = if all_are_out { waiting } else { waiting.div_euclid(2) };
        until.map(|until| Pause { wanted, until })
    }

    fn step<T>(
        &self,
        call: &mut Call<T>,
        purpose: &Purpose,
        touched: &mut Vec<usize>,
        now: Duration,
    ) -> Stand {
        loop {
            match call.plan.next(now) {
                Step::WaitUntil(until) => return Stand::WaitsUntil(until),
                Step::GiveUp(ending) => {
                    let asked = core::mem::take(&mut call.asked);
                    call.outcome = Some(Outcome::Ended { ending, asked });
                    return Stand::IsOver;
                }
                Step::Ask => match self.choose(&call.asked, now) {
                    Ok(Some(life)) => {
                        if self.ask(call, life, purpose.clone(), now) {
                            touched.push(life.0);
                        }
                    }
                    // A hedge that finds nobody is no reason to blame anybody.
                    Ok(None) if call.plan.is_hedging() => call.plan.nobody_to_ask(now, Vec::new()),
                    Ok(None) => call.plan.nobody_to_ask(now, self.causes()),
                    Err(AllFull) if call.asked.is_empty() => return Stand::FindsAllFull,
                    Err(AllFull) => {
                        call.plan.no_room(now);
                        return Stand::WaitsUntil(call.plan.look_again_at());
                    }
                },
            }
        }
    }

    /// Gives a question to a worker. Who went away meanwhile counts as not asked: the next one is.
    fn ask<T>(&self, call: &mut Call<T>, life: Life, purpose: Purpose, now: Duration) -> bool {
        let Some(worker) = self.workers.get(life.0) else { return false };
        call.asked.push(life);
        // What makes keys may take its time without being thought stalled.
        let makes = call.plan.makes();
        let patience = if makes { self.limits.making_deadline() } else { Duration::ZERO };
        let question = Question::new(purpose, now, patience).about_module(call.asks_module);
        if worker.enqueue(Some(life.1), &call.frame, question).is_err() {
            return false;
        }
        if call.plan.is_hedging() {
            self.hedges.fetch_add(1, Ordering::Relaxed);
        } else if call.plan.is_retrying() {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        call.plan.asked(now);
        true
    }

    /// The worker to ask next; `None` if there is none but those that were asked.
    fn choose(&self, asked: &[Life], now: Duration) -> Result<Option<Life>, AllFull> {
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
                Err(Unfit::Full(life)) => is_full |= !asked.contains(&(place, life)),
            }
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let chosen =
            order::choose(&candidates, now, turn).and_then(|place| lives.get(place).copied());
        if chosen.is_none() && is_full { Err(AllFull) } else { Ok(chosen) }
    }

    /// Something came of a question. What comes of one that was asked elsewhere too, and is over, is forgotten.
    fn hear<T>(&self, call: &mut Call<T>, what: What, reader: Reader<'_, T>) {
        match what {
            _ if call.outcome.is_some() => {}
            What::Lost { cause } => call.plan.failed(cause),
            What::Answered { worker, message } => match decode(&message, reader) {
                Err(error) if error.is_of_the_module() => {
                    let cause = self.blame(worker, &error);
                    call.plan.failed(cause);
                }
                answer => {
                    // Who asks whether the platform is ready must not hide what its payments and probes meet.
                    if call.asks_module {
                        self.praise(worker);
                    }
                    call.outcome = Some(Outcome::Answered { worker, answer });
                }
            },
        }
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

    /// Room for so many calls in the bounded queue.
    ///
    /// # Errors
    /// How many wait there already.
    pub(super) fn enter(&self, calls: usize) -> Result<Place<'_>, usize> {
        let before = self.waiting.fetch_add(calls, Ordering::AcqRel);
        let place = Place { waiting: &self.waiting, calls };
        if before.saturating_add(calls) > self.limits.queue { Err(before) } else { Ok(place) }
    }

    pub(super) fn refuse(&self, error: HsmError) -> HsmError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        error
    }
}

struct AllFull;

/// Places in the bounded queue, until the calls are over.
pub(super) struct Place<'a> {
    waiting: &'a AtomicUsize,
    calls: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.calls, Ordering::AcqRel);
    }
}

pub(super) const fn too_large() -> HsmError {
    HsmError::Internal { operation: "framing a request that is too large" }
}

pub(super) fn decode<T>(message: &[u8], reader: Reader<'_, T>) -> Result<T, HsmError> {
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
