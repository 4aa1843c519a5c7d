//! Replays whole Kernel 8 transactions.
//!
//! Two independent questions are put to each transaction. The terminal, given the configuration, the
//! key, the number, the time and the card's answers of the file: does it send the file's commands and
//! reach the file's outcome (`replay`)? And the card, given what it knew: are its keys, hashes,
//! MACs and cryptogram what they must be (`facts`)?

mod dialogue;
mod facts;
mod faults;
mod file;
mod replay;

use serde::Deserialize;
use serde_json::Value;

use crate::report::GroupReport;
use faults::Faults;
use file::Transaction;

/// Replays the transactions of a file of the form of `kernel8-transactions.json`.
#[must_use]
pub fn check(transactions: &Value) -> GroupReport {
    let mut report = GroupReport::new("kernel8_transactions");
    match transactions.as_array() {
        Some(cases) if !cases.is_empty() => {
            for (number, case) in cases.iter().enumerate() {
                check_case(&mut report, number, case);
            }
        }
        _ => report.not_checked(None, "", "a group of transactions is a list of at least one"),
    }
    report
}

fn check_case(report: &mut GroupReport, number: usize, content: &Value) {
    report.cases = report.cases.saturating_add(1);
    match Transaction::deserialize(content) {
        Ok(transaction) => {
            let name = &transaction.name;
            let mut findings = Findings { report, number, name, tolerates: false };
            replay::check(&mut findings, &transaction);
            let faults = Faults::of(&transaction.card_options);
            findings.tolerates = faults.are_beyond_us();
            facts::check(&mut findings, &transaction, &faults);
        }
        Err(error) => {
            let reason = format!("not a transaction: {error}");
            report.not_checked(Some(number), "", &reason);
        }
    }
}

/// Where the checks of one transaction note what they find.
struct Findings<'a> {
    report: &'a mut GroupReport,
    number: usize,
    name: &'a str,
    /// Differences that faults of the card may have made do not count.
    tolerates: bool,
}

/// What no fault of a card can change: it is computed from the file's own keys and lists.
const UNTOUCHED: [&str; 7] = [
    "card_facts/aid",
    "card_facts/pdol",
    "card_facts/cdol1",
    "card_facts/issuer_private",
    "card_facts/card_private",
    "card_facts/skc",
    "card_facts/ski",
];

impl Findings<'_> {
    fn compare(&mut self, field: &str, expected: &str, computed: &str) {
        if self.tolerates && expected != computed && !UNTOUCHED.contains(&field) {
            return;
        }
        self.report.compare(self.number, Some(self.name), field, expected, computed);
    }

    fn compare_bytes(&mut self, field: &str, expected: Option<&[u8]>, computed: Option<&[u8]>) {
        self.compare(field, &shown(expected), &shown(computed));
    }

    /// A fact that is no value of its own, in words.
    fn holds(&mut self, field: &str, fact: &str, is_so: bool) {
        self.compare(field, fact, if is_so { fact } else { "it is not so" });
    }
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "nothing".to_owned(), |bytes| data_encoding::HEXLOWER.encode(bytes))
}
