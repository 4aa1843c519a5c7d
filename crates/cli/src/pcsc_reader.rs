//! Real and virtual card readers over PC/SC.

use std::ffi::CString;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use pcsc::{Card, Context, Error, Protocols, ReaderState, Scope, ShareMode, State};
use tapfer_payment_types::Language;

use crate::clock;
use crate::failure::UsageError;
use crate::tap::CardReader;

/// The field of one reader, or of several whose names are alike, such as the two antennas of one device.
pub(crate) struct PcscReader {
    context: Context,
    readers: Vec<CString>,
    /// The card that is spoken to, from the first command on.
    card: Option<Card>,
    buffer: Vec<u8>,
}

impl PcscReader {
    /// Waits for a card to come to the named reader.
    ///
    /// `name` is the reader's name, or a part of it; several readers that have it are one field.
    ///
    /// # Errors
    /// No smart-card service, no such reader, no card in time; each says what to do.
    pub(crate) fn connect(name: &str, patience: Duration) -> anyhow::Result<Self> {
        let context = establish()?;
        let readers = choose(&context, name)?;
        let buffer = vec![0; pcsc::MAX_BUFFER_SIZE_EXTENDED];
        let field = Self { context, readers, card: None, buffer };
        if !field.wait_until(|cards| cards > 0, patience)? {
            bail!(FieldError::Empty(patience));
        }
        Ok(field)
    }

    /// The readers, with the state in which they are now.
    fn states(&self) -> anyhow::Result<Vec<ReaderState>> {
        let fresh = |reader: &CString| ReaderState::new(reader.clone(), State::UNAWARE);
        let mut states: Vec<ReaderState> = self.readers.iter().map(fresh).collect();
        self.context.get_status_change(Duration::ZERO, &mut states).map_err(explain)?;
        Ok(states)
    }

    /// Waits until as many cards are in the field; `false` if that takes too long.
    fn wait_until(
        &self,
        is_enough: impl Fn(usize) -> bool,
        patience: Duration,
    ) -> anyhow::Result<bool> {
        let until = clock::instant().checked_add(patience).context("a very long patience")?;
        let mut states = self.states()?;
        while !is_enough(present(&states).count()) {
            states.iter_mut().for_each(ReaderState::sync_current_state);
            let left = until.saturating_duration_since(clock::instant());
            match self.context.get_status_change(left, &mut states) {
                Ok(()) => {}
                Err(Error::Timeout) => return Ok(false),
                Err(error) => return Err(explain(error)),
            }
        }
        Ok(true)
    }
}

/// The readers in which a card lies.
fn present(states: &[ReaderState]) -> impl Iterator<Item = &ReaderState> {
    states.iter().filter(|state| state.event_state().contains(State::PRESENT))
}

impl CardReader for PcscReader {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        if self.card.is_none() {
            let states = self.states()?;
            let reader = present(&states).next().map(ReaderState::name);
            let reader = reader.ok_or_else(|| explain(Error::NoSmartcard))?;
            self.card = Some(open(&self.context, &reader.to_owned()).map_err(explain)?);
        }
        let card = self.card.as_ref().context("the card is gone")?;
        let answer = card.transmit(command, &mut self.buffer).map_err(explain)?;
        Ok(answer.to_vec())
    }

    fn sees_several(&mut self) -> anyhow::Result<bool> {
        Ok(self.readers.len() > 1 && present(&self.states()?).count() > 1)
    }

    fn present_again(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let until = clock::instant().checked_add(patience).context("a very long patience")?;
        self.card = None;
        let is_empty = self.wait_until(|cards| cards == 0, patience)?;
        let left = until.saturating_duration_since(clock::instant());
        Ok(is_empty && self.wait_until(|cards| cards > 0, left)?)
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

/// The reader of that name, or else all whose names have it in them.
fn choose(context: &Context, wanted: &str) -> anyhow::Result<Vec<CString>> {
    let names = names(context)?;
    let exact = names.iter().map(String::as_str).find(|name| *name == wanted);
    let partly: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| name.to_lowercase().contains(&wanted.to_lowercase()))
        .collect();
    let chosen = match (exact, partly.as_slice()) {
        (Some(name), _) => vec![name],
        (None, []) if names.is_empty() => {
            bail!(
                "no card reader is connected: plug one in, or install the virtual one (vsmartcard-vpcd)"
            )
        }
        (None, []) => {
            bail!(UsageError(format!("no reader \"{wanted}\"; there are: {}", names.join(", "))))
        }
        (None, several) => several.to_vec(),
    };
    chosen.into_iter().map(|name| CString::new(name).context("reader name")).collect()
}

