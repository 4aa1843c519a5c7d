//! Taps of the platform's phone at another terminal: given that phone's answers, this kernel sends what the
//! other one sent and comes to what it came to, envelopes included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

mod scripted;

use std::time::Duration;

use scripted::hex;
use serde_json::Value;
use tapfer_emv::certificate::CaPublicKey;
use tapfer_emv::curve::{PrivateKey, PublicX};
use tapfer_emv::tlv::Tag;
use tapfer_terminal::kernel8::{Action, Inputs, Kernel, KernelConfiguration, Outcome, Session};

const FILE: &str = include_str!("data/phone-taps.json");
const SELECT: u8 = 0xA4;
const READ_DATA: u8 = 0x32;
const WRITE_DATA: u8 = 0x34;

type Objects = Vec<(Tag, Vec<u8>)>;

fn objects(of: &Value) -> Objects {
    let tag = |name: &str| Tag::new(u32::from_str_radix(name, 16).unwrap());
    of.as_object().unwrap().iter().map(|(name, value)| (tag(name), hex(value))).collect()
}

fn borrowed(objects: &Objects) -> impl Iterator<Item = (Tag, &[u8])> {
    objects.iter().map(|(tag, value)| (*tag, value.as_slice()))
}

fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

/// A kernel that has read the phone's answer to SELECT.
fn start(terminal: &Value, tap: &Value, fci: &[u8]) -> Kernel {
    let configuration = [objects(&terminal["config"]), objects(&tap["config"])].concat();
    let configuration = KernelConfiguration::from_data_objects(borrowed(&configuration)).unwrap();
    let session = Session::from_data_objects(borrowed(&objects(&tap["session"]))).unwrap();
    let authority = CaPublicKey {
        rid: fixed(&terminal["rid"]),
        index: hex(&terminal["ca_index"])[0],
        key: PublicX::from_bytes(&fixed(&tap["ca_x"])).unwrap(),
    };
    let inputs = Inputs {
        now: tap["now"].as_str().unwrap().parse().unwrap(),
        kernel_key: PrivateKey::from_bytes(&fixed(&terminal["kernel_private"])).unwrap(),
        unpredictable_number: fixed(&terminal["unpredictable_number"]),
    };
    Kernel::start(configuration, &session, vec![authority], inputs, fci)
}

fn reported(outcome: &Outcome, name: &str) -> Option<Vec<u8>> {
    match name {
        "9f8210" => Some(outcome.parameters.bytes().to_vec()),
        "9f8205" => outcome.ui_request.map(|request| request.bytes()),
        "9f8219" => outcome.ui_request_on_restart.map(|request| request.bytes()),
        "bf8102" => outcome.data_record.as_ref().map(|record| record.expose().to_vec()),
        "bf8103" => Some(outcome.discretionary_data.clone()),
        "tvr" => outcome.tvr.map(|tvr| tvr.bytes().to_vec()),
        "cvm_results" => outcome.cvm_results.map(|results| results.to_vec()),
        other => panic!("{other} is no part of an outcome"),
    }
}

/// Replays one tap; the instructions that were sent.
fn replay(terminal: &Value, tap: &Value) -> Vec<u8> {
    let name = tap["name"].as_str().unwrap();
    let pairs = tap["exchange"].as_array().unwrap().iter();
    let exchange: Vec<[Vec<u8>; 2]> = pairs.map(|pair| [&pair[0], &pair[1]].map(hex)).collect();
    let mut rest = exchange.iter();
    let [_, fci] = rest.next().unwrap();
    let mut kernel = start(terminal, tap, fci.strip_suffix(&[0x90, 0x00]).unwrap());
    let elapsed = Duration::from_millis(tap["command_ms"].as_u64().unwrap());
    while let Action::Transmit(command) = kernel.poll() {
        let [expected, answer] = rest.next().unwrap_or_else(|| panic!("{name}: goes on"));
        assert_eq!(command.encode().unwrap(), *expected, "{name}");
        kernel = kernel.handle_response(answer, elapsed);
    }
    assert_eq!(rest.len(), 0, "{name}: the other terminal went on");
    let outcome = kernel.into_outcome().unwrap();
    for (field, expected) in tap["outcome"].as_object().unwrap() {
        let expected = (!expected.is_null()).then(|| hex(expected));
        assert_eq!(reported(&outcome, field), expected, "{name}: {field}");
    }
    for (tag, content) in objects(&tap["envelopes"]) {
        let read = outcome.data.get(tag).unwrap_or_default();
        assert_eq!(read, content, "{name}: {tag}");
    }
    exchange.iter().map(|[command, _]| command[1]).collect()
}

#[test]
fn two_terminals_agree_about_the_phone() {
    let file: Value = serde_json::from_str(FILE).unwrap();
    let taps = file["taps"].as_array().unwrap();
    let sent: Vec<Vec<u8>> = taps.iter().map(|tap| replay(&file["terminal"], tap)).collect();
    assert_eq!(sent.len(), 32);
    let with = |instruction| sent.iter().filter(|tap| tap.contains(&instruction)).count();
    assert_eq!((with(SELECT), with(READ_DATA), with(WRITE_DATA)), (32, 2, 4));
}
