//! Any exchange between terminal and card in words, for people who look over the terminal's shoulder.
//!
//! Card data is masked: of a number only the last four digits are shown, of a name or a track nothing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::tags::{self, Format};
use tapfer_emv::tlv::{Reader, Tag};

use crate::entry_point::printable;
use crate::kernel8::pan_digits;

/// Templates inside templates are shown down to here.
const MAXIMUM_DEPTH: usize = 8;

/// What was asked, what was answered, and what it means: a heading, then one line for each data
/// object, indented by its depth.
#[must_use]
pub fn describe_exchange(command: &CommandApdu, response: &ResponseApdu) -> Vec<String> {
    describe_decrypted_exchange(command, response, None)
}

/// As [`describe_exchange`], with the content of an encrypted record as the kernel decrypted it.
#[must_use]
pub fn describe_decrypted_exchange(
    command: &CommandApdu,
    response: &ResponseApdu,
    decrypted: Option<&[u8]>,
) -> Vec<String> {
    let mut lines =
        alloc::vec![format!("{} ({} bytes)", describe_command(command), command.data.len())];
    let status = response.status;
    let [first, second] = status.bytes();
    lines.push(format!(
        "answer {first:02X}{second:02X} {}, {} bytes",
        status.describe(),
        response.data.len()
    ));
    if is_relay_resistance(command) {
        lines.extend(describe_relay_answer(&response.data));
        return lines;
    }
    describe_objects(&mut lines, &response.data, 1);
    if let Some(content) = decrypted {
        lines.push(String::from("  decrypted with the session key:"));
        describe_objects(&mut lines, content, 2);
    }
    lines
}

/// The name of a command and what it is for.
#[must_use]
pub fn describe_command(command: &CommandApdu) -> String {
    match (command.class, command.instruction) {
        (0x00, 0xA4) => match printable(&command.data) {
            Some(name) => format!("SELECT {name}: which contactless applications are there?"),
            None => format!("SELECT application {}", hex(&command.data)),
        },
        (0x80, 0xA8) => String::from(
            "GET PROCESSING OPTIONS: here are the amount and my one-time key, give me yours",
        ),
        (0x80, 0xEA) => String::from("EXCHANGE RELAY RESISTANCE DATA: how near are you?"),
        (0x00, 0xB2) => {
            format!("READ RECORD {} of file {}", command.p1, command.p2.wrapping_shr(3))
        }
        (0x80, 0xAE) => format!("GENERATE AC: {}", describe_control(command.p1)),
        (0x84, 0x32) => String::from("READ DATA: a data envelope, encrypted"),
        (0x84, 0x34) => String::from("WRITE DATA: a data envelope, encrypted"),
        (class, instruction) => format!("command {class:02X} {instruction:02X}"),
    }
}

const fn describe_control(p1: u8) -> &'static str {
    match p1 & 0xC0 {
        0x00 => "I decline, confirm it (AAC)",
        0x40 => "sign this payment as approved (TC)",
        0x80 => "sign this payment for the issuer (ARQC)",
        _ => "reserved",
    }
}

fn is_relay_resistance(command: &CommandApdu) -> bool {
    (command.class, command.instruction) == (0x80, 0xEA)
}

fn describe_relay_answer(data: &[u8]) -> Option<String> {
    let [0x80, 0x0A, _, _, _, _, a, b, c, d, e, f] = data else {
        return None;
    };
    let tenths = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
    Some(format!(
        "  the card takes {} to {} × 100 µs for an answer, and {} on the air",
        tenths(a, b),
        tenths(c, d),
        tenths(e, f)
    ))
}

