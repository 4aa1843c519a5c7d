//! Limited-use keys at hand: how few calls it takes, and that there is a bound.

use std::time::Duration;

use tapfer_hsm::pkcs11::CacheLimits;
use tapfer_test_tokens::Place;

use crate::{Setup, TOKEN, cryptogram_with, expected, index, master};

fn with_limits(place: &Place, limits: CacheLimits) -> Setup {
    place.make_token(TOKEN);
    let setup = Setup { limits, ..Setup::at(place) };
    setup.install();
    setup
}

fn an_authorization_takes_three_calls(place: &Place) {
    // What clears away is counted in the next test.
    let limits = CacheLimits { used_up: 1000, ..CacheLimits::default() };
    let vault = with_limits(place, limits).open();
    let master = master(&vault);
    cryptogram_with(&vault, &master, index(1), 1);
    for counter in 2..60 {
        let before = vault.calls().total();
        assert_eq!(
            cryptogram_with(&vault, &master, index(1), counter),
            expected(index(1), counter)
        );
        assert_eq!(vault.calls().total() - before, 3, "derive, C_SignInit, C_Sign");
    }
    let before = vault.calls().total();
    cryptogram_with(&vault, &master, index(2), 1);
    assert_eq!(vault.calls().total() - before, 5, "token key and limited-use key before");
}

fn what_is_used_up_is_cleared_away(place: &Place) {
    let limits = CacheLimits { used_up: 10, ..CacheLimits::default() };
    let vault = with_limits(place, limits).open();
    let master = master(&vault);
    let before = vault.calls().total();
    let housekeeping = vault.status().unwrap().housekeeping_calls;
    for counter in 1..=100 {
        assert_eq!(
            cryptogram_with(&vault, &master, index(1), counter),
            expected(index(1), counter)
        );
    }
    let status = vault.status().unwrap();
    let housekeeping = status.housekeeping_calls - housekeeping;
    assert_eq!(housekeeping, 20, "ten times one session closed and one opened");
    // Two for the first limited-use key.
    assert_eq!(status.calls - before, 302 + housekeeping);
}

fn keys_at_hand_are_bounded_in_number(place: &Place) {
    let limits = CacheLimits { limited_use_keys: 8, ..CacheLimits::default() };
    let vault = with_limits(place, limits).open();
    let master = master(&vault);
    for round in 0..3 {
        for counter in 0..40 {
            let made = cryptogram_with(&vault, &master, index(counter), round);
            assert_eq!(made, expected(index(counter), round));
            assert!(vault.status().unwrap().cached_keys <= 8);
        }
    }
}

fn keys_at_hand_are_bounded_in_age(place: &Place) {
    let limits = CacheLimits { age: Duration::from_secs(60), ..CacheLimits::default() };
    let setup = with_limits(place, limits);
    let vault = setup.open();
    let master = master(&vault);
    cryptogram_with(&vault, &master, index(1), 1);
    setup.clock.forward(40);
    cryptogram_with(&vault, &master, index(2), 1);
    assert_eq!(vault.status().unwrap().cached_keys, 2);
    setup.clock.forward(21);
    cryptogram_with(&vault, &master, index(2), 2);
    assert_eq!(vault.status().unwrap().cached_keys, 1, "the first is older than a minute");
}

both! {
    an_authorization_takes_three_calls
    what_is_used_up_is_cleared_away
    keys_at_hand_are_bounded_in_number
    keys_at_hand_are_bounded_in_age
}
