//! Lines typed at the keyboard that nobody may read over a shoulder, in a log, or in freed memory.

use std::io::{self, IsTerminal as _, Read as _};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::Zeroizing;

use crate::pin_file;

/// What the keyboard sends for Ctrl-C when it does not end the program.
const CONTROL_C: char = '\u{3}';
const CONTROL_C_BYTE: u8 = 3;

/// Whether somebody sits at a keyboard.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// One line without echo; `None` if the person pressed Ctrl-C or the input ended. Ctrl-C ends the line and
/// not the program: that would leave the screen without its echo.
///
/// # Errors
/// The keyboard fails.
pub(crate) fn hidden_line() -> io::Result<Option<Zeroizing<String>>> {
    let _quiet = Quiet::new()?;
    line()
}

/// One line with echo, for what is no secret.
///
/// # Errors
/// As [`hidden_line`].
pub(crate) fn visible_line() -> io::Result<Option<Zeroizing<String>>> {
    line()
}

/// A byte at a time and straight from the system, which leaves no second copy in this process: the buffer
/// of `std::io::Stdin` is wiped by nobody. What is longer than any secret is cut off, and is none.
fn line() -> io::Result<Option<Zeroizing<String>>> {
    let mut input = pin_file::standard_input()?;
    let mut line = Zeroizing::new(String::with_capacity(pin_file::LONGEST));
    let mut byte = Zeroizing::new([0]);
    let mut is_over = true;
    while input.read(&mut *byte)? == 1 {
        is_over = false;
        let [letter] = *byte;
        if letter == b'\n' {
            break;
        }
        if line.len() < pin_file::LONGEST.saturating_sub(2) {
            line.push(char::from(letter));
        }
    }
    let given_up = is_over || line.contains(CONTROL_C);
    Ok((!given_up).then_some(line))
}

/// The keyboard does not echo until this is dropped.
struct Quiet(Option<Termios>);

impl Quiet {
    fn new() -> io::Result<Self> {
        if !is_there() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VEOL] = CONTROL_C_BYTE;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Quiet {
    /// A screen that is gone needs no echo.
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _gone = termios::tcsetattr(io::stdin(), OptionalActions::Flush, before);
        }
    }
}
