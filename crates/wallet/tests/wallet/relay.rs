//! The relay check: what the card answers, how often, when, and where it shows.

use crate::issuer::{AID, Issuer, now};
use crate::kernel::{Ended, Kernel, Purchase, command, options_data, select};
use crate::phone::Phone;
use tapfer_emv::curve::PrivateKey;

const EXCHANGE: u8 = 0xEA;

fn exchange() -> Vec<u8> {
    command(0x80, EXCHANGE, 0x00, 0x00, &[1, 2, 3, 4])
}

/// A phone that has answered GET PROCESSING OPTIONS.
fn begun() -> Phone {
    let mut phone = Phone::enrolled(&Issuer::new());
    let key = PrivateKey::from_bytes(&[0x77; 32]).unwrap().public_point();
    let data = options_data(&key, &Purchase::euros(100), [1, 2, 3, 4]);
    assert!(phone.exchange(&select(&AID)).1.is_ok());
    assert!(phone.exchange(&command(0x80, 0xA8, 0x00, 0x00, &data)).1.is_ok());
    phone
}

/// The kernel of the tests recomputes IAD-MAC and cryptogram, so this also shows that both hold the
/// last exchange.
#[test]
fn the_last_exchange_is_signed_and_reported() {
    let issuer = Issuer::new();
    for exchanges in 0..=3 {
        let mut phone = Phone::enrolled(&issuer);
        let kernel = Kernel { relay_exchanges: exchanges, ..Kernel::new(&issuer, now(), 7) };
        let paid = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
        assert_eq!(paid.data.results.relay_checked, exchanges > 0, "{exchanges} exchanges");
    }
}

#[test]
fn a_fourth_try_is_refused() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let kernel = Kernel { relay_exchanges: 4, ..Kernel::new(&issuer, now(), 7) };
    let ended = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command));
    assert_eq!(ended.unwrap_err(), Ended::Refused(EXCHANGE, [0x69, 0x85]));
}

/// Entropy, then 0 to 30 ms, and 2.4 ms on the air, in units of 100 µs.
#[test]
fn every_answer_has_entropy_of_its_own() {
    let mut phone = begun();
    let (first, second) = (phone.exchange(&exchange()).0, phone.exchange(&exchange()).0);
    for answer in [&first, &second] {
        assert_eq!(answer[..2], [0x80, 0x0A]);
        assert_eq!(answer[6..], [0x00, 0x00, 0x01, 0x2C, 0x00, 0x18]);
    }
    assert_ne!(first[2..6], second[2..6]);
}

#[test]
fn after_the_first_record_it_is_too_late() {
    let mut phone = begun();
    assert!(phone.exchange(&command(0x00, 0xB2, 0x01, 0x14, &[])).1.is_ok());
    assert_eq!(phone.exchange(&exchange()).1.bytes(), [0x69, 0x85]);
}
