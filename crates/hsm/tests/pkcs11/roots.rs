//! Root keys on a token: installed once, found by realm, told apart.

use tapfer_hsm::pkcs11::{Pkcs11Vault, RootsOnToken};
use tapfer_hsm::vault::Vault;
use tapfer_hsm::{CatalogueError, HsmError, Realm, VaultedHsm};
use tapfer_pkcs11::{KeyType, Template, Use};
use tapfer_test_tokens::{Place, user_pin};

use crate::{Setup, TOKEN, realm, roots};

fn roots_are_installed_once(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    let look = || Pkcs11Vault::look_for_roots(&setup.configuration()).unwrap();
    let install = |roots| Pkcs11Vault::install_roots(&setup.configuration(), &roots);
    assert_eq!(look(), RootsOnToken::Neither);
    assert_eq!(install(roots(1, 2)).unwrap(), RootsOnToken::Neither);
    assert_eq!(look(), RootsOnToken::Both);
    let fingerprints = setup.open().report().unwrap().roots;
    for others in [roots(3, 4), roots(3, 2), roots(1, 4)] {
        let error = install(others).unwrap_err();
        assert!(error.to_string().contains("initialise the token anew"), "{error}");
    }
    assert_eq!(install(roots(1, 2)).unwrap(), RootsOnToken::Both, "the same roots change nothing");
    assert_eq!(setup.open().report().unwrap().roots, fingerprints);
}

/// As it is after a power cut between the two.
fn half_an_installation_is_completed(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    let module = place.load();
    let session = module.open_session(&module.token(TOKEN).unwrap(), true).unwrap();
    session.login(&user_pin()).unwrap();
    let label = format!("tapfer releasing root {}", realm(1));
    let id = format!("releasing {}", realm(1));
    let template = Template::key(KeyType::Aes).stays(true).extractable(false);
    let template = template.only_for(&[Use::Wrap, Use::Unwrap]).value(&[2; 32]);
    session.create(&template.label(&label).id(id.as_bytes())).unwrap();
    drop(session);
    module.finalize().unwrap();
    let text = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
    assert!(text.contains("tapfer keys ceremony install"), "{text}");
    let look = || Pkcs11Vault::look_for_roots(&setup.configuration()).unwrap();
    let install = |roots| Pkcs11Vault::install_roots(&setup.configuration(), &roots);
    assert_eq!(look(), RootsOnToken::One);
    install(roots(1, 9)).unwrap_err();
    assert_eq!(look(), RootsOnToken::One, "other roots are not put beside it");
    assert_eq!(install(roots(1, 2)).unwrap(), RootsOnToken::One);
    assert_eq!(look(), RootsOnToken::Both);
    setup.open();
}

fn a_token_without_roots_says_what_it_has(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    let text = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
    assert!(text.contains("no AES keys at all"), "{text}");
    setup.install();
    let mut configuration = setup.configuration();
    configuration.realm = realm(2);
    let text = Pkcs11Vault::open(configuration).unwrap_err().to_string();
    assert!(text.contains(&realm(2).to_string()) && text.contains(&realm(1).to_string()), "{text}");
}

fn two_roots_of_a_kind_are_refused(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    setup.install();
    let module = place.load();
    let session = module.open_session(&module.token(TOKEN).unwrap(), true).unwrap();
    session.login(&user_pin()).unwrap();
    let kind = format!("sealing {}", realm(1));
    let label = format!("tapfer sealing root {}", realm(1));
    let template = Template::key(KeyType::Aes).stays(true).extractable(false);
    session.create(&template.label(&label).id(kind.as_bytes()).value(&[5; 32])).unwrap();
    let text = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
    assert!(text.contains("2 keys") && text.contains(&label), "{text}");
}

fn fingerprints_tell_roots_apart(place: &Place) {
    for (label, root) in [("a", 1), ("b", 1), ("c", 2)] {
        place.make_token(label);
        let setup = Setup { token: label.to_owned(), ..Setup::at(place) };
        Pkcs11Vault::install_roots(&setup.configuration(), &roots(root, 9)).unwrap();
    }
    let fingerprints = |label: &str| {
        let setup = Setup { token: label.to_owned(), ..Setup::at(place) };
        setup.open().report().unwrap().roots
    };
    let [a, b, c] = ["a", "b", "c"].map(fingerprints);
    let [(_, sealing), (_, releasing)] = roots(1, 9).check_values().unwrap();
    assert_eq!((a.sealing, a.releasing), (sealing, releasing), "what a transcript says of them");
    assert_eq!(a, b);
    assert_ne!(a.sealing, c.sealing);
    assert_eq!(a.releasing, c.releasing);
}

/// Members of a pool with the same sealing root, one of which has another releasing root: it would wrap EC-SDSA
/// keys that no other opens.
fn a_token_with_another_releasing_root_does_not_serve(place: &Place) {
    for (label, releasing) in [("right", 2), ("odd", 3)] {
        place.make_token(label);
        let setup = Setup { token: label.to_owned(), ..Setup::at(place) };
        Pkcs11Vault::install_roots(&setup.configuration(), &roots(1, releasing)).unwrap();
    }
    let open = |label: &str| Setup { token: label.to_owned(), ..Setup::at(place) }.open();
    let catalogue = place.directory.join("keys.json");
    let made = VaultedHsm::with_new_catalogue(open("right"), &catalogue, Realm::Demo, realm(1));
    drop(made.unwrap());
    VaultedHsm::over_catalogue(open("right"), &catalogue).unwrap();
    let refused = VaultedHsm::over_catalogue(open("odd"), &catalogue).map(drop);
    let refused =
        matches!(&refused, Err(HsmError::Catalogue(CatalogueError::OtherReleasingRoot(_))));
    assert!(refused);
}

both! {
    a_token_with_another_releasing_root_does_not_serve
    roots_are_installed_once
    half_an_installation_is_completed
    a_token_without_roots_says_what_it_has
    two_roots_of_a_kind_are_refused
    fingerprints_tell_roots_apart
}
