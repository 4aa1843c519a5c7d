//! Limited-use keys at hand: how few calls it takes, and that there is a bound.

use std::time::Duration;

use tapfer_hsm::catalogue::{KeyName, KeyOwner, KeyPurpose, KeyState};
use tapfer_hsm::pkcs11::{CacheLimits, Pkcs11Key, Pkcs11Vault};
use tapfer_hsm::software::SoftwareVault;
use tapfer_hsm::vault::{Custody, KeyAlgorithm, Vault};
use tapfer_hsm::{PaymentHsm, Realm, RecordOwner, VaultedHsm};
use tapfer_payment_types::{CardId, IssuerId, Timestamp};
use tapfer_test_tokens::Place;

use crate::{Setup, TOKEN, cryptogram_with, expected, index, master, realm, roots};

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

fn authentication_key(vault: &Pkcs11Vault) -> Pkcs11Key {
    let (algorithm, custody) = (KeyAlgorithm::Authentication, Custody::Sealed);
    let key = vault.generate(algorithm, custody).unwrap();
    vault.load(algorithm, custody, &key.wrapped).unwrap()
}

/// More keys than are kept: each is used, used again when it was let go of, and never is there more at hand.
fn keys_of_the_catalogue_are_bounded_in_number(place: &Place) {
    const KEYS: usize = 600;
    let limits = CacheLimits { catalogue_keys: 64, ..CacheLimits::default() };
    let vault = with_limits(place, limits).open();
    let keys: Vec<_> = (0..KEYS).map(|_| authentication_key(&vault)).collect();
    let macs: Vec<_> = keys.iter().map(|key| vault.authenticate(key, &[b"m"]).unwrap()).collect();
    for (key, mac) in keys.iter().zip(&macs).rev() {
        assert_eq!(vault.authenticate(key, &[b"m"]).unwrap(), *mac);
        assert!(vault.status().unwrap().catalogue_keys <= 64);
    }
    // What is used all the time stays at hand: two calls for an HMAC.
    let calls = |key| {
        let before = vault.calls().total();
        vault.authenticate(key, &[b"m"]).unwrap();
        vault.calls().total() - before
    };
    assert_eq!([calls(&keys[0]), calls(&keys[0])], [2, 2]);
    assert!(calls(&keys[KEYS / 2]) > 2, "it was let go of");
}

fn keys_of_the_catalogue_are_bounded_in_age(place: &Place) {
    let limits = CacheLimits { age: Duration::from_secs(60), ..CacheLimits::default() };
    let setup = with_limits(place, limits);
    let vault = setup.open();
    let (first, second) = (authentication_key(&vault), authentication_key(&vault));
    assert_eq!(vault.status().unwrap().catalogue_keys, 2);
    setup.clock.forward(40);
    vault.authenticate(&second, &[b"m"]).unwrap();
    setup.clock.forward(61);
    // Where nobody asks for keys, the look at the module's health clears them away.
    vault.health().unwrap();
    assert_eq!(vault.status().unwrap().catalogue_keys, 0);
    vault.authenticate(&first, &[b"m"]).unwrap();
    assert_eq!(vault.status().unwrap().catalogue_keys, 1);
}

/// What the catalogue has no more is not at hand any more, and neither are keys that were derived from it.
fn what_the_catalogue_forgets_is_let_go_of(place: &Place) {
    let vault = with_limits(place, CacheLimits::default()).open();
    let (key, master) = (authentication_key(&vault), master(&vault));
    cryptogram_with(&vault, &master, index(1), 1);
    let status = || vault.status().unwrap();
    assert_eq!((status().catalogue_keys, status().cached_keys), (2, 1));
    vault.forget(&key);
    assert_eq!((status().catalogue_keys, status().cached_keys), (1, 1));
    vault.forget(&master);
    assert_eq!((status().catalogue_keys, status().cached_keys), (0, 0));
}

/// Every process that has a key at hand lets go of it when it learns that it was destroyed.
fn a_destroyed_key_is_let_go_of(place: &Place) {
    let issuer = IssuerId::new(Timestamp::from_unix_millis(1), [7; 10]);
    let now = Timestamp::from_unix_millis(1);
    let setup = with_limits(place, CacheLimits::default());
    let catalogue = place.directory.join("keys.json");
    let one = VaultedHsm::with_new_catalogue(setup.open(), &catalogue, Realm::Demo, realm(1));
    let one = one.unwrap();
    one.create_issuer(issuer, now).unwrap();
    let owner = KeyOwner::Issuer(issuer);
    let purpose = KeyPurpose::CardPins;
    // In software, beside the module: another process.
    let vault = SoftwareVault::new(roots(0x11, 0x22));
    let other = VaultedHsm::over_catalogue(vault, &catalogue).unwrap();
    let at_hand = || one.vault().status().unwrap().catalogue_keys;
    let before = at_hand();
    assert!(one.seal_card_record(issuer, card(now), b"record").is_ok());
    assert_eq!(at_hand(), before + 1);
    let purposes = [KeyPurpose::CardRecords, purpose];
    for purpose in purposes {
        other.add_generation(owner, purpose, now).unwrap();
    }
    let name = KeyName { owner, purpose: KeyPurpose::CardRecords, generation: 1 };
    other.set_key_state(name, KeyState::Retired).unwrap();
    one.health().unwrap();
    assert_eq!(at_hand(), before + 1, "what is retired still opens");
    other.set_key_state(name, KeyState::Destroyed).unwrap();
    one.health().unwrap();
    assert_eq!(at_hand(), before);
}

fn card(now: Timestamp) -> RecordOwner {
    RecordOwner::Card(CardId::new(now, [1; 10]))
}

both! {
    keys_of_the_catalogue_are_bounded_in_number
    keys_of_the_catalogue_are_bounded_in_age
    what_the_catalogue_forgets_is_let_go_of
    a_destroyed_key_is_let_go_of
    an_authorization_takes_three_calls
    what_is_used_up_is_cleared_away
    keys_at_hand_are_bounded_in_number
    keys_at_hand_are_bounded_in_age
}
