//! Two real modules, asked for everything that tapfer uses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs
)]

use tapfer_payment_types::Secret;
use tapfer_pkcs11::{
    Blame, Calls, Error, KeyHandle, KeyType, Mechanism, Module, Session, Template, Token, Use,
};
use tapfer_test_tokens::{Kind, Place, faulty_module, isolated, isolated_without, user_pin};

const LABEL: &str = "one";

fn open(place: &Place) -> (Module, Token) {
    place.make_token(LABEL);
    let module = place.load();
    let token = module.token(LABEL).unwrap();
    (module, token)
}

fn logged_in(module: &Module, token: &Token) -> Session {
    let session = module.open_session(token, true).unwrap();
    session.login(&user_pin()).unwrap();
    session
}

fn aes(value: &[u8], uses: &[Use]) -> Template {
    Template::key(KeyType::Aes).stays(false).extractable(true).only_for(uses).value(value)
}

fn read<const N: usize>(session: &Session, key: KeyHandle) -> [u8; N] {
    let mut value = [0; N];
    assert_eq!(session.value(key, &mut value).unwrap(), N);
    value
}

/// RFC 4493 test vectors: key, and AES-CMAC over nothing and over sixteen bytes.
const KEY: [u8; 16] = [
    0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c,
];
const BLOCK: [u8; 16] = [
    0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a,
];
const CMAC: [u8; 16] = [
    0x07, 0x0a, 0x16, 0xb4, 0x6b, 0x4d, 0x41, 0x44, 0xf7, 0x9b, 0xdd, 0x9d, 0xd0, 0x4a, 0x28, 0x7c,
];
/// FIPS 197 / SP 800-38A F.1.1: the same block under the same key in ECB mode.
const ENCRYPTED: [u8; 16] = [
    0x3a, 0xd7, 0x7b, 0xb4, 0x0d, 0x7a, 0x36, 0x60, 0xa8, 0x9e, 0xca, 0xf3, 0x24, 0x66, 0xef, 0x97,
];

fn published_vectors_agree(place: &Place) {
    let (module, token) = open(place);
    let session = logged_in(&module, &token);
    let mut out = [0; 32];

    let key = session.create(&aes(&KEY, &[Use::Sign, Use::Derive, Use::Encrypt])).unwrap();
    assert_eq!(session.sign(Mechanism::AesCmac, key, &BLOCK, &mut out).unwrap(), 16);
    assert_eq!(out[..16], CMAC);
    assert_eq!(session.encrypt(Mechanism::AesEcb, key, &BLOCK, &mut out).unwrap(), 16);
    assert_eq!(out[..16], ENCRYPTED);

    let derived = || Template::key(KeyType::Aes).stays(false).extractable(true).length(16);
    for mechanism in [Mechanism::AesEcbEncryptData, Mechanism::AesCbcEncryptData] {
        let key = session.derive(mechanism, key, &BLOCK, &derived()).unwrap();
        assert_eq!(read(&session, key), ENCRYPTED, "{mechanism}");
    }

    // RFC 4231 4.7: shorter keys than the hash are refused by modules.
    let key = Template::key(KeyType::GenericSecret).only_for(&[Use::Sign]).value(&[0xAA; 131]);
    let key = session.create(&key.stays(false).extractable(false)).unwrap();
    let text = b"Test Using Larger Than Block-Size Key - Hash Key First";
    assert_eq!(session.sign(Mechanism::Sha256Hmac, key, text, &mut out).unwrap(), 32);
    assert_eq!(out[..8], [0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f]);

    // RFC 3394 4.6: 256 bits of key data with a 256-bit key.
    let data: Vec<u8> = (0x00..=0xFF).step_by(0x11).chain(0..=0x0F).collect();
    let wrapping: Vec<u8> = (0..=0x1F).collect();
    let wrapping = session.create(&aes(&wrapping, &[Use::Wrap, Use::Unwrap])).unwrap();
    let data_key = session.create(&aes(&data, &[])).unwrap();
    let mut wrapped = [0; 40];
    let length = session.wrap(Mechanism::AesKeyWrap, wrapping, data_key, &mut wrapped).unwrap();
    assert_eq!(length, 40);
    assert_eq!(wrapped[..8], [0x28, 0xc9, 0xf4, 0x04, 0xc4, 0xb8, 0x10, 0xf4]);
    let template = Template::key(KeyType::Aes).stays(false).extractable(true);
    let back = session.unwrap(Mechanism::AesKeyWrap, wrapping, &wrapped, &template).unwrap();
    assert_eq!(read::<32>(&session, back).as_slice(), data);

    wrapped[7] ^= 1;
    let error = session.unwrap(Mechanism::AesKeyWrap, wrapping, &wrapped, &template).unwrap_err();
    assert!(matches!(error, Error::Refused { function: "C_UnwrapKey", .. }), "{error}");
}

