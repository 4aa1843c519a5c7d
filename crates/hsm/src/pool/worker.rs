//! One worker process as the pool sees it: what it was asked and has not answered yet, and how it lives.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::SendFlags;
use zeroize::Zeroizing;

use super::config::Limits;
use super::order::Latency;
use super::slot::{Event, Slot};
use super::status::WorkerStatus;
use super::wire;

/// So many questions may be on their way to one worker. With [`MOST_BYTES`] they fit into the socket's buffer, so
/// that writing never waits.
const MOST_QUESTIONS: usize = 128;
/// And so many bytes of them, but for one large question alone.
const MOST_BYTES: usize = 48 * 1024;

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
    next_id: u64,
    pub(super) last_answer: Duration,
    latency: Latency,
    answered: u64,
    pub(super) is_memory_locked: bool,
    pub(super) cause: Option<String>,
}

/// Where in its life a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It opens its module.
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
}

/// What a question is for.
#[derive(Clone)]
pub(super) enum Purpose {
    /// A caller waits for the answer.
    Call(Arc<Slot>),
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
    /// It owes as many answers as it may.
    Full,
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
                next_id: wire::GREETING_ID.saturating_add(1),
                last_answer: now,
                latency: Latency::new(now),
                answered: 0,
                is_memory_locked: false,
                cause: None,
            }),
        }
    }

    /// Held for a look or one write that does not wait, never while waiting.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a question, if this is still the life that was chosen. `frame` is the request in a frame; its id is
    /// put in here.
    ///
    /// # Errors
    /// Why not. The worker is ended then, unless it is another life.
    pub(super) fn ask(
        &self,
        life: Option<u64>,
        frame: &mut Zeroizing<Vec<u8>>,
        purpose: Purpose,
        now: Duration,
        patience: Duration,
    ) -> Result<(), String> {
        let mut state = self.state();
        if state.phase != Phase::Serving || life.is_some_and(|life| life != state.life) {
            return Err(state.why_away());
        }
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        wire::set_id(frame, id);
        let Some(socket) = &state.socket else { return Err(state.why_away()) };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(socket, frame, flags) {
            Ok(sent) if sent == frame.len() => {}
            // What went out in part cannot be taken back, and what does not fit was not read for long.
            _ => {
                state.end("it does not read what it is asked");
                return Err(state.why_away());
            }
        }
        let bytes = frame.len();
        state.unanswered_bytes = state.unanswered_bytes.saturating_add(bytes);
        state.unanswered.push_back(Question { id, purpose, sent_at: now, bytes, patience });
        Ok(())
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
            return Err(Unfit::Full);
        }
        Ok(Standing { life: state.life, waiting, latency: state.latency })
    }

    /// Takes the questions that these answers belong to, all under one lock. `None`: the worker answered what it
    /// was not asked.
    pub(super) fn answered(&self, ids: &[u64], now: Duration) -> Option<Vec<Question>> {
        let mut state = self.state();
        let mut questions = Vec::with_capacity(ids.len());
        let begun = state.unanswered.front()?.sent_at.max(state.last_answer);
        for id in ids {
            let question = state.unanswered.pop_front().filter(|question| question.id == *id)?;
            state.unanswered_bytes = state.unanswered_bytes.saturating_sub(question.bytes);
            questions.push(question);
        }
        let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let each = now.saturating_sub(begun).checked_div(count).unwrap_or_default();
        state.latency.measured(now, each, ids.len());
        state.last_answer = now;
        state.answered = state.answered.saturating_add(u64::from(count));
        Some(questions)
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
            latency_micros: u64::try_from(state.latency.mean().as_micros()).unwrap_or(u64::MAX),
            cause: state.cause.clone(),
        }
    }
}

impl State {
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

    /// Whether nothing was asked of it for so long.
    pub(super) fn is_idle(&self, now: Duration, so_long: Duration) -> bool {
        self.phase == Phase::Serving
            && self.unanswered.is_empty()
            && now.saturating_sub(self.last_answer) >= so_long
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

    /// The questions that nobody will answer any more.
    pub(super) fn abandon(&mut self) -> VecDeque<Question> {
        self.socket = None;
        self.unanswered_bytes = 0;
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
    /// Tells the caller, if there is one, that the worker is gone.
    pub(super) fn lose(self, cause: &str) {
        if let Purpose::Call(slot) = self.purpose {
            slot.put(Event::Lost { cause: cause.to_owned() });
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
