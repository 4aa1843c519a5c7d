//! Asks a script in the virtual environment that `./test` sets up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn python() -> PathBuf {
    let python = here().join("../../.venv/bin/python");
    assert!(
        python.exists(),
        "no Python environment at .venv in the repository: run ./test, which makes it"
    );
    python
}

/// Gives `cases` to the script, which answers each.
pub(crate) fn ask(script: &str, cases: Vec<Value>) -> Vec<Value> {
    let count = cases.len();
    let mut child = Command::new(python())
        .arg(here().join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let question = Value::Array(cases).to_string();
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} failed; what it said stands above");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), count);
    answers
}
