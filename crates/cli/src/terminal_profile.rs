//! Terminal profiles: TOML files that say how a terminal is set up, see `profiles/terminal`.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use tapfer_terminal::profile::TerminalProfile;

use crate::toml_file;

/// Reads and checks a profile.
///
/// # Errors
/// What is wrong, in which line of which file, and what to write instead.
pub(crate) fn load(path: &Path) -> anyhow::Result<TerminalProfile> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the terminal profile {}", path.display()))?;
    parse(&text).with_context(|| format!("the terminal profile {} is not usable", path.display()))
}

fn parse(text: &str) -> anyhow::Result<TerminalProfile> {
    let profile: TerminalProfile = toml_file::parse(text)?;
    profile.check().map_err(|error| match line_of(text, error.key) {
        Some(line) => anyhow!("line {line}: {error}"),
        None => anyhow!("{error}"),
    })?;
    Ok(profile)
}

/// The line, from 1, in which a key is set; `key` has its table in front, as in `limits.floor`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut table = String::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{}.", header.trim());
        } else if let Some((name, _)) = line.split_once('=')
            && format!("{table}{}", name.trim()) == key
        {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    const ATTENDED: &str = include_str!("../../../profiles/terminal/attended.toml");

    /// The message for the profile with one piece of it replaced.
    fn error(from: &str, to: &str) -> String {
        assert!(ATTENDED.contains(from), "{from}");
        format!("{:#}", parse(&ATTENDED.replace(from, to)).expect_err(to))
    }

    #[test]
    fn each_mistake_has_its_line_and_what_to_write() {
        assert!(parse(ATTENDED).is_ok());
        let line = |key: &str| {
            let found = ATTENDED.lines().position(|line| line.starts_with(key));
            format!("line {}", found.unwrap() + 1)
        };
        for (key, from, to, what) in [
            ("terminal_type", "\"21\"", "\"2\"", "write 1 bytes as 2 hexadecimal digits"),
            ("floor", "floor = 0", "flor = 0", "unknown field `flor`"),
            ("verification", "= 5000", "= 50.00", "minor units: 1000 for 10.00 EUR"),
            ("verification", "= 5000", "= -1", "write minor units from 0 to 999999999999"),
            ("country", "276", "0", "three digits of ISO 3166-1"),
            ("message_hold_time", "\"000013\"", "\"00001A\"", "six decimal digits"),
            ("kernel_configuration", "\"0800\"", "\"2800\"", "RSA"),
            ("mismatch_threshold", "= 50", "= 101", "percentage"),
        ] {
            let error = error(from, to);
            assert!(error.contains(what), "{error}");
            assert!(error.contains(&line(key)), "{error}");
        }
    }
}
