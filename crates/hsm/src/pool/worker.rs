//! One worker process as the pool sees it: what it was asked and has not answered yet, and how it lives.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::SendFlags;
use zeroize::{Zeroize, Zeroizing};

use super::config::Limits;
use super::order::Latency;
use super::slot::{Event, Slot, What};
use super::status::WorkerStatus;
use super::wire;

/// So many questions may be on their way to one worker. With [`MOST_BYTES`] they fit into the socket's buffer, so
/// that writing never waits.
const MOST_QUESTIONS: usize = 128;
/// And so many bytes of them, but for one large question alone.
const MOST_BYTES: usize = 48 * 1024;
/// A worker that has so many questions to go on with gets the next ones together, when an answer comes.
const AHEAD: usize = 8;

/// A worker of a member.
pub(super) struct Worker {
    /// The member's place in the pool.
    pub(super) member: usize,
    state: Mutex<State>,
}

/// What changes about a worker.
pub(super) struct State {
    pub(super) phase: Phase,
    /// The how manyth process this is.
    pub(super) life: u64,
    pub(super) child: Option<Child>,
    pub(super) socket: Option<UnixStream>,
    unanswered: VecDeque<Question>,
    unanswered_bytes: usize,
    /// The frames of the last `unsent` of them, which are not written yet.
    outgoing: Zeroizing<Vec<u8>>,
    unsent: usize,
    next_id: u64,
    pub(super) last_answer: Duration,
    /// When its module was last heard of, in good or in bad.
    pub(super) last_of_module: Duration,
    latency: Latency,
    answered: u64,
    pub(super) is_memory_locked: Option<bool>,
    /// It has opened its module, and its catalogue does not come from what was used.
    pub(super) is_kept_out: bool,
    pub(super) cause: Option<String>,
    /// It was ended because its token refused the PIN.
    is_refused: bool,
}

/// Where in its life a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It opens its module, or waits for a catalogue that it can use; since when it owes an answer.
    Starting { since: Duration },
    /// It answers.
    Serving,
    /// It will be started again.
    Waiting,
    /// A person has to act first.
    Halted,
}

/// One question on its way.
pub(super) struct Question {
    id: u64,
    pub(super) purpose: Purpose,
    sent_at: Duration,
    bytes: usize,
    /// After this it is overdue.
    patience: Duration,
    asks_module: bool,
}

/// What a question is for.
#[derive(Clone)]
pub(super) enum Purpose {
    /// A caller waits for the answer: which one of its questions this is.
    Call(Arc<Slot>, usize),
    /// To see whether the member serves.
    Probe,
    /// The catalogue has changed.
    Refresh,
}

/// How a worker stands, for choosing one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) life: u64,
    pub(super) waiting: usize,
    pub(super) latency: Latency,
}

/// Why a worker cannot be asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It owes as many answers as it may, in this life.
    Full(u64),
    /// It does not serve, for this reason.
    Away(String),
}

impl Worker {
    pub(super) fn new(member: usize, now: Duration) -> Self {
        Self {
            member,
            state: Mutex::new(State {
                phase: Phase::Starting { since: now },
                life: 0,
                child: None,
                socket: None,
                unanswered: VecDeque::new(),
                unanswered_bytes: 0,
                outgoing: Zeroizing::default(),
                unsent: 0,
                next_id: wire::GREETING_ID.saturating_add(1),
                last_answer: now,
                last_of_module: now,
                latency: Latency::new(now),
                answered: 0,
                is_memory_locked: None,
                is_kept_out: false,
                cause: None,
                is_refused: false,
            }),
        }
    }

