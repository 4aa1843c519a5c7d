//! The dictionary knows every tag that independent cards and terminals use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs)]

use serde_json::Value;
use tapfer_emv::apdu::ResponseApdu;
use tapfer_emv::dol::DataObjectList;
use tapfer_emv::tags;
use tapfer_emv::tlv::Tag;
use tapfer_emv::tlv_tree::{CardData, tree};

/// The template of the transaction in which the card uses a wrong one.
const WRONG_TEMPLATE: Tag = Tag::new(0xDB);

fn hex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn assert_all_named(data: &[u8]) {
    let tree = tree(data, CardData::Masked);
    assert_eq!(tree.error, None);
    for node in tree.nodes {
        assert!(node.name.is_some() || node.tag == WRONG_TEMPLATE, "{} has no name", node.tag);
    }
}

#[test]
fn every_tag_of_the_transactions_has_a_name() {
    let file: Value =
        serde_json::from_str(include_str!("../../vectors/tests/data/kernel8-transactions.json"))
            .unwrap();
    for transaction in file["kernel8_transactions"].as_array().unwrap() {
        for place in ["config", "session"] {
            for tag in transaction["terminal"][place].as_object().unwrap().keys() {
                let tag = Tag::new(u32::from_str_radix(tag, 16).unwrap());
                assert!(tags::describe(tag).is_some(), "{tag} has no name");
            }
        }
        for step in transaction["exchange"].as_array().unwrap() {
            assert_all_named(&ResponseApdu::parse(&hex(&step[1])).unwrap().data);
        }
        for record in ["bf8102", "bf8103"] {
            let record = &transaction["outcome"][record];
            if !record.is_null() {
                assert_all_named(&hex(record));
            }
        }
        for list in ["pdol", "cdol1"] {
            let list = DataObjectList::parse(&hex(&transaction["card_facts"][list])).unwrap();
            assert!(list.entries().iter().all(|entry| tags::describe(entry.tag).is_some()));
        }
    }
}
