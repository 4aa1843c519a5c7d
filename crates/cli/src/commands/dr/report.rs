//! What a drill found, step by step, with times.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tapfer_payment_types::Timestamp;

use crate::clock;
use crate::narrate::milliseconds;
use crate::output::{Emphasis, Output};

/// One thing that was done, and whether it went as it should.
#[derive(Debug, Clone, Serialize)]
struct Step {
    what: &'static str,
    good: bool,
    found: String,
    milliseconds: f64,
}

/// A drill's record.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    #[serde(skip)]
    output: Output,
    software: &'static str,
    backup: String,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
    passed: bool,
    steps: Vec<Step>,
}

impl Report {
    pub(super) fn begin(output: Output, backup: &Path) -> Self {
        Self {
            output,
            software: concat!("tapfer ", env!("CARGO_PKG_VERSION")),
            backup: backup.display().to_string(),
            began_at: clock::now(),
            ended_at: None,
            passed: false,
            steps: Vec::new(),
        }
    }

    /// Does a step, writes down what was found, and shows it. A step that fails ends the drill.
    pub(super) fn step<T>(
        &mut self,
        what: &'static str,
        act: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> Option<T> {
        let began = clock::instant();
        let result = act();
        let took = began.elapsed();
        let (value, found) = match result {
            Ok((value, found)) => (Some(value), found),
            Err(error) => (None, format!("{error:#}")),
        };
        let good = value.is_some();
        let mark = match good {
            true => self.output.paint(Emphasis::Good, "good"),
            false => self.output.paint(Emphasis::Bad, "BAD "),
        };
        self.output.line(format!("{mark}  {what:<28}  {}  {found}", seconds(took)));
        self.steps.push(Step { what, good, found, milliseconds: milliseconds(took) });
        value
    }

    /// Ends the drill: it is passed if every step went well.
    pub(super) fn end(&mut self, complete: bool) -> bool {
        self.ended_at = Some(clock::now());
        self.passed = complete && self.steps.iter().all(|step| step.good);
        self.passed
    }

    /// Writes the report, for people to sign.
    pub(super) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let mut lines = vec![
            format!("DISASTER RECOVERY DRILL: {}", if self.passed { "PASSED" } else { "FAILED" }),
            String::new(),
            format!("software  {}", self.software),
            format!("backup    {}", self.backup),
            format!("began     {}", self.began_at),
            format!("ended     {}", self.ended_at.map(|at| at.to_string()).unwrap_or_default()),
            String::new(),
        ];
        lines.extend(self.steps.iter().map(|step| {
            let mark = if step.good { "good" } else { "BAD " };
            format!("{mark}  {:<28}  {:>9.1} ms  {}", step.what, step.milliseconds, step.found)
        }));
        lines.push(String::new());
        lines.push("signed  ____________________________   date ______________".to_owned());
        lines.push(String::new());
        let mut options = OpenOptions::new();
        let written = options.write(true).create_new(true).open(file).and_then(|mut file| {
            file.write_all(lines.join("\n").as_bytes())?;
            file.sync_all()
        });
        written.with_context(|| format!("cannot write the report {}", file.display()))
    }
}

fn seconds(took: Duration) -> String {
    format!("{:>7.3} s", took.as_secs_f64())
}
