//! The log of a database from a damaged disk: whatever lies there is read to its end, and no more is said to count than is there.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let length = u64::try_from(log.len()).unwrap();
    if let Ok(end) = tapfer_storage::sqlite::examine_log(log).unwrap() {
        assert!(end.end.max(32) + end.dropped_bytes <= length.max(32) || end.frames == 0);
        assert!(end.dropped_bytes <= length);
    }
});
