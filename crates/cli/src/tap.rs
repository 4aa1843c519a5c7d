//! A tap: the terminal's protocol core on one side, a card in some reader on the other. Here is the
//! IO between them, and the clock.

use std::time::Duration;

use tapfer_emv::apdu::ResponseApdu;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_terminal::entry_point::{PROXIMITY_PAYMENT_ENVIRONMENT, select_directory};
use tapfer_terminal::kernel8::ErrorLevel1;
use tapfer_terminal::{Armed, TapAction, TapEnd, Terminal};
use zeroize::Zeroizing;

use crate::clock;

/// Something with a card in it: a PC/SC reader, or a phone in this process.
pub(crate) trait CardReader {
    /// Sends one command APDU and gives the answer with its status word.
    ///
    /// # Errors
    /// The card or the reader is gone.
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>>;

    /// Whether more than one card is in the field now. What can hold one card only never sees several.
    ///
    /// # Errors
    /// The reader is gone.
    fn sees_several(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }

    /// Waits until the field is empty and a card is presented again; `false` if none came in that time, or
    /// nobody is there who could do it.
    ///
    /// # Errors
    /// The reader is gone.
    fn present_again(&mut self, _patience: Duration) -> anyhow::Result<bool> {
        Ok(false)
    }
}

/// One command and its answer, as they were on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Command APDU.
    pub(crate) command: Vec<u8>,
    /// Answer with its status word.
    pub(crate) response: Vec<u8>,
    /// What an encrypted answer says, known to the terminal alone. Card data: wiped on drop.
    pub(crate) decrypted: Option<Zeroizing<Vec<u8>>>,
    /// From the command to the answer.
    pub(crate) elapsed: Duration,
}

/// What became of a tap, and what was said.
pub(crate) struct Tapped {
    /// What the terminal makes of it.
    pub(crate) end: TapEnd,
    /// Everything that was said.
    pub(crate) exchanges: Vec<Exchange>,
    /// Why the reader gave no answer, if it did not.
    pub(crate) reader_error: Option<anyhow::Error>,
    /// From the first command to the end.
    pub(crate) elapsed: Duration,
}

/// Holds the card in `reader` against an armed terminal.
///
/// # Errors
/// What the terminal cannot work with; a card that leaves is no error but an end.
pub(crate) fn tap(
    terminal: Terminal<Armed>,
    reader: &mut dyn CardReader,
) -> anyhow::Result<Tapped> {
    let begin = clock::instant();
    let mut tap = terminal.tap(clock::now()).map_err(|refused| refused.error)?;
    let mut exchanges = Vec::new();
    let mut reader_error = None;
    while let TapAction::Transmit(command) = tap.poll() {
        let command = command.encode()?;
        if reader.sees_several().unwrap_or_default() {
            tap = tap.handle_several_cards();
            break;
        }
        let sent = clock::instant();
        match reader.transmit(&command) {
            Ok(response) => {
                let elapsed = sent.elapsed();
                tap = tap.handle_response(&response, elapsed, &mut clock::random());
                let decrypted =
                    tap.decrypted_record().map(|content| Zeroizing::new(content.to_vec()));
                exchanges.push(Exchange { command, response, decrypted, elapsed });
            }
            Err(error) => {
                reader_error = Some(error);
                tap = tap.handle_no_answer(ErrorLevel1::Transmission);
            }
        }
    }
    Ok(Tapped { end: tap.finish(), exchanges, reader_error, elapsed: begin.elapsed() })
}

/// A card that was chosen by its AID and may have no directory, or one that does not list it: the
/// directory is then made up with the one application that was asked for.
pub(crate) struct WithoutDirectory<'a> {
    reader: &'a mut dyn CardReader,
    application_identifier: Vec<u8>,
}

impl<'a> WithoutDirectory<'a> {
    /// Wraps a reader.
    pub(crate) fn new(reader: &'a mut dyn CardReader, application_identifier: &[u8]) -> Self {
        Self { reader, application_identifier: application_identifier.to_vec() }
    }

    fn is_listed(&self, answer: &[u8]) -> bool {
        let name = &self.application_identifier;
        ResponseApdu::parse(answer).is_ok_and(|response| {
            response.status.is_ok() && response.data.windows(name.len()).any(|part| part == name)
        })
    }

    fn directory(&self) -> Vec<u8> {
        let entry = tlv::encode(tags::APPLICATION_IDENTIFIER_CARD, &self.application_identifier);
        let entry = tlv::encode(tags::DIRECTORY_ENTRY, &entry);
        let entries = tlv::encode(tags::FCI_ISSUER_DISCRETIONARY_DATA, &entry);
        let mut content = tlv::encode(tags::DF_NAME, PROXIMITY_PAYMENT_ENVIRONMENT);
        tlv::write(&mut content, tags::FCI_PROPRIETARY_TEMPLATE, &entries);
        ResponseApdu::ok(tlv::encode(tags::FCI_TEMPLATE, &content)).encode()
    }
}

impl CardReader for WithoutDirectory<'_> {
    fn transmit(&mut self, command: &[u8]) -> anyhow::Result<Vec<u8>> {
        let answer = self.reader.transmit(command)?;
        let is_directory = select_directory().encode().is_ok_and(|select| select == command);
        if is_directory && !self.is_listed(&answer) { Ok(self.directory()) } else { Ok(answer) }
    }

    fn sees_several(&mut self) -> anyhow::Result<bool> {
        self.reader.sees_several()
    }

    fn present_again(&mut self, patience: Duration) -> anyhow::Result<bool> {
        self.reader.present_again(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::{CardReader, WithoutDirectory};
    use tapfer_payment_types::{Currency, Money};
    use tapfer_terminal::entry_point::{self, Application};
    use tapfer_terminal::kernel8::KernelConfiguration;

    struct Empty;

    impl CardReader for Empty {
        fn transmit(&mut self, _command: &[u8]) -> anyhow::Result<Vec<u8>> {
            Ok(vec![0x6A, 0x82])
        }
    }

    #[test]
    fn a_card_without_a_directory_offers_what_was_asked_for() {
        let aid = [0xF0, 0, 0, 0, 0, 1, 1];
        let mut empty = Empty;
        let mut reader = WithoutDirectory::new(&mut empty, &aid);
        let select = entry_point::select_directory().encode().unwrap();
        let answer = reader.transmit(&select).unwrap();
        let (directory, status) = answer.split_at(answer.len() - 2);
        assert_eq!(status, [0x90, 0x00]);
        let limit = Money::new(5000, Currency::EUR);
        let kernel = KernelConfiguration::attended(&aid, 276, limit).unwrap();
        let application = Application::new(kernel, limit.currency);
        let candidates = entry_point::candidates(directory, &[application], limit).unwrap();
        assert_eq!(candidates[0].identifier, aid);
        let other = entry_point::select(&aid).encode().unwrap();
        assert_eq!(reader.transmit(&other).unwrap(), [0x6A, 0x82]);
    }
}
