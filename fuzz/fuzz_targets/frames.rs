//! What another program on this machine sends in place of a reader or a card (`--card-at`, virtual
//! reader): any bytes in any pieces are frames, a clean end, or an error.
#![no_main]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the command line's own file, which does more than reading"
)]

#[path = "../../crates/cli/src/vpcd.rs"]
mod vpcd;

use libfuzzer_sys::fuzz_target;
use vpcd::{read_frame, write_frame};

fuzz_target!(|bytes: &[u8]| {
    let mut stream = bytes;
    let (mut written, mut taken) = (Vec::new(), 0);
    let is_whole = loop {
        match read_frame(&mut stream) {
            Ok(Some(frame)) => {
                write_frame(&mut written, &frame).unwrap();
                taken = bytes.len() - stream.len();
            }
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    // What was read, written again, is what came in; a clean end leaves nothing but half a length behind.
    assert_eq!(written, bytes[..taken]);
    assert!(!is_whole || bytes.len() - taken < 2);
});
