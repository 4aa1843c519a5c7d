//! A terminal profile from a file, made up or a shipped one that was edited: any text is answered, and what
//! passes the check sets a terminal up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_terminal::profile::TerminalProfile;

const SHIPPED: [&str; 4] = [
    include_str!("../../profiles/terminal/attended.toml"),
    include_str!("../../profiles/terminal/pin-pad.toml"),
    include_str!("../../profiles/terminal/transit.toml"),
    include_str!("../../profiles/terminal/vectors.toml"),
];

/// The text with one value after another replaced: a line each, and what stands behind its `=`.
fn edited(text: &str, edits: &[(u8, &str)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (line, value) in edits {
        let count = lines.len();
        let line = &mut lines[usize::from(*line) % count];
        if let Some((key, _)) = line.split_once('=') {
            *line = format!("{key}={value}");
        }
    }
    lines.join("\n")
}

fn read(text: &str) {
    let Ok(profile) = toml::from_str::<TerminalProfile>(text) else { return };
    if profile.check().is_ok() {
        let application = vec![0xF0, 0x00, 0x00, 0x00, 0x01];
        assert!(profile.configuration(&[application], Vec::new()).is_ok());
    }
}

fuzz_target!(|input: (u8, Vec<(u8, &str)>, &str)| {
    let (which, edits, text) = input;
    read(text);
    read(&edited(SHIPPED[usize::from(which) % SHIPPED.len()], &edits));
});
