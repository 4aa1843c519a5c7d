//! The only place in the whole workspace that writes to the terminal: plain text for people,
//! JSON for programs. Results go to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use tapfer_payment_types::Language;

use crate::failure::{self, NothingPaid};
use crate::trouble::Problem;

/// How results are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    colour: bool,
}

/// What [`Output::paint`] writes; from anybody else they do no more than colour.
const OWN_COMMANDS: [&str; 5] = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m"];

/// What a piece of text means to the reader; colours only on a terminal, and never the only carrier
/// of a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// A heading.
    Strong,
    /// Detail for the curious.
    Faint,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
}

impl Output {
    /// Decides about colours once: a terminal, and nobody asked for none (<https://no-color.org>).
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: !json && wanted && io::stdout().is_terminal() }
    }

    /// Whether a program reads the results.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// A line for people; programs do not see it.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.json {
            write_line(&mut io::stdout().lock(), text.as_ref());
        }
    }

    /// A remark beside the result, on standard error, in both modes.
    pub(crate) fn remark(self, text: impl AsRef<str>) {
        write_line(&mut io::stderr().lock(), text.as_ref());
    }

    /// Text before what a person is to type, on standard error, in both modes.
    pub(crate) fn prompt(self, text: &str) {
        let mut error = io::stderr().lock();
        let _nobody_there = write!(error, "{}: ", printable(text)).and_then(|()| error.flush());
    }

    /// Empties the screen behind standard error, with what was scrolled out of it.
    pub(crate) fn clear_screen(self) {
        let mut error = io::stderr().lock();
        if error.is_terminal() {
            // Home, the screen, the lines above it (ECMA-48 ED; 3 is xterm's).
            let _nobody_there =
                write!(error, "\u{1b}[H\u{1b}[2J\u{1b}[3J").and_then(|()| error.flush());
        }
    }

    /// A JSON value on a line of its own, whatever the mode.
    pub(crate) fn json_line(self, value: &impl Serialize) -> anyhow::Result<()> {
        write_line(&mut io::stdout().lock(), &plain_json(&serde_json::to_string(value)?));
        Ok(())
    }

    /// One object: `name  value` lines for people.
    pub(crate) fn object(self, value: &Value) -> anyhow::Result<()> {
        if self.json {
            return self.json_line(value);
        }
        let fields = facts(value, "");
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, text) in fields {
            self.line(format!("{}  {text}", self.paint(Emphasis::Faint, &pad(&name, width))));
        }
        Ok(())
    }

    /// A page of objects: a table with the given columns for people, the page as it is for programs.
    pub(crate) fn page(self, page: &Value, columns: &[&str]) -> anyhow::Result<()> {
        if self.json {
            return self.json_line(page);
        }
        let rows: Vec<Vec<String>> = page
            .get("data")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|row| columns.iter().map(|column| cell(row, column)).collect())
            .collect();
        if rows.is_empty() {
            self.line("none yet");
            return Ok(());
        }
        self.table(columns, &rows);
        if let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) {
            self.line(format!("more: add --cursor {cursor}"));
        }
        Ok(())
    }

    /// A table for people.
    pub(crate) fn table(self, columns: &[&str], rows: &[Vec<String>]) {
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(position, column)| {
                let cells = rows.iter().filter_map(|row| row.get(position));
                cells.map(|text| text.chars().count()).chain([column.len()]).max().unwrap_or(0)
            })
            .collect();
        let heading: Vec<String> = columns.iter().map(ToString::to_string).collect();
        self.line(self.paint(Emphasis::Faint, &join(&heading, &widths)));
        for row in rows {
            self.line(join(row, &widths));
        }
    }

    /// Text with an emphasis, if the terminal can show one.
    pub(crate) fn paint(self, emphasis: Emphasis, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match emphasis {
            Emphasis::Strong => "1",
            Emphasis::Faint => "2",
            Emphasis::Good => "32",
            Emphasis::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A spinner for what may take longer than a second; silent unless a person watches.
    pub(crate) fn progress(self, text: &str) -> Progress {
        if self.json || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(text.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }

    /// Why a command failed, on standard error: text, or one JSON object.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        if self.json {
            let problem = error.downcast_ref::<Problem>().map(|problem| &problem.body);
            let nothing_paid = error.downcast_ref::<NothingPaid>().map(|nothing| {
                json!({
                    "why": nothing.why, "status_word": nothing.status_word,
                    "display": nothing.display,
                })
            });
            let fields = [
                ("error", Some(json!(failure::said(error)))),
                ("problem", problem.cloned()),
                ("nothing_paid", nothing_paid),
            ];
            let given =
                fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            self.remark(plain_json(&Value::Object(given.collect()).to_string()));
        } else {
            self.remark(format!("tapfer: {}", failure::said(error)));
            if let Some(nothing) = error.downcast_ref::<NothingPaid>() {
                let shows = match nothing.language {
                    Language::English => "the terminal shows",
                    Language::German => "das Terminal zeigt",
                };
                self.remark(format!("{shows}: {}", nothing.display));
            }
        }
    }
}

