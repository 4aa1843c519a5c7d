//! Custodians of a realm's root keys, and what they bring to the real command line.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::platform::{Platform, tapfer};

/// Who has a part of the root keys.
pub(crate) const CUSTODIANS: [&str; 3] = ["Ada", "Grace", "Edsger"];

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Runs a command with JSON output over this home, however it ends.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    tapfer().args(arguments).arg("--json").arg("--home").arg(home).output().unwrap()
}

/// What a command says that must succeed.
pub(crate) fn done(home: &Path, arguments: &[&str]) -> Value {
    let output = run(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The error of a command that was refused.
pub(crate) fn refused(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    error(&output)
}

/// What a command said on its way out.
pub(crate) fn error(output: &Output) -> String {
    let lines = String::from_utf8(output.stderr.clone()).unwrap();
    let said: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    said["error"].as_str().unwrap().to_owned()
}

/// A place for parts and transcripts beside a realm's home.
pub(crate) struct Table(TempDir);

impl Table {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.file("home")
    }

    /// Arguments of a ceremony, with its transcript and the custodians.
    pub(crate) fn hand_out(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let transcript = self.file(&format!("{verb}.txt"));
        let parts = self.file(&format!("{verb}-parts"));
        let mut arguments: Vec<String> = ["keys", "ceremony", verb, "--threshold", "2"]
            .into_iter()
            .chain(CUSTODIANS.iter().flat_map(|name| ["--custodian", name]))
            .chain(["--officer", "Tony", "--witness", "Barbara"])
            .chain(["--transcript", text(&transcript), "--parts-into", text(&parts)])
            .map(str::to_owned)
            .collect();
        arguments.extend(more.iter().map(|more| (*more).to_owned()));
        arguments
    }

    /// Arguments with the parts of two of them.
    pub(crate) fn two_custodians(&self, verb: &str) -> Vec<String> {
        [1, 3].map(|number| ["--part".to_owned(), self.part(verb, number)]).concat()
    }

    pub(crate) fn part(&self, verb: &str, number: u8) -> String {
        text(&self.file(&format!("{verb}-parts/part-{number}-of-3.txt"))).to_owned()
    }
}

/// The realm's first issuer.
pub(crate) fn issuer(platform: &Platform) -> String {
    platform.tapfer(&["issuer", "list"])["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Keys of an issuer's master key: generation and state.
pub(crate) fn masters(platform: &Platform, issuer: &str) -> Vec<(u64, String)> {
    let shown = platform.tapfer(&["keys", "show", issuer, "issuer-master"]);
    let rows = shown["data"].as_array().unwrap();
    let state = |row: &Value| row["state"].as_str().unwrap().to_owned();
    rows.iter().map(|row| (row["generation"].as_u64().unwrap(), state(row))).collect()
}

/// What the audit log says beside each event of this kind, the oldest first.
pub(crate) fn audit(platform: &Platform, action: &str) -> Vec<String> {
    let file = platform.home().join("tapfer.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(file, flags).unwrap();
    let query = "SELECT detail FROM audit_events WHERE action = ?1 ORDER BY sequence";
    let mut statement = database.prepare(query).unwrap();
    let details = statement.query_map([action], |row| row.get(0)).unwrap();
    details.map(Result::unwrap).collect()
}
