//! The wallet as a card in a virtual reader, over the real smart-card service: a payment by our
//! terminal, the kernel alone, and a program that knows nothing of tapfer.
//!
//! Needs the Debian packages pcscd and vsmartcard-vpcd and the right to make namespaces (root), and fails
//! where it has not got them, unless TAPFER_TEST_WITHOUT_PCSC=1 says that this is known.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    missing_docs
)]

mod platform;

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use platform::Platform;
use serde_json::Value;
use tapfer_emv::cryptogram::application_cryptogram;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass};
use tapfer_payment_types::PanSequenceNumber;

/// Where PC/SC programs look for the service instead of `/run/pcscd/pcscd.comm`.
const SOCKET: &str = "PCSCLITE_CSOCK_NAME";
/// Longer than anything here takes; only a broken run waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// PC/SC reads the address of the service from the environment, which a running program cannot change
/// safely: the test runs itself again with the environment set.
#[test]
fn a_card_in_a_virtual_reader_pays() {
    if std::env::var("TAPFER_TEST_WITHOUT_PCSC").is_ok_and(|value| value == "1") {
        eprintln!("skipped: TAPFER_TEST_WITHOUT_PCSC is 1");
        return;
    }
    if std::env::var_os(SOCKET).is_some_and(|socket| Path::new(&socket).starts_with("/tmp")) {
        return inside();
    }
    what_this_machine_lacks();
    let directory = tempfile::Builder::new().prefix("tapfer-pcsc-").tempdir_in("/tmp").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_card_in_a_virtual_reader_pays", "--nocapture"])
        .env(SOCKET, directory.path().join("pcscd.comm"))
        .status()
        .unwrap();
    assert!(status.success());
}

/// Fails at once and in words: a test that cannot run has not passed.
fn what_this_machine_lacks() {
    let works = |program: &str, arguments: &[&str]| {
        let mut run = Command::new(program);
        run.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        run.status().is_ok_and(|status| status.success())
    };
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--propagation", "private", "true"];
    let missing = [
        (!works("pcscd", &["--version"]), "the Debian package pcscd"),
        (!Path::new("/etc/reader.conf.d/vpcd").exists(), "the Debian package vsmartcard-vpcd"),
        (!works("ip", &["-Version"]), "the Debian package iproute2"),
        (!works("unshare", &namespaces), "the right to make namespaces: run as root"),
    ];
    let missing: Vec<&str> =
        missing.into_iter().filter_map(|(lacks, what)| lacks.then_some(what)).collect();
    assert!(
        missing.is_empty(),
        "the PC/SC test needs {}; to go without it, set TAPFER_TEST_WITHOUT_PCSC=1",
        missing.join(", and ")
    );
}

fn inside() {
    let socket = std::env::var(SOCKET).unwrap();
    let directory = Path::new(&socket).parent().unwrap();
    let platform = Platform::start();
    platform.tapfer(&["init", "--balance", "100.00"]);
    let second = directory.join("second-wallet");
    let second = second.to_str().unwrap();
    platform.tapfer(&["wallet", "enrol", "--wallet", second]);
    let mut reader = VirtualReader::start(directory, &platform, second);
    let name = wait_for_card("Virtual PCD 00 00");
    let log = std::fs::read_to_string(directory.join("card.log")).unwrap();
    assert!(log.contains("issuer_master_key"), "the test keys are shown: {log}");

    an_independent_program_finds_the_application(&name);
    our_terminal_is_paid(&platform);
    let outcome = the_kernel_alone_tells_its_outcome(&platform);
    the_cryptogram_can_be_recomputed_from_what_is_shown(directory, &outcome);
    reader.put_in(&platform.tapfer(&["wallet", "share", "--wallet", second]));
    wait_for_card("Virtual PCD 00 01");
    two_cards_are_refused(&platform);
}

/// Both slots are one field to a till that takes "Virtual" for its reader's name.
fn two_cards_are_refused(platform: &Platform) {
    let before = platform.tapfer(&["card", "show"])["balance"].clone();
    let pay = ["terminal", "pay", "--reader", "Virtual", "--amount", "1.00", "--one-tap"];
    let refused = platform.run(&pay);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("Please present one card only"), "{said}");
    assert_eq!(platform.tapfer(&["card", "show"])["balance"], before);
}

fn our_terminal_is_paid(platform: &Platform) {
    let receipt = platform.tapfer(&[
        "terminal",
        "pay",
        "--reader",
        "Virtual PCD 00 00",
        "--amount",
        "12.34",
        "--currency",
        "EUR",
    ]);
    assert_eq!(receipt["outcome"], "approved", "{receipt}");
    assert_eq!(receipt["amount"], 1234);
    let card = platform.tapfer(&["card", "show"]);
    assert_eq!(card["balance"], 10_000 - 1234);
}

