//! The thread that keeps one worker alive: starts its process, hands its answers out, and starts it again.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zeroize::Zeroizing;

use super::call::decode;
use super::member::Member;
use super::remarks;
use super::shared::{Shared, framed};
use super::slot::{Event, Slot, What};
use super::verbs::mark;
use super::wire::{Answer, GREETING_ID, Greeting, Incoming, PROTOCOL_VERSION};
use super::worker::{Phase, Purpose, Question, Worker};
use crate::HsmError;

/// From the end of a process to the start of the next; doubles while none serves.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The same where each start is a login for nothing: a token that did not say whether it took its PIN may count, and other
/// root keys are not exchanged within a second.
const LONGEST_LOGIN_PAUSE: Duration = Duration::from_secs(30);
/// The socket's buffer, for as much as may be on its way to a worker.
const SOCKET_BUFFER: usize = 1024 * 1024;

/// From one look to the next, whether a refused PIN was put right.
const PIN_LOOK: Duration = Duration::from_secs(1);

/// Number of [`Answer::Done`] in a message.
const DONE: u8 = 0;

/// How one process ended.
struct End {
    cause: String,
    next: Next,
    has_served: bool,
}

/// What follows the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is started again.
    Again,
    /// The same, after longer and longer pauses.
    Later,
    /// It is started again when a person has acted on the PIN: before, it would do harm.
    WhenPinChanges,
    /// It would do no good.
    Never,
}

impl End {
    fn before_serving(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), next: Next::Again, has_served: false }
    }

    fn for_good(cause: impl Into<String>) -> Self {
        Self { next: Next::Never, ..Self::before_serving(cause) }
    }
}

/// Keeps the worker of this place until the pool stops.
pub(super) fn keep(shared: &Shared, place: usize) {
    let Some(worker) = shared.workers.get(place) else { return };
    let Some(member) = shared.member_of(worker) else { return };
    let mut pause = FIRST_PAUSE;
    while !shared.is_stopping() {
        // Before the PIN is read: what changes from here on is seen.
        let stamp = shared.launch.pin_stamp(&member.config);
        let end = live(shared, place, worker, member);
        let next = bury(shared, worker, member, &end);
        if !shared.launch.starts_again() {
            return;
        }
        let longest = match next {
            Next::Again => LONGEST_PAUSE,
            Next::Later => LONGEST_LOGIN_PAUSE,
            Next::WhenPinChanges => {
                while !shared.is_stopping() && shared.launch.pin_stamp(&member.config) == stamp {
                    shared.wait(PIN_LOOK, || false);
                }
                continue;
            }
            Next::Never => return,
        };
        pause = if end.has_served { FIRST_PAUSE } else { pause.saturating_mul(2).min(longest) };
        shared.wait(pause, || false);
    }
}

/// One process from its start to its end.
fn live(shared: &Shared, place: usize, worker: &Worker, member: &Member) -> End {
    let socket = match start(shared, worker, member) {
        Ok(socket) => socket,
        Err(error) => return End::before_serving(format!("cannot start its process: {error}")),
    };
    let mut incoming = Incoming::default();
    if let Err(end) = greet(shared, worker, member, &socket, &mut incoming) {
        return end;
    }
    shared.wake();
    let cause = loop {
        match hand_out(shared, place, worker, member, &mut incoming) {
            Ok(()) => {}
            Err(cause) => break cause,
        }
        match incoming.read_from(&socket) {
            Ok(0) => break String::new(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break error.to_string(),
        }
    };
    End { cause, next: Next::Again, has_served: true }
}

fn start(shared: &Shared, worker: &Worker, member: &Member) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, SOCKET_BUFFER)?;
    let assignment = shared.launch.assignment(&member.config).map_err(std::io::Error::other)?;
    let mut command = shared.launch.command(&member.config);
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
    command.envs(&member.config.environment);
    let listener = shared.launch.listener(&member.config);
    if listener.is_some() {
        command.stderr(Stdio::piped());
    }
    let mut child = command.spawn()?;
    if let (Some(listener), Some(stderr)) = (listener, child.stderr.take())
        && let Err(error) = remarks::listen(stderr, listener)
    {
        let _ended = kill(child);
        return Err(error);
    }
    // With it goes our copy of the worker's end: without, we would never see it close.
    drop(command);
    if let Some(assignment) = assignment {
        let frame = assignment.framed().map_err(std::io::Error::other)?;
        // It fits into the socket's buffer, so this does not wait; a process that is gone already is noticed later.
        let _told = (&ours).write_all(&frame);
    }
    let mut state = worker.state();
    state.life = state.life.saturating_add(1);
    state.phase = Phase::Starting { since: shared.clock.now() };
    state.is_kept_out = false;
    state.child = Some(child);
    if shared.is_stopping() {
        state.end("the pool is closed");
    }
    Ok(ours)
}

