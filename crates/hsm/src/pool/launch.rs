//! How a worker comes to life: the command of its process, and what it is told before it greets.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::Command;

use tapfer_payment_types::Secret;
use zeroize::Zeroizing;

use super::config::MemberConfig;
use super::serve::ServeError;
use super::wire::{self, FrameError, GREETING_ID, Incoming};
use crate::HsmError;

/// Hears a line of text.
pub type Listener = Box<dyn FnMut(&str) + Send>;

/// Starts the workers of members.
pub trait Launcher: Send + Sync + 'static {
    /// The process, which calls [`super::serve`] on the socket that it finds as its standard input. The pool
    /// adds socket and the member's environment.
    fn command(&self, member: &MemberConfig) -> Command;

    /// What the worker is told over the socket, if it waits for it ([`take_assignment`]).
    ///
    /// # Errors
    /// The PIN is not where it should be: the worker is not started, and soon tried again.
    fn assignment(&self, member: &MemberConfig) -> Result<Option<Assignment>, HsmError> {
        let _nothing = member;
        Ok(None)
    }

    /// Who hears what a worker's process writes to its standard error, line by line: the program itself, and a vendor's
    /// library. `None`: whoever hears this process's.
    fn listener(&self, member: &MemberConfig) -> Option<Listener> {
        let _nothing = member;
        None
    }

    /// Whether a worker is started again when it has ended, whatever was the cause.
    fn starts_again(&self) -> bool {
        true
    }

    /// Something that changes when a person may have put a refused PIN right. A worker that was halted for
    /// it is started again then.
    fn pin_stamp(&self, member: &MemberConfig) -> String {
        let _nothing = member;
        String::new()
    }
}

/// A function that makes the command, of workers that are told nothing.
pub(super) struct Commands<F>(pub(super) F);

impl<F: Fn(&MemberConfig) -> Command + Send + Sync + 'static> Launcher for Commands<F> {
    fn command(&self, member: &MemberConfig) -> Command {
        self.0(member)
    }
}

/// What a worker is told: over the socket, because an environment can be read, and is inherited.
#[derive(Debug)]
pub struct Assignment {
    /// The PIN of its token's user.
    pub pin: Secret<String>,
    /// A person wants a PIN tried again that was refused.
    pub overrules_refusal: bool,
}

impl Assignment {
    /// In a frame.
    pub(super) fn framed(&self) -> Result<Zeroizing<Vec<u8>>, FrameError> {
        let message = (self.overrules_refusal, self.pin.expose().as_str());
        let mut frame = Zeroizing::new(Vec::new());
        wire::append(&mut frame, GREETING_ID, &message)?;
        Ok(frame)
    }
}

/// Takes what the pool tells a worker, before anything is opened.
///
/// # Errors
/// The pool is gone, or is another program.
pub fn take_assignment(socket: &UnixStream) -> Result<Assignment, ServeError> {
    let mut incoming = Incoming::default();
    loop {
        if let Some(frame) = incoming.next_frame()? {
            let read = postcard::from_bytes::<(bool, &str)>(frame.message);
            let nonsense = || io::Error::other("what the server says first is no assignment");
            let (overrules_refusal, pin) =
                read.ok().filter(|_| frame.id == GREETING_ID).ok_or_else(nonsense)?;
            return Ok(Assignment { pin: Secret::new(pin.to_owned()), overrules_refusal });
        }
        if incoming.read_from(socket)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}