fn describe_objects(lines: &mut Vec<String>, bytes: &[u8], depth: usize) {
    if bytes.is_empty() || depth > MAXIMUM_DEPTH {
        return;
    }
    let indent = "  ".repeat(depth);
    for object in Reader::new(bytes) {
        let Ok(object) = object else {
            lines.push(format!("{indent}(the rest cannot be read as data objects)"));
            return;
        };
        let name = tags::describe(object.tag).map_or("unknown data object", |row| row.name);
        if object.tag.is_constructed() && object.tag != tags::ENCRYPTED_RECORD {
            lines.push(format!("{indent}{} {name}", object.tag));
            describe_objects(lines, object.value, depth.saturating_add(1));
        } else {
            let value = describe_value(object.tag, object.value);
            lines.push(format!("{indent}{} {name}: {value}", object.tag));
        }
    }
}

/// A value as it may be shown.
#[must_use]
pub fn describe_value(tag: Tag, value: &[u8]) -> String {
    let description = tags::describe(tag);
    if description.is_some_and(|row| row.sensitive) {
        return masked(tag, value);
    }
    match tag {
        tags::ENCRYPTED_RECORD => format!("{} bytes, encrypted", value.len()),
        tags::CRYPTOGRAM_INFORMATION_DATA => {
            format!("{} {}", hex(value), describe_cryptogram(value))
        }
        tags::CARDHOLDER_VERIFICATION_DECISION => {
            format!("{} {}", hex(value), describe_verification(value))
        }
        _ => match description.map(|row| row.format) {
            Some(Format::Alphabetic) => printable(value).unwrap_or_else(|| hex(value)),
            _ => hex(value),
        },
    }
}

fn masked(tag: Tag, value: &[u8]) -> String {
    if tag != tags::APPLICATION_PAN {
        return format!("({} bytes, not shown)", value.len());
    }
    let digits = pan_digits(value);
    let last_four = digits.len().checked_sub(4).and_then(|start| digits.get(start..));
    format!("…{}", last_four.unwrap_or_default())
}

const fn describe_cryptogram(value: &[u8]) -> &'static str {
    let [information] = value else {
        return "";
    };
    match *information & 0xC0 {
        0x00 => "(AAC: the card declines)",
        0x40 => "(TC: the card approves)",
        0x80 => "(ARQC: ask the issuer)",
        _ => "(reserved)",
    }
}

const fn describe_verification(value: &[u8]) -> &'static str {
    match value {
        [0x00] => "(no verification needed)",
        [0x01] => "(signature)",
        [0x02] => "(PIN at the terminal)",
        [0x03] => "(verified on the phone)",
        [0x0F] => "(not applicable)",
        [0xFF] => "(failed)",
        _ => "(unknown)",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::slice;

    #[test]
    fn masks_card_data() {
        let record = [0x70, 0x0B, 0x5A, 0x04, 0x41, 0x11, 0x11, 0x1F, 0x5F, 0x20, 0x02, b'A', b'B'];
        let command = CommandApdu::new(0x00, 0xB2, 0x02, 0x14, Vec::new());
        let lines = describe_exchange(&command, &ResponseApdu::ok(record.to_vec()));
        let text = lines.join("\n");
        assert!(text.starts_with("READ RECORD 2 of file 2"), "{text}");
        assert!(text.contains("(PAN): …1111"), "{text}");
        assert!(text.contains("Cardholder Name: (2 bytes, not shown)"), "{text}");
        assert!(!text.contains("4111"), "{text}");
    }

    #[test]
    fn shows_what_was_decrypted() {
        let command = CommandApdu::new(0x00, 0xB2, 0x01, 0x14, Vec::new());
        let response = ResponseApdu::ok([0xDA, 0x03, 1, 2, 3].to_vec());
        let lines =
            describe_decrypted_exchange(&command, &response, Some(&[0x5F, 0x34, 0x01, 0x07]));
        assert!(lines.iter().any(|line| line.contains("3 bytes, encrypted")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("Sequence Number: 07")), "{lines:?}");
    }

    #[test]
    fn any_bytes_have_words() {
        for byte in 0..=255_u8 {
            let command = CommandApdu::new(byte, byte, byte, byte, [byte; 9].to_vec());
            let _ = describe_exchange(&command, &ResponseApdu::ok([byte; 40].to_vec()));
            let _ = describe_value(tags::APPLICATION_PAN, slice::from_ref(&byte));
        }
    }
}
