//! A data object list from a card: what is built from it has the announced length and comes apart
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_emv::dol::{DataObjectList, MAXIMUM_VALUE_LENGTH, parse_tag_list};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, value) = input;
    let _ = parse_tag_list(&bytes);
    let Ok(list) = DataObjectList::parse(&bytes) else { return };
    let values = list.build(|tag| (tag.number() & 1 == 0).then_some(value.as_slice()));
    assert_eq!(values.len(), list.value_length());
    assert!(values.len() <= MAXIMUM_VALUE_LENGTH);
    let pieces = list.split(&values).unwrap();
    assert_eq!(pieces.len(), list.entries().len());
    assert!(
        pieces
            .iter()
            .zip(list.entries())
            .all(|((tag, piece), entry)| { *tag == entry.tag && piece.len() == entry.length })
    );
});
