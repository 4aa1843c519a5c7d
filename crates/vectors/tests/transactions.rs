//! The file of whole transactions: all of them replay, and a wrong value is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use serde_json::Value;
use tapfer_vectors::transactions;

fn all() -> Value {
    let file: Value = serde_json::from_str(include_str!("data/kernel8-transactions.json")).unwrap();
    file["kernel8_transactions"].clone()
}

#[test]
fn all_transactions_replay() {
    let report = transactions::check(&all());
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.cases, 90);
}

/// Every text of hexadecimal digits below a place, by its JSON pointer.
fn hexadecimal_values(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| {
                hexadecimal_values(field, &format!("{place}/{name}"), found);
            });
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(position, item)| {
                hexadecimal_values(item, &format!("{place}/{position}"), found);
            });
        }
        Value::String(text) if is_hexadecimal(text) => found.push(place.to_owned()),
        _ => {}
    }
}

fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// Adds one to the digit at this share of the text, in 1/16.
fn corrupt(text: &str, sixteenths: usize) -> String {
    let position = (text.len() - 1) * sixteenths / 16;
    let mut digits: Vec<char> = text.chars().collect();
    let digit = digits[position].to_digit(16).unwrap();
    digits[position] = char::from_digit((digit + 1) % 16, 16).unwrap();
    digits.into_iter().collect()
}

/// The places whose corruption nobody notices, of how many.
fn undetected(transaction: &Value, sixteenths: usize) -> (usize, Vec<String>) {
    let mut places = Vec::new();
    hexadecimal_values(transaction, "", &mut places);
    let missed = places.iter().filter(|place| {
        let mut corrupted = transaction.clone();
        let value = corrupted.pointer_mut(place).unwrap();
        *value = corrupt(value.as_str().unwrap(), sixteenths).into();
        transactions::check(&Value::Array(vec![corrupted])).is_clean()
    });
    let missed = missed.cloned().collect();
    (places.len(), missed)
}

fn named(name: &str) -> Value {
    all().as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

/// In a dialogue that came to its end, only a setting that made no difference can be wrong unnoticed.
#[test]
fn a_wrong_digit_anywhere_is_found() {
    let names = [
        "cvd_00_below_limit",
        "aip_0102",
        "offline_capable_card_asks_approval_gets_tc",
        "relay_14ms",
        "restart_2020",
    ];
    for (round, name) in names.iter().enumerate() {
        let (places, missed) = undetected(&named(name), (round * 5) % 16);
        assert!(places > 60, "{name}: {places}");
        let other: Vec<_> =
            missed.iter().filter(|place| !place.starts_with("/terminal/config/")).collect();
        assert!(other.is_empty(), "{name}: {other:?}");
    }
}

/// A dialogue that broke off proves less; its commands and its outcome are still held to every digit.
#[test]
fn a_wrong_digit_of_a_failure_is_found() {
    for (round, transaction) in all().as_array().unwrap().iter().skip(52).step_by(5).enumerate() {
        let (_, missed) = undetected(transaction, (round * 3) % 17);
        let is_held = |place: &&String| {
            place.starts_with("/outcome/")
                || place.starts_with("/exchange/") && place.ends_with("/0")
                || place.as_str() == "/terminal/kernel_private"
        };
        let missed: Vec<_> = missed.iter().filter(is_held).collect();
        assert!(missed.is_empty(), "{}: {missed:?}", transaction["name"]);
    }
}

/// Options that nobody here knows, and several faults at once, leave it to the replay.
#[test]
fn a_fault_that_was_declared_is_no_difference() {
    for transaction in all().as_array().unwrap() {
        let told = |name: &str, value: Value| {
            let mut other = transaction.clone();
            other["card_options"][name] = value;
            other
        };
        let mut variants = vec![told("something_new", "01".into())];
        for name in ["bad", "drop"] {
            if let Some(fault) = transaction["card_options"].get(name) {
                variants.push(told(name, vec![fault.clone()].into()));
                variants.push(told(name, vec![fault.clone(), "something_else".into()].into()));
            }
        }
        let report = transactions::check(&Value::Array(variants));
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn a_fact_that_cannot_be_recomputed_is_what_the_card_sent() {
    let mut transaction = named("missing_atc");
    let fact = &mut transaction["card_facts"]["application_cryptogram"];
    *fact = corrupt(fact.as_str().unwrap(), 15).into();
    assert!(!transactions::check(&Value::Array(vec![transaction])).is_clean());
}

#[test]
fn what_is_no_transaction_is_a_failure() {
    let mut unknown = named("cvd_00_below_limit");
    unknown["surprise"] = "00".into();
    let mut nameless = named("cvd_00_below_limit");
    nameless.as_object_mut().unwrap().remove("outcome");
    for wrong in [Value::Array(vec![]), Value::Null, vec![unknown].into(), vec![nameless].into()] {
        assert!(!transactions::check(&wrong).is_clean(), "{wrong}");
    }
}

#[test]
fn a_dialogue_that_is_cut_or_goes_on_differs() {
    let whole = named("cvd_00_below_limit");
    let mut cut = whole.clone();
    cut["exchange"].as_array_mut().unwrap().pop();
    let mut longer = whole.clone();
    let last = whole["exchange"].as_array().unwrap().last().unwrap().clone();
    longer["exchange"].as_array_mut().unwrap().push(last);
    for wrong in [cut, longer] {
        let report = transactions::check(&Value::Array(vec![wrong]));
        assert!(!report.differences.is_empty(), "{report}");
    }
}
