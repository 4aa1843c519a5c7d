//! How the demo tells: chapters, parts with their times, expectations that are met or not.

use std::time::Duration;

use serde_json::{Value, json};
use tapfer_payment_types::{Currency, Money};

use super::in_milliseconds;
use crate::clock;
use crate::failure::Ending;
use crate::language::Language;
use crate::narrate::{self, Step, milliseconds};
use crate::output::{Emphasis, Output};
use crate::receipt;
use crate::tap::Tapped;

/// The story so far.
pub(crate) struct Story {
    output: Output,
    chapters: usize,
    parts: Vec<(String, Duration)>,
    unmet: usize,
    met: usize,
    paid_minor: i64,
}

impl Story {
    /// Nothing told yet.
    pub(crate) const fn new(output: Output) -> Self {
        Self { output, chapters: 0, parts: Vec::new(), unmet: 0, met: 0, paid_minor: 0 }
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapters = self.chapters.saturating_add(1);
        let heading = format!("\n{}. {title}", self.chapters);
        self.output.line(self.output.paint(Emphasis::Strong, &heading));
    }

    /// A sentence.
    pub(crate) fn tell(&self, sentence: &str) {
        self.output.line(format!("   {sentence}"));
    }

    /// Does a part of the work and notes how long it took.
    pub(crate) fn part<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let result = {
            let _progress = self.output.progress(name);
            let begin = clock::instant();
            let result = work();
            self.parts.push((name.to_owned(), begin.elapsed()));
            result
        };
        if self.output.is_json()
            && let Some((name, time)) = self.parts.last()
        {
            self.output.json_line(&json!({ "part": name, "milliseconds": milliseconds(*time) }))?;
        }
        result
    }

    /// Every command and answer of a tap in words.
    pub(crate) fn conversation(&mut self, tapped: &Tapped) {
        let steps = narrate::narrate(&tapped.exchanges);
        for (number, step) in (1_usize..).zip(&steps) {
            narrate::print(self.output, number, step);
        }
        if self.output.is_json() {
            let steps: Vec<Value> = steps.iter().map(Step::to_json).collect();
            // Printing JSON fails only for values that are no JSON, and these are.
            let _printed = self.output.json_line(&json!({ "tap": steps }));
        }
        let card: Duration = tapped.exchanges.iter().map(|exchange| exchange.elapsed).sum();
        self.parts.push(("tap: phone, with its storage".to_owned(), card));
        let terminal = tapped.elapsed.saturating_sub(card);
        self.parts.push(("tap: terminal".to_owned(), terminal));
    }

    /// The platform's decision with its reasons.
    pub(crate) fn decision(&mut self, answer: &Value) {
        let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
        if text("outcome") == "approved" {
            let amount = answer.get("amount").and_then(Value::as_i64).unwrap_or_default();
            self.paid_minor = self.paid_minor.saturating_add(amount);
        }
        let reason = match text("reason") {
            same if same == text("outcome") => String::new(),
            reason => format!(" ({reason})"),
        };
        self.tell(&format!("Platform: {}{reason}: {}", text("outcome"), text("reason_text")));
    }

    /// What approved payments add up to, minor units.
    pub(crate) const fn paid_minor(&self) -> i64 {
        self.paid_minor
    }

    /// The receipt.
    pub(crate) fn receipt(&self, report: &Value) -> anyhow::Result<()> {
        if self.output.is_json() {
            return self.output.json_line(&json!({ "receipt": report }));
        }
        self.tell("The receipt:");
        receipt::print(self.output, Language::English, report);
        Ok(())
    }

    /// Compares what came with what had to come.
    pub(crate) fn expect(&mut self, what: &str, expected: &str, found: &str) -> anyhow::Result<()> {
        let good = expected == found;
        let counter = if good { &mut self.met } else { &mut self.unmet };
        *counter = counter.saturating_add(1);
        if self.output.is_json() {
            return self.output.json_line(&json!({
                "expectation": what, "expected": expected, "found": found, "met": good,
            }));
        }
        let line = match good {
            true => self.output.paint(Emphasis::Good, &format!("ok     {what}: {found}")),
            false => {
                let line = format!("WRONG  {what}: {found}, expected {expected}");
                self.output.paint(Emphasis::Bad, &line)
            }
        };
        self.tell(&line);
        Ok(())
    }

    /// The times, and whether all went as it should.
    pub(crate) fn end(mut self) -> anyhow::Result<Ending> {
        self.chapter("How long it took");
        for (name, time) in &self.parts {
            self.tell(&format!("{name:<30} {:>12}", in_milliseconds(*time)));
        }
        let paid = Money::new(self.paid_minor, Currency::EUR);
        let good = self.unmet == 0;
        if self.output.is_json() {
            self.output.json_line(&json!({ "met": self.met, "unmet": self.unmet }))?;
        }
        self.output.line(match good {
            true => format!("\nAll {} expectations were met; {paid} were paid.", self.met),
            false => format!("\n{} expectations were NOT met.", self.unmet),
        });
        Ok(Ending::done_if(good))
    }
}
