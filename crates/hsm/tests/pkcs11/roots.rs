//! Root keys on a token: installed once, found by realm, told apart.

use tapfer_hsm::pkcs11::{InstalledRoots, Operation, Pkcs11Vault, Place as Where, RootsOnToken};
use tapfer_hsm::vault::Vault;
use tapfer_hsm::{CatalogueError, HsmError, Realm, VaultedHsm};
use tapfer_pkcs11::{KeyType, Mechanism, Template, Use};
use tapfer_test_tokens::{Kind, Place, isolated, user_pin};

use crate::{Setup, TOKEN, realm, roots};

fn roots_are_installed_once(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    let look = || Pkcs11Vault::look_for_roots(&setup.configuration()).unwrap();
    let install = |roots| {
        Pkcs11Vault::install_roots(&setup.configuration(), &roots).map(|installed| installed.before)
    };
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
    let install = |roots| {
        Pkcs11Vault::install_roots(&setup.configuration(), &roots).map(|installed| installed.before)
    };
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

/// Nobody works with a key of his, whichever the token lists first; people are told which is which.
fn two_roots_of_a_kind_are_told_apart(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    setup.install();
    let module = place.load();
    let session = module.open_session(&module.token(TOKEN).unwrap(), true).unwrap();
    session.login(&user_pin()).unwrap();
    let kind = format!("sealing {}", realm(1));
    let label = format!("tapfer sealing root {}", realm(1));
    let template = Template::key(KeyType::Aes).stays(true).extractable(false);
    let template = template.only_for(&[Use::Wrap, Use::Unwrap]).value(&[5; 32]);
    session.create(&template.label(&label).id(kind.as_bytes())).unwrap();
    let text = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
    assert!(text.contains("2 keys") && text.contains(&label), "{text}");
    for sealing in [0x11, 5] {
        let [(_, value), _] = roots(sealing, 0x22).check_values().unwrap();
        let value: String = value.iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(text.contains(&value), "{value} is not in {text}");
    }
}

/// Attack: a thief of the PIN puts a key of his own beside a root, under its name, to have keys wrapped under it.
#[test]
fn attack_key_of_a_thief_beside_a_root() {
    isolated(Kind::SoftHsm, |place| {
        two_roots_of_a_kind_are_told_apart(place);
    });
}

#[test]
fn attack_key_of_a_thief_beside_a_root_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        two_roots_of_a_kind_are_told_apart(place);
    });
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

/// Puts roots on a token as somebody else would: each with what `guard` gives it.
fn put_there(place: &Place, token: &str, guard: impl Fn(Template, &str) -> Template) {
    let module = place.load();
    let session = module.open_session(&module.token(token).unwrap(), true).unwrap();
    session.login(&user_pin()).unwrap();
    for (kind, value) in [("sealing", 0x11), ("releasing", 0x22)] {
        let label = format!("tapfer {kind} root {}", realm(1));
        let id = format!("{kind} {}", realm(1));
        let template = Template::key(KeyType::Aes).stays(true).extractable(false).for_good();
        let template = template.only_for(&[Use::Wrap, Use::Unwrap]).value(&[value; 32]);
        let template = template.label(&label).id(id.as_bytes());
        session.create(&guard(template, kind)).unwrap();
    }
    drop(session);
    module.finalize().unwrap();
}

fn said_of(setup: &Setup, operation: Operation) -> (Where, String) {
    let capabilities = setup.open().report().unwrap().capabilities;
    let found = capabilities.into_iter().find(|one| one.operation == operation).unwrap();
    (found.place, found.how)
}

const GUARDS: [Operation; 3] =
    [Operation::UnwrapTemplate, Operation::AllowedMechanisms, Operation::RootsStay];

