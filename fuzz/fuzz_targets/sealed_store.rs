//! The phone's file, altered or made up: it opens as it was, or not at all; and its header never says more
//! than the file holds.
#![no_main]
#![allow(dead_code, reason = "the wallet's test generator can do more than is needed here")]

#[path = "../../crates/wallet/tests/wallet/random.rs"]
mod random;

use std::num::NonZeroU32;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use random::TestRng;
use tapfer_wallet::Wallet;
use tapfer_wallet::store::{DeviceSecret, StoreHeader, StoreKey, StoreShare, open};

const EPOCH: u32 = 7;

fn key(epoch: NonZeroU32) -> StoreKey {
    let share = StoreShare::new(epoch, [0x44; 32]);
    StoreKey::with_share(&DeviceSecret::new([0x33; 32]), &share).unwrap()
}

static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut wallet = Wallet::new(&mut TestRng(1));
    let key = key(NonZeroU32::new(EPOCH).unwrap());
    wallet.snapshot().unwrap().seal(&key, &mut TestRng(2)).unwrap()
});

/// Opens it with the key that its header asks for.
fn opens(sealed: &[u8]) -> bool {
    let Ok(header) = StoreHeader::read(sealed) else { return false };
    let device = DeviceSecret::new([0x33; 32]);
    let key = match NonZeroU32::new(header.epoch) {
        Some(epoch) => key(epoch),
        None => StoreKey::without_share(&device).unwrap(),
    };
    let opened = open(&key, sealed);
    opened.is_ok_and(|wallet| wallet.generation() == header.generation)
}

fuzz_target!(|input: &[u8]| {
    assert!(!opens(input) || input == *SEALED, "opened what nobody sealed");
    // The honest file with bytes replaced: three bytes of input each, position and value.
    let mut altered = SEALED.clone();
    for change in input.chunks_exact(3) {
        let position = usize::from(u16::from_be_bytes([change[0], change[1]]));
        let length = altered.len();
        altered[position % length] = change[2];
    }
    assert_eq!(opens(&altered), altered == *SEALED);
});
