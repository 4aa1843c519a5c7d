//! Cards that are presented to an armed terminal, one after the other, until something is decided.

use std::time::Duration;

use tapfer_terminal::kernel8::MessageIdentifier;
use tapfer_terminal::{Armed, TapEnd, Terminal};

use super::{PayArguments, explain, language};
use crate::amount::hexadecimal;
use crate::card_at::CardAt;
use crate::clock;
use crate::context::Context;
use crate::pcsc_reader::PcscReader;
use crate::tap::{CardReader, Tapped, WithoutDirectory, tap};

/// The card of the arguments: a phone in this process, or whatever lies at the reader.
pub(super) fn with_card<T>(
    context: &Context,
    arguments: &PayArguments,
    then: impl FnOnce(&mut dyn CardReader) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Some(mut phone) = arguments.phone(context)? {
        let result = then(&mut phone);
        for news in phone.take_news() {
            let says = context.access.language.phone();
            context.output.remark(format!("{says}: {}", phone.in_words(&news)));
        }
        return result;
    }
    if !arguments.card_at.is_empty() {
        return then(&mut CardAt::connect(&arguments.card_at, arguments.patience())?);
    }
    let name = arguments.reader.as_deref().unwrap_or_default();
    let mut reader = {
        let _progress = context.output.progress("hold the card to the reader");
        PcscReader::connect(name, arguments.patience())?
    };
    then(&mut reader)
}

/// One tap, with a directory made up for cards that were chosen by their AID.
pub(super) fn tap_once(
    arguments: &PayArguments,
    terminal: Terminal<Armed>,
    card: &mut dyn CardReader,
) -> anyhow::Result<Tapped> {
    match arguments.aid.as_deref().map(hexadecimal).transpose()? {
        Some(aid) => tap(terminal, &mut WithoutDirectory::new(card, &aid)),
        None => tap(terminal, card),
    }
}

/// Tap after tap, for as long as the terminal invites to another one, somebody comes, and the arming lasts. It
/// stays armed for the same payment all the while.
pub(super) fn tap_until_decided(
    context: &Context,
    arguments: &PayArguments,
    mut terminal: Terminal<Armed>,
    card: &mut dyn CardReader,
) -> anyhow::Result<Tapped> {
    loop {
        let Tapped { end, exchanges, reader_error, elapsed } = tap_once(arguments, terminal, card)?;
        let (armed, message, outcome, error) = match end {
            TapEnd::Undecided { terminal, message, outcome, error }
                if invites(message) && !arguments.one_tap =>
            {
                (terminal, message, outcome, error)
            }
            end => return Ok(Tapped { end, exchanges, reader_error, elapsed }),
        };
        explain(context.output, arguments, &exchanges);
        let till = language(context);
        let shown = outcome.as_ref().map_or(till, |outcome| outcome.language(till));
        context.output.remark(message.text(shown));
        if !card.present_again(time_left(&armed))? {
            let end = TapEnd::Undecided { terminal: armed, message, outcome, error };
            return Ok(Tapped { end, exchanges: Vec::new(), reader_error, elapsed });
        }
        terminal = armed;
    }
}

/// Whether the message asks for a card once more; after the others it would end in the same way.
fn invites(message: MessageIdentifier) -> bool {
    [
        MessageIdentifier::SEE_PHONE,
        MessageIdentifier::TRY_AGAIN,
        MessageIdentifier::PRESENT_ONE_CARD,
    ]
    .contains(&message)
}

/// How long the terminal still waits for a card.
fn time_left(terminal: &Terminal<Armed>) -> Duration {
    let left = terminal.expires_at().millis_since(clock::now());
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
