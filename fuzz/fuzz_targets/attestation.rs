//! Evidence of a phone from outside: chains of certificates, what the hardware says in them, and the list
//! of what makers have revoked. A genuine chain that was changed says the same as before, or nothing.
#![no_main]
#![allow(dead_code, reason = "the crate's test maker can do more than is needed here")]

#[path = "../../crates/integrity/tests/maker/mod.rs"]
mod maker;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use maker::{Maker, Statement, leaf};
use tapfer_integrity::key_attestation::{
    KeyAttestation, KeyDescription, RevokedCertificates, Trust, verify,
};
use tapfer_payment_types::Timestamp;

/// 2026-06-01.
const NOW: Timestamp = Timestamp::from_unix_millis(1_780_272_000_000);
const CHALLENGE: &[u8] = b"a question asked once";

/// A chain as a phone sends it, and who is trusted for it.
static GENUINE: LazyLock<(Vec<Vec<u8>>, Trust)> = LazyLock::new(|| {
    let maker = Maker::new();
    let chain = maker.chain(&leaf(&Statement::default()));
    let trust = Trust { roots: vec![maker.root_key()], revoked: RevokedCertificates::default() };
    assert!(verify(&chain, CHALLENGE, &trust, NOW).is_ok());
    (chain, trust)
});

/// Four bytes of input each: which certificate, where (two), and the new byte.
fn altered(chain: &[Vec<u8>], changes: &[u8]) -> Vec<Vec<u8>> {
    let mut altered = chain.to_vec();
    for change in changes.chunks_exact(4) {
        let certificate = &mut altered[usize::from(change[0]) % chain.len()];
        let position = usize::from(u16::from_be_bytes([change[1], change[2]]));
        let length = certificate.len();
        certificate[position % length] = change[3];
    }
    altered
}

fn attested(chain: &[Vec<u8>]) -> Option<KeyAttestation> {
    verify(chain, CHALLENGE, &GENUINE.1, NOW).ok()
}

/// The extension of a genuine phone, changed: two bytes of input each.
fn description(changes: &[u8]) {
    let mut extension = Statement::default().encode();
    for change in changes.chunks_exact(2) {
        let length = extension.len();
        extension[usize::from(change[0]) % length] = change[1];
    }
    let _ = KeyDescription::parse(&extension);
}

fuzz_target!(|input: &[u8]| {
    let (genuine, _) = &*GENUINE;
    let chain = altered(genuine, input);
    if let Some(found) = attested(&chain) {
        assert_eq!(Some(found), attested(genuine), "a changed chain says something else");
    }
    // Nobody has signed what the fuzzer writes, wherever it stands.
    for position in 0..genuine.len() {
        let mut chain = genuine.clone();
        chain[position] = input.to_vec();
        assert!(input == genuine[position] || attested(&chain).is_none());
    }
    let _ = KeyDescription::parse(input);
    description(input);
    if let Ok(text) = core::str::from_utf8(input)
        && let Ok(list) = RevokedCertificates::from_status_list(text)
    {
        let _ = list.contains(input);
    }
});
