//! READ RECORD: in clear as template `70`, or encrypted as `DA` (Book C-8 3, Book E 7).

use alloc::vec::Vec;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::profile::Record;
use tapfer_emv::status::StatusWord;
use tapfer_emv::{tags, tlv};

use super::Refusal;
use super::dialogue::Session;
use crate::token::Token;

/// Three lower bits of P2: P1 is a record number (ISO/IEC 7816-4, 7.3.3).
const BY_NUMBER: u8 = 0b100;

/// Reads one record, which ends the time for the relay check. The kernel reads in the order of the file locator,
/// each record once; a record that is read again is encrypted again, under the next counter of the channel,
/// never the same.
pub(super) fn read(
    token: &Token,
    session: &mut Session,
    command: &CommandApdu,
) -> Result<Vec<u8>, Refusal> {
    if command.p2 & 0b111 != BY_NUMBER || command.p1 == 0 {
        return Err(StatusWord::INCORRECT_P1_P2.into());
    }
    session.relay.close();
    let address = (command.p2 >> 3, command.p1);
    let is_asked_for = |record: &&Record| (record.short_file_identifier, record.number) == address;
    let profile = token.profile();
    if let Some(record) = profile.records.iter().find(is_asked_for) {
        return template(session, record);
    }
    let certificate = profile.icc_certificate_record(&token.icc_certificate.0);
    let certificate = Some(&certificate).filter(is_asked_for);
    template(session, certificate.ok_or(StatusWord::RECORD_NOT_FOUND)?)
}

fn template(session: &mut Session, record: &Record) -> Result<Vec<u8>, Refusal> {
    if !record.encrypted {
        return Ok(tlv::encode(tags::READ_RECORD_TEMPLATE, &record.value));
    }
    // Book E 7: at FFFF the session is over.
    let ciphertext = session
        .channel
        .encrypt_record(&record.value)
        .map_err(|_| StatusWord::CONDITIONS_NOT_SATISFIED)?;
    Ok(tlv::encode(tags::ENCRYPTED_RECORD, &ciphertext))
}
