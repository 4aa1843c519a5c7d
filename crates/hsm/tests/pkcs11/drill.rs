//! Root keys of a drill: put on tokens without any, and taken away again.

use tapfer_hsm::HsmError;
use tapfer_hsm::pkcs11::Pkcs11Vault;
use tapfer_pkcs11::{KeyHandle, KeyType, Session, Template};
use tapfer_test_tokens::{Place, user_pin};

use crate::{Setup, TOKEN, realm, roots};

fn begin(setup: &Setup) -> Result<(), HsmError> {
    Pkcs11Vault::begin_drill(&setup.configuration(), &roots(0x11, 0x22))
}

fn end(setup: &Setup) -> bool {
    Pkcs11Vault::end_drill(&setup.configuration()).unwrap()
}

/// Does something at the token with the plain module.
fn at_token<T>(place: &Place, work: impl FnOnce(&Session, &[KeyHandle]) -> T) -> T {
    let module = place.load();
    let session = module.open_session(&module.token(TOKEN).unwrap(), true).unwrap();
    session.login(&user_pin()).unwrap();
    let keys = session.find(&Template::key(KeyType::Aes)).unwrap();
    work(&session, &keys)
}

fn keys(place: &Place) -> usize {
    at_token(place, |_, keys| keys.len())
}

fn a_drill_leaves_an_empty_token(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    begin(&setup).unwrap();
    setup.open();
    assert_eq!(keys(place), 3, "two roots and the mark");
    assert!(end(&setup));
    assert_eq!(keys(place), 0);
    assert!(!end(&setup), "there is nothing left to end");
}

/// Killed at each step: the mark is there first and goes last.
fn the_next_drill_wipes_what_a_killed_one_left(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    for left in 1..=3 {
        begin(&setup).unwrap();
        at_token(place, |session, keys| {
            let is_mark = |key: &KeyHandle| session.label(*key).unwrap().contains("drill");
            let roots = keys.iter().filter(|key| !is_mark(key));
            roots.take(3 - left).for_each(|root| session.destroy(*root).unwrap());
        });
        assert_eq!(keys(place), left);
        begin(&setup).unwrap();
        setup.open();
        assert_eq!(keys(place), 3);
    }
    // Or the token is put to work.
    setup.install();
    setup.open();
    assert_eq!(keys(place), 2);
    assert!(!end(&setup), "and no drill ends that");
    assert_eq!(keys(place), 2);
}

fn roots_that_no_drill_put_there_stay(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    setup.install();
    let refused = begin(&setup).unwrap_err().to_string();
    assert!(refused.contains("a platform works with them"), "{refused}");
    assert!(!end(&setup));
    setup.open();
    // Nor does the drill of one realm touch another's.
    let mut other = setup.configuration();
    other.realm = realm(2);
    Pkcs11Vault::begin_drill(&other, &roots(3, 4)).unwrap();
    assert!(Pkcs11Vault::end_drill(&other).unwrap());
    setup.open();
}

both! {
    a_drill_leaves_an_empty_token
    the_next_drill_wipes_what_a_killed_one_left
    roots_that_no_drill_put_there_stay
}
