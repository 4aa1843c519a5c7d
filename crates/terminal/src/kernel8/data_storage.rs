//! Data storage: READ DATA before GENERATE AC, WRITE DATA behind it (Book C-8 5.5, 5.7; Book E 7.3).
//!
//! Envelopes are a service beside the payment. One that cannot be read or written is reported in Read
//! Data Status `9F821C` or Write Data Status `9F821B`; the payment goes on.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::dol::parse_tag_list;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};

use super::conclusion::{self, Decisions};
use super::cryptogram;
use super::outcome::{DATA_STORAGE_COMPLETED, DATA_STORAGE_NOT_COMPLETED, Outcome};
use super::records::{Channel, ReadRecords};
use super::transaction::Transaction;
use super::{Phase, Step};

/// P2 of GENERATE AC and WRITE DATA: another WRITE DATA follows.
const MORE_FOLLOW: u8 = 0x80;

/// READ DATA was sent.
pub(super) struct ReadingData {
    pub(super) transaction: Transaction,
    records: ReadRecords,
    current: Tag,
    remaining: VecDeque<Tag>,
}

/// Asks for the data envelopes among Tags To Read, each once, in their order.
pub(super) fn start_reading(transaction: Transaction, records: ReadRecords) -> Step {
    let mut remaining = VecDeque::new();
    for tag in tags_to_read(&transaction) {
        if is_data_envelope(tag) && !remaining.contains(&tag) {
            remaining.push_back(tag);
        }
    }
    read_next(transaction, records, remaining)
}

fn read_next(
    mut transaction: Transaction,
    records: ReadRecords,
    mut remaining: VecDeque<Tag>,
) -> Step {
    let Some(current) = remaining.pop_front() else {
        collect_data_to_send(&mut transaction);
        return cryptogram::start(transaction, records);
    };
    let tag = current.significant_bytes().collect();
    let command = CommandApdu::new(0x84, 0x32, 0x00, 0x00, tag);
    let phase = ReadingData { transaction, records, current, remaining };
    Step::send(Phase::ReadData(phase), command)
}

impl ReadingData {
    pub(super) fn handle(mut self, response: &ResponseApdu) -> Step {
        if !self.take_in(response) {
            self.transaction.data.set(tags::READ_DATA_STATUS, &[DATA_STORAGE_NOT_COMPLETED]);
        }
        read_next(self.transaction, self.records, self.remaining)
    }

    /// Encrypted TLV ‖ MAC, of the envelope that was asked for and no other.
    fn take_in(&mut self, response: &ResponseApdu) -> bool {
        if !response.status.is_ok() {
            return false;
        }
        let opened = self.records.channel.secure_channel.open_read_data(&response.data);
        opened.is_ok_and(|plain| {
            self.transaction.data.store_single_object(self.current, &plain).is_ok()
        })
    }
}

/// What the terminal wanted to know, in its order; empty where the card did not say.
fn collect_data_to_send(transaction: &mut Transaction) {
    let mut collected = Vec::new();
    for tag in tags_to_read(transaction) {
        tlv::write(&mut collected, tag, transaction.data.get(tag).unwrap_or_default());
    }
    if !collected.is_empty() {
        transaction.data.set(tags::DATA_TO_SEND, &collected);
    }
}

fn tags_to_read(transaction: &Transaction) -> Vec<Tag> {
    let list = transaction.data.get(tags::TAGS_TO_READ).unwrap_or_default();
    parse_tag_list(list).unwrap_or_default()
}

/// `9F8111` to `9F811A`.
pub(super) fn is_data_envelope(tag: Tag) -> bool {
    (tags::DATA_ENVELOPE_1..=tags::DATA_ENVELOPE_10).contains(&tag)
}

/// WRITE DATA was sent.
pub(super) struct WritingData {
    pub(super) transaction: Transaction,
    channel: Channel,
    decisions: Decisions,
    expected_mac: [u8; 8],
    remaining: VecDeque<Vec<u8>>,
    all_written: bool,
}

/// Whether GENERATE AC has to announce envelopes.
pub(super) fn wants_to_write(transaction: &Transaction) -> bool {
    transaction.data.get(tags::DATA_ENVELOPES_TO_WRITE).is_some()
}

/// P2 of a command that another WRITE DATA may follow.
pub(super) const fn more_follow(more: bool) -> u8 {
    if more { MORE_FOLLOW } else { 0x00 }
}

/// Writes every TLV of Data Envelopes To Write, then concludes.
pub(super) fn start_writing(
    transaction: Transaction,
    channel: Channel,
    decisions: Decisions,
) -> Step {
    let envelopes = transaction.data.get(tags::DATA_ENVELOPES_TO_WRITE).unwrap_or_default();
    let remaining: VecDeque<Vec<u8>> = tlv::parse(envelopes)
        .unwrap_or_default()
        .iter()
        .map(|envelope| tlv::encode(envelope.tag, envelope.value))
        .collect();
    if remaining.is_empty() {
        return Step::finished(conclusion::conclude(transaction, decisions));
    }
    write_next(transaction, channel, decisions, remaining, true)
}

fn write_next(
    transaction: Transaction,
    mut channel: Channel,
    decisions: Decisions,
    mut remaining: VecDeque<Vec<u8>>,
    all_written: bool,
) -> Step {
    let Some(envelope) = remaining.pop_front() else {
        return Step::finished(finish(transaction, decisions, all_written));
    };
    let Ok((encrypted, expected_mac)) = channel.secure_channel.encrypt_write_data(&envelope) else {
        return Step::finished(finish(transaction, decisions, false));
    };
    let more = more_follow(!remaining.is_empty());
    let command = CommandApdu::new(0x84, 0x34, 0x00, more, encrypted);
    let phase =
        WritingData { transaction, channel, decisions, expected_mac, remaining, all_written };
    Step::send(Phase::WriteData(phase), command)
}

fn finish(mut transaction: Transaction, decisions: Decisions, all_written: bool) -> Outcome {
    let status = if all_written { DATA_STORAGE_COMPLETED } else { DATA_STORAGE_NOT_COMPLETED };
    transaction.data.set(tags::WRITE_DATA_STATUS, &[status]);
    conclusion::conclude(transaction, decisions)
}

impl WritingData {
    /// The card answers with a MAC over what it has understood. A refusal of one envelope does not
    /// keep the others from being sent.
    pub(super) fn handle(mut self, response: &ResponseApdu) -> Step {
        let written = response.status.is_ok()
            && self
                .channel
                .secure_channel
                .check_write_data_answer(&self.expected_mac, &response.data)
                .is_ok();
        let all_written = self.all_written && written;
        write_next(self.transaction, self.channel, self.decisions, self.remaining, all_written)
    }

    /// The card is gone: it has given its cryptogram, so the payment is what was decided.
    pub(super) fn give_up(self) -> Outcome {
        finish(self.transaction, self.decisions, false)
    }
}
