//! One case of golden values, which remembers which of them a check has looked at.

use std::collections::BTreeSet;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::Value;

use crate::Check;
use crate::report::GroupReport;

/// Whether a name stands beside values to explain them.
pub(crate) fn is_commentary(name: &str) -> bool {
    name.starts_with('_') || matches!(name, "source" | "note")
}

/// A case under check. Fields are named by their path below the case: `arpc_method_2/csu`.
pub(crate) struct Case<'a> {
    number: usize,
    content: &'a Value,
    used: BTreeSet<String>,
    report: &'a mut GroupReport,
}

impl<'a> Case<'a> {
    /// Checks one case. A field that the check never asked for is noted as not checked.
    pub(crate) fn run(
        report: &'a mut GroupReport,
        number: usize,
        content: &'a Value,
        check: Check,
    ) {
        let mut case = Self { number, content, used: BTreeSet::new(), report };
        let differences = case.report.differences.len();
        if check(&mut case).is_some() {
            case.note_unused();
        } else if case.report.differences.len() == differences {
            // A check may only give up with a reason; without one it must not count as equal.
            case.report.not_checked(Some(number), "", "the check gave up without a reason");
        }
    }

    fn note_unused(&mut self) {
        let mut places = Vec::new();
        collect_places(self.content, "", &mut places);
        for place in places.iter().filter(|place| !self.used.contains(*place)) {
            let reason = "nothing here knows how to check a value of this name";
            self.report.not_checked(Some(self.number), place, reason);
        }
    }

    /// Whether the case has this field at all.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.content.pointer(&format!("/{field}")).is_some()
    }

    /// How many entries a list below the case has; 0 if there is no such list.
    pub(crate) fn list_length(&self, field: &str) -> usize {
        self.content.pointer(&format!("/{field}")).and_then(Value::as_array).map_or(0, Vec::len)
    }

    /// The field as it stands in the file, for messages and for values that are no bytes.
    fn value(&mut self, field: &str) -> Option<&'a Value> {
        let value = self.content.pointer(&format!("/{field}"));
        self.used.insert(field.to_owned());
        if value.is_none() {
            self.wrong(field, "a value", "the field is missing");
        }
        value
    }

    /// A text.
    pub(crate) fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong(field, &value.to_string(), "not a text");
        }
        text
    }

    /// A number that stands in the file as a JSON number.
    pub(crate) fn number<T: TryFrom<u64>>(&mut self, field: &str) -> Option<T> {
        let value = self.value(field)?;
        let number = value.as_u64().and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.wrong(field, &value.to_string(), "not a number of this size");
        }
        number
    }

    /// True or false.
    pub(crate) fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.value(field)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong(field, &value.to_string(), "neither true nor false");
        }
        flag
    }

    /// Bytes, in hexadecimal digits of either case.
    pub(crate) fn bytes(&mut self, field: &str) -> Option<Vec<u8>> {
        let text = self.text(field)?;
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        if bytes.is_none() {
            self.wrong(field, text, "not an even number of hexadecimal digits");
        }
        bytes
    }

    /// Exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, field: &str) -> Option<[u8; N]> {
        let bytes = self.bytes(field)?;
        let array = bytes.as_slice().try_into().ok();
        if array.is_none() {
            self.wrong(field, &HEXLOWER.encode(&bytes), &format!("not {N} bytes"));
        }
        array
    }

    /// A counter of two bytes.
    pub(crate) fn counter(&mut self, field: &str) -> Option<u16> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Decimal digits, as numbers 0 to 9.
    pub(crate) fn digits(&mut self, field: &str) -> Option<Vec<u8>> {
        let text = self.text(field)?;
        let value_of = |digit: char| digit.to_digit(10).and_then(|value| u8::try_from(value).ok());
        let digits: Option<Vec<u8>> = text.chars().map(value_of).collect();
        if digits.is_none() {
            self.wrong(field, text, "not decimal digits");
        }
        digits
    }

    /// Compares a computed value with the file's.
    pub(crate) fn compare(&mut self, field: &str, computed: &[u8]) -> Option<()> {
        self.compare_any(field, &[computed])
    }

    /// Compares the file's value with the forms it may have; the first is shown if none is it.
    pub(crate) fn compare_any(&mut self, field: &str, computed: &[&[u8]]) -> Option<()> {
        let expected = self.bytes(field)?;
        let form = computed.iter().find(|form| **form == expected).or(computed.first())?;
        let (expected, form) = (HEXLOWER.encode(&expected), HEXLOWER.encode(form));
        self.report.compare(self.number, None, field, &expected, &form);
        Some(())
    }

    /// Compares a fact about a field that is not a value of its own, in words.
    pub(crate) fn holds(&mut self, field: &str, expected: &str, is_so: bool) {
        self.used.insert(field.to_owned());
        let computed = if is_so { expected } else { "it is not so" };
        self.report.compare(self.number, None, field, expected, computed);
    }

    /// Gives the usable form of a value, or notes why there is none.
    pub(crate) fn usable<T, E: core::fmt::Display>(
        &mut self,
        field: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.wrong(field, "a usable value", &error.to_string());
                None
            }
        }
    }

    /// Notes a difference that is no comparison.
    fn wrong(&mut self, field: &str, expected: &str, computed: &str) {
        self.report.differ(self.number, None, field, expected, computed);
    }
}

/// The paths of all values below a place, commentary aside.
fn collect_places(value: &Value, place: &str, places: &mut Vec<String>) {
    let below = |name: &str| match place {
        "" => name.to_owned(),
        place => format!("{place}/{name}"),
    };
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| !is_commentary(name)) {
                collect_places(field, &below(name), places);
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                collect_places(item, &below(&position.to_string()), places);
            }
        }
        _ => places.push(place.to_owned()),
    }
}
