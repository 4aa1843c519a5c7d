//! The phone loses its power, or leaves the field, at every single point of a tap.

use std::collections::BTreeSet;

use crate::issuer::{Issuer, now};
use crate::kernel::{Ended, Kernel, Purchase};
use crate::phone::{Phone, UNLOCKED, counter};

/// PPSE, SELECT, GET PROCESSING OPTIONS, relay check, three records, GENERATE AC.
const COMMANDS: usize = 8;
/// A reply each, two of them behind a snapshot, and one notification.
const EFFECTS: usize = COMMANDS + 2 + 1;

/// After every effect the power goes; the phone starts again from its disk and pays. No counter is
/// seen twice, and the disk is never behind what a reader has seen.
#[test]
fn no_counter_is_used_twice_whatever_is_lost() {
    let issuer = Issuer::new();
    for lost_after in 0..=EFFECTS {
        let mut phone = Phone { device: UNLOCKED, ..Phone::enrolled(&issuer) };
        let mut seen = BTreeSet::new();
        for round in 0..3_u64 {
            phone.power = Some(lost_after);
            let kernel = Kernel::new(&issuer, now(), round + 1);
            let torn = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command));
            match torn {
                Ok(tap) => assert!(seen.insert(tap.counter), "{lost_after}: {tap:?}"),
                Err(ended) => assert_eq!(ended, Ended::Torn, "{lost_after}"),
            }
            phone.restart();
        }
        let kernel = Kernel::new(&issuer, now(), 99);
        let paid = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
        assert!(seen.insert(paid.counter), "{lost_after}");
        assert!(seen.iter().max() == Some(&paid.counter), "{lost_after}: the counter went back");
    }
}

/// The same with a field that goes and a phone that stays on: the next tap finds a fresh card.
#[test]
fn a_tap_that_ends_anywhere_leaves_nothing_behind() {
    let issuer = Issuer::new();
    for answered in 0..COMMANDS {
        let mut phone = Phone::enrolled(&issuer);
        let mut left = answered;
        let torn = Kernel::new(&issuer, now(), 1).tap(&Purchase::euros(100), |command| {
            left = left.checked_sub(1)?;
            phone.transmit(command)
        });
        assert_eq!(torn.unwrap_err(), Ended::Torn);
        phone.card.deselect();
        let begun = u16::from(answered > 2);
        assert_eq!((phone.counter(), counter(&phone.stored())), (begun, begun), "{answered}");
        let kernel = Kernel::new(&issuer, now(), 2);
        let paid = kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
        assert_eq!(paid.counter, begun + 1);
    }
}

/// What a reader has got is on the disk: counter after GET PROCESSING OPTIONS, the key's use after
/// GENERATE AC.
#[test]
fn the_disk_is_never_behind_the_reader() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let kernel = Kernel::new(&issuer, now(), 1);
    let mut replies = 0;
    let paid = kernel.tap(&Purchase::euros(100), |command| {
        let reply = phone.transmit(command);
        let (memory, stored) = (phone.card.wallet(), phone.stored());
        assert_eq!(serde_json::to_vec(memory).unwrap(), serde_json::to_vec(&stored).unwrap());
        replies += 1;
        reply
    });
    assert_eq!((replies, paid.unwrap().counter), (COMMANDS, 1));
}
