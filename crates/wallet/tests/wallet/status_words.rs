//! Every refusal has its status word, and costs neither a counter value nor a key.

use tapfer_emv::channel::SecureChannel;
use tapfer_emv::curve::PrivateKey;
use tapfer_emv::{tags, tlv};

use crate::issuer::{AID, Issuer};
use crate::kernel::{Purchase, cdol1_values, command, options_data, select};
use crate::phone::Phone;

const NUMBER: [u8; 4] = [1, 2, 3, 4];
/// Places in the data of GET PROCESSING OPTIONS, behind template `83` and its two bytes of length.
const QUALIFIER: usize = 3;
const KERNEL_KEY: usize = QUALIFIER + 8;
const AMOUNT: usize = KERNEL_KEY + 64;

fn kernel_key() -> PrivateKey {
    PrivateKey::from_bytes(&[0x77; 32]).unwrap()
}

fn options_values() -> Vec<u8> {
    options_data(&kernel_key().public_point(), &Purchase::euros(100), NUMBER)
}

fn options() -> Vec<u8> {
    command(0x80, 0xA8, 0, 0, &options_values())
}

/// GET PROCESSING OPTIONS with some bytes replaced.
fn options_with(position: usize, bytes: &[u8]) -> Vec<u8> {
    let mut values = options_values();
    values[position..position + bytes.len()].copy_from_slice(bytes);
    command(0x80, 0xA8, 0, 0, &values)
}

fn generate_ac(minor: u32) -> Vec<u8> {
    command(0x80, 0xAE, 0x80, 0, &cdol1_values(&Purchase::euros(minor), NUMBER))
}

/// Sends what leads up to the refusal, then the command, and compares the status word.
fn check(name: &str, before: &[Vec<u8>], command: &[u8], expected: u16) {
    let mut phone = Phone::enrolled(&Issuer::new());
    for command in before {
        assert!(phone.exchange(command).1.is_ok(), "{name}: on the way");
    }
    let (counter, disk) = (phone.counter(), phone.disk.clone());
    let (data, status) = phone.exchange(command);
    assert_eq!(u16::from_be_bytes(status.bytes()), expected, "{name}");
    assert!(data.is_empty(), "{name}: a refusal has no data");
    assert_eq!((phone.counter(), phone.disk), (counter, disk), "{name}: a refusal is free");
}

#[test]
fn without_a_dialogue() {
    for (name, bytes, expected) in [
        ("nothing", vec![], 0x6700),
        ("half a header", vec![0x00, 0xA4], 0x6700),
        ("less data than announced", vec![0x00, 0xA4, 0x04, 0x00, 0x05, 0x01], 0x6700),
        ("unknown class", command(0xFF, 0xA4, 0x04, 0x00, &AID), 0x6E00),
        ("logical channel", command(0x01, 0xA4, 0x04, 0x00, &AID), 0x6E00),
        ("unknown instruction", command(0x00, 0xCA, 0x00, 0x00, &[]), 0x6D00),
        ("by another way than by name", command(0x00, 0xA4, 0x00, 0x00, &AID), 0x6A86),
        ("last occurrence", command(0x00, 0xA4, 0x04, 0x01, &AID), 0x6A86),
        ("next of nothing", command(0x00, 0xA4, 0x04, 0x02, &AID), 0x6A82),
        ("unknown application", select(&[0xA0, 0, 0, 0, 4, 0x10, 0x10]), 0x6A82),
        ("a name too short", select(&AID[..4]), 0x6A82),
        ("no name", select(&[]), 0x6A82),
        ("contact directory", select(b"1PAY.SYS.DDF01"), 0x6A82),
        ("credential before selection", command(0x80, 0x52, 0x00, 0x00, &[0; 20]), 0x6985),
        ("read data before options", command(0x84, 0x32, 0x00, 0x00, &[0x9F, 0x81, 0x11]), 0x6985),
        ("write data before options", command(0x84, 0x34, 0x00, 0x00, &[0; 4]), 0x6985),
        ("read data in the clear", command(0x80, 0x32, 0x00, 0x00, &[0x9F, 0x81, 0x11]), 0x6D00),
        ("options before selection", options(), 0x6985),
        ("record before options", command(0x00, 0xB2, 0x01, 0x14, &[]), 0x6985),
        ("relay check before options", command(0x80, 0xEA, 0x00, 0x00, &[0; 4]), 0x6985),
        ("cryptogram before options", generate_ac(100), 0x6985),
    ] {
        check(name, &[], &bytes, expected);
    }
}

#[test]
fn with_an_application_selected() {
    let no_point = [0x01; 64];
    for (name, bytes, expected) in [
        ("P1", command(0x80, 0xA8, 0x01, 0x00, &options_values()), 0x6A86),
        ("no data", command(0x80, 0xA8, 0x00, 0x00, &[]), 0x6A80),
        ("empty template", command(0x80, 0xA8, 0x00, 0x00, &[0x83, 0x00]), 0x6A80),
        ("other template", options_with(0, &[0x85]), 0x6A80),
        ("amount of no digits", options_with(AMOUNT, &[0xAA]), 0x6A80),
        ("kernel key off the curve", options_with(KERNEL_KEY, &no_point), 0x6A80),
        ("qualifier of version 1", options_with(QUALIFIER, &[0x01]), 0x6985),
        ("channel on P-521", options_with(QUALIFIER + 2, &[0x01]), 0x6985),
        ("no certificate suite in common", options_with(QUALIFIER + 3, &[0x11]), 0x6985),
        ("record", command(0x00, 0xB2, 0x01, 0x14, &[]), 0x6985),
        ("cryptogram", generate_ac(100), 0x6985),
    ] {
        check(name, &[select(&AID)], &bytes, expected);
    }
}

