//! A tap in words: every command and every answer, for people and for programs.

use std::time::Duration;

use data_encoding::HEXUPPER;
use serde_json::{Value, json};
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::merchant::MerchantCertificate;
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::tlv_tree::{self, CardData, Node};
use tapfer_emv::{meaning, tags};
use tapfer_payment_types::Currency;

use crate::commands::tlv::to_json;
use crate::output::{Emphasis, Output};
use crate::tap::Exchange;

/// Name of the directory that every contactless card keeps: the proximity payment system environment.
const DIRECTORY: &[u8] = b"2PAY.SYS.DDF01";

/// One command and its answer in words.
#[derive(Debug)]
pub(crate) struct Step {
    /// Name of the command.
    pub(crate) command: String,
    /// What the terminal wants, as a person would say it.
    pub(crate) purpose: &'static str,
    /// What the terminal sends along.
    pub(crate) sent: Vec<String>,
    /// What the card answers.
    pub(crate) answer: String,
    /// The answer's data objects.
    pub(crate) objects: Vec<Node>,
    /// Command APDU, hexadecimal; records travel encrypted or hold public data only.
    pub(crate) command_hex: String,
    /// Length of the answer in bytes.
    pub(crate) answer_length: usize,
    /// Milliseconds from command to answer.
    pub(crate) milliseconds: f64,
}

/// Tells a tap step by step. It remembers what the card asked for, so that the values sent can be
/// named.
#[derive(Default)]
pub(crate) struct Narrator {
    processing_options_list: Option<DataObjectList>,
    risk_management_list: Option<DataObjectList>,
}

impl Step {
    /// The step for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "command": self.command,
            "purpose": self.purpose,
            "sent": self.sent,
            "answer": self.answer,
            "objects": self.objects.iter().map(to_json).collect::<Vec<_>>(),
            "command_hex": self.command_hex,
            "answer_length": self.answer_length,
            "milliseconds": self.milliseconds,
        })
    }
}

/// All steps of a tap in words.
pub(crate) fn narrate(exchanges: &[Exchange]) -> Vec<Step> {
    let mut narrator = Narrator::default();
    exchanges.iter().map(|exchange| narrator.step(exchange)).collect()
}

impl Narrator {
    fn step(&mut self, exchange: &Exchange) -> Step {
        let command = CommandApdu::parse(&exchange.command).ok();
        let (name, purpose, sent) = match &command {
            Some(command) => self.describe(command),
            None => ("not an APDU".to_owned(), "", Vec::new()),
        };
        let (answer, objects) = match ResponseApdu::parse(&exchange.response) {
            Ok(response) => {
                let content = exchange.decrypted.as_ref().map_or(&response.data, |content| content);
                self.remember(content);
                (answer_in_words(&response), objects(content))
            }
            Err(error) => (error.to_string(), Vec::new()),
        };
        Step {
            command: name,
            purpose,
            sent,
            answer,
            objects,
            command_hex: HEXUPPER.encode(&exchange.command),
            answer_length: exchange.response.len(),
            milliseconds: milliseconds(exchange.elapsed),
        }
    }

    fn describe(&self, command: &CommandApdu) -> (String, &'static str, Vec<String>) {
        match (command.class, command.instruction) {
            (0x00, 0xA4) if command.data == DIRECTORY => (
                "SELECT 2PAY.SYS.DDF01".to_owned(),
                "Which payment applications do you have?",
                Vec::new(),
            ),
            (0x00, 0xA4) => (
                format!("SELECT {}", HEXUPPER.encode(&command.data)),
                "I take this one. What do you need to know from me?",
                Vec::new(),
            ),
            (0x80, 0x52) => (
                "PRESENT MERCHANT CREDENTIAL".to_owned(),
                "This is who I am. Give me a number that I can prove it with.",
                merchant_in_words(&command.data),
            ),
            (0x80, 0xA8) => (
                "GET PROCESSING OPTIONS".to_owned(),
                "Here is the payment, and a fresh key of mine for a secret channel.",
                self.processing_options(&command.data),
            ),
            (0x80, 0xEA) => (
                "EXCHANGE RELAY RESISTANCE DATA".to_owned(),
                "Answer at once, so that I know you are near.",
                Vec::new(),
            ),
            (0x00, 0xB2) => (
                format!("READ RECORD {} of file {}", command.p1, command.p2.wrapping_shr(3)),
                "Show me this record.",
                Vec::new(),
            ),
            (0x84, 0x32) => ("READ DATA".to_owned(), "What is stored there?", Vec::new()),
            (0x84, 0x34) => ("WRITE DATA".to_owned(), "Store this.", Vec::new()),
            (0x80, 0xAE) => (
                format!("GENERATE AC ({})", requested(command.p1)),
                requested_in_words(command.p1),
                values(self.risk_management_list.as_ref(), &command.data),
            ),
            (class, instruction) => {
                (format!("command {class:02X}{instruction:02X}"), "", Vec::new())
            }
        }
    }