/// Roots that an earlier version put there, or a module that has learned more since: what is said is said of them, not
/// of what the module could do.
fn roots_without_their_guard(place: &Place) {
    place.make_token(TOKEN);
    put_there(place, TOKEN, |template, _| template);
    let setup = Setup::at(place);
    for operation in GUARDS {
        let (found, how) = said_of(&setup, operation);
        assert!(found == Where::Missing, "{operation} {found}: {how}");
        assert!(how.contains("whoever has") || how.contains("the roots unwrap"), "{how}");
        assert!(how.contains("tapfer keys ceremony install"), "{how}");
    }
    let installed = Pkcs11Vault::install_roots(&setup.configuration(), &roots(0x11, 0x22));
    let InstalledRoots { before, lacks, beside } = installed.unwrap();
    assert_eq!((before, beside), (RootsOnToken::Both, None));
    let named = ["CKA_UNWRAP_TEMPLATE", "CKA_ALLOWED_MECHANISMS", "CKA_DESTROYABLE"];
    assert!(lacks.len() == 3 && named.iter().zip(&lacks).all(|(name, of)| of.contains(name)));
}

/// What is forced on opened keys in part only, and one root of two.
fn half_a_guard_is_told(place: &Place) {
    place.make_token("whole");
    let whole = Setup { token: "whole".to_owned(), ..Setup::at(place) };
    whole.install();
    let wraps = match said_of(&whole, Operation::PrivateKeyWrap).1.as_str() {
        "CKM_AES_KEY_WRAP_KWP" => [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapKwp],
        _ => [Mechanism::AesKeyWrap, Mechanism::AesKeyWrapPad],
    };
    for (token, into, open, lacking) in [
        ("readable", Template::default().ends_with_session(), "none", Operation::UnwrapTemplate),
        ("stays", Template::default().extractable(false), "none", Operation::UnwrapTemplate),
        ("goes", sealed(), "releasing", Operation::RootsStay),
    ] {
        place.make_token(token);
        let into = std::cell::Cell::new(Some(into));
        put_there(place, token, |template, kind| {
            let template = template.only_by(&wraps);
            let template = if kind == open { template } else { template.indestructible() };
            match kind {
                "sealing" => template.unwraps_into(into.take().unwrap()),
                _ => template,
            }
        });
        let setup = Setup { token: token.to_owned(), ..Setup::at(place) };
        for operation in GUARDS {
            let expected = if operation == lacking { Where::Missing } else { Where::Inside };
            assert_eq!(said_of(&setup, operation).0, expected, "{token}: {operation}");
        }
    }
}

/// What is forced on what the sealing root opens.
fn sealed() -> Template {
    Template::default().ends_with_session().extractable(false)
}

/// Both modules know all of it.
fn roots_that_are_put_there_now_lack_nothing(place: &Place) {
    place.make_token(TOKEN);
    let setup = Setup::at(place);
    for before in [RootsOnToken::Neither, RootsOnToken::Both] {
        let installed = Pkcs11Vault::install_roots(&setup.configuration(), &roots(1, 2)).unwrap();
        assert_eq!(installed, InstalledRoots { before, lacks: Vec::new(), beside: None });
    }
    for operation in GUARDS {
        assert_eq!(said_of(&setup, operation), (Where::Inside, "honoured".to_owned()));
    }
}

#[test]
fn attack_roots_without_their_guard() {
    isolated(Kind::SoftHsm, |place| {
        roots_without_their_guard(place);
    });
}

#[test]
fn attack_roots_without_their_guard_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        roots_without_their_guard(place);
    });
}

#[test]
fn half_a_guard_is_told_of_softhsm() {
    isolated(Kind::SoftHsm, |place| {
        half_a_guard_is_told(place);
    });
}

#[test]
fn half_a_guard_is_told_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        half_a_guard_is_told(place);
    });
}

both! {
    roots_that_are_put_there_now_lack_nothing
    a_token_with_another_releasing_root_does_not_serve
    roots_are_installed_once
    half_an_installation_is_completed
    a_token_without_roots_says_what_it_has
    fingerprints_tell_roots_apart
}
