//! The worker: one module, served over one socket until the other side is gone.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use zeroize::{Zeroize, Zeroizing};

use super::clock::Stopwatch;
use super::wire::{
    self, Answer, FrameError, GREETING_ID, Greeting, Incoming, Module, PROTOCOL_VERSION, Request,
};
use crate::catalogue::UnverifiedCatalogue;
use crate::{HsmError, PaymentHsm, seclusion};
use tapfer_payment_types::RealmId;

/// Answers to brief questions are kept back for others to go with them while more is to be done, but not longer than
/// this: a write wakes the server, which costs a tenth of a brief operation. Who asks alone is answered at once.
const LONGEST_DELAY: Duration = Duration::from_millis(1);

/// Why a worker ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket.
    #[error("the socket to the server broke: {0}")]
    Socket(#[from] io::Error),
    /// The server is another program.
    #[error("the server does not speak this protocol: {0}")]
    Frame(#[from] FrameError),
    /// The module did not open. The server was told.
    #[error(transparent)]
    Module(HsmError),
}

/// Takes the socket that the pool gave as standard input, and puts nothing in its place, so that a module that
/// reads its standard input finds its end.
///
/// # Errors
/// There is no socket: this process was not started by a pool.
pub fn take_socket() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    let is_socket =
        rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode).is_socket();
    if !is_socket {
        return Err(io::Error::other(
            "this command is run by the server, with a socket as its standard input",
        ));
    }
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

/// Keeps this process's memory out of the swap, and out of the reach of other processes of the same user and
/// of core files; ends it with its parent. Gives whether the memory is locked: a limit (`ulimit -l`) may forbid
/// it, which is reported and no reason not to serve.
///
/// # Errors
/// The system refuses one of the others.
pub fn seclude_process() -> io::Result<bool> {
    seclusion::forbid_looking()?;
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    Ok(seclusion::lock_memory().is_ok())
}

/// Which realm a catalogue says that it is of: the root keys of that realm are looked for on the token, and with
/// them the catalogue is verified.
///
/// # Errors
/// It cannot be read, or is no catalogue.
pub fn realm_of_catalogue(path: &Path) -> Result<RealmId, HsmError> {
    let failed = |cause: String| HsmError::ModuleFailed {
        operation: format!("reading the catalogue {}", path.display()),
        cause,
    };
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let catalogue =
        UnverifiedCatalogue::parse(&bytes).map_err(|fault| failed(fault.to_string()))?;
    Ok(catalogue.realm_id())
}

/// Opens a module, and serves it over the socket until the other side closes it.
///
/// # Errors
/// [`ServeError`].
pub fn serve<H: PaymentHsm>(
    socket: UnixStream,
    is_memory_locked: bool,
    open: impl FnOnce() -> Result<H, HsmError>,
) -> Result<(), ServeError> {
    let mut outgoing = Outgoing::new(&socket);
    let hsm = match open() {
        Ok(hsm) => hsm,
        Err(error) => {
            let text = error.to_string();
            outgoing.greet(Err(error))?;
            let told = HsmError::ModuleFailed { operation: "opening it".to_owned(), cause: text };
            return Err(ServeError::Module(told));
        }
    };
    outgoing.greet(Ok(Module::of(&hsm.describe(), hsm.report(), is_memory_locked)))?;
    let mut incoming = Incoming::default();
    while incoming.read_from(&socket)? > 0 {
        // All that is there is worked off before the system is asked again.
        while let Some(frame) = incoming.next_frame()? {
            let request = postcard::from_bytes::<Request<'_>>(frame.message);
            let is_brief = request.as_ref().is_ok_and(Request::is_brief);
            if !is_brief {
                outgoing.flush()?;
            }
            outgoing.answer(frame.id, request.as_ref().ok(), &hsm)?;
            // The answer to the last question but one goes out, so that more to do comes during the last.
            if !is_brief || !incoming.has_several() || outgoing.is_late() {
                outgoing.flush()?;
            }
        }
    }
    Ok(())
}

/// Answers that wait to be written together.
struct Outgoing<'a> {
    socket: &'a UnixStream,
    buffer: Zeroizing<Vec<u8>>,
    clock: Stopwatch,
    /// When the oldest answer in the buffer was made.
    waiting_since: Option<Duration>,
}

impl<'a> Outgoing<'a> {
    fn new(socket: &'a UnixStream) -> Self {
        Self {
            socket,
            buffer: Zeroizing::new(Vec::with_capacity(64 * 1024)),
            clock: Stopwatch::start(),
            waiting_since: None,
        }
    }

    fn greet(&mut self, opened: Result<Module, HsmError>) -> Result<(), ServeError> {
        let opened = opened.map_err(wire::portable);
        let greeting = Greeting { version: PROTOCOL_VERSION, opened };
        wire::append(&mut self.buffer, GREETING_ID, &greeting)?;
        self.flush()
    }

    /// Does what was asked, and puts the answer behind the others. `None`: it could not be read.
    fn answer(
        &mut self,
        id: u64,
        request: Option<&Request<'_>>,
        hsm: &dyn PaymentHsm,
    ) -> Result<(), ServeError> {
        let mut appended = Ok(());
        let mut append =
            |answer: &Answer<'_>| appended = wire::append(&mut self.buffer, id, answer);
        match request {
            Some(request) => wire::perform(request, hsm, &mut append),
            None => append(&Answer::failed(HsmError::Internal { operation: "reading a request" })),
        }
        self.waiting_since.get_or_insert_with(|| self.clock.now());
        Ok(appended?)
    }

    fn is_late(&self) -> bool {
        let waits = |since| self.clock.now().saturating_sub(since) >= LONGEST_DELAY;
        self.waiting_since.is_some_and(waits)
    }

    fn flush(&mut self) -> Result<(), ServeError> {
        self.waiting_since = None;
        let written = self.socket.write_all(&self.buffer);
        self.buffer.as_mut_slice().zeroize();
        self.buffer.clear();
        Ok(written?)
    }
}
