//! The line in which payments wait to be decided, and the threads that decide them.
//!
//! A thread that is free takes all that wait at that moment, one or many, and a payment that comes alone waits for nobody. Where
//! many come, the next lot gathers for a moment until it has as many as the ones before: each lot costs a sync. Each is
//! told its answer as soon as there is one, and nobody has more than a share of the line.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Stopwatch;
use crate::metrics;

/// So many are decided together at most: the first of them waits for the last.
const MOST_TOGETHER: usize = 64;
/// So many are worth a sync of their own, however many more are likely to come; or a decider's share of all who are there, if
/// that is more.
const WORTH_A_SYNC: usize = 32;
/// A lot gathers for as long as the one before took, and no longer than this, however slow the disk is.
const GATHERS_AT_MOST: Duration = Duration::from_millis(5);
/// So many may wait; one more is refused.
const MOST_WAITING: usize = 1_024;
/// So many of them may be of one caller: honest ones have one or two.
const MOST_OF_ONE: usize = 64;
/// One lot is on its way to the disk, the next one is looked up and verified. More would make lots smaller and syncs more.
const DECIDERS: usize = 2;

/// Why a question was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many wait.
    Full,
    /// Too many of this caller wait.
    ShareFull,
    /// The line is closed.
    Closed,
}

/// What waits in the line.
pub(crate) trait Asked: Send + 'static {
    /// What names a caller.
    type Caller: Eq + Hash + Copy + Send;
    /// What is told in the end.
    type Answer: Send + 'static;
    /// Who asks.
    fn caller(&self) -> Self::Caller;
}

/// Tells the answer to the question in a place of the lot.
pub(crate) type Tell<'a, A> = &'a mut dyn FnMut(usize, A);

struct Waiting<Q: Asked> {
    question: Q,
    reply: oneshot::Sender<Q::Answer>,
}

/// Where questions wait, and deciders for them.
struct Line<Q: Asked> {
    state: Mutex<LineState<Q>>,
    changed: Condvar,
}

struct LineState<Q: Asked> {
    waiting: VecDeque<Waiting<Q>>,
    /// How many the next lot is likely to have: as many as the ones before. One, where nobody has come for a while.
    expected: usize,
    /// For how long it waits for them.
    gathers: Duration,
    /// Those in lots that are being decided, also who has been told before his lot has ended.
    at_work: usize,
    is_open: bool,
}

