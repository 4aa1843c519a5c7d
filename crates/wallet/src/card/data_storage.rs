//! READ DATA `84 32` and WRITE DATA `84 34`: data envelopes (Book C-8 5.5, 5.7; Book E 7.3).
//!
//! # Which writes are kept
//! Each envelope by itself: it is durable before its MAC leaves the card, so what a terminal knows to
//! be written is written. If the tap is torn, the envelope whose answer was lost may be the old or the
//! new one, never half of either; envelopes written before it stay, those behind it are as they were. Who
//! needs two to change together puts them into one envelope.
//!
//! A card that has declined takes no writes: there was no sale that they could belong to. Whether the
//! issuer approves later, the card never learns, so a write says nothing about that.

use alloc::vec::Vec;

use tapfer_emv::apdu::CommandApdu;
use tapfer_emv::dol;
use tapfer_emv::status::StatusWord;
use tapfer_emv::tlv;
use tapfer_payment_types::data_storage::DataStorageRules;

use super::Refusal;
use super::dialogue::{Session, Writing};
use crate::data_storage::{MAXIMUM_ENVELOPE_LENGTH, envelope_number};
use crate::effect::Notification;
use crate::token::Token;

/// P2 of GENERATE AC and of WRITE DATA: another WRITE DATA follows.
pub(super) const MORE_FOLLOW: u8 = 0x80;
/// P2: no WRITE DATA follows.
pub(super) const LAST: u8 = 0x00;

/// Reads one envelope: its TLV, encrypted, then a MAC. One that is empty has a length of zero. What may
/// not be read does not exist.
pub(super) fn read(
    token: &Token,
    session: &mut Session,
    command: &CommandApdu,
) -> Result<(Vec<u8>, Notification), Refusal> {
    if (command.p1, command.p2) != (0x00, 0x00) {
        return Err(StatusWord::INCORRECT_P1_P2.into());
    }
    let tag = match dol::parse_tag_list(&command.data).as_deref() {
        Ok([tag]) => *tag,
        _ => return Err(StatusWord::WRONG_DATA.into()),
    };
    session.relay.close();
    let number = envelope_number(tag)
        .filter(|number| rules(token).readable.contains(number))
        .ok_or(StatusWord::REFERENCED_DATA_NOT_FOUND)?;
    let plain = tlv::encode(tag, token.data_envelopes.get(number));
    let sealed = session.channel.seal_read_data(&plain);
    let answer = sealed.map_err(|_| StatusWord::CONDITIONS_NOT_SATISFIED)?;
    Ok((answer, Notification::DataRead { token: token.id(), envelope: number }))
}

/// Writes one envelope and gives the MAC over what was understood. The caller persists before it
/// replies. A refused command has used its message number, and left everything else as it was.
pub(super) fn write(
    token: &mut Token,
    writing: &mut Writing,
    command: &CommandApdu,
) -> Result<(Vec<u8>, Notification), Refusal> {
    let more = match (command.p1, command.p2) {
        (0x00, MORE_FOLLOW) => true,
        (0x00, LAST) => false,
        _ => return Err(StatusWord::INCORRECT_P1_P2.into()),
    };
    if !writing.is_open {
        return Err(StatusWord::CONDITIONS_NOT_SATISFIED.into());
    }
    writing.is_open = more;
    let channel = &mut writing.channel;
    let plain =
        channel.open_write_data(&command.data).map_err(|_| StatusWord::CONDITIONS_NOT_SATISFIED)?;
    let envelope = tlv::parse_one(&plain).map_err(|_| StatusWord::WRONG_DATA)?;
    let number = envelope_number(envelope.tag)
        .filter(|number| rules(token).writable.contains(number))
        .ok_or(StatusWord::REFERENCED_DATA_NOT_FOUND)?;
    if envelope.value.len() > MAXIMUM_ENVELOPE_LENGTH {
        return Err(StatusWord::WRONG_DATA.into());
    }
    let answer =
        channel.answer_write_data(&plain).map_err(|_| StatusWord::CONDITIONS_NOT_SATISFIED)?;
    token.data_envelopes.put(number, envelope.value);
    Ok((answer.to_vec(), Notification::DataWritten { token: token.id(), envelope: number }))
}

const fn rules(token: &Token) -> &DataStorageRules {
    &token.policy.data_storage
}
