//! A part that somebody types: what is read is written again as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_hsm::sharing::PartReader;

fuzz_target!(|text: &str| {
    let mut reader = PartReader::new();
    for line in text.lines() {
        let before = reader.progress();
        let Ok(read) = reader.line(line) else {
            assert_eq!(reader.progress(), before);
            continue;
        };
        let Some(part) = read else { continue };
        let lines: Vec<String> = part.lines().iter().map(|line| line.to_string()).collect();
        assert!(PartReader::whole(&lines.join("\n")).is_ok());
        return;
    }
});
