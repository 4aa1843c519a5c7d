//! How a card was made to misbehave: the faults among its options.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Options that are behaviour a card may have; what follows from them is computed.
const BEHAVIOUR: [&str; 8] =
    ["aip", "cvd", "cid", "card_tvr", "restart", "rr_min", "rr_max", "rr_estimate"];
/// Options that make a certificate, or what leads to it, wrong.
const CERTIFICATES: [&str; 7] = [
    "issuer_format",
    "issuer_id",
    "issuer_expiry",
    "cert_rid",
    "cert_ca_index",
    "icc_expiry",
    "ca_index",
];
/// What `bad` may name.
const BAD: [&str; 11] = [
    "issuer_signature",
    "icc_signature",
    "sda_hash",
    "eda_mac",
    "cryptogram",
    "iad_bit",
    "blinding_factor",
    "short_card_key_data",
    "gpo_template",
    "record_template",
    "record_bit",
];

/// The faults of a card. A fault known by name, alone, is looked at closely: everything else about
/// the card has to hold. What several faults do together, or one that is not known here, is for the
/// replay alone to judge.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    bad: BTreeSet<String>,
    wrong_certificates: bool,
    count: usize,
    is_unknown: bool,
}

impl Faults {
    /// Reads the options of a card.
    pub(super) fn of(options: &BTreeMap<String, Value>) -> Self {
        let mut faults = Self::default();
        for (name, value) in options {
            match name.as_str() {
                "bad" => faults.add_bad(value),
                "drop" => faults.add(names(value).map(|names| names.len())),
                "sw" => faults.add(value.as_object().map(serde_json::Map::len)),
                "card_qualifier" => faults.add(value.as_str().map(|_| 1)),
                known if CERTIFICATES.contains(&known) => {
                    faults.wrong_certificates = true;
                    faults.add(value.as_str().map(|_| 1));
                }
                known if BEHAVIOUR.contains(&known) && value.is_string() => {}
                _ => faults.is_unknown = true,
            }
        }
        faults
    }

    fn add(&mut self, faults: Option<usize>) {
        self.is_unknown |= faults.is_none();
        self.count = self.count.saturating_add(faults.unwrap_or_default());
    }

    fn add_bad(&mut self, value: &Value) {
        let bad = names(value);
        self.add(bad.as_ref().map(Vec::len));
        self.bad.extend(bad.unwrap_or_default());
        self.is_unknown |= self.bad.iter().any(|name| !BAD.contains(&name.as_str()));
    }

    /// Whether this is bad about the card.
    pub(super) fn has(&self, bad: &str) -> bool {
        self.bad.contains(bad)
    }

    /// Whether a certificate may be none.
    pub(super) const fn touch_certificates(&self) -> bool {
        self.wrong_certificates
    }

    /// Whether nobody here can say what all of them do together.
    pub(super) const fn are_beyond_us(&self) -> bool {
        self.is_unknown || self.count > 1
    }
}

/// One name, or a list of names, in lower case.
fn names(value: &Value) -> Option<Vec<String>> {
    let name = |value: &Value| value.as_str().map(str::to_ascii_lowercase);
    match value {
        Value::Array(values) => values.iter().map(name).collect(),
        one => name(one).map(|name| vec![name]),
    }
}

#[cfg(test)]
mod tests {
    use super::Faults;
    use serde_json::{Value, json};

    fn faults(options: &Value) -> Faults {
        Faults::of(&serde_json::from_value(options.clone()).unwrap())
    }

    #[test]
    fn one_known_fault_is_looked_at_closely_and_several_are_not() {
        for close in [
            json!({}),
            json!({ "aip": "0105", "restart": "2020", "cvd": "FF" }),
            json!({ "aip": "0105", "bad": "eda_mac" }),
            json!({ "bad": ["eda_mac"] }),
            json!({ "drop": "pan" }),
            json!({ "sw": { "80AE": "6985" } }),
        ] {
            assert!(!faults(&close).are_beyond_us(), "{close}");
        }
        for beyond in [
            json!({ "bad": ["eda_mac", "cryptogram"] }),
            json!({ "bad": "eda_mac", "drop": "pan" }),
            json!({ "drop": ["pan", "atc"] }),
            json!({ "sw": { "80AE": "6985", "80A8": "6985" } }),
            json!({ "cert_rid": "00", "icc_expiry": "999999999999" }),
            json!({ "bad": "something_new" }),
            json!({ "something_new": "01" }),
            json!({ "cvd": 3 }),
        ] {
            assert!(faults(&beyond).are_beyond_us(), "{beyond}");
        }
    }
}
