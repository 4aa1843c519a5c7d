//! TLV data as a tree that a person can read: names, lengths, values and what they mean.
//!
//! For the tools a person looks through, never for a decision. Data that ends in nonsense is shown up
//! to there. Card numbers and the like are masked unless the person asked for them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXUPPER;
use tapfer_payment_types::Currency;

use crate::meaning;
use crate::tags::{self, TagDescription};
use crate::tlv::{MAXIMUM_DEPTH, Reader, Tag, Tlv, TlvError};

/// Whether card numbers and the like are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardData {
    /// Only what may be shown to anyone.
    Masked,
    /// All of it: the person asked for it.
    Shown,
}

/// One data object, in the order in which it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// How deep it stands, from 0.
    pub depth: usize,
    /// Where it starts in the data.
    pub offset: usize,
    /// Its tag.
    pub tag: Tag,
    /// Its name in the data dictionary.
    pub name: Option<&'static str>,
    /// Length of the value in bytes.
    pub length: usize,
    /// Value in hexadecimal digits, card data masked; `None` for a template.
    pub value: Option<String>,
    /// What the value says in words, a line each; empty if it says no more than its digits.
    pub meanings: Vec<String>,
}

/// What could be read, and where that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// All objects of all levels, templates before what is in them.
    pub nodes: Vec<Node>,
    /// Why the rest could not be read.
    pub error: Option<TlvError>,
}

/// Reads data as a tree.
#[must_use]
pub fn tree(bytes: &[u8], card_data: CardData) -> Tree {
    let mut builder = Builder { card_data, currency: None, nodes: Vec::new() };
    // Amounts may stand in front of their currency, so it is looked for first.
    builder.find_currency(Reader::new(bytes), MAXIMUM_DEPTH);
    let error = builder.read_level(Reader::new(bytes), 0).err();
    Tree { nodes: builder.nodes, error }
}

struct Builder {
    card_data: CardData,
    currency: Option<Currency>,
    nodes: Vec<Node>,
}

impl Builder {
    fn find_currency(&mut self, level: Reader<'_>, levels_left: usize) {
        for object in level.flatten() {
            if object.tag == tags::TRANSACTION_CURRENCY_CODE {
                self.currency = meaning::currency(object.value);
            } else if let Some(deeper) =
                levels_left.checked_sub(1).filter(|_| object.tag.is_constructed())
            {
                self.find_currency(Reader::inside(&object), deeper);
            }
        }
    }

    fn read_level(&mut self, level: Reader<'_>, depth: usize) -> Result<(), TlvError> {
        for object in level {
            let object = object?;
            if depth >= MAXIMUM_DEPTH {
                return Err(TlvError::NestedTooDeep { offset: object.offset });
            }
            self.nodes.push(self.node(&object, depth));
            if object.tag.is_constructed() {
                self.read_level(Reader::inside(&object), depth.saturating_add(1))?;
            }
        }
        Ok(())
    }

    fn node(&self, object: &Tlv<'_>, depth: usize) -> Node {
        let row = tags::describe(object.tag);
        let is_template = object.tag.is_constructed();
        let is_masked = self.card_data == CardData::Masked && row.is_some_and(|row| row.sensitive);
        let meanings = match is_template || is_masked {
            true => Vec::new(),
            false => meaning::of(object.tag, object.value, self.currency),
        };
        Node {
            depth,
            offset: object.offset,
            tag: object.tag,
            name: row.map(|row| row.name),
            length: object.value.len(),
            value: (!is_template).then(|| shown(object, row, is_masked)),
            meanings,
        }
    }
}

fn shown(object: &Tlv<'_>, row: Option<&TagDescription>, is_masked: bool) -> String {
    let is_card_number = row.is_some_and(|row| row.tag == tags::APPLICATION_PAN);
    match (is_masked, is_card_number) {
        (false, _) => HEXUPPER.encode(object.value),
        (true, true) => masked_card_number(object.value),
        (true, false) => String::from("(masked)"),
    }
}