    /// Held for a look or one write that does not wait, never while waiting.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks at once.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn ask(&self, frame: &[u8], question: Question) -> Result<(), String> {
        self.enqueue(None, frame, question)?;
        self.send();
        Ok(())
    }

    /// Puts a question behind the others, if this is still the life that was chosen. It is on its way with the next
    /// [`Worker::send`], or when an answer comes. `frame` is the request in a frame, under any id.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn enqueue(
        &self,
        life: Option<u64>,
        frame: &[u8],
        mut question: Question,
    ) -> Result<(), String> {
        let mut state = self.state();
        if state.phase != Phase::Serving || life.is_some_and(|life| life != state.life) {
            return Err(state.why_away());
        }
        question.id = state.next_id;
        question.bytes = frame.len();
        state.next_id = state.next_id.wrapping_add(1);
        wire::append_frame(&mut state.outgoing, frame, question.id);
        state.unanswered_bytes = state.unanswered_bytes.saturating_add(question.bytes);
        state.unanswered.push_back(question);
        state.unsent = state.unsent.saturating_add(1);
        Ok(())
    }

    /// Sends what has gathered, unless the worker has enough to go on with. One that does not take it is ended; whoever
    /// asked it is told by its keeper.
    pub(super) fn send(&self) {
        let mut state = self.state();
        if state.sent() < AHEAD {
            state.send();
        }
    }

    /// Whether it can be asked one more.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn standing(&self, now: Duration, limits: &Limits) -> Result<Standing, Unfit> {
        let state = self.state();
        if state.phase != Phase::Serving {
            return Err(Unfit::Away(state.why_away()));
        }
        if let Some(silence) = state.silence(now)
            && silence >= limits.silent_after()
        {
            return Err(Unfit::Away(format!("no answer for {} ms", silence.as_millis())));
        }
        let waiting = state.unanswered.len();
        if waiting >= MOST_QUESTIONS || (waiting > 0 && state.unanswered_bytes >= MOST_BYTES) {
            return Err(Unfit::Full(state.life));
        }
        Ok(Standing { life: state.life, waiting, latency: state.latency })
    }

    /// Takes the questions that these answers belong to, and sends what has gathered meanwhile, all under one lock.
    ///
    /// # Errors
    /// Why the worker is to be ended: nothing was taken, and whoever waits for it is told.
    pub(super) fn answered(&self, ids: &[u64], now: Duration) -> Result<Vec<Question>, String> {
        let mut state = self.state();
        let mut pairs = state.unanswered.iter().zip(ids);
        if ids.len() > state.sent() || pairs.any(|(question, id)| question.id != *id) {
            return Err("it answers what it was not asked".to_owned());
        }
        let oldest = state.unanswered.front().map_or(now, |question| question.sent_at);
        let begun = oldest.max(state.last_answer);
        let questions: Vec<_> = state.unanswered.drain(..ids.len()).collect();
        let bytes = questions.iter().map(|question| question.bytes).sum();
        state.unanswered_bytes = state.unanswered_bytes.saturating_sub(bytes);
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let each = now.saturating_sub(begun).checked_div(count).unwrap_or_default();
        state.latency.measured(now, each, ids.len());
        state.last_answer = now;
        if questions.iter().any(|question| question.asks_module) {
            state.last_of_module = now;
        }
        state.answered = state.answered.saturating_add(u64::from(count));
        state.send();
        Ok(questions)
    }

    pub(super) fn status(&self) -> WorkerStatus {
        let state = self.state();
        WorkerStatus {
            state: state.phase.name(),
            process: state.child.as_ref().map(Child::id),
            is_memory_locked: state.is_memory_locked,
            waiting: state.unanswered.len(),
            answered: state.answered,
            restarts: state.life.saturating_sub(1),
            latency_micros: (state.answered > 0)
                .then(|| u64::try_from(state.latency.mean().as_micros()).unwrap_or(u64::MAX)),
            cause: state.cause.clone(),
        }
    }
}

impl State {
    /// How many questions the worker has.
    fn sent(&self) -> usize {
        self.unanswered.len().saturating_sub(self.unsent)
    }

