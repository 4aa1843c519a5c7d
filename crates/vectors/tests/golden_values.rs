//! The two files of golden values: all of them hold, and each of them is found when it is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, missing_docs)]

use serde_json::{Value, json};
use tapfer_vectors::{Report, VectorFileError, check_file};

const KERNEL_8: &str = include_str!("data/kernel8.json");
const PUBLISHED: &str = include_str!("data/emv_published.json");

/// Values in which one kind of wrong digit cannot be found by anyone, and why.
const CANNOT_BE_FOUND: [(&str, Flip, &str); 2] = [
    ("/tdes_mchip/session_key", Flip::LastBit, NO_PARITY),
    ("/arpc_method_2/session_key", Flip::LastBit, NO_PARITY),
];
const NO_PARITY: &str = "DES ignores the lowest bit of every key byte, and this session key is given \
    without a key it comes from and without odd parity, so that nothing depends on that bit";

/// Which bit of a value is turned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flip {
    /// The highest bit of the first digit.
    FirstBit,
    /// The lowest bit of the last digit.
    LastBit,
}

fn parse(file: &str) -> Value {
    serde_json::from_str(file).unwrap()
}

fn check(group: &str, content: Value) -> Report {
    check_file(&json!({ group: content }).to_string()).unwrap()
}

/// Pointers to all values below a place that are no commentary.
fn places(value: &Value, place: &str) -> Vec<String> {
    let is_value = |name: &str| !name.starts_with('_') && name != "source" && name != "note";
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| is_value(name))
            .flat_map(|(name, field)| places(field, &format!("{place}/{name}")))
            .collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(at, item)| places(item, &format!("{place}/{at}"))).collect()
        }
        _ => vec![place.to_owned()],
    }
}

/// The value with one digit wrong.
fn corrupted(value: &Value, flip: Flip) -> Value {
    match value {
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => match flip {
            Flip::FirstBit => json!(number.as_u64().unwrap() ^ 8),
            Flip::LastBit => json!(number.as_u64().unwrap() ^ 1),
        },
        Value::String(text) => {
            let mut digits: Vec<char> = text.chars().collect();
            let (at, bit) = match flip {
                Flip::FirstBit => (0, 8),
                Flip::LastBit => (digits.len() - 1, 1),
            };
            digits[at] = match digits[at].to_digit(16) {
                Some(digit) => char::from_digit(digit ^ bit, 16).unwrap(),
                None => '0',
            };
            json!(digits.into_iter().collect::<String>())
        }
        other => panic!("neither text nor number nor flag: {other}"),
    }
}

/// Turns over each bit of `flip` in one case of a group, and counts the values tried.
fn every_corruption_is_found(group: &str, case: &Value, flip: Flip) -> usize {
    let places = places(case, "");
    for place in &places {
        let mut wrong = case.clone();
        let value = wrong.pointer_mut(place).unwrap();
        *value = corrupted(value, flip);
        let report = check(group, wrong);
        let path = format!("/{group}{place}");
        let is_exception = CANNOT_BE_FOUND
            .iter()
            .any(|(place, exception, _)| *place == path && *exception == flip);
        assert_eq!(report.differences().count() == 0, is_exception, "{path} {flip:?}\n{report}");
    }
    places.len()
}

fn every_value_of(file: &str) -> usize {
    let file = parse(file);
    let mut tried = 0;
    for (group, content) in file.as_object().unwrap() {
        let cases = match content {
            Value::Array(cases) => cases.clone(),
            Value::Object(_) => vec![content.clone()],
            _ => continue,
        };
        for case in &cases {
            tried += every_corruption_is_found(group, case, Flip::FirstBit);
            tried += every_corruption_is_found(group, case, Flip::LastBit);
        }
    }
    tried
}

#[test]
fn all_values_hold() {
    for (file, groups, values) in [(KERNEL_8, 5, 592), (PUBLISHED, 9, 23)] {
        let report = check_file(file).unwrap();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.groups.len(), groups);
        assert_eq!(report.values_checked(), values, "{report}");
    }
}

#[test]
fn any_wrong_digit_in_kernel8_is_found() {
    let values_of_a_case = 26 + 5 + 8 + 11 + 8;
    assert_eq!(every_value_of(KERNEL_8), 2 * 16 * values_of_a_case);
}

#[test]
fn any_wrong_digit_in_the_published_examples_is_found() {
    assert_eq!(every_value_of(PUBLISHED), 2 * 53);
}

#[test]
fn what_nothing_knows_how_to_check_is_failure() {
    let report = check("a_new_group", json!([{ "value": "00" }]));
    assert!(!report.is_clean());
    assert_eq!(report.groups[0].not_checked[0].case, None);

    let mut case = parse(KERNEL_8)["data_envelope"][0].clone();
    case["a_new_field"] = json!("00");
    let report = check("data_envelope", json!([case]));
    assert!(!report.is_clean());
    assert_eq!(report.groups[0].not_checked[0].field, "a_new_field");
    assert_eq!(report.differences().count(), 0);
}

#[test]
fn a_missing_value_is_a_difference() {
    for (group, content) in parse(KERNEL_8).as_object().unwrap() {
        for field in content[0].as_object().unwrap().keys() {
            let mut case = content[0].clone();
            case.as_object_mut().unwrap().remove(field);
            let report = check(group, json!([case]));
            assert!(!report.is_clean() || field == "public_x", "{group} without {field}");
        }
    }
}

#[test]
fn malformed_values_are_differences() {
    let envelope = parse(KERNEL_8)["data_envelope"][0].clone();
    for (field, value) in [
        ("skc", json!("zz")),
        ("skc", json!("0")),
        ("skc", json!("")),
        ("skc", json!("00")),
        ("skc", json!(7)),
        ("skc", json!(null)),
        ("plain", json!(["00"])),
        ("card_message_counter", json!(65_536)),
        ("card_message_counter", json!(-1)),
        ("card_message_counter", json!(65_535)),
        ("card_message_counter", json!("32785")),
        ("read_data_response", json!("0011")),
    ] {
        let mut case = envelope.clone();
        case[field] = value.clone();
        let report = check("data_envelope", json!([case]));
        assert!(report.differences().count() > 0, "{field} = {value}");
    }
}

#[test]
fn empty_groups_and_cases_are_failure() {
    for content in [json!([]), json!([{}]), json!({}), json!(null), json!("00"), json!([[]])] {
        assert!(!check("data_envelope", content.clone()).is_clean(), "{content}");
    }
    let no_groups = [r#"{}"#, r#"{"_about": "nothing"}"#];
    assert!(
        no_groups.iter().all(|file| matches!(check_file(file), Err(VectorFileError::NoGroups)))
    );
    assert!(matches!(check_file("[]"), Err(VectorFileError::NotAnObject)));
    assert!(matches!(check_file("{"), Err(VectorFileError::Json(_))));
}

#[test]
fn the_report_is_json_too() {
    let mut case = parse(KERNEL_8)["data_envelope"][0].clone();
    case["write_data_response_mac"] = json!("0000000000000000");
    let report = serde_json::to_value(check("data_envelope", json!([case]))).unwrap();
    let difference = &report["groups"][0]["differences"][0];
    assert_eq!(difference["field"], "write_data_response_mac");
    assert_eq!(difference["case"], 0);
    assert_eq!(difference["expected"], "0000000000000000");
}
