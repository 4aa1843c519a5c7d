//! The line in which payments wait to be decided, and the threads that decide them.
//!
//! A thread that is free takes all that wait at that moment, one or many: while one lot is on its way to the disk the
//! next one gathers, and a payment that comes alone waits for nobody. There is no timer in it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, slice};

use tokio::sync::oneshot;

/// So many are decided together at most: the first of them waits for the last.
const MOST_TOGETHER: usize = 64;
/// So many may wait; one more is refused.
const MOST_WAITING: usize = 1_024;
/// One lot is at the disk, one at the security module, one gathers.
const DECIDERS: usize = 3;

/// Why a question was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Too many wait.
    Full,
    /// The line is closed.
    Closed,
}

struct Waiting<Q, A> {
    question: Q,
    reply: oneshot::Sender<A>,
}

struct Open<Q, A> {
    line: SyncSender<Waiting<Q, A>>,
    deciders: Vec<JoinHandle<()>>,
}

/// The line, open until [`Pipeline::close`].
pub(crate) struct Pipeline<Q, A> {
    open: Mutex<Option<Open<Q, A>>>,
    unanswered: Arc<AtomicUsize>,
}

impl<Q: Send + 'static, A: Send + 'static> Pipeline<Q, A> {
    /// Starts the threads. `decide` gives an answer for each question, in their order.
    ///
    /// # Errors
    /// There are no more threads.
    pub(crate) fn start(
        decide: impl Fn(&[Q]) -> Vec<A> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (line, waiting) = sync_channel(MOST_WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let decide = Arc::new(decide);
        let unanswered = Arc::new(AtomicUsize::new(0));
        let deciders = (0..DECIDERS).map(|_| {
            let (waiting, decide) = (Arc::clone(&waiting), Arc::clone(&decide));
            let unanswered = Arc::clone(&unanswered);
            let name = "tapfer-decider".to_owned();
            std::thread::Builder::new().name(name).spawn(move || {
                while let Some(lot) = next_lot(&waiting) {
                    let count = lot.len();
                    answer(&*decide, lot);
                    unanswered.fetch_sub(count, Ordering::Relaxed);
                }
            })
        });
        let deciders = deciders.collect::<io::Result<_>>()?;
        Ok(Self { open: Mutex::new(Some(Open { line, deciders })), unanswered })
    }

    /// Puts a question into the line. Its answer comes, whether or not somebody still waits for it; that there will
    /// be none means that deciding it panicked.
    ///
    /// # Errors
    /// [`NotTaken`]
    pub(crate) fn ask(&self, question: Q) -> Result<oneshot::Receiver<A>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or(NotTaken::Closed)?;
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        let taken = open.line.try_send(Waiting { question, reply });
        taken.map(|()| answer).map_err(|error| {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => NotTaken::Full,
                TrySendError::Disconnected(_) => NotTaken::Closed,
            }
        })
    }

    /// How many have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Takes no more questions, and returns when all that wait are answered.
    pub(crate) fn close(&self) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Open { line, deciders }) = taken {
            drop(line);
            for decider in deciders {
                // One that panicked outside of a decision has nothing to hand over.
                let _ended = decider.join();
            }
        }
    }
}

/// Waits for a question, and takes those that wait behind it. `None` when the line is closed and empty.
fn next_lot<Q, A>(waiting: &Mutex<Receiver<Waiting<Q, A>>>) -> Option<Vec<Waiting<Q, A>>> {
    let waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lot = vec![waiting.recv().ok()?];
    lot.extend(waiting.try_iter().take(MOST_TOGETHER.saturating_sub(1)));
    Some(lot)
}

