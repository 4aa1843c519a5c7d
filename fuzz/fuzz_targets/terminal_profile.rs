//! A terminal profile from a file: any text is answered, and what passes the check sets a terminal up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_terminal::profile::TerminalProfile;

fuzz_target!(|text: &str| {
    let Ok(profile) = toml::from_str::<TerminalProfile>(text) else { return };
    if profile.check().is_ok() {
        let application = vec![0xF0, 0x00, 0x00, 0x00, 0x01];
        assert!(profile.configuration(&[application], Vec::new()).is_ok());
    }
});
