//! BER-TLV from a card or a terminal: readers agree with each other, and every slice they give lies
//! where they say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_emv::tlv::{self, Reader, Tlv};
use tapfer_emv::tlv_tree::{CardData, tree};

fn assert_in_place(bytes: &[u8], object: &Tlv<'_>) {
    let end = object.offset + object.raw.len();
    assert_eq!(object.raw, &bytes[object.offset..end]);
    assert_eq!(object.value, &bytes[object.value_offset()..end]);
    // What is written again in the shortest form says the same.
    let shortest = tlv::encode(object.tag, object.value);
    let again = tlv::parse_one(&shortest).unwrap();
    assert_eq!((again.tag, again.value), (object.tag, object.value));
    assert!(shortest.len() <= object.raw.len());
}

fuzz_target!(|bytes: &[u8]| {
    for object in Reader::new(bytes).flatten() {
        assert_in_place(bytes, &object);
    }
    let list = tlv::parse(bytes);
    if let Ok(objects) = &list {
        for object in objects {
            let found = tlv::find(bytes, object.tag);
            let twice = objects.iter().filter(|other| other.tag == object.tag).count() > 1;
            assert_eq!(found.is_err(), twice);
        }
        assert_eq!(tlv::parse_one(bytes).is_ok(), objects.len() == 1);
    }
    let is_well_formed = tlv::check_nesting(bytes).is_ok();
    assert!(list.is_ok() || !is_well_formed);
    let tree = tree(bytes, CardData::Shown);
    assert_eq!(tree.error.is_none(), is_well_formed);
    let _ = tree.to_string();
});