/// Waits for the greeting, and lets callers in.
fn greet(
    shared: &Shared,
    worker: &Worker,
    member: &Member,
    socket: &UnixStream,
    incoming: &mut Incoming,
) -> Result<(), End> {
    let greeting =
        first_words(socket, incoming, |message| postcard::from_bytes::<Greeting>(message))?;
    let opened = match greeting {
        Ok(Greeting { version: PROTOCOL_VERSION, opened }) => opened,
        _ => {
            return Err(End::for_good(
                "the program was replaced by another version; start the server again",
            ));
        }
    };
    let module = opened.map_err(|error| refused(&error))?;
    let description = module.description();
    if shared.realm.is_some_and(|realm| realm != (description.realm, description.realm_id)) {
        return Err(End::for_good(
            "its keys belong to another realm; correct the token in hsm.toml and start the server again",
        ));
    }
    let mut state = loop {
        let changes = shared.changes.load(Ordering::SeqCst);
        follow(shared, worker, socket, incoming)?;
        let state = worker.state();
        // Whoever changed the catalogue meanwhile was seen here; whoever changes it from here on finds this one
        // serving, and tells it.
        if shared.changes.load(Ordering::SeqCst) == changes {
            break state;
        }
    };
    member.opened(&module);
    shared.description.get_or_init(|| description);
    if !matches!(state.phase, Phase::Starting { .. }) {
        return Err(End::before_serving(""));
    }
    state.socket =
        Some(socket.try_clone().map_err(|error| End::before_serving(error.to_string()))?);
    state.phase = Phase::Serving;
    state.is_kept_out = false;
    state.cause = None;
    state.last_answer = shared.clock.now();
    state.last_of_module = state.last_answer;
    state.is_memory_locked = Some(module.is_memory_locked);
    Ok(())
}

/// What a worker says before it serves.
fn first_words<T>(
    socket: &UnixStream,
    incoming: &mut Incoming,
    read: impl Fn(&[u8]) -> T,
) -> Result<T, End> {
    loop {
        match incoming.next_frame() {
            Ok(None) => {}
            Ok(Some(frame)) if frame.id == GREETING_ID => return Ok(read(frame.message)),
            Ok(Some(_)) | Err(_) => return Err(End::before_serving("it does not greet")),
        }
        match incoming.read_from(socket) {
            Ok(0) => return Err(End::before_serving("")),
            Ok(_) => {}
            Err(error) => return Err(End::before_serving(error.to_string())),
        }
    }
}

/// Sees that the worker has the newest catalogue that was used, or one that was made from it: what lies on the
/// disk may have been put back since. As long as it has not, it is asked again: to start it anew would be another
/// login, and open the same file. One that does not answer is overdue as if it did not open its module.
///
/// A process does not forget what it was told. Where the database knows another version by now, because custodians have
/// accepted it, one that is still refused leaves its place to one that was told of nothing else.
fn follow(
    shared: &Shared,
    worker: &Worker,
    mut socket: &UnixStream,
    incoming: &mut Incoming,
) -> Result<(), End> {
    let told = shared.told();
    loop {
        let mut followed = Err(HsmError::Internal { operation: "following the catalogue" });
        for request in shared.follow_newest() {
            let frame = framed(&request)
                .ok_or_else(|| End::before_serving("it cannot be asked for its catalogue"))?;
            socket.write_all(&frame).map_err(|error| End::before_serving(error.to_string()))?;
            followed = first_words(socket, incoming, |message| decode(message, &mark))?;
            if followed.is_err() {
                break;
            }
        }
        match followed {
            Ok(used) => {
                shared.remember(&used);
                return Ok(());
            }
            Err(error) => {
                if after(&error) != Next::Again {
                    return Err(refused(&error));
                }
                if shared.told() != told {
                    return Err(End::before_serving(
                        "the database knows another catalogue of keys now",
                    ));
                }
                worker.state().waits_for(&error.to_string(), shared.clock.now());
            }
        }
        shared.wake();
        let half_of_start = shared.limits.start().checked_div(2).unwrap_or_default();
        shared.wait(LONGEST_PAUSE.min(half_of_start), || false);
        if shared.is_stopping() {
            return Err(End::before_serving("the pool is closed"));
        }
    }
}

fn refused(error: &HsmError) -> End {
    End { next: after(error), ..End::before_serving(error.to_string()) }
}

/// What follows a failure. A token counts wrong PINs and locks itself: it is not asked again with the same one.
const fn after(error: &HsmError) -> Next {
    match error {
        HsmError::PinRefused { .. } => Next::WhenPinChanges,
        HsmError::LoginUnclear { .. } | HsmError::WrongRoots { .. } => Next::Later,
        _ => Next::Again,
    }
}