fn the_kernel_alone_tells_its_outcome(platform: &Platform) -> Value {
    let trust = platform.tapfer(&["trust", "show"]);
    let text = |field: &str| trust[field].as_str().unwrap().to_owned();
    let index = trust["ca_index"].as_u64().unwrap();
    let key = format!("{}:{index:02X}:{}", text("rid"), text("ca_public_key_x"));
    let result = platform.tapfer(&[
        "terminal",
        "pay",
        "--reader",
        "Virtual",
        "--amount",
        "1.00",
        "--kernel-only",
        "--ca-key",
        &key,
    ]);
    assert_eq!(result["outcome"], "online_request", "{result}");
    assert_eq!(result["local_authentication"], true, "{result}");
    result
}

/// With the keys of `--show-test-keys` and the terminal's data record, and nothing else.
fn the_cryptogram_can_be_recomputed_from_what_is_shown(directory: &Path, outcome: &Value) {
    let log = std::fs::read_to_string(directory.join("card.log")).unwrap();
    let keys: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let shown = |name: &str| keys[name].as_str().unwrap();
    let master_key: [u8; 16] = hexadecimal(shown("issuer_master_key")).try_into().unwrap();
    let sequence = PanSequenceNumber::new(shown("pan_sequence_number").parse().unwrap()).unwrap();

    let record = outcome["data_record"].as_array().unwrap();
    let value = |tag: &str| {
        let object = record.iter().find(|object| object["tag"] == tag).unwrap();
        hexadecimal(object["value"].as_str().unwrap())
    };
    let counter = u16::from_be_bytes(value("9F36").try_into().unwrap());
    let session_key = IssuerMasterKey::new(master_key)
        .token_key(&shown("token_pan").parse().unwrap(), sequence)
        .limited_use_key(KeyClass::Unverified, shown("key_index").parse().unwrap())
        .session_key(counter);
    let input = ["9F02", "9F03", "9F1A", "95", "5F2A", "9A", "9C", "9F37", "82", "9F36", "9F10"];
    let input = input.map(value).concat();
    let expected = application_cryptogram(&session_key, &input);
    assert_eq!(value("9F26"), expected);
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    data_encoding::HEXUPPER_PERMISSIVE.decode(digits.as_bytes()).unwrap()
}

/// SELECT PPSE with nothing but PC/SC.
fn an_independent_program_finds_the_application(reader: &str) {
    let context = pcsc::Context::establish(pcsc::Scope::User).unwrap();
    let name = std::ffi::CString::new(reader).unwrap();
    let card = context.connect(&name, pcsc::ShareMode::Shared, pcsc::Protocols::ANY).unwrap();
    let select = b"\x00\xA4\x04\x00\x0E2PAY.SYS.DDF01\x00";
    let mut buffer = [0; pcsc::MAX_BUFFER_SIZE];
    let answer = card.transmit(select, &mut buffer).unwrap();
    assert_eq!(answer[0], 0x6F);
    assert_eq!(answer[answer.len() - 2..], [0x90, 0x00]);
    let aid = [0xF0, 0x54, 0x41, 0x50, 0x46, 0x45, 0x52, 0x01];
    assert!(answer.windows(aid.len()).any(|window| window == aid), "the demo AID is offered");
    let unknown =
        card.transmit(b"\x00\xA4\x04\x00\x05\xA0\x00\x00\x00\x03\x00", &mut buffer).unwrap();
    assert_eq!(unknown, [0x6A, 0x82]);
}

/// Service, virtual reader and card in namespaces of their own; gone when this is dropped.
struct VirtualReader(Child);

impl VirtualReader {
    fn start(directory: &Path, platform: &Platform, second: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pcsc/virtual-reader.sh");
        let mut child = Command::new(script)
            .arg(directory)
            .arg(env!("CARGO_BIN_EXE_tapfer"))
            .args([
                "card",
                "serve",
                "--json",
                "--vpcd",
                "127.0.0.1:35963",
                "--show-test-keys",
                "--share-from-stdin",
                "--home",
            ])
            .arg(platform.home())
            .env("TAPFER_SECOND_WALLET", second)
            .env("TAPFER_HOME", platform.home())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let share = platform.tapfer(&["wallet", "share"]);
        writeln!(child.stdin.as_mut().unwrap(), "{share}").unwrap();
        Self(child)
    }

    /// Puts the second wallet into the second slot.
    fn put_in(&mut self, share: &Value) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{share}").unwrap();
    }
}

impl Drop for VirtualReader {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

/// The name of the reader, once a card is in it.
fn wait_for_card(reader: &str) -> String {
    let context = platform::until("the smart-card service answers", PATIENCE, || {
        pcsc::Context::establish(pcsc::Scope::User).ok()
    });
    let mut states =
        vec![pcsc::ReaderState::new(std::ffi::CString::new(reader).unwrap(), pcsc::State::UNAWARE)];
    platform::until("a card is in the virtual reader", PATIENCE, || {
        let changed = context.get_status_change(Duration::from_secs(5), &mut states);
        if changed.is_err() {
            // The reader appears a moment after the service; ask again.
            return None;
        }
        states[0].sync_current_state();
        states[0].event_state().contains(pcsc::State::PRESENT).then_some(())
    });
    states[0].name().to_string_lossy().into_owned()
}
