//! Reads files of golden vectors, and remembers which of their values a test looked at, so that a
//! value nobody checks fails the test.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

/// Names that stand beside values to explain them.
const COMMENTARY: [&str; 4] = ["_about", "_rule", "source", "note"];

/// One top-level entry of a vector file.
pub(crate) struct Group {
    content: Value,
    used: RefCell<BTreeSet<String>>,
}

/// A place in a group: one case of a list, or the group itself.
pub(crate) struct Case<'a> {
    group: &'a Group,
    place: String,
}

/// The names of the groups of a file, in order.
pub(crate) fn group_names(file: &str) -> Vec<String> {
    let file: Value = serde_json::from_str(file).unwrap();
    file.as_object().unwrap().keys().cloned().collect()
}

/// Runs `check` for a group that is one case, and fails if it left a value out.
pub(crate) fn check_group(file: &str, name: &str, check: impl FnOnce(&Case<'_>)) {
    let group = Group::of(file, name);
    check(&Case { group: &group, place: String::new() });
    group.assert_all_used();
}

/// Runs `check` for every case of a group, and fails if their number is another or if it left a
/// value out.
pub(crate) fn check_cases(file: &str, name: &str, count: usize, check: impl Fn(&Case<'_>)) {
    let group = Group::of(file, name);
    assert_eq!(group.content.as_array().unwrap().len(), count, "cases in {name}");
    for index in 0..count {
        check(&Case { group: &group, place: format!("/{index}") });
    }
    group.assert_all_used();
}

impl Group {
    fn of(file: &str, name: &str) -> Self {
        let file: Value = serde_json::from_str(file).unwrap();
        Self { content: file.get(name).unwrap().clone(), used: RefCell::default() }
    }

    fn assert_all_used(&self) {
        let mut leaves = BTreeSet::new();
        collect_leaves(&self.content, String::new(), &mut leaves);
        let unused: Vec<_> = leaves.difference(&self.used.borrow()).cloned().collect();
        assert_eq!(unused, Vec::<String>::new(), "values nobody checked");
    }
}

fn collect_leaves(value: &Value, place: String, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let values = fields.iter().filter(|(name, _)| !COMMENTARY.contains(&name.as_str()));
            values
                .for_each(|(name, field)| collect_leaves(field, format!("{place}/{name}"), leaves));
        }
        Value::Array(items) => {
            let numbered = items.iter().enumerate();
            numbered.for_each(|(at, item)| collect_leaves(item, format!("{place}/{at}"), leaves));
        }
        _ => {
            leaves.insert(place);
        }
    }
}

impl Case<'_> {
    /// The value at a path below this place, such as `cases/0/udk`.
    pub(crate) fn value(&self, path: &str) -> &Value {
        let place = format!("{}/{path}", self.place);
        let value = self.group.content.pointer(&place);
        self.group.used.borrow_mut().insert(place);
        value.unwrap_or_else(|| panic!("no value at {path}"))
    }

    pub(crate) fn text(&self, path: &str) -> &str {
        self.value(path).as_str().unwrap()
    }

    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(self.text(path).as_bytes()).unwrap()
    }

    pub(crate) fn array<const N: usize>(&self, path: &str) -> [u8; N] {
        self.bytes(path).try_into().unwrap_or_else(|_| panic!("{path} is not {N} bytes"))
    }

    /// A counter in hexadecimal digits.
    pub(crate) fn counter(&self, path: &str) -> u16 {
        u16::from_be_bytes(self.array(path))
    }
}
