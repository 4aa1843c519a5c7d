//! The PIN pad of a till that is a program: the keyboard without an echo, or a file.
//!
//! This is no PIN pad in the sense of PCI PTS: whoever controls the machine sees the PIN (ADR 11).

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use tapfer_payment_types::{Language, Pin};
use zeroize::Zeroizing;

use crate::pin_file;

/// What came of asking.
pub(crate) enum Entered {
    /// A PIN.
    Pin(Pin),
    /// Nobody wanted to enter one: an empty line or file, the end of the input, Ctrl-C.
    Cancelled,
    /// There is neither a keyboard nor a file.
    Nowhere,
}

/// What a file has in place of the person at the keyboard.
///
/// # Errors
/// It can't be read, or holds no PIN.
pub(crate) fn read(file: &Path) -> anyhow::Result<Entered> {
    Ok(pin_file::read_if_any(file)?.map_or(Entered::Cancelled, Entered::Pin))
}

/// Asks whoever sits at the keyboard for a PIN.
///
/// # Errors
/// The keyboard fails.
pub(crate) fn ask(prompt: &str, language: Language) -> anyhow::Result<Entered> {
    if !io::stdin().is_terminal() {
        return Ok(Entered::Nowhere);
    }
    let mut error = io::stderr();
    loop {
        write!(error, "{prompt}: ")?;
        let line = line_without_echo()?;
        writeln!(error)?;
        let text = line.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(CONTROL_C) {
            return Ok(Entered::Cancelled);
        }
        match (text.parse::<Pin>(), language) {
            (Ok(pin), _) => return Ok(Entered::Pin(pin)),
            (Err(error_of_pin), Language::English) => writeln!(error, "{error_of_pin}")?,
            (Err(_), Language::German) => writeln!(error, "eine PIN hat 4 bis 12 Ziffern")?,
        }
    }
}

/// The next PIN on standard input, a line; what is none is skipped. `None` at its end.
///
/// # Errors
/// Standard input fails.
pub(crate) fn next_pin() -> anyhow::Result<Option<Pin>> {
    loop {
        let line = if io::stdin().is_terminal() { line_without_echo()? } else { line()? };
        if line.is_empty() || line.contains(CONTROL_C) {
            return Ok(None);
        }
        if let Ok(pin) = line.trim_end_matches(['\r', '\n']).parse() {
            return Ok(Some(pin));
        }
    }
}

/// What the keyboard sends for Ctrl-C when it does not end the program.
const CONTROL_C: char = '\u{3}';
const CONTROL_C_BYTE: u8 = 3;

/// One line from the keyboard. Ctrl-C ends the line and not the program: that would leave the
/// screen without its echo.
fn line_without_echo() -> anyhow::Result<Zeroizing<String>> {
    let _quiet = Quiet::new()?;
    line()
}

/// One line, a byte at a time and straight from the system, which leaves no second copy in this process: the buffer
/// of `std::io::Stdin` is wiped by nobody. What is longer than any PIN is cut off, and is none.
fn line() -> anyhow::Result<Zeroizing<String>> {
    let mut input = pin_file::standard_input()?;
    let mut line = Zeroizing::new(String::with_capacity(pin_file::LONGEST));
    let mut byte = Zeroizing::new([0]);
    while input.read(&mut *byte)? == 1 {
        let [letter] = *byte;
        if line.len() < pin_file::LONGEST.saturating_sub(1) {
            line.push(char::from(letter));
        }
        if letter == b'\n' {
            break;
        }
    }
    Ok(line)
}

/// The keyboard does not echo until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> anyhow::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VEOL] = CONTROL_C_BYTE;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    /// A screen that is gone needs no echo.
    fn drop(&mut self) {
        let _gone = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