/// What is wrong in the field or with the reader, and the cashier can mend. Other errors are for whoever set the
/// machine up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldError {
    /// Nobody held a card there in this time.
    Empty(Duration),
    /// The card was taken away.
    CardLeft(Error),
    /// Something lies there and says nothing.
    CardSilent(Error),
    /// The reader was unplugged.
    ReaderGone(Error),
}

impl FieldError {
    /// What it is and what to do, in the cashier's language.
    pub(crate) fn text(self, language: Language) -> String {
        let (english, german, error) = match self {
            Self::Empty(patience) => {
                let seconds = patience.as_secs();
                return match language {
                    Language::English => format!(
                        "no card came to the reader in {seconds} seconds: hold it to the reader and start again"
                    ),
                    Language::German => format!(
                        "in {seconds} Sekunden kam keine Karte an den Leser: vorhalten und neu beginnen"
                    ),
                };
            }
            Self::CardLeft(error) => (
                "the card left the field: hold it still and tap again",
                "die Karte hat das Feld verlassen: stillhalten und erneut vorhalten",
                error,
            ),
            Self::CardSilent(error) => (
                "the card does not answer: it may be no smart card, or not have had enough field",
                "die Karte antwortet nicht: vielleicht ist es keine Chipkarte, oder sie war zu weit weg",
                error,
            ),
            Self::ReaderGone(error) => (
                "the reader is gone: connect it again",
                "der Leser ist weg: wieder anschließen",
                error,
            ),
        };
        match language {
            Language::English => format!("{english} ({error})"),
            Language::German => format!("{german} ({error})"),
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Language::English))
    }
}

impl std::error::Error for FieldError {}

/// What a PC/SC error means and what to do about it.
fn explain(error: Error) -> anyhow::Error {
    let advice = match error {
        Error::NoService | Error::ServiceStopped => {
            "the smart-card service is not running: start it with `sudo systemctl start pcscd`, \
             or `sudo pcscd` where there is no systemd"
        }
        Error::NoReadersAvailable | Error::UnknownReader | Error::ReaderUnavailable => {
            return FieldError::ReaderGone(error).into();
        }
        Error::NoSmartcard | Error::RemovedCard | Error::ResetCard => {
            return FieldError::CardLeft(error).into();
        }
        Error::UnresponsiveCard | Error::UnpoweredCard | Error::UnsupportedCard => {
            return FieldError::CardSilent(error).into();
        }
        Error::SharingViolation => "another program is using the card: close it and tap again",
        Error::ProtoMismatch => "the card speaks none of the protocols T=0 and T=1",
        _ => "unexpected answer from the smart-card service; `tapfer doctor` looks further",
    };
    anyhow!("{advice} ({error})")
}

#[cfg(test)]
mod tests {
    use super::{FieldError, explain};
    use pcsc::Error;
    use tapfer_payment_types::Language;

    #[test]
    fn what_the_cashier_can_mend_is_said_in_both_languages() {
        for (error, english, german) in [
            (Error::RemovedCard, "left the field", "hat das Feld verlassen"),
            (Error::UnresponsiveCard, "does not answer", "antwortet nicht"),
            (Error::ReaderUnavailable, "the reader is gone", "der Leser ist weg"),
        ] {
            let explained = explain(error);
            let field = explained.downcast_ref::<FieldError>().unwrap();
            assert!(explained.to_string().contains(english), "{explained}");
            assert!(field.text(Language::German).contains(german), "{error}");
        }
        assert!(explain(Error::NoService).downcast_ref::<FieldError>().is_none());
    }
}
