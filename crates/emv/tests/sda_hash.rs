//! The SDA hash of an independent Kernel 8 card, recomputed from what that card sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, missing_docs)]

use serde_json::Value;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};
use tapfer_emv::channel::SecureChannel;
use tapfer_emv::profile::{CARD_QUALIFIER, CardProfile, Record};
use tapfer_emv::tlv::{self, Tag};
use tapfer_emv::{certificate, tags};

const SELECT: u8 = 0xA4;
const GET_PROCESSING_OPTIONS: u8 = 0xA8;
const READ_RECORD: u8 = 0xB2;

fn hex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn transactions() -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("../../vectors/tests/data/kernel8-transactions.json"))
            .unwrap();
    file["kernel8_transactions"].as_array().unwrap().clone()
}

/// Commands of one kind with the data of their answers.
fn answers(transaction: &Value, instruction: u8) -> Vec<(CommandApdu, Vec<u8>)> {
    let steps = transaction["exchange"].as_array().unwrap().iter();
    steps
        .map(|step| (CommandApdu::parse(&hex(&step[0])).unwrap(), hex(&step[1])))
        .filter(|(command, _)| command.instruction == instruction)
        .map(|(command, answer)| (command, ResponseApdu::parse(&answer).unwrap().data))
        .collect()
}

/// A data object of the only answer of its kind, inside the answer's template.
fn sent(transaction: &Value, instruction: u8, path: &[Tag]) -> Vec<u8> {
    let (_, answer) = answers(transaction, instruction).remove(0);
    let template = tlv::parse_one(&answer).unwrap();
    tlv::find_path(template.value, path).unwrap().unwrap().to_vec()
}

fn is_signed(locator: &[u8], file: u8, record: u8) -> bool {
    let mut entries = locator.chunks(4);
    entries.any(|entry| entry[0] >> 3 == file && (entry[1]..entry[1] + entry[3]).contains(&record))
}

/// The records, those in `DA` decrypted with the session key the card used.
fn records(transaction: &Value) -> Vec<Record> {
    let facts = &transaction["card_facts"];
    let (skc, ski) = (array(&facts["skc"]), array(&facts["ski"]));
    let mut channel = SecureChannel::from_session_keys(skc, ski, 0x8001, 0);
    let locator = sent(transaction, GET_PROCESSING_OPTIONS, &[tags::APPLICATION_FILE_LOCATOR]);
    let mut read = |(command, answer): (CommandApdu, Vec<u8>)| {
        let template = tlv::parse_one(&answer).unwrap();
        let encrypted = template.tag == tags::ENCRYPTED_RECORD;
        let value = match encrypted {
            true => channel.decrypt_record(template.value).unwrap(),
            false => template.value.to_vec(),
        };
        let (short_file_identifier, number) = (command.p2 >> 3, command.p1);
        let signed = is_signed(&locator, short_file_identifier, number);
        Record { short_file_identifier, number, value, encrypted, signed }
    };
    answers(transaction, READ_RECORD).into_iter().map(&mut read).collect()
}

/// The card as it showed itself in one transaction.
fn profile(transaction: &Value) -> CardProfile {
    let aip = sent(transaction, GET_PROCESSING_OPTIONS, &[tags::APPLICATION_INTERCHANGE_PROFILE]);
    let pdol = sent(transaction, SELECT, &[tags::FCI_PROPRIETARY_TEMPLATE, tags::PDOL]);
    CardProfile {
        aid: sent(transaction, SELECT, &[tags::DF_NAME]),
        label: b"TEST".to_vec(),
        aip: aip.try_into().unwrap(),
        pdol,
        cdol1: sent(transaction, GET_PROCESSING_OPTIONS, &[tags::CDOL1]),
        records: records(transaction),
    }
}

/// What the card was personalised with, for the transactions that ended before it could tell: the
/// same records in all of them.
fn profile_of_options(transaction: &Value, first: &Value) -> CardProfile {
    let facts = &transaction["card_facts"];
    let aip = transaction["card_options"]["aip"].as_str().unwrap_or("0104");
    CardProfile {
        aip: array(&Value::from(aip)),
        aid: hex(&facts["aid"]),
        pdol: hex(&facts["pdol"]),
        cdol1: hex(&facts["cdol1"]),
        ..profile(first)
    }
}

/// The hash of a card whose Card Qualifier is not the platform's.
fn hash_with_qualifier(profile: &CardProfile, qualifier: &[u8]) -> [u8; 32] {
    let mut extended = tlv::encode(tags::APPLICATION_IDENTIFIER_TERMINAL, &profile.aid);
    tlv::write(&mut extended, tags::PDOL, &profile.pdol);
    tlv::write(&mut extended, tags::CARD_QUALIFIER, qualifier);
    tlv::write(&mut extended, tags::CDOL1, &profile.cdol1);
    let signed = profile.records.iter().find(|record| record.signed).unwrap();
    certificate::sda_hash(&[&signed.value], &extended, profile.aip)
}

#[test]
fn every_card_that_opened_a_channel() {
    let transactions = transactions();
    let with_channel = transactions.iter().filter(|one| one["card_facts"].get("skc").is_some());
    let mut checked = 0;
    for transaction in with_channel {
        let name = transaction["name"].as_str().unwrap();
        let mut sent = profile(transaction);
        let expected: [u8; 32] = array(&transaction["card_facts"]["sda_hash"]);
        if name == "bad_record_bit" {
            assert_ne!(
                sent.sda_hash(),
                expected,
                "the last bit of the record was flipped on the way"
            );
            *sent.records[1].value.last_mut().unwrap() ^= 1;
        }
        assert_eq!(sent.sda_hash(), expected, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 75);
}

#[test]
fn every_card_that_did_not() {
    let transactions = transactions();
    let without_channel = transactions.iter().filter(|one| one["card_facts"].get("skc").is_none());
    let mut checked = 0;
    for transaction in without_channel {
        let profile = profile_of_options(transaction, &transactions[0]);
        let qualifier = match transaction["card_options"].get("card_qualifier") {
            Some(qualifier) => hex(qualifier),
            None => CARD_QUALIFIER.to_vec(),
        };
        let expected: [u8; 32] = array(&transaction["card_facts"]["sda_hash"]);
        let name = transaction["name"].as_str().unwrap();
        assert_eq!(hash_with_qualifier(&profile, &qualifier), expected, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 15);
}