/// Decides a lot. A panic is not to hurt those beside the one that made it: then each is decided alone.
fn answer<Q, A>(decide: &impl Fn(&[Q]) -> Vec<A>, lot: Vec<Waiting<Q, A>>) {
    let (questions, replies): (Vec<_>, Vec<_>) =
        lot.into_iter().map(|Waiting { question, reply }| (question, reply)).unzip();
    let together = catch_unwind(AssertUnwindSafe(|| decide(&questions)));
    let answers = together.map_or_else(
        |_| questions.iter().map(|question| alone(decide, question)).collect::<Vec<_>>(),
        |answers| answers.into_iter().map(Some).collect(),
    );
    for (reply, answer) in replies.into_iter().zip(answers) {
        if let Some(answer) = answer {
            // Nobody listens any more if the caller hung up; what was decided stands.
            let _unheard = reply.send(answer);
        }
    }
}

fn alone<Q, A>(decide: &impl Fn(&[Q]) -> Vec<A>, question: &Q) -> Option<A> {
    catch_unwind(AssertUnwindSafe(|| decide(slice::from_ref(question)))).ok()?.pop()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{DECIDERS, MOST_TOGETHER, MOST_WAITING, NotTaken, Pipeline};

    /// A pipeline that doubles numbers, panics at 13, and takes a lot only when it is told to. Says how large each
    /// lot was.
    struct Held {
        pipeline: Pipeline<u32, u32>,
        go_on: Sender<()>,
        lots: Receiver<usize>,
    }

    fn held() -> Held {
        let ((go_on, may_go_on), (lot, lots)) = (channel(), channel());
        let (may_go_on, lot) = (Mutex::new(may_go_on), Mutex::new(lot));
        let pipeline = Pipeline::start(move |numbers: &[u32]| {
            lot.lock().unwrap().send(numbers.len()).unwrap();
            let _told = may_go_on.lock().unwrap().recv();
            assert!(!numbers.contains(&13), "on purpose");
            numbers.iter().map(|number| number.saturating_mul(2)).collect()
        });
        Held { pipeline: pipeline.unwrap(), go_on, lots }
    }

    impl Held {
        /// Keeps every decider busy with one question.
        fn busy(&self) {
            for _ in 0..DECIDERS {
                drop(self.pipeline.ask(0).unwrap());
                assert_eq!(self.lots.recv().unwrap(), 1, "alone, it waits for nobody");
            }
        }
    }

    #[test]
    fn what_comes_meanwhile_is_decided_together() {
        let held = held();
        held.busy();
        let asked: Vec<_> = (100..170).map(|number| held.pipeline.ask(number).unwrap()).collect();
        assert_eq!(held.pipeline.unanswered(), DECIDERS + 70);
        (0..DECIDERS + 2).for_each(|_| held.go_on.send(()).unwrap());
        for (number, answer) in (100..).zip(asked) {
            assert_eq!(answer.blocking_recv().unwrap(), 2 * number);
        }
        assert_eq!([held.lots.recv().unwrap(), held.lots.recv().unwrap()], [MOST_TOGETHER, 6]);
    }

    #[test]
    fn a_panic_hurts_nobody_else() {
        let held = held();
        held.busy();
        let asked = [12, 13, 14].map(|number| held.pipeline.ask(number).unwrap());
        drop(held.go_on);
        let [before, panics, behind] = asked.map(|answer| answer.blocking_recv().ok());
        assert_eq!((before, panics, behind), (Some(24), None, Some(28)));
        assert_eq!(held.pipeline.ask(1).unwrap().blocking_recv().unwrap(), 2, "and it goes on");
    }

    #[test]
    fn a_full_line_says_so_and_closing_answers_what_waits() {
        let held = held();
        held.busy();
        let Held { pipeline, go_on, lots: _still_told } = held;
        let asked: Vec<_> = (0..MOST_WAITING).map(|_| pipeline.ask(4).unwrap()).collect();
        assert_eq!(pipeline.ask(4).unwrap_err(), NotTaken::Full);
        drop(go_on);
        pipeline.close();
        assert!(asked.into_iter().all(|answer| answer.blocking_recv().unwrap() == 8));
        assert_eq!((pipeline.ask(4).unwrap_err(), pipeline.unanswered()), (NotTaken::Closed, 0));
    }
}