#[test]
fn in_the_middle_of_a_transaction() {
    let values = cdol1_values(&Purchase::euros(100), NUMBER);
    let shorter = values[..values.len() - 1].to_vec();
    let foreign = Purchase { currency: [0x08, 0x40], ..Purchase::euros(100) };
    let mut no_date = values.clone();
    no_date[0] = 0xA0;
    for (name, bytes, expected) in [
        ("options again", options(), 0x6985),
        ("a record that is not there", command(0x00, 0xB2, 0x04, 0x14, &[]), 0x6A83),
        ("a file that is not there", command(0x00, 0xB2, 0x01, 0x1C, &[]), 0x6A83),
        ("record zero", command(0x00, 0xB2, 0x00, 0x14, &[]), 0x6A86),
        ("record by identifier", command(0x00, 0xB2, 0x01, 0x10, &[]), 0x6A86),
        ("relay check with P1", command(0x80, 0xEA, 0x01, 0x00, &NUMBER), 0x6A86),
        ("relay check with half the entropy", command(0x80, 0xEA, 0x00, 0x00, &[0; 2]), 0x6700),
        ("something else to follow", command(0x80, 0xAE, 0x80, 0x40, &values), 0x6A86),
        ("credential too late", command(0x80, 0x52, 0x00, 0x00, &[0; 20]), 0x6985),
        ("write data too early", command(0x84, 0x34, 0x00, 0x00, &[0; 4]), 0x6985),
        ("an envelope that is shut", command(0x84, 0x32, 0x00, 0x00, &[0x9F, 0x81, 0x11]), 0x6A88),
        ("an envelope that is none", command(0x84, 0x32, 0x00, 0x00, &[0x9F, 0x81, 0x1B]), 0x6A88),
        ("two envelopes", command(0x84, 0x32, 0x00, 0x00, &[0x5A, 0x50]), 0x6A80),
        ("read data with P1", command(0x84, 0x32, 0x01, 0x00, &[0x9F, 0x81, 0x11]), 0x6A86),
        ("a cryptogram of no kind", command(0x80, 0xAE, 0xC0, 0x00, &values), 0x6A86),
        ("combined authentication", command(0x80, 0xAE, 0x90, 0x00, &values), 0x6A86),
        ("too few values", command(0x80, 0xAE, 0x80, 0x00, &shorter), 0x6700),
        ("no values", command(0x80, 0xAE, 0x80, 0x00, &[]), 0x6700),
        ("another amount", generate_ac(101), 0x6985),
        ("amount of no digits", command(0x80, 0xAE, 0x80, 0x00, &no_date), 0x6985),
        (
            "another currency",
            command(0x80, 0xAE, 0x80, 0x00, &cdol1_values(&foreign, NUMBER)),
            0x6985,
        ),
    ] {
        check(name, &[select(&AID), options()], &bytes, expected);
    }
}

#[test]
fn a_relay_check_that_is_not_promised() {
    let mut issuer = Issuer::new();
    issuer.profile.aip = [0x01, 0x04];
    let mut phone = Phone::enrolled(&issuer);
    for command in [select(&AID), options()] {
        assert!(phone.exchange(&command).1.is_ok());
    }
    let (_, status) = phone.exchange(&command(0x80, 0xEA, 0x00, 0x00, &NUMBER));
    assert_eq!(status.bytes(), [0x69, 0x85]);
}

#[test]
fn after_the_cryptogram() {
    for (name, bytes) in [
        ("another cryptogram", generate_ac(100)),
        ("a record", command(0x00, 0xB2, 0x01, 0x14, &[])),
        ("options", options()),
    ] {
        check(name, &[select(&AID), options(), generate_ac(100)], &bytes, 0x6985);
    }
}

/// A kernel that authenticates no cards names no certificate suite, and is served.
#[test]
fn a_kernel_without_local_authentication_is_served() {
    let mut phone = Phone::enrolled(&Issuer::new());
    let _ = phone.exchange(&select(&AID));
    let qualifier = [0x02, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0x00, 0x00];
    assert!(phone.exchange(&options_with(QUALIFIER, &qualifier)).1.is_ok());
}

/// Reading a record again gives the same content under the next counter, never the same bytes.
#[test]
fn a_record_is_never_encrypted_twice_alike() {
    let mut phone = Phone::enrolled(&Issuer::new());
    let _ = phone.exchange(&select(&AID));
    let (answer, _) = phone.exchange(&options());
    let key_data = [tags::RESPONSE_TEMPLATE_FORMAT_2, tags::CARD_KEY_DATA];
    let key_data = tlv::find_path(&answer, &key_data).unwrap().unwrap().try_into().unwrap();
    let (mut channel, _) = SecureChannel::kernel(&kernel_key(), &key_data).unwrap();
    let mut read = || phone.exchange(&command(0x00, 0xB2, 0x02, 0x14, &[])).0;
    let (first, second) = (read(), read());
    assert_ne!(first, second);
    let mut content = |answer: &[u8]| {
        let template = tlv::parse_one(answer).unwrap();
        assert_eq!(template.tag, tags::ENCRYPTED_RECORD);
        channel.decrypt_record(template.value).unwrap()
    };
    assert_eq!(content(&first), content(&second));
}
