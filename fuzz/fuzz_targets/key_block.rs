//! Key blocks from another system: what is read says the same when it is written again, and what was
//! not sealed under the protection key does not open.
#![no_main]

use getrandom::SysRng;
use libfuzzer_sys::fuzz_target;
use rand_core::UnwrapErr;
use tapfer_hsm::key_block::{ProtectionKey, Version, inspect, open, seal};
use tapfer_payment_types::Secret;

fuzz_target!(|text: &str| {
    let protection = ProtectionKey::new(Version::D, Secret::new(vec![0x5A; 32])).unwrap();
    assert!(open(&protection, text).is_err());
    let Ok(header) = inspect(text) else { return };
    let key = Secret::new(vec![0x11; 16]);
    if let Ok(block) = seal(&protection, &header, &key, &mut UnwrapErr(SysRng)) {
        let opened = open(&protection, &block).unwrap();
        assert_eq!((opened.header, opened.key.expose()), (header, key.expose()));
    }
});
