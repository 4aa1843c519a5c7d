//! READ RECORD for everything the application file locator names (Book C-8 22, 24; Book 3 10.2).

use alloc::vec::Vec;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::channel::{BlindingFactor, SecureChannel};
use tapfer_emv::tags;
use tapfer_emv::tlv;
use zeroize::Zeroizing;

use super::data_storage;
use super::outcome::ErrorLevel2;
use super::relay::RelayProof;
use super::transaction::{Failure, Transaction};
use super::{Phase, Step};

/// No card has more, and a hostile one shall not keep the terminal busy for minutes.
const MAXIMUM_RECORDS: usize = 255;

/// The secure channel with what must be checked and signed once the dialogue is over.
pub(super) struct Channel {
    pub(super) secure_channel: SecureChannel,
    pub(super) blinding_factor: BlindingFactor,
    pub(super) pdol_values: Vec<u8>,
}

/// What the records leave for the phases behind.
pub(super) struct ReadRecords {
    pub(super) channel: Channel,
    pub(super) relay_proof: Option<RelayProof>,
    /// Values of the records that the AFL marks as signed, without template and length, in order.
    pub(super) signed_values: Vec<Vec<u8>>,
}

/// One record of the AFL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RecordAddress {
    short_file_identifier: u8,
    number: u8,
    signed: bool,
}

impl RecordAddress {
    fn read_record(self) -> CommandApdu {
        let reference = self.short_file_identifier.wrapping_shl(3) | 0x04;
        CommandApdu::new(0x00, 0xB2, self.number, reference, Vec::new())
    }
}

/// READ RECORD was sent.
pub(super) struct ReadingRecords {
    pub(super) transaction: Transaction,
    channel: Channel,
    relay_proof: Option<RelayProof>,
    current: RecordAddress,
    /// Still to be read, the next one last.
    remaining: Vec<RecordAddress>,
    /// Contents as far as they could be read, in the order they came.
    read: Vec<(RecordAddress, Result<Vec<u8>, Failure>)>,
}

pub(super) fn start(
    transaction: Transaction,
    channel: Channel,
    relay_proof: Option<RelayProof>,
) -> Step {
    let locator = transaction.data.get(tags::APPLICATION_FILE_LOCATOR).unwrap_or_default();
    let Some((current, remaining)) = parse_file_locator(locator).and_then(|mut remaining| {
        remaining.reverse();
        Some((remaining.pop()?, remaining))
    }) else {
        return Step::finished(transaction.end_application(ErrorLevel2::Parsing.into()));
    };
    let command = current.read_record();
    let read = Vec::new();
    let phase = ReadingRecords { transaction, channel, relay_proof, current, remaining, read };
    Step::send(Phase::Records(phase), command)
}

/// Four bytes each: file, first and last record, and how many of them are signed (Book 3 10.2).
fn parse_file_locator(locator: &[u8]) -> Option<Vec<RecordAddress>> {
    let (entries, rest) = locator.as_chunks::<4>();
    let mut records = Vec::new();
    for &[file, first, last, signed] in entries {
        let short_file_identifier = file.wrapping_shr(3);
        let count = last.checked_sub(first)?.checked_add(1)?;
        let is_valid = file & 0x07 == 0
            && (1..=30).contains(&short_file_identifier)
            && first != 0
            && signed <= count
            && records.len().saturating_add(usize::from(count)) <= MAXIMUM_RECORDS;
        if !is_valid {
            return None;
        }
        records.extend((first..=last).zip(0..).map(|(number, position)| RecordAddress {
            short_file_identifier,
            number,
            signed: position < signed,
        }));
    }
    rest.is_empty().then_some(records)
}

impl ReadingRecords {
    /// Every record is asked for before any is looked into: a terminal reads the next one while the
    /// last one is still being decrypted (Book C-8 7.2.8). Only a status word ends it at once.
    pub(super) fn handle(mut self, response: &ResponseApdu) -> Step {
        if !response.status.is_ok() {
            let failure = Failure::refused(response.status.bytes());
            return Step::finished(self.transaction.end_application(failure));
        }
        let content = self.open(&response.data);
        self.read.push((self.current, content));
        match self.remaining.pop() {
            Some(next) => {
                self.current = next;
                Step::send(Phase::Records(self), next.read_record())
            }
            None => self.evaluate(),
        }
    }

    /// Template `70` in clear, or `DA` encrypted with the next card message counter (Book E 7.3).
    fn open(&mut self, answer: &[u8]) -> Result<Vec<u8>, Failure> {
        let record = tlv::parse_one(answer).map_err(|_| ErrorLevel2::Parsing)?;
        match record.tag {
            tags::READ_RECORD_TEMPLATE => Ok(record.value.to_vec()),
            tags::ENCRYPTED_RECORD => {
                let decrypted = self.channel.secure_channel.decrypt_record(record.value);
                let content = decrypted.map_err(|_| ErrorLevel2::DecryptionFailed)?;
                self.transaction.decrypted = Some(Zeroizing::new(content.clone()));
                Ok(content)
            }
            _ => Err(ErrorLevel2::Parsing.into()),
        }
    }

    fn evaluate(mut self) -> Step {
        match self.store() {
            Ok(signed_values) => {
                let (channel, relay_proof) = (self.channel, self.relay_proof);
                let records = ReadRecords { channel, relay_proof, signed_values };
                data_storage::start_reading(self.transaction, records)
            }
            Err(failure) => Step::finished(self.transaction.end_application(failure)),
        }
    }

    fn store(&mut self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut signed_values = Vec::new();
        for (address, content) in core::mem::take(&mut self.read) {
            let content = content?;
            self.transaction
                .data
                .store_template_value(&content)
                .map_err(|_| ErrorLevel2::Parsing)?;
            if address.signed {
                signed_values.push(content);
            }
        }
        Ok(signed_values)
    }
}

#[cfg(test)]
mod tests {
    use super::{RecordAddress, parse_file_locator};

    #[test]
    fn reads_ranges_and_their_signed_records() {
        let records = parse_file_locator(&[0x10, 1, 2, 1, 0x18, 5, 5, 0]).unwrap();
        let address = |short_file_identifier, number, signed| RecordAddress {
            short_file_identifier,
            number,
            signed,
        };
        assert_eq!(records, [address(2, 1, true), address(2, 2, false), address(3, 5, false)]);
    }

    #[test]
    fn refuses_what_names_no_records() {
        let wrong: &[&[u8]] = &[
            &[0x10, 1, 1],    // not four bytes
            &[0x11, 1, 1, 0], // low bits of the file
            &[0x00, 1, 1, 0], // file 0
            &[0xF8, 1, 1, 0], // file 31
            &[0x10, 0, 1, 0], // record 0
            &[0x10, 2, 1, 0], // backwards
            &[0x10, 1, 1, 2], // more signed than there are
            &[0x10, 1, 255, 0, 0x18, 1, 1, 0],
        ];
        for locator in wrong {
            assert_eq!(parse_file_locator(locator), None, "{locator:02X?}");
        }
        assert_eq!(parse_file_locator(&[0x10, 1, 255, 0]).unwrap().len(), 255);
    }
}
