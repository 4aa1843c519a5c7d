//! Recomputes golden values and replays whole transactions.
//!
//! A vector file is a JSON object of groups. Groups of golden values are lists of cases, or one case;
//! every value of a case is recomputed from the others, or is an input to one that is, so that a
//! single wrong digit anywhere is found. A value or a group that nothing here knows how to check is
//! reported as such and counts as failure: a check that skips silently is none.
//!
//! Names that start with `_`, and `source` and `note`, stand beside values to explain them.

mod case;
mod kernel8;
mod published;
mod report;
pub mod transactions;

use serde_json::{Map, Value};

use case::{Case, is_commentary};
pub use report::{Difference, GroupReport, NotChecked, Report};

/// The group of whole transactions.
const TRANSACTIONS: &str = "kernel8_transactions";

/// The file is no vector file at all.
#[derive(Debug, thiserror::Error)]
pub enum VectorFileError {
    /// Not JSON.
    #[error("the file is not JSON")]
    Json(#[from] serde_json::Error),
    /// JSON, but not an object of groups.
    #[error("a vector file is a JSON object of groups, such as {{\"data_envelope\": [...]}}")]
    NotAnObject,
    /// Nothing in it to check.
    #[error("the file has no group of vectors in it")]
    NoGroups,
}

/// How the values of one case are checked. `None`: a value that others depend on is unusable, which
/// the case has noted as a difference.
type Check = fn(&mut Case<'_>) -> Option<()>;

/// Checks a file of the form of `kernel8.json`, `emv_published.json` or `kernel8-transactions.json`,
/// or of groups of all of them.
///
/// # Errors
/// If the file is not a JSON object with at least one group. What is wrong with the values of a group
/// is in the report.
pub fn check_file(json: &str) -> Result<Report, VectorFileError> {
    let file: Value = serde_json::from_str(json)?;
    let groups = file.as_object().ok_or(VectorFileError::NotAnObject)?;
    let reports: Vec<GroupReport> = groups
        .iter()
        .filter(|(name, _)| !is_commentary(name))
        .map(|(name, content)| check_group(name, content))
        .collect();
    if reports.is_empty() { Err(VectorFileError::NoGroups) } else { Ok(Report { groups: reports }) }
}

fn check_group(name: &str, content: &Value) -> GroupReport {
    if name == TRANSACTIONS {
        return transactions::check(content);
    }
    let mut report = GroupReport::new(name);
    match check_of(name) {
        None => {
            report.not_checked(None, "", "nothing here knows how to check a group of this name")
        }
        Some(check) => check_cases(&mut report, check, content),
    }
    report
}

fn check_of(group: &str) -> Option<Check> {
    match group {
        "blinded_diffie_hellman" => Some(kernel8::blinded_diffie_hellman),
        "ec_sdsa_p256_sha256" => Some(kernel8::ec_sdsa),
        "certificate_chain" => Some(kernel8::certificate_chain),
        "application_cryptogram" => Some(kernel8::application_cryptogram),
        "data_envelope" => Some(kernel8::data_envelope),
        "ca_self_certificate" => Some(published::ca_self_certificate),
        "eda_mac" => Some(published::eda_mac),
        "aes_application_cryptogram" => Some(published::aes_application_cryptogram),
        "tdes_cvn18" => Some(published::tdes_cvn18),
        "tdes_mchip" => Some(published::tdes_mchip),
        "arpc_method_2" => Some(published::arpc_method_2),
        "visa_limited_use_key" => Some(published::visa_limited_use_key),
        _ => None,
    }
}

/// A group is a list of cases, or a single case.
fn check_cases(report: &mut GroupReport, check: Check, content: &Value) {
    match content {
        Value::Array(cases) if !cases.is_empty() => {
            for (number, case) in cases.iter().enumerate() {
                check_case(report, check, number, case);
            }
        }
        Value::Object(_) => check_case(report, check, 0, content),
        _ => {
            report.not_checked(None, "", "a group is a list of at least one case, or a single case")
        }
    }
}

fn check_case(report: &mut GroupReport, check: Check, number: usize, content: &Value) {
    report.cases = report.cases.saturating_add(1);
    let no_fields = Map::new();
    match content.as_object() {
        Some(fields) if *fields != no_fields => Case::run(report, number, content, check),
        _ => report.not_checked(Some(number), "", "a case is a JSON object of named values"),
    }
}
