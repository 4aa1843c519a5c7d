//! The journal of a node that stands in, from a damaged disk: its records are read or refused, and what is read is written again as the
//! same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert_ne!(tapfer_storage::stand_in_reads_back(bytes), Some(false));
});