/// A spinner that vanishes when it goes out of scope.
pub(crate) struct Progress(ProgressBar);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Writes a line. A reader that went away (`| head`) is no error of ours, and nobody is left to
/// hear of any other.
fn write_line(out: &mut impl Write, text: &str) {
    let _gone_reader = writeln!(out, "{}", without_commands(text)).and_then(|()| out.flush());
}

/// What a terminal would take for a command, or would show elsewhere than it stands: control characters, and marks
/// that turn the direction of writing.
fn is_command(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Text from a file, a database or a person, as it may stand in a line of ours: with everything escaped that would move
/// the cursor, wipe the screen, or begin another line.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_command(letter) { shown.extend(letter.escape_default()) } else { shown.push(letter) }
    }
    shown
}

/// A text of several lines: nothing of it but our own emphasis is a command to the terminal.
fn without_commands(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|letter| is_command(letter) && letter != '\n') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let own = OWN_COMMANDS.iter().find(|own| rest.starts_with(**own));
        let length = own.map_or(letter.len_utf8(), |own| own.len());
        let (head, tail) = rest.split_at(length);
        if own.is_some() || matches!(letter, '\n' | '\t') {
            shown.push_str(head);
        } else {
            shown.push_str(&printable(head));
        }
        rest = tail;
    }
    Cow::Owned(shown)
}

/// JSON escapes control characters below 32 only, and terminals obey some above.
fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_command(letter) {
            plain.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            plain.push(letter);
        }
    }
    plain
}

fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

fn join(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(text, width)| pad(text, *width)).collect();
    padded.join("  ").trim_end().to_owned()
}

/// The fields of an object as lines, nested objects as `outer.inner`. `amount` and its like stand
/// in minor units in JSON; people read them with the point and the currency.
fn facts(value: &Value, prefix: &str) -> Vec<(String, String)> {
    let Some(fields) = value.as_object() else {
        return vec![(prefix.to_owned(), text(value))];
    };
    fields
        .iter()
        .filter(|(_, field)| !field.is_null())
        .flat_map(|(name, field)| {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match field {
                Value::Object(_) => facts(field, &path),
                _ => vec![(path, cell(value, name))],
            }
        })
        .collect()
}

/// One field for people.
fn cell(row: &Value, column: &str) -> String {
    let Some(field) = row.get(column) else { return String::new() };
    match (field.as_i64(), currency_of(row)) {
        (Some(minor), Some(currency)) if is_amount(column) => {
            tapfer_payment_types::Money::new(minor, currency).to_string()
        }
        _ => text(field),
    }
}

fn is_amount(column: &str) -> bool {
    column.starts_with("amount")
        || matches!(
            column,
            "balance"
                | "available"
                | "held"
                | "captured"
                | "refunded"
                | "reversed"
                | "paid_out"
                | "unverified_limit"
        )
}

fn currency_of(row: &Value) -> Option<tapfer_payment_types::Currency> {
    row.get("currency").and_then(Value::as_str).and_then(|code| code.parse().ok())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{cell, facts, plain_json, printable, without_commands};
    use serde_json::{Value, json};

    /// "\x1b[2J" wipes the screen, U+009B is the same command in one letter, U+202E turns the line around.
    #[test]
    fn attack_text_that_writes_over_the_screen() {
        let evil = "Ada\u{1b}[2J\u{1b}[Hnothing happens\u{9b}2J\r\u{8}\u{202e}x";
        for shown in [printable(evil), without_commands(evil).into_owned()] {
            assert!(shown.starts_with("Ada\\u{1b}[2J\\u{1b}[H"), "{shown}");
            assert!(shown.chars().all(|letter| !letter.is_control() && letter != '\u{202e}'));
        }
        assert_eq!(printable("one\ntwo"), "one\\ntwo");
        assert_eq!(without_commands("one\ntwo"), "one\ntwo");
        assert_eq!(
            without_commands("\u{1b}[31mbad\u{1b}[0m\u{1b}[8m"),
            "\u{1b}[31mbad\u{1b}[0m\\u{1b}[8m"
        );
        let json = json!({ "by": evil });
        let plain = plain_json(&json.to_string());
        assert!(!plain.chars().any(char::is_control), "{plain}");
        assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), json);
        assert_eq!(cell(&json, "by"), printable(evil));
    }

    #[test]
    fn amounts_are_shown_with_point_and_currency() {
        let row = json!({ "amount": 1234, "currency": "EUR", "count": 3 });
        assert_eq!(cell(&row, "amount"), "12.34 EUR");
        assert_eq!(cell(&row, "count"), "3");
        assert_eq!(cell(&row, "missing"), "");
    }

    #[test]
    fn nested_objects_become_paths_and_nothing_is_left_out() {
        let value = json!({ "id": "x", "policy": { "version": 1 }, "absent": null });
        let names: Vec<String> = facts(&value, "").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["id", "policy.version"]);
    }
}
