//! What values of data objects say, in words for people (Book 3 annexes A to C, Book C-8 annex A).
//!
//! For tools and traces, never for a decision.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use data_encoding::HEXUPPER;
use tapfer_payment_types::{Currency, Money};

use crate::certificate::{CertificateDate, IccCertificate, IssuerCertificate};
use crate::dol::{self, DataObjectList};
use crate::iad::{IssuerApplicationData, VerificationMethod};
use crate::status::StatusWord;
use crate::tags::{self, Format};
use crate::tlv::Tag;
use crate::tvr::TerminalVerificationResults;

mod outcome;

/// One bit of a value: which byte from 0, which bit, what it says.
type Bit = (usize, u8, &'static str);
/// One code of a byte and what it says.
type Code = (u8, &'static str);

const TERMINAL_RISK_MANAGEMENT: [Bit; 5] = [
    (0, 0x40, "online PIN can be asked for"),
    (0, 0x20, "signature can be asked for"),
    (0, 0x08, "payments without verification are possible"),
    (0, 0x04, "verification on the phone is accepted"),
    (1, 0x80, "the CVM limit is exceeded"),
];
const USAGE_CONTROL: [Bit; 10] = [
    (0, 0x80, "cash at home"),
    (0, 0x40, "cash abroad"),
    (0, 0x20, "goods at home"),
    (0, 0x10, "goods abroad"),
    (0, 0x08, "services at home"),
    (0, 0x04, "services abroad"),
    (0, 0x02, "at cash machines"),
    (0, 0x01, "at terminals other than cash machines"),
    (1, 0x80, "cashback at home"),
    (1, 0x40, "cashback abroad"),
];
const KERNEL_CONFIGURATION: [Bit; 3] = [
    (0, 0x20, "RSA certificates are supported"),
    (0, 0x10, "relay resistance check is on"),
    (0, 0x08, "failed local authentication is reported in the TVR"),
];
const CVM_CAPABILITY: [Bit; 4] = [
    (0, 0x40, "online PIN"),
    (0, 0x20, "signature"),
    (0, 0x08, "no verification"),
    (0, 0x04, "verification on the phone"),
];
const TRANSACTION_TYPES: [Code; 4] =
    [(0x00, "purchase"), (0x01, "cash"), (0x09, "purchase with cashback"), (0x20, "refund")];
const VERIFICATION_DECISIONS: [Code; 6] = [
    (0x00, "no verification"),
    (0x01, "signature"),
    (0x02, "online PIN"),
    (0x03, "verified on the phone (CDCVM)"),
    (0x0F, "not applicable"),
    (0xFF, "verification failed"),
];
const CRYPTOGRAM_TYPES: [Code; 3] = [
    (0x00, "AAC: declined"),
    (0x40, "TC: approved offline"),
    (0x80, "ARQC: ask the issuer online"),
];
const TERMINAL_TYPES: [Code; 6] = [
    (0x21, "merchant's, attended, online only"),
    (0x22, "merchant's, attended, offline with online capability"),
    (0x23, "merchant's, attended, offline only"),
    (0x24, "merchant's, unattended, online only"),
    (0x25, "merchant's, unattended, offline with online capability"),
    (0x26, "merchant's, unattended, offline only"),
];

/// What a value says, a line each; empty if it says no more than its digits, or is not of the form its
/// tag asks for. Amounts are written in `currency`, the one the data names beside them.
#[must_use]
pub fn of(tag: Tag, value: &[u8], currency: Option<Currency>) -> Vec<String> {
    let row = tags::describe(tag);
    match tag {
        tags::APPLICATION_INTERCHANGE_PROFILE => interchange_profile(value),
        tags::APPLICATION_FILE_LOCATOR => value.chunks(4).filter_map(file_locator_entry).collect(),
        tags::TERMINAL_VERIFICATION_RESULTS
        | tags::CARD_TVR
        | tags::KERNEL_RESERVED_TVR_MASK
        | tags::TERMINAL_ACTION_CODE_DENIAL
        | tags::TERMINAL_ACTION_CODE_ONLINE => verification_results(value),
        tags::AMOUNT_AUTHORIZED
        | tags::AMOUNT_OTHER
        | tags::READER_CONTACTLESS_FLOOR_LIMIT
        | tags::READER_CVM_REQUIRED_LIMIT => one(amount(value, currency)),
        tags::TRANSACTION_CURRENCY_CODE | tags::APPLICATION_CURRENCY_CODE => {
            one(self::currency(value).map(|currency| currency.to_string()))
        }
        tags::TRANSACTION_TYPE => one(code(value, &TRANSACTION_TYPES)),
        tags::TERMINAL_TYPE => one(code(value, &TERMINAL_TYPES)),
        tags::CARDHOLDER_VERIFICATION_DECISION => one(code(value, &VERIFICATION_DECISIONS)),
        tags::CRYPTOGRAM_INFORMATION_DATA => one(cryptogram_type(value)),
        tags::KERNEL_IDENTIFIER => one(kernel(value)),
        tags::KERNEL_QUALIFIER => kernel_qualifier(value),
        tags::CARD_QUALIFIER => card_qualifier(value),
        tags::CVM_RESULTS => one(cvm_results(value)),
        tags::APPLICATION_TRANSACTION_COUNTER => {
            one(number(value).map(|n| format!("transaction {n}")))
        }
        tags::TERMINAL_RISK_MANAGEMENT_DATA => bits(value, &TERMINAL_RISK_MANAGEMENT),
        tags::APPLICATION_USAGE_CONTROL => bits(value, &USAGE_CONTROL),
        tags::KERNEL_CONFIGURATION => bits(value, &KERNEL_CONFIGURATION),
        tags::CVM_CAPABILITY_CVM_REQUIRED | tags::CVM_CAPABILITY_NO_CVM_REQUIRED => {
            bits(value, &CVM_CAPABILITY)
        }
        tags::OUTCOME_PARAMETER_SET => outcome::parameter_set(value),
        tags::USER_INTERFACE_REQUEST_DATA_1 | tags::USER_INTERFACE_REQUEST_DATA_2 => {
            outcome::user_interface_request(value)
        }
        tags::ERROR_INDICATION => outcome::error_indication(value),
        tags::RESTART_INDICATOR => outcome::restart_indicator(value),
        tags::ISSUER_APPLICATION_DATA => issuer_application_data(value),
        tags::ISSUER_CERTIFICATE => issuer_certificate(value),
        tags::ICC_CERTIFICATE => icc_certificate(value),
        _ => row.map_or_else(Vec::new, |row| by_format(row.format, value)),
    }
}

fn by_format(format: Format, value: &[u8]) -> Vec<String> {
    match format {
        Format::Alphabetic => one(printable(value)),
        Format::Date => one(date(value)),
        Format::Time => one(time(value)),
        Format::DataObjectList => DataObjectList::parse(value).map_or_else(
            |error| one(Some(error.to_string())),
            |list| list.entries().iter().map(|e| named(e.tag, Some(e.length))).collect(),
        ),
        Format::TagList => dol::parse_tag_list(value).map_or_else(
            |error| one(Some(error.to_string())),
            |list| list.into_iter().map(|tag| named(tag, None)).collect(),
        ),
        Format::Binary
        | Format::Numeric
        | Format::CompressedNumeric
        | Format::Template
        | Format::Track2 => Vec::new(),
    }
}

fn one(line: Option<String>) -> Vec<String> {
    line.into_iter().collect()
}

/// A tag with its name, and the length that is asked for.
fn named(tag: Tag, length: Option<usize>) -> String {
    let name = tags::describe(tag).map_or("(not in the dictionary)", |row| row.name);
    match length {
        Some(1) => format!("{tag} {name}, 1 byte"),
        Some(length) => format!("{tag} {name}, {length} bytes"),
        None => format!("{tag} {name}"),
    }
}

/// The bits of a table that are set.
fn bits(value: &[u8], table: &[Bit]) -> Vec<String> {
    let is_set = |(byte, mask, _): &&Bit| value.get(*byte).is_some_and(|bits| bits & mask != 0);
    table.iter().filter(is_set).map(|(_, _, meaning)| (*meaning).to_owned()).collect()
}

/// What a code of one byte says; nothing for a value of another length.
fn code(value: &[u8], table: &[Code]) -> Option<String> {
    match value {
        [byte] => Some(word(*byte, table)),
        _ => None,
    }
}

/// What a byte says, or that it is not known.
fn word(byte: u8, table: &[Code]) -> String {
    let known = table.iter().find(|(code, _)| *code == byte);
    known.map_or_else(|| format!("{byte:02X}, which is not known"), |(_, word)| (*word).to_owned())
}

/// A binary number of up to eight bytes.
fn number(value: &[u8]) -> Option<u64> {
    let is_short = (1..=8).contains(&value.len());
    is_short.then(|| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Decimal digits, two to a byte.
fn digits(value: &[u8]) -> Option<i64> {
    HEXUPPER.encode(value).parse().ok()
}

/// The currency of ISO 4217 that two packed bytes name.
pub(crate) fn currency(value: &[u8]) -> Option<Currency> {
    Currency::from_numeric(u16::try_from(digits(value)?).ok()?).ok()
}

fn amount(value: &[u8], currency: Option<Currency>) -> Option<String> {
    let minor = digits(value)?;
    match currency {
        Some(currency) => Some(Money::new(minor, currency).to_string()),
        None => Some(format!("{minor} minor units")),
    }
}

fn printable(value: &[u8]) -> Option<String> {
    let is_printable = !value.is_empty() && value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    is_printable.then(|| format!("\"{}\"", String::from_utf8_lossy(value)))
}

fn date(value: &[u8]) -> Option<String> {
    digits(value)?;
    match value {
        [year, month, day] => Some(format!("20{year:02X}-{month:02X}-{day:02X}")),
        _ => None,
    }
}

fn time(value: &[u8]) -> Option<String> {
    digits(value)?;
    match value {
        [hour, minute, second] => Some(format!("{hour:02X}:{minute:02X}:{second:02X}")),
        _ => None,
    }
}

fn verification_results(value: &[u8]) -> Vec<String> {
    let bytes: Option<[u8; 5]> = value.try_into().ok();
    let results = bytes.map(TerminalVerificationResults::from_bytes).unwrap_or_default();
    results.meanings().map(str::to_owned).collect()
}

fn interchange_profile(value: &[u8]) -> Vec<String> {
    let [first, second] = value else { return Vec::new() };
    let local_authentication = match first & 0x01 {
        0 => "no local authentication",
        _ => "local authentication",
    };
    let relay =
        if second & 0x01 == 0 { "no relay resistance check" } else { "relay resistance check" };
    let iad_mac = match second & 0x06 {
        0x00 => "the IAD-MAC is not copied into the IAD",
        0x02 => "the IAD-MAC goes into the IAD at the default offset",
        0x04 => "the IAD-MAC goes into the IAD at the offset the card names",
        _ => "the place of the IAD-MAC is not known",
    };
    let offline = if second & 0x08 == 0 { "online only" } else { "may approve offline" };
    [local_authentication, relay, iad_mac, offline].map(str::to_owned).to_vec()
}

fn file_locator_entry(entry: &[u8]) -> Option<String> {
    let [file, first, last, signed] = entry else { return None };
    let file = file >> 3;
    Some(format!("file {file}, records {first} to {last}, {signed} of them signed"))
}

fn cryptogram_type(value: &[u8]) -> Option<String> {
    let [byte] = value else { return None };
    Some(word(byte & 0xC0, &CRYPTOGRAM_TYPES))
}

fn kernel(value: &[u8]) -> Option<String> {
    value.first().map(|kernel| format!("kernel {kernel}"))
}

fn kernel_qualifier(value: &[u8]) -> Vec<String> {
    let [version, options, channel, certificates @ ..] = value else { return Vec::new() };
    let local_authentication = if options & 0x80 == 0 { "off" } else { "on" };
    let suites: Vec<String> = certificates
        .iter()
        .take(3)
        .filter(|suite| **suite != 0xFF)
        .map(|suite| format!("{suite:02X}"))
        .collect();
    alloc::vec![
        format!("version {version}, local authentication {local_authentication}"),
        format!("channel suite {channel:02X}, certificate suites {}", suites.join(" ")),
    ]
}

fn card_qualifier(value: &[u8]) -> Vec<String> {
    let [version, suites @ .., options, _, _] = value else { return Vec::new() };
    let suites: Vec<String> =
        suites.iter().filter(|suite| **suite != 0xFF).map(|suite| format!("{suite:02X}")).collect();
    let field_off = if options & 0x80 == 0 { "does not notice" } else { "notices" };
    alloc::vec![
        format!("version {version}, channel suites {}", suites.join(" ")),
        format!("the card {field_off} that the field was switched off"),
    ]
}

/// Book 4 A4 and Book 3 C3, the methods that occur here.
fn cvm_results(value: &[u8]) -> Option<String> {
    let [method, _, result] = value else { return None };
    if value == [0, 0, 0] {
        // As the kernel sets it before the card has decided (Book C-8 1.12).
        return Some("not decided yet".to_owned());
    }
    let methods = [
        (0x01, "PIN checked by the card"),
        (0x02, "online PIN"),
        (0x1E, "signature"),
        (0x1F, "no verification"),
        (0x3F, "no verification performed"),
    ];
    let results = [(0x00, "outcome unknown"), (0x01, "failed"), (0x02, "successful")];
    // Bit 7 says what to do on failure and is no part of the method.
    Some(format!("{}, {}", word(method & 0x3F, &methods), word(*result, &results)))
}

fn issuer_application_data(value: &[u8]) -> Vec<String> {
    let Ok(data) = IssuerApplicationData::parse(value) else { return Vec::new() };
    let results = data.results;
    let method = match results.method {
        VerificationMethod::None => "not verified",
        VerificationMethod::DeviceUnlock => "verified by unlocking the phone",
        VerificationMethod::Pin => "verified by the PIN of the wallet",
        VerificationMethod::TerminalPin => "to be verified by the PIN at the terminal",
    };
    let yes = |is_so: bool| if is_so { "yes" } else { "no" };
    let merchant = match data.merchant_identity {
        Some(identity) => format!("merchant proven: yes, identity {identity}"),
        None => "merchant proven: no".to_owned(),
    };
    alloc::vec![
        format!(
            "platform's card, key generation {}, key {}",
            data.derivation_key_index, data.key_index
        ),
        format!(
            "person {method}, screen on: {}, unlocked: {}",
            yes(results.screen_on),
            yes(results.unlocked)
        ),
        format!("{merchant}, relay check: {}", yes(results.relay_checked)),
        format!(
            "policy version {}, integrity verdict {}",
            data.policy_version, results.integrity_verdict
        ),
    ]
}

fn calendar_date(date: CertificateDate) -> String {
    format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)
}

fn issuer_certificate(value: &[u8]) -> Vec<String> {
    match IssuerCertificate::parse(value) {
        Ok(certificate) => alloc::vec![
            format!(
                "cards starting with {}",
                HEXUPPER.encode(&certificate.issuer_identifier).trim_end_matches('F')
            ),
            format!(
                "good until {}, serial {}",
                calendar_date(certificate.expiry),
                HEXUPPER.encode(&certificate.serial)
            ),
            format!(
                "signed by {} key {:02X}",
                HEXUPPER.encode(&certificate.rid),
                certificate.ca_index
            ),
        ],
        Err(error) => one(Some(error.to_string())),
    }
}

fn icc_certificate(value: &[u8]) -> Vec<String> {
    match IccCertificate::parse(value) {
        Ok(certificate) => {
            let date = calendar_date(certificate.expiry);
            let serial = HEXUPPER.encode(&certificate.serial);
            one(Some(format!(
                "good until {date} {:02}:{:02} UTC, serial {serial}",
                certificate.hour, certificate.minute
            )))
        }
        Err(error) => one(Some(error.to_string())),
    }
}

/// A status word inside a value; zeros mean that there was none.
fn status(bytes: [u8; 2]) -> Option<String> {
    let [sw1, sw2] = bytes;
    let is_there = bytes != [0, 0];
    is_there.then(|| format!("the card answered {}", StatusWord::from_bytes(sw1, sw2)))
}

#[cfg(test)]
mod tests;
