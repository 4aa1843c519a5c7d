//! What a kernel's outcome says (Book A 6.2, Book C-8 annex A).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Bit, Code, bits, status, word};

const STATUSES: [Code; 8] = [
    (0x10, "approved"),
    (0x20, "declined"),
    (0x30, "ask the issuer online"),
    (0x40, "end application"),
    (0x50, "select next application"),
    (0x60, "try another interface"),
    (0x70, "try again"),
    (0xF0, "not applicable"),
];
const STARTS: [Code; 5] =
    [(0x00, "A"), (0x10, "B"), (0x20, "C"), (0x30, "D"), (0xF0, "not applicable")];
const VERIFICATIONS: [Code; 5] = [
    (0x00, "none"),
    (0x10, "signature"),
    (0x20, "online PIN"),
    (0x30, "verified on the phone"),
    (0xF0, "not applicable"),
];
const PRESENT: [Bit; 5] = [
    (4, 0x80, "a message is shown at the outcome"),
    (4, 0x40, "a message is shown at the restart"),
    (4, 0x20, "a data record is there"),
    (4, 0x10, "discretionary data is there"),
    (4, 0x08, "a receipt is to be offered"),
];
const MESSAGES: [Code; 11] = [
    (0x03, "approved"),
    (0x07, "declined"),
    (0x17, "card read ok, please remove"),
    (0x18, "try another interface"),
    (0x1A, "approved, please sign"),
    (0x1B, "authorising, please wait"),
    (0x1C, "error, use another card"),
    (0x1D, "please insert card"),
    (0x1E, "clear the display"),
    (0x20, "see phone for instructions"),
    (0x21, "present card again"),
];
const DISPLAY_STATES: [Code; 7] = [
    (0x00, "not ready"),
    (0x01, "idle"),
    (0x02, "ready to read"),
    (0x03, "processing"),
    (0x04, "card read successfully"),
    (0x05, "processing error"),
    (0xFF, "not applicable"),
];
const LEVEL_1_ERRORS: [Code; 4] =
    [(0x00, "ok"), (0x01, "time-out"), (0x02, "transmission error"), (0x03, "protocol error")];
const LEVEL_2_ERRORS: [Code; 9] = [
    (0x00, "ok"),
    (0x01, "card data missing"),
    (0x03, "status bytes"),
    (0x04, "parsing error"),
    (0x06, "card data error"),
    (0x0F, "terminal data error"),
    (0x10, "decryption failed"),
    (0x12, "IAD-MAC failed"),
    (0x13, "EDA-MAC failed"),
];

/// Outcome Parameter Set `9F8210`, eight bytes.
pub(super) fn parameter_set(value: &[u8]) -> Vec<String> {
    let [outcome, start, _, verification, _, _, field_off, _] = value else { return Vec::new() };
    let mut lines = alloc::vec![
        format!("status: {}, start: {}", word(*outcome, &STATUSES), word(*start, &STARTS)),
        format!("cardholder verification: {}", word(*verification, &VERIFICATIONS)),
    ];
    lines.extend(bits(value, &PRESENT));
    if *field_off != 0xFF {
        lines.push(format!(
            "the field is switched off for {} ms",
            u16::from(*field_off).saturating_mul(100)
        ));
    }
    lines
}

/// User Interface Request Data: message, state, hold time, language and value.
pub(super) fn user_interface_request(value: &[u8]) -> Vec<String> {
    let [message, state, ..] = value else { return Vec::new() };
    alloc::vec![format!(
        "message: {}, state: {}",
        word(*message, &MESSAGES),
        word(*state, &DISPLAY_STATES)
    )]
}

/// Error Indication `9F8204`, six bytes.
pub(super) fn error_indication(value: &[u8]) -> Vec<String> {
    let [level_1, level_2, _, sw1, sw2, message] = value else { return Vec::new() };
    let mut lines = alloc::vec![format!(
        "L1: {}, L2: {}",
        word(*level_1, &LEVEL_1_ERRORS),
        word(*level_2, &LEVEL_2_ERRORS)
    )];
    lines.extend(status([*sw1, *sw2]));
    if *message != 0xFF {
        lines.push(format!("message: {}", word(*message, &MESSAGES)));
    }
    lines
}

/// Restart Indicator `9F8108`.
pub(super) fn restart_indicator(value: &[u8]) -> Vec<String> {
    let Some(first) = value.first() else { return Vec::new() };
    let meaning = match first >> 4 {
        0x0 => "no restart",
        0x2 => "restart B: see phone, tap again",
        0x3 => "try another interface",
        _ => return Vec::new(),
    };
    alloc::vec![meaning.to_owned()]
}
