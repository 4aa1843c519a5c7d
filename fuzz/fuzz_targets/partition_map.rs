//! Any text is a partition map that says where each partition is, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_storage::partitions::PartitionMap;

const WHOLE: &str = r#"{"format":"tapfer-partition-map-1","realm":"realm_01kb0000000000000000000000","version":1,"signed_at":"2026-11-22T12:00:00Z","places":[1,2],"names":[null,"07070707070707070707070707070707"]}"#;

fn read(text: &str) {
    let Some(map) = PartitionMap::parse(text) else { return };
    assert_eq!(PartitionMap::parse(&map.to_text()), Some(map.clone()));
    for number in 0..map.places.len() {
        assert_eq!(map.part(number).map(|part| usize::from(part.number)), Some(number));
    }
    assert_eq!((map.part(map.places.len()), map.name(map.places.len())), (None, None));
}

fuzz_target!(|input: (&str, &str, u8)| {
    let (text, value, field) = input;
    read(text);
    let fields = [
        "\"version\":1",
        "[1,2]",
        "tapfer-partition-map-1",
        "2026-11-22T12:00:00Z",
        "[null,\"0707",
    ];
    read(&WHOLE.replace(fields[usize::from(field) % fields.len()], value));
});
