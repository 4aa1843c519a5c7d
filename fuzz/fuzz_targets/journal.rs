//! Records of the journal from a damaged disk: they are read or refused, and what is read is written again as the same
//! bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: &[u8]| {
    assert_ne!(tapfer_storage::reads_back(records), Some(false));
});
