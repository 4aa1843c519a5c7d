//! A thief with the PIN and the catalogue: what he can do at the module, and what he cannot take away.

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use tapfer_hsm::vault::{Custody, KeyAlgorithm, Vault};
use tapfer_test_tokens::{Kind, Place, USER_PIN, isolated};

use crate::{TOKEN, realm, vault};

fn thief(place: &Place) -> Session {
    let module = Pkcs11::new(place.kind.module()).unwrap();
    // The vault has initialised the library in this process.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = module.get_slots_with_initialized_token().unwrap();
    let mine = |slot: &_| module.get_token_info(*slot).unwrap().label() == TOKEN;
    let session = module.open_rw_session(slots.into_iter().find(mine).unwrap()).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::from(USER_PIN)));
    session
}

fn root(session: &Session, kind: &str) -> ObjectHandle {
    let label = format!("tapfer {kind} root {}", realm(1));
    session.find_objects(&[Attribute::Label(label.into_bytes())]).unwrap()[0]
}

fn value(session: &Session, key: ObjectHandle) -> Option<Vec<u8>> {
    let read = session.get_attributes(key, &[AttributeType::Value]).ok()?;
    read.into_iter().find_map(|attribute| match attribute {
        Attribute::Value(bytes) if !bytes.is_empty() => Some(bytes),
        _ => None,
    })
}

fn own_wrapping_key(session: &Session) -> ObjectHandle {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Decrypt(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Value(vec![7; 32]),
    ];
    session.create_object(&template).unwrap()
}

fn steal(place: &Place) {
    let vault = vault(place);
    let algorithm = KeyAlgorithm::CardKeyDerivation;
    let catalogue = vault.generate(algorithm, Custody::Sealed).unwrap().wrapped;
    let session = thief(place);
    let (sealing, releasing) = (root(&session, "sealing"), root(&session, "releasing"));
    let own = own_wrapping_key(&session);
    let own_value = value(&session, own);
    assert_eq!(own_value, Some(vec![7; 32]), "the thief reads what is readable");

    for root in [sealing, releasing] {
        assert_eq!(value(&session, root), None, "the root read");
        assert!(session.wrap_key(&Mechanism::AesKeyWrap, own, root).is_err(), "the root wrapped");
        for change in [
            Attribute::Decrypt(true),
            Attribute::Encrypt(true),
            Attribute::Extractable(true),
            Attribute::Sensitive(false),
            Attribute::Derive(true),
        ] {
            let changed = session.update_attributes(root, std::slice::from_ref(&change));
            assert!(changed.is_err(), "the root changed: {change:?}");
            let copied = session.copy_object(root, &[Attribute::Token(false), change.clone()]);
            assert!(copied.is_err(), "the root copied: {change:?}");
        }
        // Nor by another way to wrap: padded CBC opens what it has made with any key.
        let zeros = [0; 16];
        for other in [Mechanism::AesCbcPad(zeros), Mechanism::AesCbc(zeros), Mechanism::AesEcb] {
            assert!(session.wrap_key(&other, root, own).is_err(), "wrapped by {other:?}");
        }
        assert!(session.decrypt(&Mechanism::AesEcb, root, &catalogue[..16]).is_err());
    }

    // What the platform's own process may do, he may: open a key and use it. But not read it.
    let wanted = |extractable: bool| {
        [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Sensitive(!extractable),
            Attribute::Extractable(extractable),
        ]
    };
    let opened = session.unwrap_key(&Mechanism::AesKeyWrap, sealing, &catalogue, &wanted(true));
    assert!(opened.is_err() || value(&session, opened.unwrap()).is_none(), "a sealed key read");
    let opened =
        session.unwrap_key(&Mechanism::AesKeyWrap, sealing, &catalogue, &wanted(false)).unwrap();
    assert_eq!(value(&session, opened), None);
    assert!(session.wrap_key(&Mechanism::AesKeyWrap, own, opened).is_err(), "and wrapped again");
    // Under the other root it does not open.
    let released = session.unwrap_key(&Mechanism::AesKeyWrap, releasing, &catalogue, &wanted(true));
    assert!(released.is_err());
}

/// He opens a key as one that stays on the token, to use it when the PIN is another.
fn leave_behind(place: &Place) {
    let vault = vault(place);
    let catalogue = vault.generate(KeyAlgorithm::CardKeyDerivation, Custody::Sealed).unwrap();
    let session = thief(place);
    let sealing = root(&session, "sealing");
    for is_private in [false, true] {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Private(is_private),
            Attribute::Encrypt(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Label(b"left behind".to_vec()),
        ];
        let wrapped = &catalogue.wrapped;
        // One module refuses, another may make a session object of it: that is as good.
        let _left = session.unwrap_key(&Mechanism::AesKeyWrap, sealing, wrapped, &template);
    }
    drop(session);
    let session = thief(place);
    let found = session.find_objects(&[Attribute::Label(b"left behind".to_vec())]).unwrap();
    assert!(found.is_empty(), "a sealed key stays on the token");
}

#[test]
fn attack_key_left_on_the_token_with_a_stolen_pin() {
    isolated(Kind::SoftHsm, |place| {
        leave_behind(place);
    });
}

#[test]
fn attack_key_left_on_the_token_with_a_stolen_pin_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        leave_behind(place);
    });
}

#[test]
fn attack_key_taken_out_with_a_stolen_pin() {
    isolated(Kind::SoftHsm, |place| {
        steal(place);
    });
}

#[test]
fn attack_key_taken_out_with_a_stolen_pin_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        steal(place);
    });
}

/// Both modules know `CKA_DESTROYABLE`.
fn take_away(place: &Place) {
    let vault = vault(place);
    let session = thief(place);
    for kind in ["sealing", "releasing"] {
        session.destroy_object(root(&session, kind)).unwrap_err();
    }
    drop(session);
    let session = thief(place);
    let _both = ["sealing", "releasing"].map(|kind| root(&session, kind));
    vault.status().unwrap();
}

#[test]
fn attack_roots_taken_off_the_token() {
    isolated(Kind::SoftHsm, |place| {
        take_away(place);
    });
}

#[test]
fn attack_roots_taken_off_the_token_of_kryoptic() {
    isolated(Kind::Kryoptic, |place| {
        take_away(place);
    });
}
