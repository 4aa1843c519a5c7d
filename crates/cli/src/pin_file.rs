//! A PIN from a file or from standard input: never from the command line, which every process can read.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tapfer_payment_types::Pin;
use zeroize::Zeroizing;

/// Where the person's PIN comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct PinFile {
    /// File with the PIN in its only line; - for standard input
    #[arg(long = "pin-file", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

/// Reads a PIN; its text is wiped.
///
/// # Errors
/// The file can't be read, or what it holds is no PIN.
pub(crate) fn read(path: &Path) -> anyhow::Result<Pin> {
    parse(&text(path)?, path)
}

/// As [`read`]; `None` from an empty file: nobody entered a PIN.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_if_any(path: &Path) -> anyhow::Result<Option<Pin>> {
    let text = text(path)?;
    if text.trim_end_matches(['\r', '\n']).is_empty() {
        return Ok(None);
    }
    parse(&text, path).map(Some)
}

/// Longer than any PIN with its line end.
pub(crate) const LONGEST: usize = 256;

/// Standard input without the buffer of [`std::io::Stdin`], which nobody wipes.
///
/// # Errors
/// It is closed.
pub(crate) fn standard_input() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// What a file has, up to [`LONGEST`] bytes: sized in advance, because growing leaves copies that nobody wipes.
fn text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let read = || -> io::Result<Zeroizing<String>> {
        let file = if path == Path::new("-") { standard_input()? } else { File::open(path)? };
        let mut text = Zeroizing::new(String::with_capacity(LONGEST));
        file.take(LONGEST_TO_READ).read_to_string(&mut text)?;
        Ok(text)
    };
    read().with_context(|| format!("can't read the PIN in {}", path.display()))
}

/// One less than the text has room for, so that its end is found without growing.
const LONGEST_TO_READ: u64 = 255;

fn parse(text: &str, path: &Path) -> anyhow::Result<Pin> {
    let pin = text.trim_end_matches(['\r', '\n']).parse::<Pin>();
    pin.with_context(|| format!("{} holds no PIN", path.display()))
}