    /// The values of the PDOL, inside template `83`.
    fn processing_options(&self, data: &[u8]) -> Vec<String> {
        match tlv::parse_one(data) {
            Ok(template) => values(self.processing_options_list.as_ref(), template.value),
            Err(_) => Vec::new(),
        }
    }

    /// Keeps the lists that say what the next commands carry.
    fn remember(&mut self, data: &[u8]) {
        for (tag, list) in [
            (tags::PDOL, &mut self.processing_options_list),
            (tags::CDOL1, &mut self.risk_management_list),
        ] {
            if let Some(found) =
                find_below(data, tag).and_then(|value| DataObjectList::parse(value).ok())
            {
                *list = Some(found);
            }
        }
    }
}

/// What the terminal's certificate says; whether it is true is for the phone to check.
fn merchant_in_words(certificate: &[u8]) -> Vec<String> {
    match MerchantCertificate::parse(certificate) {
        Ok(merchant) => vec![
            format!("merchant: {}", merchant.name),
            format!("certified until: {}", merchant.expires_at()),
        ],
        Err(error) => vec![error.to_string()],
    }
}

/// Looks for a tag at any depth of well-formed data.
fn find_below(data: &[u8], wanted: Tag) -> Option<&[u8]> {
    tlv::check_nesting(data).ok()?;
    tlv::parse(data).ok()?.into_iter().find_map(|object| {
        if object.tag == wanted {
            return Some(object.value);
        }
        object.tag.is_constructed().then(|| find_below(object.value, wanted)).flatten()
    })
}

fn values(list: Option<&DataObjectList>, data: &[u8]) -> Vec<String> {
    let Some(pieces) = list.and_then(|list| list.split(data)) else { return Vec::new() };
    let currency = pieces
        .iter()
        .find(|(tag, _)| *tag == tags::TRANSACTION_CURRENCY_CODE)
        .and_then(|(_, value)| HEXUPPER.encode(value).parse().ok())
        .and_then(|numeric| Currency::from_numeric(numeric).ok());
    pieces
        .into_iter()
        .map(|(tag, value)| {
            let description = tags::describe(tag);
            let name = description.map_or_else(|| tag.to_string(), |row| row.name.to_owned());
            let digits = match description {
                Some(row) if row.sensitive => format!("({} bytes, masked)", value.len()),
                _ => shorten(&HEXUPPER.encode(value)),
            };
            match meaning::of(tag, value, currency).join("; ") {
                nothing if nothing.is_empty() => format!("{name}: {digits}"),
                words => format!("{name}: {digits} = {words}"),
            }
        })
        .collect()
}

/// Keys, certificates and encrypted data say little in full length.
fn shorten(digits: &str) -> String {
    const SHOWN: usize = 32;
    match (digits.get(..SHOWN), digits.len().checked_sub(SHOWN)) {
        (Some(head), Some(rest)) if rest > 8 => {
            format!("{head}… ({} bytes)", digits.len().div_euclid(2))
        }
        _ => digits.to_owned(),
    }
}

const fn requested(p1: u8) -> &'static str {
    match p1 & 0xC0 {
        0x00 => "AAC",
        0x40 => "TC",
        0x80 => "ARQC",
        _ => "unknown type",
    }
}

