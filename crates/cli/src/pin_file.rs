//! A PIN from a file or from standard input: never from the command line, which every process can read.

use std::io::Read as _;
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

fn text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("the PIN on standard input")?;
    } else {
        let mut file = std::fs::File::open(path)
            .with_context(|| format!("can't read the PIN in {}", path.display()))?;
        file.read_to_string(&mut text)
            .with_context(|| format!("can't read the PIN in {}", path.display()))?;
    }
    Ok(text)
}

fn parse(text: &str, path: &Path) -> anyhow::Result<Pin> {
    let pin = text.trim_end_matches(['\r', '\n']).parse::<Pin>();
    pin.with_context(|| format!("{} holds no PIN", path.display()))
}