    /// Writes what was not written yet, at once or never.
    fn send(&mut self) {
        let Some(socket) = self.socket.as_ref().filter(|_| self.unsent > 0) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(socket, &self.outgoing, flags);
        let is_whole = sent.is_ok_and(|sent| sent == self.outgoing.len());
        self.forget_outgoing();
        if !is_whole {
            // What went out in part cannot be taken back, and what does not fit was not read for long.
            self.end("it does not read what it is asked");
        }
    }

    fn forget_outgoing(&mut self) {
        self.outgoing.as_mut_slice().zeroize();
        self.outgoing.clear();
        self.unsent = 0;
    }

    /// How long the oldest question has been waiting, beyond what it may take by itself.
    fn silence(&self, now: Duration) -> Option<Duration> {
        let oldest = self.unanswered.front()?;
        // The worker came to it when it had answered the one before.
        let waited = now.saturating_sub(oldest.sent_at.max(self.last_answer));
        Some(waited.saturating_sub(oldest.patience))
    }

    /// Why it should be ended, if it should.
    pub(super) fn overdue(&self, now: Duration, limits: &Limits) -> Option<String> {
        match self.phase {
            Phase::Starting { since } => {
                let waited = now.saturating_sub(since);
                (self.child.is_some() && waited >= limits.start())
                    .then(|| format!("it did not open its module in {} ms", limits.start_ms))
            }
            Phase::Serving => self
                .silence(now)
                .filter(|silence| *silence >= limits.stalled_after())
                .map(|silence| format!("it did not answer for {} ms", silence.as_millis())),
            Phase::Waiting | Phase::Halted => None,
        }
    }

    /// It has opened its module, has just said so, and cannot serve yet for this reason.
    pub(super) fn waits_for(&mut self, cause: &str, now: Duration) {
        if let Phase::Starting { since } = &mut self.phase {
            *since = now;
            self.cause = Some(cause.to_owned());
            self.is_kept_out = true;
        }
    }

    /// Whether nothing was asked of its module for so long.
    pub(super) fn is_idle(&self, now: Duration, so_long: Duration) -> bool {
        self.phase == Phase::Serving
            && !self.unanswered.iter().any(|question| question.asks_module)
            && now.saturating_sub(self.last_of_module) >= so_long
    }

    /// Ends the process; its keeper sees the socket close.
    pub(super) fn end(&mut self, cause: &str) {
        self.cause = Some(cause.to_owned());
        self.phase = Phase::Waiting;
        if let Some(child) = &mut self.child {
            // An error says that it has ended by itself.
            let _ended = child.kill();
        }
    }

    /// Ends the process, whose token has refused the PIN.
    pub(super) fn end_refused(&mut self, cause: &str) {
        self.end(cause);
        self.is_refused = true;
    }

    /// Whether the process that is gone was ended for its PIN.
    pub(super) const fn take_refusal(&mut self) -> bool {
        core::mem::replace(&mut self.is_refused, false)
    }

    /// The questions that nobody will answer any more.
    pub(super) fn abandon(&mut self) -> VecDeque<Question> {
        self.socket = None;
        self.unanswered_bytes = 0;
        self.forget_outgoing();
        core::mem::take(&mut self.unanswered)
    }

    fn why_away(&self) -> String {
        let state = self.phase.name();
        self.cause
            .as_ref()
            .map_or_else(|| format!("its worker is {state}"), |cause| format!("{cause} ({state})"))
    }
}

impl Question {
    pub(super) const fn new(purpose: Purpose, now: Duration, patience: Duration) -> Self {
        let asks_module = !matches!(purpose, Purpose::Refresh);
        Self { id: wire::GREETING_ID, purpose, sent_at: now, bytes: 0, patience, asks_module }
    }

    /// The same, where the answer may come from the catalogue alone.
    pub(super) fn about_module(self, asks_module: bool) -> Self {
        Self { asks_module, ..self }
    }

