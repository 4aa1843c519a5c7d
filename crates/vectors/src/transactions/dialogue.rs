//! What passed between terminal and card, taken apart with the help of what the card knew.

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::channel::SecureChannel;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Reader, Tag};

use super::file::Transaction;

/// One exchange that could be read.
pub(super) struct Exchange {
    pub(super) command: CommandApdu,
    pub(super) response: ResponseApdu,
}

/// The exchanges of a transaction.
pub(super) struct Dialogue {
    exchanges: Vec<Exchange>,
}

/// A record as the card has it.
pub(super) struct Record {
    pub(super) signed: bool,
    pub(super) content: Vec<u8>,
}

impl Dialogue {
    /// `None`: a command is none. What was no answer ended the dialogue.
    pub(super) fn read(transaction: &Transaction) -> Option<Self> {
        let mut exchanges = Vec::new();
        for (command, response) in &transaction.exchange {
            let command = CommandApdu::parse(&command.0).ok()?;
            if let Ok(response) = ResponseApdu::parse(&response.0) {
                exchanges.push(Exchange { command, response });
            }
        }
        Some(Self { exchanges })
    }

    /// The exchange of a command that was answered, the last one if there are several.
    pub(super) fn answered(&self, class: u8, instruction: u8) -> Option<&Exchange> {
        self.commands(class, instruction).filter(|exchange| exchange.response.status.is_ok()).last()
    }

    /// All exchanges of a command.
    pub(super) fn commands(&self, class: u8, instruction: u8) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(move |exchange| {
            (exchange.command.class, exchange.command.instruction) == (class, instruction)
        })
    }

    /// The value of a data object in the answer to SELECT, wherever it stands.
    pub(super) fn fci_object(&self, tag: Tag) -> Option<Vec<u8>> {
        find_anywhere(&self.answered(0x00, 0xA4)?.response.data, tag)
    }

    /// The value of a data object in the answer to GET PROCESSING OPTIONS.
    pub(super) fn options_object(&self, tag: Tag) -> Option<Vec<u8>> {
        find_anywhere(&self.answered(0x80, 0xA8)?.response.data, tag)
    }

    /// What GET PROCESSING OPTIONS told the card: the values of the PDOL.
    pub(super) fn pdol_values(&self) -> Option<Vec<u8>> {
        let command = &self.commands(0x80, 0xA8).next()?.command;
        tlv::find(&command.data, tags::COMMAND_TEMPLATE).ok()?.map(<[u8]>::to_vec)
    }

    /// All records of the AFL in clear; `None` if not all of them were read.
    pub(super) fn records(&self, channel: &mut SecureChannel) -> Option<Vec<Record>> {
        let locator = self.options_object(tags::APPLICATION_FILE_LOCATOR)?;
        let mut answers = self.commands(0x00, 0xB2);
        let mut records = Vec::new();
        for &[_, first, last, signed] in locator.as_chunks::<4>().0 {
            for (position, _) in (first..=last).enumerate() {
                let answer = &answers.next().filter(|one| one.response.status.is_ok())?.response;
                let template = tlv::parse_one(&answer.data).ok()?;
                let content = match template.tag {
                    tags::READ_RECORD_TEMPLATE => template.value.to_vec(),
                    _ => channel.decrypt_record(template.value).ok()?,
                };
                records.push(Record { signed: position < usize::from(signed), content });
            }
        }
        Some(records)
    }
}

/// Looks for a primitive data object at any depth.
pub(super) fn find_anywhere(bytes: &[u8], tag: Tag) -> Option<Vec<u8>> {
    for object in Reader::new(bytes).filter_map(Result::ok) {
        if object.tag == tag {
            return Some(object.value.to_vec());
        }
        if object.tag.is_constructed()
            && let Some(found) = find_anywhere(object.value, tag)
        {
            return Some(found);
        }
    }
    None
}