fn curves_agree(place: &Place) {
    let (module, token) = open(place);
    let session = logged_in(&module, &token);
    let pair = |use_| {
        let public = Template::key(KeyType::EcPublic).stays(false).p256();
        let private =
            Template::key(KeyType::EcPrivate).stays(false).extractable(false).private_key_for(use_);
        session.generate_pair(&public, &private).unwrap()
    };
    let (public, private) = pair(Use::Sign);
    let mut signature = [0; 64];
    assert_eq!(session.sign(Mechanism::Ecdsa, private, &[7; 32], &mut signature).unwrap(), 64);
    assert_eq!(session.point(public).unwrap()[0], 4);

    let ((public_a, private_a), (public_b, private_b)) = (pair(Use::Derive), pair(Use::Derive));
    let template =
        || Template::key(KeyType::GenericSecret).stays(false).extractable(true).length(32);
    let agree = |private, public| {
        let peer = session.point(public).unwrap();
        read::<32>(&session, session.agree(private, &peer, &template()).unwrap())
    };
    assert_eq!(agree(private_a, public_b), agree(private_b, public_a));
}

fn what_is_sensitive_stays(place: &Place) {
    let (module, token) = open(place);
    let session = logged_in(&module, &token);
    let template = Template::key(KeyType::Aes).stays(false).extractable(false).length(32);
    let key = session.generate(Mechanism::AesKeyGen, &template.only_for(&[Use::Wrap])).unwrap();
    let error = session.value(key, &mut [0; 32]).unwrap_err();
    assert_eq!(error.blame(), Blame::Refused, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("C_GetAttributeValue answered CKR_ATTRIBUTE_SENSITIVE"), "{text}");
}

fn session_objects_end_with_their_session(place: &Place) {
    let (module, token) = open(place);
    let (stays, ends) = (logged_in(&module, &token), logged_in(&module, &token));
    let key = ends.create(&aes(&KEY, &[Use::Sign])).unwrap();
    let mut out = [0; 16];
    // Another session uses it.
    stays.sign(Mechanism::AesCmac, key, &BLOCK, &mut out).unwrap();
    drop(ends);
    let error = stays.sign(Mechanism::AesCmac, key, &BLOCK, &mut out).unwrap_err();
    assert_eq!(error.blame(), Blame::SessionGone, "{error}");
}

fn token_keys_are_found_again(place: &Place) {
    let (module, token) = open(place);
    {
        let session = logged_in(&module, &token);
        let template = Template::key(KeyType::Aes).stays(true).extractable(false).length(32);
        let template = template.label("root").id(b"one").only_for(&[Use::Wrap, Use::Unwrap]);
        session.generate(Mechanism::AesKeyGen, &template).unwrap();
    }
    module.finalize().unwrap();
    let module = place.load();
    let session = logged_in(&module, &module.token(LABEL).unwrap());
    let key = Template::key(KeyType::Aes);
    assert_eq!(session.find(&key.label("root")).unwrap().len(), 1);
    assert!(session.find(&Template::key(KeyType::Aes).label("other")).unwrap().is_empty());
}

fn a_token_that_is_not_there_is_told_with_those_that_are(place: &Place) {
    let (module, token) = open(place);
    let error = module.token("two").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"two\"") && text.contains("\"one\""), "{text}");
    assert!(text.contains(&token.description.serial), "{text}");
    assert_eq!(module.token(&token.description.serial).unwrap().description, token.description);
    module.finalize().unwrap();

    place.make_token(LABEL);
    let error = place.load().token(LABEL).unwrap_err();
    assert!(matches!(&error, Error::SeveralTokens { found, .. } if found.len() == 2), "{error}");
}

