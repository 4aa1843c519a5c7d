//! This program as a child process of itself: where a module is loaded or roots are handed over.

use std::process::Output;

use serde_json::Value;

/// Why a child with `--json` failed, in its own words; where it said nothing, how it ended.
pub(crate) fn why_it_failed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let error = |line: &str| {
        let said: Value = serde_json::from_str(line).ok()?;
        said.get("error")?.as_str().map(str::to_owned)
    };
    let last = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let said = said.lines().rev().find_map(error).unwrap_or_else(|| last.to_owned());
    if said.is_empty() { format!("its process ended: {}", output.status) } else { said }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{ExitStatus, Output};

    use super::why_it_failed;

    #[test]
    fn the_reason_is_the_child_s_own() {
        let ended = |stderr: &str| {
            let status = ExitStatus::from_raw(9);
            why_it_failed(&Output { status, stdout: Vec::new(), stderr: stderr.into() })
        };
        assert_eq!(ended("a vendor's banner\n{\"error\":\"no token\"}\n"), "no token");
        assert_eq!(ended("{\"error\":\"no token\"}\na vendor's farewell\n"), "no token");
        assert_eq!(ended("error: no such option\n"), "no such option");
        assert_eq!(ended(""), "its process ended: signal: 9 (SIGKILL)");
    }
}