const fn requested_in_words(p1: u8) -> &'static str {
    match p1 & 0xC0 {
        0x00 => "I decline; sign that.",
        0x40 => "I would approve; sign the payment.",
        _ => "Sign the payment, I shall ask your issuer.",
    }
}

fn answer_in_words(response: &ResponseApdu) -> String {
    if !response.status.is_ok() {
        return response.status.to_string();
    }
    let kind = match tlv::parse(&response.data).ok().as_deref() {
        Some([object]) if object.tag == tags::ENCRYPTED_RECORD => {
            "a record, encrypted for this terminal alone"
        }
        Some([object]) if object.tag == tags::READ_RECORD_TEMPLATE => "a record in clear",
        _ => "done",
    };
    format!("{kind}, {} bytes", response.data.len())
}

fn objects(data: &[u8]) -> Vec<Node> {
    let mut nodes = tlv_tree::tree(data, CardData::Masked).nodes;
    for node in &mut nodes {
        node.value = node.value.as_deref().map(shorten);
    }
    nodes
}

/// Milliseconds with their fraction, for reports.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints one step for people.
pub(crate) fn print(output: Output, number: usize, step: &Step) {
    let heading = output.paint(Emphasis::Strong, &format!("{number}. {}", step.command));
    let time = output.paint(Emphasis::Faint, &format!("{:.2} ms", step.milliseconds));
    output.line(format!("  {heading}   {time}"));
    if !step.purpose.is_empty() {
        output.line(format!("     terminal: {}", step.purpose));
    }
    for value in &step.sent {
        output.line(format!("               {value}"));
    }
    output.line(format!("     card:     {}", step.answer));
    for node in &step.objects {
        output.line(format!("               {}", object_line(node)));
    }
}

fn object_line(node: &Node) -> String {
    let indent = "  ".repeat(node.depth);
    let name = node.name.unwrap_or("(not in the dictionary)");
    let meanings = node.meanings.join("; ");
    match &node.value {
        Some(_) if !meanings.is_empty() => format!("{indent}{} {name}: {meanings}", node.tag),
        Some(value) => format!("{indent}{} {name}: {value}", node.tag),
        None => format!("{indent}{} {name}", node.tag),
    }
}

#[cfg(test)]
mod tests {
    use super::{narrate, shorten};
    use crate::tap::Exchange;
    use data_encoding::HEXUPPER;
    use std::time::Duration;

    fn exchange(command: &str, response: &str) -> Exchange {
        Exchange {
            command: HEXUPPER.decode(command.as_bytes()).unwrap(),
            response: HEXUPPER.decode(response.as_bytes()).unwrap(),
            decrypted: None,
            elapsed: Duration::from_micros(1500),
        }
    }

    #[test]
    fn values_are_named_after_what_the_card_asked_for() {
        let steps = narrate(&[
            exchange("00A4040006F0000000010100", "6F138406F00000000101A5099F38069F02065F2A029000"),
            exchange("80A800000A8308000000001234097800", "6985"),
        ]);
        assert_eq!(steps[0].command, "SELECT F00000000101");
        assert_eq!(
            steps[1].sent,
            [
                "Amount, Authorised (Numeric): 000000001234 = 12.34 EUR",
                "Transaction Currency Code: 0978 = EUR"
            ]
        );
        assert_eq!(steps[1].answer, "6985 (conditions of use not satisfied)");
    }

    #[test]
    fn nonsense_is_told_too() {
        let steps = narrate(&[exchange("00", ""), exchange("00B20114", "90FFFF9000")]);
        assert_eq!(steps[0].command, "not an APDU");
        assert_eq!(steps[1].command, "READ RECORD 1 of file 2");
        assert!(steps[1].objects.is_empty());
    }

    #[test]
    fn long_values_are_shortened() {
        assert_eq!(shorten(&"AB".repeat(16)), "AB".repeat(16));
        assert_eq!(shorten(&"AB".repeat(64)), format!("{}… (64 bytes)", "AB".repeat(16)));
    }
}