    /// Tells the caller, if there is one, that the worker is gone.
    pub(super) fn lose(self, cause: &str) {
        if let Purpose::Call(slot, question) = self.purpose {
            slot.put([Event { question, what: What::Lost { cause: cause.to_owned() } }]);
        }
    }
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Serving => "serving",
            Self::Waiting => "waiting",
            Self::Halted => "halted",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::{AHEAD, Phase, Purpose, Question, Worker};
    use crate::pool::config::Limits;
    use crate::pool::slot::{Slot, What};
    use crate::pool::wire::{self, Incoming, Request};

    const NOW: Duration = Duration::from_secs(60);

    /// A worker that serves, and the other end of its socket.
    fn serving() -> (Worker, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let worker = Worker::new(0, NOW);
        let mut state = worker.state();
        state.phase = Phase::Serving;
        state.socket = Some(ours);
        drop(state);
        (worker, theirs)
    }

    fn ask(worker: &Worker, slot: &Arc<Slot>, questions: usize) {
        let mut frame = Zeroizing::new(Vec::new());
        wire::append(&mut frame, 0, &Request::Health).unwrap();
        for place in 0..questions {
            let purpose = Purpose::Call(Arc::clone(slot), place);
            worker.ask(&frame, Question::new(purpose, NOW, Duration::ZERO)).unwrap();
        }
    }

    fn arrived(socket: &UnixStream) -> Vec<u64> {
        let (mut incoming, mut ids) = (Incoming::default(), Vec::new());
        while incoming.read_from(socket).is_ok_and(|read| read > 0) {
            while let Some(frame) = incoming.next_frame().unwrap() {
                ids.push(frame.id);
            }
        }
        ids
    }

    #[test]
    fn who_has_enough_to_do_gets_the_next_questions_together() {
        let (worker, socket) = serving();
        ask(&worker, &Arc::default(), AHEAD.saturating_add(5));
        let first = arrived(&socket);
        assert_eq!(first.len(), AHEAD, "the rest would only wait there");
        assert_eq!(worker.answered(&first[..1], NOW).unwrap().len(), 1);
        let rest = arrived(&socket);
        assert_eq!(rest.len(), 5, "on their way with the first answer");
        assert!(first.iter().chain(&rest).is_sorted());
        assert_eq!(worker.answered(&first[1..], NOW).unwrap().len(), AHEAD - 1);
        assert_eq!(worker.answered(&rest, NOW).unwrap().len(), 5);
    }

    /// It has answered, so it does not hang, and to start it anew would be another login.
    #[test]
    fn who_waits_for_the_newest_catalogue_is_overdue_when_it_answers_no_more() {
        let worker = Worker::new(0, NOW);
        let limits = Limits::default();
        let mut state = worker.state();
        state.child = Some(std::process::Command::new("true").spawn().unwrap());
        let moment = Duration::from_millis(1);
        assert!(state.overdue(NOW + limits.start() - moment, &limits).is_none());
        assert!(state.overdue(NOW + limits.start(), &limits).is_some());
        let mut last = NOW;
        for _ in 0..3 {
            last += limits.start() - moment;
            assert!(state.overdue(last, &limits).is_none());
            state.waits_for("an old copy was put in its place", last);
        }
        assert!(state.overdue(last + limits.start(), &limits).is_some());
        state.child.take().unwrap().wait().unwrap();
    }

    #[test]
    fn an_answer_to_what_was_not_asked_takes_no_question_away() {
        let (worker, socket) = serving();
        let slot = Arc::<Slot>::default();
        ask(&worker, &slot, 3);
        let ids = arrived(&socket);
        for wrong in [vec![ids[1]], vec![ids[0], ids[2]], vec![ids[0], ids[1], ids[2], 99], vec![0]]
        {
            assert!(worker.answered(&wrong, NOW).is_err(), "{wrong:?}");
        }
        let abandoned = worker.state().abandon();
        abandoned.into_iter().for_each(|question| question.lose("it lies"));
        let mut told: Vec<_> = slot
            .take(1, Duration::ZERO)
            .into_iter()
            .filter(|event| matches!(&event.what, What::Lost { cause } if cause == "it lies"))
            .map(|event| event.question)
            .collect();
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2]);
    }
}
