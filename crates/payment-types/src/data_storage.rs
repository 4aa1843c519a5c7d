//! Which data envelopes of a card a terminal may read and write.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Envelopes are numbered 1 to 10: `9F8111` to `9F811A`.
const NUMBERS: core::ops::RangeInclusive<u8> = 1..=10;

/// The issuer's switch for data storage; shut unless it is opened. It does not ask which terminal it is:
/// what is readable, every terminal can read that taps the card, and whoever builds one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataStorageRules {
    /// Numbers of the envelopes that a terminal may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readable: Vec<u8>,
    /// Numbers of the envelopes that a terminal may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<u8>,
}

impl DataStorageRules {
    /// Whether the rules name envelopes that there are, each once.
    #[must_use]
    pub fn are_sane(&self) -> bool {
        [&self.readable, &self.writable].into_iter().all(|numbers| {
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            sorted.len() == numbers.len() && sorted.iter().all(|number| NUMBERS.contains(number))
        })
    }

    /// Whether nothing is opened.
    #[must_use]
    pub const fn are_shut(&self) -> bool {
        self.readable.is_empty() && self.writable.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::DataStorageRules;

    #[test]
    fn rules_name_envelopes_that_there_are() {
        let rules = |readable: &[u8], writable: &[u8]| DataStorageRules {
            readable: readable.to_vec(),
            writable: writable.to_vec(),
        };
        assert!(rules(&[], &[]).are_sane() && rules(&[10, 1], &[1]).are_sane());
        for odd in [rules(&[0], &[]), rules(&[11], &[]), rules(&[], &[11]), rules(&[2, 2], &[])] {
            assert!(!odd.are_sane(), "{odd:?}");
        }
        assert!(DataStorageRules::default().are_shut() && !rules(&[], &[1]).are_shut());
    }
}
