//! The catalogue of keys as it lies on the disk: any bytes are answered, and what is read says the same when
//! it is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_hsm::catalogue::UnverifiedCatalogue;

/// A catalogue as the program writes it, with a few bytes changed: two bytes of position, one of value each.
const GENUINE: &str = concat!(
    r#"{"content":{"format":2,"realm":"demo","realm_id":"realm_00000000000000000000000000","version":2,"#,
    r#""history":["0000000000000000000000000000000000000000000000000000000000000000"],"#,
    r#""catalogue_key":"00","releasing_check":"00","keys":[{"owner":"platform","purpose":"card-records","generation":1,"#,
    r#""algorithm":"key_wrapping","custody":"sealed","state":"active","created_at":"2026-11-21T12:00:00.000Z","#,
    r#""use_until":null,"check_value":"010203","public":null,"wrapped":"0000000000000000"}]},"#,
    r#""mac":"0000000000000000000000000000000000000000000000000000000000000000"}"#
);

fn changed(changes: &[u8]) -> Vec<u8> {
    let mut bytes = GENUINE.as_bytes().to_vec();
    for change in changes.chunks_exact(3) {
        let position = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
        bytes[position] = change[2];
    }
    bytes
}

fuzz_target!(|input: &[u8]| {
    for bytes in [input.to_vec(), changed(input)] {
        let first = UnverifiedCatalogue::parse(&bytes);
        let again = UnverifiedCatalogue::parse(&bytes);
        assert_eq!(format!("{first:?}"), format!("{again:?}"));
    }
});
