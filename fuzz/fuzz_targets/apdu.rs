//! Commands and answers: what is read and written again means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_emv::apdu::{CommandApdu, ResponseApdu};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(command) = CommandApdu::parse(bytes) {
        let written = command.encode().unwrap();
        assert!(written.len() <= bytes.len());
        assert_eq!(CommandApdu::parse(&written).unwrap(), command);
    }
    if let Ok(answer) = ResponseApdu::parse(bytes) {
        assert_eq!(answer.encode(), bytes);
    }
});
