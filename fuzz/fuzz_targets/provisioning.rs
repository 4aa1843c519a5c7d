//! The platform's answer to a phone, altered: whatever a payload says, the wallet takes all of it or
//! nothing, and what it takes can be played.
#![no_main]
#![allow(dead_code, reason = "the wallet's test issuer can do more than is needed here")]

#[path = "../../crates/wallet/tests/wallet/issuer.rs"]
mod issuer;
#[path = "../../crates/wallet/tests/wallet/random.rs"]
mod random;

use std::sync::LazyLock;

use issuer::{Issuer, now, seal_bytes};
use libfuzzer_sys::fuzz_target;
use random::TestRng;
use tapfer_emv::profile::CardProfile;
use tapfer_payment_types::messages::{
    CardProfileMessage, ProvisioningPayload, ReplenishRequest, SealedPayload,
};
use tapfer_wallet::{Snapshot, Wallet};

static ISSUER: LazyLock<Issuer> = LazyLock::new(Issuer::new);
/// A wallet that has just asked for keys, and a payload that would answer it.
static ASKING: LazyLock<(Snapshot, Vec<u8>)> = LazyLock::new(|| {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(ISSUER.token, &mut TestRng(2));
    let payload = serde_json::to_vec(&ISSUER.payload(&request, now())).unwrap();
    let asking = wallet.snapshot().unwrap();
    // Without this, every altered payload could be refused for a reason that was there before.
    assert!(accepted(&mut wallet, &payload), "the honest payload is refused");
    (asking, payload)
});

/// The honest payload with bytes replaced: three bytes of input each, position and value.
fn altered(honest: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut altered = honest.to_vec();
    for change in changes.chunks_exact(3) {
        let position = usize::from(u16::from_be_bytes([change[0], change[1]]));
        let length = altered.len();
        altered[position % length] = change[2];
    }
    altered
}

/// Seals the payload to the wallet, and says whether it takes it.
fn accepted(wallet: &mut Wallet, payload: &[u8]) -> bool {
    let sealed = seal_bytes(wallet, ISSUER.token, payload);
    wallet.accept(ISSUER.token, &sealed, now()).is_ok()
}

fn read_as_every_message(json: &[u8]) {
    let _ = serde_json::from_slice::<ReplenishRequest>(json);
    let _ = serde_json::from_slice::<SealedPayload>(json);
    if let Ok(message) = serde_json::from_slice::<CardProfileMessage>(json) {
        let _ = CardProfile::try_from(&message);
    }
}

/// What passes the checks must be complete: hash, locator, token, and the same as a message again.
fn assert_playable(message: &CardProfileMessage) {
    let Ok(profile) = CardProfile::try_from(message) else { return };
    assert!(profile.token_pan().is_some() && profile.sequence_number().is_some());
    assert_eq!(profile.application_file_locator().len() % 4, 0);
    let _ = profile.sda_hash();
    let again = CardProfileMessage::from(&profile);
    assert_eq!(CardProfile::try_from(&again), Ok(profile));
}

fuzz_target!(|input: (bool, &[u8])| {
    let (is_change, bytes) = input;
    let (wallet, honest) = &*ASKING;
    let json = if is_change { altered(honest, bytes) } else { bytes.to_vec() };
    read_as_every_message(&json);
    let Ok(payload) = serde_json::from_slice::<ProvisioningPayload>(&json) else { return };
    assert_playable(&payload.profile);

    let mut wallet = wallet.restore().unwrap();
    let accepted = accepted(&mut wallet, &json);
    assert_eq!(wallet.tokens().count(), usize::from(accepted));
});