fn errors_are_split_by_blame(place: &Place) {
    let (module, token) = open(place);
    let session = module.open_session(&token, true).unwrap();
    let wrong = Secret::new("not the pin".to_owned());
    let error = session.login(&wrong).unwrap_err();
    assert!(error.is_about_the_pin() && error.blame() == Blame::Refused, "{error}");
    assert!(!error.to_string().contains("not the pin"));

    let key = Template::key(KeyType::Aes).stays(true).extractable(false).length(32).label("root");
    let error = session.generate(Mechanism::AesKeyGen, &key).unwrap_err();
    assert_eq!(error.blame(), Blame::LoginGone, "{error}");

    session.login(&user_pin()).unwrap();
    session.login(&user_pin()).unwrap();
    let key = session.create(&aes(&KEY, &[Use::Sign])).unwrap();
    let error = session.encrypt(Mechanism::AesEcb, key, &BLOCK, &mut [0; 16]).unwrap_err();
    assert_eq!(error.blame(), Blame::Refused, "{error}");
    module.finalize().unwrap();
    let error = session.check().unwrap_err();
    assert_eq!(error.blame(), Blame::DeviceGone, "{error}");
}

/// Makes a test of every clause for both modules.
macro_rules! both {
    ($($clause:ident)*) => {
        mod softhsm {
            use super::*;
            $(#[test] fn $clause() { isolated(Kind::SoftHsm, |place| super::$clause(place)); })*
        }
        mod kryoptic {
            use super::*;
            $(#[test] fn $clause() { isolated(Kind::Kryoptic, |place| super::$clause(place)); })*
        }
    };
}

both! {
    published_vectors_agree
    curves_agree
    what_is_sensitive_stays
    session_objects_end_with_their_session
    token_keys_are_found_again
    a_token_that_is_not_there_is_told_with_those_that_are
    errors_are_split_by_blame
}

/// Our count against that of the faulty module, which everything passes through.
#[test]
fn every_call_is_counted() {
    let module = Kind::SoftHsm.module().display().to_string();
    let environment = [("FAULTY_MODULE", module.as_str()), ("FAULTY_CALLS", "{}/calls")];
    isolated_without(Kind::SoftHsm, &[], &environment, |place| {
        place.make_token(LABEL);
        let calls = Calls::default();
        let before = {
            let module = Module::load(&faulty_module(), &calls).unwrap();
            module.describe().unwrap();
            let token = module.token(LABEL).unwrap();
            module.mechanisms(&token).unwrap();
            let session = logged_in(&module, &token);
            session.random(&mut [0; 16]).unwrap();
            session.check().unwrap();
            let key = session.create(&aes(&KEY, &[Use::Sign, Use::Derive])).unwrap();
            let template = Template::key(KeyType::Aes).stays(false).extractable(true).length(16);
            let template = template.only_for(&[Use::Sign]);
            let before = calls.total();
            let derived =
                session.derive(Mechanism::AesEcbEncryptData, key, &BLOCK, &template).unwrap();
            session.sign(Mechanism::AesCmac, derived, &BLOCK, &mut [0; 16]).unwrap();
            assert_eq!(calls.total() - before, 3, "derive, SignInit, Sign");
            session.find(&Template::key(KeyType::Aes)).unwrap();
            session.value(derived, &mut [0; 16]).unwrap();
            session.destroy(derived).unwrap();
            session.logout().unwrap();
            drop(session);
            module.finalize().unwrap();
            before
        };
        assert!(before > 10);
        let lines = std::fs::read_to_string(place.directory.join("calls")).unwrap();
        assert_eq!(u64::try_from(lines.lines().count()).unwrap(), calls.total(), "{lines}");
    });
}

#[test]
fn a_mechanism_that_is_switched_off_is_not_offered() {
    isolated_without(Kind::Kryoptic, &["CKM_AES_CMAC"], &[], |place| {
        let (module, token) = open(place);
        let offered = module.mechanisms(&token).unwrap();
        assert!(!offered.contains(&Mechanism::AesCmac));
        assert!(offered.contains(&Mechanism::AesEcbEncryptData));
    });
}

#[test]
fn a_file_that_is_no_module_is_named() {
    let path = std::path::Path::new("/nowhere/libnothing.so");
    let error = Module::load(path, &Calls::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/libnothing.so"), "{error}");
}
