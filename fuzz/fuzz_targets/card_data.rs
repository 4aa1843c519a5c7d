//! What a card sends beside the dialogue itself: issuer application data, which the platform reads, and any
//! value under any tag, which is put into words. What is read is exactly what is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapfer_emv::dol::parse_tag_list;
use tapfer_emv::iad::IssuerApplicationData;
use tapfer_emv::meaning;
use tapfer_payment_types::{Currency, Pin};
use tapfer_wallet::policy::TerminalDemand;

/// Twenty bytes that chance would take long to find: length, version, and codes that there are.
fn completed(bytes: &[u8]) -> Vec<u8> {
    let mut data = bytes.to_vec();
    data.resize(32, 0x00);
    data[0] = 0x1F;
    data[2] = 0xC8;
    data[3] &= 0x03;
    data[4] &= 0xE0;
    data[5] = 0x01 + (data[5] & 0x01);
    data[6] &= 0x01;
    data[7] &= 0x01;
    data
}

fn issuer_application_data(bytes: &[u8]) {
    if let Ok(data) = IssuerApplicationData::parse(bytes) {
        assert_eq!(data.encode().as_slice(), bytes);
    }
}

fuzz_target!(|bytes: &[u8]| {
    issuer_application_data(bytes);
    issuer_application_data(&completed(bytes));
    // A PIN that was sealed at a terminal.
    if let Ok(pin) = Pin::from_block(bytes) {
        assert!(pin.expose().parse::<Pin>().is_ok());
    }
    let _ = TerminalDemand::from_risk_management_data(Some(bytes));
    let [number_of_tags, rest @ ..] = bytes else { return };
    let (tags, value) = rest.split_at(rest.len().min(usize::from(*number_of_tags)));
    for tag in parse_tag_list(tags).unwrap_or_default() {
        for currency in [None, Some(Currency::EUR)] {
            for line in meaning::of(tag, value, currency) {
                assert!(!line.chars().any(char::is_control), "{tag}: {line:?}");
            }
        }
    }
});
