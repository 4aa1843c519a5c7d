//! The PIN pad of a till that is a program: the keyboard without an echo, or a file.
//!
//! This is no PIN pad in the sense of PCI PTS: whoever controls the machine sees the PIN (ADR 11).

use std::io::{self, Write as _};
use std::path::Path;

use tapfer_payment_types::{Language, Pin};

use crate::{keyboard, pin_file};

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
    if !keyboard::is_there() {
        return Ok(Entered::Nowhere);
    }
    let mut error = io::stderr();
    loop {
        write!(error, "{prompt}: ")?;
        let line = keyboard::hidden_line()?;
        writeln!(error)?;
        let Some(text) = line.as_deref().map(|line| line.trim_end_matches('\r')) else {
            return Ok(Entered::Cancelled);
        };
        if text.is_empty() {
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
        let Some(line) = keyboard::hidden_line()? else { return Ok(None) };
        if let Ok(pin) = line.trim_end_matches('\r').parse() {
            return Ok(Some(pin));
        }
    }
}