impl<Q: Asked> Line<Q> {
    fn new() -> Arc<Self> {
        let (waiting, gathers) = (VecDeque::new(), Duration::ZERO);
        let state = LineState { waiting, expected: 1, gathers, at_work: 0, is_open: true };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, LineState<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, one: Waiting<Q>) -> Result<(), NotTaken> {
        let mut state = self.state();
        if !state.is_open {
            return Err(NotTaken::Closed);
        }
        if state.waiting.len() >= MOST_WAITING {
            return Err(NotTaken::Full);
        }
        state.waiting.push_back(one);
        let count = state.waiting.len();
        let is_news = count == 1 || count >= state.worth();
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for a lot; it is at work until [`Line::took`]. `None` when the line is closed and empty.
    fn next_lot(&self) -> Option<Vec<Waiting<Q>>> {
        let mut state = self.state();
        loop {
            let count = state.waiting.len();
            if count >= state.worth() || (count > 0 && !state.is_open) {
                return Some(self.take(state));
            }
            if !state.is_open {
                return None;
            }
            if state.expected == 1 {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let gathers = state.gathers;
            let waited = self.changed.wait_timeout(state, gathers);
            let (later, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = later;
            if waited.timed_out() {
                if !state.waiting.is_empty() {
                    return Some(self.take(state));
                }
                // Nobody comes any more, and nobody is in a lot who may come again: who is the next waits for nobody.
                if state.at_work == 0 {
                    state.expected = 1;
                }
            }
        }
    }

    /// Takes a lot; what it leaves is the next decider's, who may sleep.
    fn take(&self, mut state: MutexGuard<'_, LineState<Q>>) -> Vec<Waiting<Q>> {
        let lot = state.take();
        let leaves_some = !state.waiting.is_empty();
        drop(state);
        if leaves_some {
            self.changed.notify_one();
        }
        lot
    }

    /// A lot of so many is decided, and has taken so long.
    fn took(&self, count: usize, time: Duration) {
        let mut state = self.state();
        state.at_work = state.at_work.saturating_sub(count);
        state.gathers = time.min(GATHERS_AT_MOST);
    }

    fn close(&self) {
        self.state().is_open = false;
        self.changed.notify_all();
    }
}

impl<Q: Asked> LineState<Q> {
    fn take(&mut self) -> Vec<Waiting<Q>> {
        let count = self.waiting.len().min(MOST_TOGETHER);
        self.expected = count.max(self.expected.midpoint(count)).max(1);
        self.at_work = self.at_work.saturating_add(count);
        self.waiting.drain(..count).collect()
    }

    /// How many are decided without waiting for more.
    fn worth(&self) -> usize {
        let all = self.waiting.len().saturating_add(self.at_work);
        self.expected.min(all.div_ceil(DECIDERS).max(WORTH_A_SYNC))
    }
}

/// Questions without an answer, by who asks.
struct Unanswered<C>(Mutex<HashMap<C, usize>>);

impl<C: Eq + Hash + Copy> Unanswered<C> {
    /// One more of this caller, if that is not too many.
    fn one_more(&self, caller: C) -> Result<(), NotTaken> {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.entry(caller).or_default();
        if *count >= MOST_OF_ONE {
            return Err(NotTaken::ShareFull);
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    fn one_less(&self, caller: C) {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = of.get_mut(&caller).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == 0 {
            of.remove(&caller);
        }
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// The line, open until [`Pipeline::close`].
pub(crate) struct Pipeline<Q: Asked> {
    line: Arc<Line<Q>>,
    deciders: Mutex<Vec<JoinHandle<()>>>,
    unanswered: Arc<Unanswered<Q::Caller>>,
}

impl<Q: Asked> Pipeline<Q> {
    /// Starts the threads. `decide` tells an answer to each question of a lot.
    ///
    /// # Errors
    /// There are no more threads.
    pub(crate) fn start(
        decide: impl Fn(&[Q], Tell<'_, Q::Answer>) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let pipeline = Self::without_threads();
        let decide = Arc::new(decide);
        for _ in 0..DECIDERS {
            let (line, unanswered) = (Arc::clone(&pipeline.line), Arc::clone(&pipeline.unanswered));
            let decide = Arc::clone(&decide);
            let name = "tapfer-decider".to_owned();
            let decider = thread::Builder::new().name(name).spawn(move || {
                while let Some(lot) = line.next_lot() {
                    let (watch, count) = (Stopwatch::start(), lot.len());
                    Lot::of(lot, &unanswered).answer(&*decide);
                    line.took(count, watch.elapsed());
                }
            })?;
            pipeline.deciders().push(decider);
        }
        Ok(pipeline)
    }

    fn without_threads() -> Self {
        let unanswered = Arc::new(Unanswered(Mutex::default()));
        Self { line: Line::new(), deciders: Mutex::default(), unanswered }
    }

    fn deciders(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.deciders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line without threads: whoever has the other end decides when.
    pub(crate) fn by_hand(
        decide: impl Fn(&[Q], Tell<'_, Q::Answer>) + Send + 'static,
    ) -> (Self, ByHand<Q>) {
        let pipeline = Self::without_threads();
        let (line, unanswered) = (Arc::clone(&pipeline.line), Arc::clone(&pipeline.unanswered));
        (pipeline, ByHand { line, decide: Box::new(decide), unanswered })
    }

    /// Puts a question into the line. Its answer comes, whether or not somebody still waits for it; that there will
    /// be none means that deciding it panicked.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(crate) fn ask(&self, question: Q) -> Result<oneshot::Receiver<Q::Answer>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        let caller = question.caller();
        self.unanswered.one_more(caller)?;
        let taken = self.line.put(Waiting { question, reply });
        taken.map(|()| answer).inspect_err(|_| self.unanswered.one_less(caller))
    }

    /// How many have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.count()
    }

    /// Takes no more questions, and returns when all that wait are answered.
    pub(crate) fn close(&self) {
        self.line.close();
        let deciders = std::mem::take(&mut *self.deciders());
        for decider in deciders {
            // One that panicked outside of a decision has nothing to hand over.
            let _ended = decider.join();
        }
    }
}

impl<Q: Asked> Drop for Pipeline<Q> {
    fn drop(&mut self) {
        self.close();
    }
}

/// The other end of a line without threads.
pub(crate) struct ByHand<Q: Asked> {
    line: Arc<Line<Q>>,
    decide: Box<Decide<Q>>,
    unanswered: Arc<Unanswered<Q::Caller>>,
}

type Decide<Q> = dyn Fn(&[Q], Tell<'_, <Q as Asked>::Answer>) + Send;

impl<Q: Asked> ByHand<Q> {
    /// Decides all that wait at this moment, together.
    pub(crate) fn decide_what_waits(&self) {
        let lot = self.line.state().take();
        let count = lot.len();
        if count > 0 {
            Lot::of(lot, &self.unanswered).answer(&*self.decide);
        }
        self.line.took(count, Duration::ZERO);
    }
}

/// Questions that are decided together, and where their callers wait.
struct Lot<'a, Q: Asked> {
    questions: Vec<Q>,
    replies: Vec<Option<oneshot::Sender<Q::Answer>>>,
    unanswered: &'a Unanswered<Q::Caller>,
}

impl<'a, Q: Asked> Lot<'a, Q> {
    fn of(waiting: Vec<Waiting<Q>>, unanswered: &'a Unanswered<Q::Caller>) -> Self {
        let (questions, replies) =
            waiting.into_iter().map(|one| (one.question, Some(one.reply))).unzip();
        Self { questions, replies, unanswered }
    }

    /// A panic is not to hurt those beside the one that made it: then each that has no answer is decided alone.
    fn answer(mut self, decide: &(impl Fn(&[Q], Tell<'_, Q::Answer>) + ?Sized)) {
        let all = 0..self.questions.len();
        if self.decide(decide, all.clone()).is_err() {
            metrics::panic();
            for place in all {
                let is_open = self.replies.get(place).is_some_and(Option::is_some);
                if is_open && self.decide(decide, place..place.saturating_add(1)).is_err() {
                    metrics::panic();
                }
            }
        }
        // Who has no answer now is not to have one.
        let left = self.questions.iter().zip(&self.replies);
        left.filter(|(_, reply)| reply.is_some())
            .for_each(|(question, _)| self.unanswered.one_less(question.caller()));
    }

    fn decide(
        &mut self,
        decide: &(impl Fn(&[Q], Tell<'_, Q::Answer>) + ?Sized),
        part: Range<usize>,
    ) -> thread::Result<()> {
        let Self { questions, replies, unanswered } = self;
        let first = part.start;
        let questions = questions.get(part).unwrap_or_default();
        let mut tell = |place: usize, answer| {
            let reply = replies.get_mut(first.saturating_add(place)).and_then(Option::take);
            if let (Some(reply), Some(question)) = (reply, questions.get(place)) {
                unanswered.one_less(question.caller());
                // Nobody listens any more if the caller hung up; what was decided stands.
                let _unheard = reply.send(answer);
            }
        };
        catch_unwind(AssertUnwindSafe(|| decide(questions, &mut tell)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::{
        Asked, DECIDERS, Line, MOST_OF_ONE, MOST_TOGETHER, MOST_WAITING, NotTaken, Pipeline, Tell,
        WORTH_A_SYNC, Waiting,
    };

    /// A number, and whose it is.
    struct Number(u32, u32);

    impl Asked for Number {
        type Caller = u32;
        type Answer = u32;
        fn caller(&self) -> u32 {
            self.1
        }
    }

    /// A number of somebody who asks nothing else.
    const fn of_one(number: u32) -> Number {
        Number(number, number)
    }

    /// A pipeline that doubles numbers, panics at 13, and takes a lot only when it is told to. Says how large each
    /// lot was.
    struct Held {
        pipeline: Pipeline<Number>,
        go_on: Sender<()>,
        lots: Receiver<usize>,
    }

    fn held() -> Held {
        let ((go_on, may_go_on), (lot, lots)) = (channel(), channel());
        let (may_go_on, lot) = (Mutex::new(may_go_on), Mutex::new(lot));
        let pipeline = Pipeline::start(move |numbers: &[Number], tell: Tell<'_, u32>| {
            lot.lock().unwrap().send(numbers.len()).unwrap();
            let _told = may_go_on.lock().unwrap().recv();
            for (place, Number(number, _)) in numbers.iter().enumerate() {
                assert!(*number != 13, "on purpose");
                tell(place, number.saturating_mul(2));
            }
        });
        Held { pipeline: pipeline.unwrap(), go_on, lots }
    }

    impl Held {
        /// Keeps every decider busy with one question.
        fn busy(&self) {
            for caller in (0..=u32::MAX).rev().take(DECIDERS) {
                drop(self.pipeline.ask(Number(0, caller)).unwrap());
                assert_eq!(self.lots.recv().unwrap(), 1, "alone, it waits for nobody");
            }
        }
    }

    #[test]
    fn what_comes_meanwhile_is_decided_together() {
        let held = held();
        held.busy();
        let asked: Vec<_> =
            (100..170).map(|number| held.pipeline.ask(of_one(number)).unwrap()).collect();
        assert_eq!(held.pipeline.unanswered(), DECIDERS + 70);
        (0..DECIDERS + 2).for_each(|_| held.go_on.send(()).unwrap());
        for (number, answer) in (100..).zip(asked) {
            assert_eq!(answer.blocking_recv().unwrap(), 2 * number);
        }
        // Which of two deciders speaks first is open.
        let mut lots = [(); 2].map(|()| held.lots.recv().unwrap());
        lots.sort_unstable();
        assert_eq!(lots, [6, MOST_TOGETHER]);
    }

    /// So many more in a line.
    fn put(line: &Line<Number>, count: usize) {
        for _ in 0..count {
            let (reply, _) = oneshot::channel();
            line.put(Waiting { question: of_one(1), reply }).unwrap();
        }
    }

    /// A line in which a lot of so many was decided before, and lots gather for so long.
    fn line_behind(count: usize, gathers: Duration) -> Arc<Line<Number>> {
        let line = Line::new();
        put(&line, count);
        assert_eq!(line.next_lot().unwrap().len(), count, "nobody is waited for at first");
        line.took(count, Duration::ZERO);
        line.state().gathers = gathers;
        line
    }

    /// How large the next lot of a line is for a decider of its own; `then` happens meanwhile.
    fn gathered(line: &Arc<Line<Number>>, then: impl FnOnce(&Line<Number>)) -> usize {
        let decider = Arc::clone(line);
        let decider = thread::spawn(move || decider.next_lot().unwrap().len());
        then(line);
        decider.join().unwrap()
    }

    #[test]
    fn who_comes_alone_waits_for_nobody() {
        let line = line_behind(1, Duration::MAX);
        for _ in 0..3 {
            put(&line, 1);
            assert_eq!(line.next_lot().unwrap().len(), 1);
        }
    }

    #[test]
    fn a_lot_gathers_as_many_as_the_one_before_had() {
        let line = line_behind(3, Duration::MAX);
        assert_eq!(gathered(&line, |line| put(line, 3)), 3);
        let line = line_behind(MOST_TOGETHER, Duration::MAX);
        assert_eq!(gathered(&line, |line| put(line, WORTH_A_SYNC)), WORTH_A_SYNC, "worth it");
        let closing = |line: &Line<_>| {
            put(line, 2);
            line.close();
        };
        assert_eq!(gathered(&line, closing), 2, "no more can come");
    }

    #[test]
    fn where_many_come_each_decider_has_its_share() {
        let line = line_behind(MOST_TOGETHER, Duration::MAX);
        put(&line, MOST_TOGETHER);
        assert_eq!(line.next_lot().unwrap().len(), MOST_TOGETHER);
        put(&line, MOST_TOGETHER - 1);
        let is_worth_it = || {
            let state = line.state();
            state.waiting.len() >= state.worth()
        };
        assert!(!is_worth_it(), "the other one has one more");
        put(&line, 1);
        assert!(is_worth_it());
        line.took(MOST_TOGETHER, Duration::ZERO);
        assert_eq!(line.state().worth(), WORTH_A_SYNC, "there is no other one");
    }

    /// So many more at the same moment, of whom nobody is told.
    fn put_at_once(line: &Line<Number>, count: usize, gathers: Duration) {
        let waiting = || Waiting { question: of_one(1), reply: oneshot::channel().0 };
        let mut state = line.state();
        state.gathers = gathers;
        state.waiting.extend(std::iter::repeat_with(waiting).take(count));
    }

    #[test]
    fn what_a_lot_leaves_wakes_the_next_decider() {
        let (line, mut first) = (Line::new(), 0);
        let second = gathered(&line, |line| {
            put_at_once(line, MOST_TOGETHER + 9, Duration::ZERO);
            first = line.next_lot().unwrap().len();
        });
        let mut lots = [first, second];
        lots.sort_unstable();
        assert_eq!(lots, [9, MOST_TOGETHER]);
    }

    #[test]
    fn who_is_in_a_lot_may_come_again() {
        let line = line_behind(9, Duration::ZERO);
        put(&line, 9);
        assert_eq!(line.next_lot().unwrap().len(), 9);
        let again = gathered(&line, |line| {
            thread::yield_now();
            put_at_once(line, 9, Duration::MAX);
        });
        assert_eq!((again, line.state().expected), (9, 9));
    }

    #[test]
    fn a_lot_does_not_wait_for_those_who_do_not_come() {
        let line = line_behind(9, Duration::from_millis(1));
        put(&line, 3);
        assert_eq!(line.next_lot().unwrap().len(), 3);
        assert_eq!(line.state().expected, 6, "fewer, but not at once so few");
    }

    #[test]
    fn where_nobody_comes_for_a_while_the_next_waits_for_nobody() {
        let line = line_behind(9, Duration::from_millis(1));
        let nobody = |line: &Line<_>| {
            while line.state().expected > 1 {
                thread::yield_now();
            }
            line.state().gathers = Duration::MAX;
            put(line, 1);
        };
        assert_eq!(gathered(&line, nobody), 1);
    }

    #[test]
    fn a_panic_hurts_nobody_else() {
        let held = held();
        held.busy();
        let asked = [12, 13, 14].map(|number| held.pipeline.ask(of_one(number)).unwrap());
        drop(held.go_on);
        let [before, panics, behind] = asked.map(|answer| answer.blocking_recv().ok());
        assert_eq!((before, panics, behind), (Some(24), None, Some(28)));
        assert_eq!(
            held.pipeline.ask(of_one(1)).unwrap().blocking_recv().unwrap(),
            2,
            "and it goes on"
        );
    }

    #[test]
    fn a_full_line_says_so_and_closing_answers_what_waits() {
        let held = held();
        held.busy();
        let Held { pipeline, go_on, lots: _still_told } = held;
        let asked: Vec<_> = (0..u32::try_from(MOST_WAITING).unwrap())
            .map(|caller| pipeline.ask(Number(4, caller)).unwrap())
            .collect();
        assert_eq!(pipeline.ask(of_one(5_000)).unwrap_err(), NotTaken::Full);
        drop(go_on);
        pipeline.close();
        assert!(asked.into_iter().all(|answer| answer.blocking_recv().unwrap() == 8));
        assert_eq!(pipeline.ask(of_one(4)).unwrap_err(), NotTaken::Closed);
        assert_eq!(pipeline.unanswered(), 0);
    }

    /// Attack: one terminal's key fills the line, and everybody else is refused.
    #[test]
    fn attack_one_caller_fills_the_line() {
        let held = held();
        held.busy();
        let greedy = || held.pipeline.ask(Number(3, 7));
        let asked: Vec<_> = (0..MOST_OF_ONE).map(|_| greedy().unwrap()).collect();
        assert_eq!(greedy().unwrap_err(), NotTaken::ShareFull);
        let other = held.pipeline.ask(of_one(8)).unwrap();
        drop(held.go_on);
        assert_eq!(other.blocking_recv().unwrap(), 16);
        assert!(asked.into_iter().all(|answer| answer.blocking_recv().unwrap() == 6));
    }

    #[test]
    fn an_answer_waits_for_nobody_in_the_lot() {
        let (go_on, may_go_on) = channel::<()>();
        let may_go_on = Mutex::new(may_go_on);
        let pipeline = Pipeline::start(move |numbers: &[Number], tell: Tell<'_, u32>| {
            tell(0, 1);
            let _told = may_go_on.lock().unwrap().recv();
            (1..numbers.len()).for_each(|place| tell(place, 2));
        });
        let pipeline = pipeline.unwrap();
        assert_eq!(pipeline.ask(of_one(1)).unwrap().blocking_recv().unwrap(), 1);
        drop(go_on);
    }
}
