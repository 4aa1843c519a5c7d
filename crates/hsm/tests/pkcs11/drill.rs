//! Root keys of a drill: put on tokens without any, and taken away again.

use tapfer_hsm::HsmError;
use tapfer_hsm::pkcs11::{Pkcs11Vault, RootsOnToken};
use tapfer_pkcs11::{KeyHandle, KeyType, Session, Template};
use tapfer_test_tokens::{Kind, Place, isolated, user_pin};

use crate::{Setup, TOKEN, realm, roots};

fn begin(setup: &Setup) -> Result<(), HsmError> {
    Pkcs11Vault::begin_drill(&setup.configuration(), &roots(0x11, 0x22))
}

fn open_in_drill(setup: &Setup) {
    Pkcs11Vault::open_in_drill(setup.configuration()).unwrap();
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

/// Puts a key there under the name of a drill's root, as whoever has the PIN can.
fn plant(session: &Session, template: Template) {
    let label = format!("tapfer drill's sealing root {}", realm(1));
    let id = format!("drill's sealing {}", realm(1));
    let planted = template.stays_behind_login(true).label(&label).id(id.as_bytes());
    session.create(&planted.value(&[7; 32]).only_for(&[])).unwrap();
}

fn keys(place: &Place) -> usize {
    at_token(place, |_, keys| keys.len())
}

fn a_drill_leaves_an_empty_token(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    begin(&setup).unwrap();
    open_in_drill(&setup);
    assert_eq!(keys(place), 2);
    assert!(end(&setup));
    assert_eq!(keys(place), 0);
    assert!(!end(&setup), "there is nothing left to end");
}

/// More than one look at the token finds.
fn any_number_of_roots_of_a_drill_is_wiped(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    at_token(place, |session, _| {
        for _ in 0..40 {
            plant(session, Template::key(KeyType::Aes));
        }
    });
    assert!(end(&setup));
    assert_eq!(keys(place), 0);
}

/// Killed at each step.
fn the_next_drill_wipes_what_a_killed_one_left(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    for left in 1..=2 {
        begin(&setup).unwrap();
        at_token(place, |session, keys| {
            keys.iter().take(2 - left).for_each(|root| session.destroy(*root).unwrap());
        });
        assert_eq!(keys(place), left);
        begin(&setup).unwrap();
        open_in_drill(&setup);
        assert_eq!(keys(place), 2);
    }
    // Or the token is put to work.
    setup.install();
    setup.open();
    assert_eq!(keys(place), 2);
    assert!(!end(&setup), "and no drill ends that");
    assert_eq!(keys(place), 2);
}

/// Attack: a platform put to work on the roots of a killed drill would lose them to the next one.
fn put_to_work_on_the_roots_of_a_drill(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    begin(&setup).unwrap();
    let refused = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
    assert!(refused.contains("tapfer drill's sealing root"), "{refused}");
    assert!(refused.contains("ceremony install"), "{refused}");
    let found = Pkcs11Vault::look_for_roots(&setup.configuration()).unwrap();
    assert_eq!(found, RootsOnToken::Neither);
    setup.install();
    setup.open();
    assert!(Pkcs11Vault::open_in_drill(setup.configuration()).is_err());
    // Names of a drill beside the roots of a platform: a drill takes nothing but its own.
    at_token(place, |session, _| plant(session, Template::key(KeyType::Aes)));
    assert!(begin(&setup).is_err());
    assert_eq!(keys(place), 2);
    setup.open();
}

/// Put there by somebody who has the PIN, so that they stay: what to do about them is said.
fn roots_of_a_drill_that_stay_are_named(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    at_token(place, |session, _| plant(session, Template::key(KeyType::Aes).indestructible()));
    let ended = Pkcs11Vault::end_drill(&setup.configuration()).map(drop);
    for refused in [ended, begin(&setup)] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("initialise the token anew"), "{said}");
    }
    assert_eq!(keys(place), 1);
    // A platform finds its own beside them.
    let installed = Pkcs11Vault::install_roots(&setup.configuration(), &roots(1, 2)).unwrap();
    assert!(installed.beside.is_some_and(|said| said.contains("initialise the token anew")));
    assert_eq!(keys(place), 3);
    setup.open();
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
    any_number_of_roots_of_a_drill_is_wiped
    the_next_drill_wipes_what_a_killed_one_left
    roots_of_a_drill_that_stay_are_named
    roots_that_no_drill_put_there_stay
}

#[test]
fn attack_platform_on_the_roots_of_a_drill() {
    isolated(Kind::SoftHsm, |place| {
        put_to_work_on_the_roots_of_a_drill(place);
    });
}

#[test]
fn attack_platform_on_the_roots_of_a_drill_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        put_to_work_on_the_roots_of_a_drill(place);
    });
}