/// Gives every answer that is there to whom it belongs.
fn hand_out(
    shared: &Shared,
    place: usize,
    worker: &Worker,
    member: &Member,
    incoming: &mut Incoming,
) -> Result<(), String> {
    let (mut ids, mut messages) = (Vec::new(), Vec::new());
    while let Some(frame) = incoming.next_frame().map_err(|error| error.to_string())? {
        ids.push(frame.id);
        messages.push(Zeroizing::new(frame.message.to_vec()));
    }
    if ids.is_empty() {
        return Ok(());
    }
    let now = shared.clock.now();
    let questions = worker.answered(&ids, now)?;
    let mut news: Vec<(Arc<Slot>, Event)> = Vec::with_capacity(ids.len());
    let mut unfit: Option<String> = None;
    for (question, message) in questions.into_iter().zip(messages) {
        if let Some(cause) = &unfit {
            lose(question, member, now, cause);
            continue;
        }
        // Most answers say by their first byte that it was done, and are read once, by who asked.
        let failure = if message.first() == Some(&DONE) { None } else { failure_in(&message) };
        match &failure {
            Some(refused @ HsmError::PinRefused { .. }) => {
                worker.state().end_refused(&refused.to_string());
            }
            // It logs in no more; another process does, after pauses that grow.
            Some(unclear @ HsmError::LoginUnclear { .. }) => {
                worker.state().end(&unclear.to_string());
            }
            _ => {}
        }
        match question.purpose {
            Purpose::Call(slot, question) => {
                let what = What::Answered { worker: place, message };
                news.push((slot, Event { question, what }));
            }
            Purpose::Probe => match failure {
                None => {
                    member.breaker().probed(now, Ok(()));
                    shared.wake();
                }
                Some(error) => {
                    let cause = error.to_string();
                    let mut breaker = member.breaker();
                    if breaker.admits() {
                        breaker.failed(now, cause);
                    } else {
                        breaker.probed(now, Err(cause));
                    }
                }
            },
            // A worker that cannot follow the catalogue would answer from an old one from here on.
            Purpose::Refresh => match decode(&message, &mark) {
                Ok(used) => shared.remember(&used),
                Err(error) => unfit = Some(error.to_string()),
            },
        }
    }
    // Answers to one caller's questions stand behind one another mostly, and wake it once.
    let mut news = news.into_iter().peekable();
    while let Some((slot, first)) = news.next() {
        let is_for_it = |(other, _): &(Arc<Slot>, Event)| Arc::ptr_eq(other, &slot);
        let more = std::iter::from_fn(|| news.next_if(is_for_it).map(|(_, event)| event));
        slot.put(std::iter::once(first).chain(more));
    }
    unfit.map_or(Ok(()), Err)
}

fn failure_in(message: &[u8]) -> Option<HsmError> {
    match postcard::from_bytes::<Answer<'_>>(message) {
        Ok(Answer::Done(_)) => None,
        Ok(Answer::Failed(error)) => Some(error),
        Err(_) => Some(HsmError::Internal { operation: "reading a worker's answer" }),
    }
}

/// Sees that the process is gone, tells everybody who still waits for it, and says what follows.
fn bury(shared: &Shared, worker: &Worker, member: &Member, end: &End) -> Next {
    let mut state = worker.state();
    let child = state.child.take();
    let questions = state.abandon();
    drop(state);
    let status = child.and_then(kill);
    let mut state = worker.state();
    // Who ended it has said why already.
    let cause = state.cause.take().filter(|_| state.phase == Phase::Waiting);
    let cause = cause.unwrap_or_else(|| match (&*end.cause, status) {
        ("", Some(status)) => format!("its process ended: {status}"),
        ("", None) => "its process ended".to_owned(),
        (cause, _) => cause.to_owned(),
    });
    state.cause = Some(cause.clone());
    let next = if state.take_refusal() { Next::WhenPinChanges } else { end.next };
    let goes_on = matches!(next, Next::Again | Next::Later);
    state.phase = if goes_on { Phase::Waiting } else { Phase::Halted };
    drop(state);
    let now = shared.clock.now();
    let named = format!("{}: {cause}", member.name());
    if end.has_served && !shared.is_stopping() {
        // Once for a process, however many calls it took along: its sister may be well.
        member.failed(now, cause);
    }
    for question in questions {
        lose(question, member, now, &named);
    }
    shared.wake();
    next
}

/// Tells whoever waits for it that nobody will answer a question any more.
fn lose(question: Question, member: &Member, now: Duration, cause: &str) {
    if matches!(question.purpose, Purpose::Probe) {
        member.breaker().probed(now, Err(cause.to_owned()));
    }
    question.lose(cause);
}

fn kill(mut child: Child) -> Option<ExitStatus> {
    let _may_have_ended = child.kill();
    child.wait().ok()
}

#[cfg(test)]
mod tests;
