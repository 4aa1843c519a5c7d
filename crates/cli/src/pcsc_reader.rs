//! Real and virtual card readers over PC/SC.

use std::ffi::CString;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use pcsc::{Card, Context, Error, Protocols, ReaderState, Scope, ShareMode, State};

use crate::failure::UsageError;
use crate::tap::CardReader;

/// A card in a reader.
pub(crate) struct PcscReader {
    card: Card,
    buffer: Vec<u8>,
}

impl PcscReader {
    /// Connects to the card in the named reader, waiting for one to come.
    ///
    /// `name` is the reader's name, or a part of it; if several readers have it, the one with a card.
    ///
    /// # Errors
    /// No smart-card service, no such reader, no card in time; each says what to do.
    pub(crate) fn connect(name: &str, patience: Duration) -> anyhow::Result<Self> {
        let context = establish()?;
        let reader = choose(&context, name)?;
        wait_for_card(&context, &reader, patience)?;
        let card = open(&context, &reader).map_err(explain)?;
        Ok(Self { card, buffer: vec![0; pcsc::MAX_BUFFER_SIZE_EXTENDED] })
    }
}

impl CardReader for PcscReader {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let answer = self.card.transmit(command, &mut self.buffer).map_err(explain)?;
        Ok(answer.to_vec())
    }
}

/// Contactless cards speak T=1 to PC/SC; an ATR that offers T=0 as well must not mislead.
fn open(context: &Context, reader: &CString) -> Result<Card, Error> {
    match context.connect(reader, ShareMode::Shared, Protocols::T1) {
        Err(Error::ProtoMismatch | Error::UnsupportedCard) => {
            context.connect(reader, ShareMode::Shared, Protocols::ANY)
        }
        other => other,
    }
}

/// The names of all readers, none if there are none.
///
/// # Errors
/// No smart-card service.
pub(crate) fn reader_names() -> anyhow::Result<Vec<String>> {
    names(&establish()?)
}

fn establish() -> anyhow::Result<Context> {
    Context::establish(Scope::User).map_err(explain)
}

fn names(context: &Context) -> anyhow::Result<Vec<String>> {
    match context.list_readers_owned() {
        Ok(names) => Ok(names.iter().map(|name| name.to_string_lossy().into_owned()).collect()),
        Err(Error::NoReadersAvailable) => Ok(Vec::new()),
        Err(error) => Err(explain(error)),
    }
}

fn choose(context: &Context, wanted: &str) -> anyhow::Result<CString> {
    let names = names(context)?;
    let exact = names.iter().map(String::as_str).find(|name| *name == wanted);
    let partly: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| name.to_lowercase().contains(&wanted.to_lowercase()))
        .collect();
    let chosen = match (exact, partly.as_slice()) {
        (Some(name), _) | (None, &[name]) => name,
        (None, []) if names.is_empty() => {
            bail!(
                "no card reader is connected: plug one in, or install the virtual one (vsmartcard-vpcd)"
            )
        }
        (None, []) => {
            bail!(UsageError(format!("no reader \"{wanted}\"; there are: {}", names.join(", "))))
        }
        (None, several) => match with_card(context, several)?.as_slice() {
            &[name] => name,
            _ => bail!(UsageError(format!(
                "several readers match \"{wanted}\": {}; name one of them in full",
                several.join(", ")
            ))),
        },
    };
    CString::new(chosen).context("reader name")
}

/// Those of the readers in which a card lies now.
fn with_card<'n>(context: &Context, names: &[&'n str]) -> anyhow::Result<Vec<&'n str>> {
    let mut states = Vec::new();
    for name in names {
        states.push(ReaderState::new(CString::new(*name)?, State::UNAWARE));
    }
    context.get_status_change(Duration::ZERO, &mut states).map_err(explain)?;
    let states = states.iter().zip(names);
    let present = states.filter(|(state, _)| state.event_state().contains(State::PRESENT));
    Ok(present.map(|(_, name)| *name).collect())
}

fn wait_for_card(context: &Context, reader: &CString, patience: Duration) -> anyhow::Result<()> {
    let mut states = [ReaderState::new(reader.clone(), State::UNAWARE)];
    loop {
        match context.get_status_change(patience, &mut states) {
            Ok(()) => {}
            Err(Error::Timeout) => bail!(
                "no card came to the reader in {} seconds: hold it to the reader and start again",
                patience.as_secs()
            ),
            Err(error) => return Err(explain(error)),
        }
        for state in &mut states {
            if state.event_state().contains(State::PRESENT) {
                return Ok(());
            }
            state.sync_current_state();
        }
    }
}

/// What a PC/SC error means and what to do about it.
fn explain(error: Error) -> anyhow::Error {
    let advice = match error {
        Error::NoService | Error::ServiceStopped => {
            "the smart-card service is not running: start it with `sudo systemctl start pcscd`, \
             or `sudo pcscd` where there is no systemd"
        }
        Error::NoReadersAvailable | Error::UnknownReader | Error::ReaderUnavailable => {
            "the reader is gone: connect it again"
        }
        Error::NoSmartcard | Error::RemovedCard | Error::ResetCard => {
            "the card left the field: hold it still and tap again"
        }
        Error::SharingViolation => "another program is using the card: close it and tap again",
        Error::UnresponsiveCard | Error::UnpoweredCard | Error::UnsupportedCard => {
            "the card does not answer: it may be no smart card, or not have had enough field"
        }
        Error::ProtoMismatch => "the card speaks none of the protocols T=0 and T=1",
        _ => "unexpected answer from the smart-card service; `tapfer doctor` looks further",
    };
    anyhow!("{advice} ({error})")
}