/// The last four digits, which may be shown to anyone (PCI DSS 3.4.1).
fn masked_card_number(value: &[u8]) -> String {
    let digits = HEXUPPER.encode(value);
    let digits = digits.trim_end_matches('F');
    match digits.len().checked_sub(4).and_then(|start| digits.get(start..)) {
        // Less digits than a card number has would show too large a part of what is there.
        Some(last_four) if digits.len() >= 12 => alloc::format!("…{last_four} (masked)"),
        _ => String::from("(masked)"),
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| write!(f, "{node}"))?;
        match &self.error {
            Some(error) => writeln!(f, "cannot be read further: {error}"),
            None => Ok(()),
        }
    }
}

/// A line for the object, then an indented one for each meaning.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = self.depth.saturating_mul(2);
        let name = self.name.unwrap_or("(not in the dictionary)");
        write!(f, "{:indent$}{} {name} [{}]", "", self.tag, self.length)?;
        if let Some(value) = self.value.as_deref().filter(|value| !value.is_empty()) {
            write!(f, " {value}")?;
        }
        writeln!(f)?;
        self.meanings.iter().try_for_each(|line| writeln!(f, "{:indent$}    {line}", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlv;
    use proptest::prelude::*;
    use std::string::ToString;

    const PAN: [u8; 8] = [0x41, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11];

    #[test]
    fn a_tree_in_words() {
        let amount = tlv::encode(tags::AMOUNT_AUTHORIZED, &[0, 0, 0, 0, 0x12, 0x34]);
        let currency = tlv::encode(tags::TRANSACTION_CURRENCY_CODE, &[0x09, 0x78]);
        let pan = tlv::encode(tags::APPLICATION_PAN, &PAN);
        let record = tlv::encode(tags::READ_RECORD_TEMPLATE, &[amount, currency, pan].concat());
        let expected = "70 READ RECORD Response Message Template [24]\n  \
             9F02 Amount, Authorised (Numeric) [6] 000000001234\n      12.34 EUR\n  \
             5F2A Transaction Currency Code [2] 0978\n      EUR\n  \
             5A Application Primary Account Number (PAN) [8] …1111 (masked)\n";
        let masked = tree(&record, CardData::Masked);
        assert_eq!(masked.to_string(), expected);
        let shown = tree(&record, CardData::Shown).to_string();
        assert!(shown.contains("4111111111111111"));
    }

    #[test]
    fn what_was_readable_is_shown() {
        let broken = [0x70, 7, 0x8F, 1, 0xE0, 0x5A, 8, 0x41, 0x11];
        let tree = tree(&broken, CardData::Masked);
        assert_eq!(tree.nodes.len(), 2);
        assert_eq!(
            tree.to_string().lines().last().unwrap(),
            "cannot be read further: object 5A at offset 5 announces 8 bytes, but only 2 follow"
        );
    }

    #[test]
    fn card_data_of_any_kind_is_masked() {
        for row in tags::DICTIONARY.iter().filter(|row| row.sensitive) {
            let object = tlv::encode(row.tag, &[0x41, 0x42, 0x43, 0x44]);
            let text = tree(&object, CardData::Masked).to_string();
            assert!(!text.contains("4142") && !text.contains("AB"), "{text}");
        }
    }

    #[test]
    fn depth_ends_in_an_error() {
        let deep = (0..20).fold(Vec::new(), |inner, _| tlv::encode(Tag::new(0xE0), &inner));
        let tree = tree(&deep, CardData::Masked);
        assert_eq!(tree.nodes.len(), MAXIMUM_DEPTH);
        assert!(matches!(tree.error, Some(TlvError::NestedTooDeep { .. })));
    }

    proptest! {
        #[test]
        fn any_value_of_any_tag_has_a_line(
            row in 0..tags::DICTIONARY.len(),
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let object = tlv::encode(tags::DICTIONARY[row].tag, &value);
            prop_assert!(!tree(&object, CardData::Shown).nodes.is_empty());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let tree = tree(&bytes, CardData::Shown);
            prop_assert!(tree.error.is_some() || tlv::check_nesting(&bytes).is_ok());
        }
    }
}
