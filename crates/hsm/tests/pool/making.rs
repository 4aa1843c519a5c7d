//! Keys are made once, whatever happens to whom they were asked of.

use tapfer_hsm::{HsmError, PaymentHsm};
use tapfer_payment_types::IssuerId;

use crate::faulty::Fault;
use crate::house::{House, now};

fn another_issuer() -> IssuerId {
    IssuerId::new(now(), [77; 10])
}

/// It made them, and ended before it could say so: the answer is what it made, not a second set.
#[test]
fn keys_whose_maker_died_are_made_once() {
    let house = House::new();
    let pool = house.try_open(&["north"], 1).unwrap();
    house.set("north", Fault::DieBehindMaking);
    let made = pool.create_issuer(another_issuer(), now()).unwrap();
    assert_eq!(pool.issuer_keys(another_issuer()).unwrap(), made);
    let again = pool.create_issuer(another_issuer(), now());
    assert!(matches!(again, Err(HsmError::IssuerExists(_))), "{again:?}");
    assert_eq!(pool.status().members[0].workers[0].restarts, 1);
}

#[test]
fn what_another_worker_made_is_not_taken_for_ones_own() {
    let house = House::new();
    let pool = house.try_open(&["north"], 1).unwrap();
    pool.create_merchant_authority(now()).unwrap();
    let again = pool.create_merchant_authority(now());
    assert!(matches!(again, Err(HsmError::MerchantAuthorityExists)), "{again:?}");
    pool.create_access_keys(now()).unwrap();
    let again = pool.create_access_keys(now());
    assert!(matches!(again, Err(HsmError::AccessKeysExist)), "{again:?}");
}
