//! Keys of every kind: made, brought in, wrapped, opened elsewhere, used.

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey as Agreement, UnparsedPublicKey as Peer, agree};
use aws_lc_rs::hmac;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap, KeyWrapPadded};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_emv::keys::KeyClass;
use tapfer_hsm::HsmError;
use tapfer_hsm::pkcs11::{Pkcs11Key, Pkcs11Vault};
use tapfer_hsm::vault::{Custody, KeyAlgorithm, NewKey, Vault};
use tapfer_payment_types::Secret;
use tapfer_test_tokens::{Kind, Place, isolated_without};

use crate::{
    MASTER, Setup, TOKEN, cryptogram_with, expected, index, limited_use_key, master, sequence,
    token_pan, vault,
};

const ALL: [KeyAlgorithm; 6] = [
    KeyAlgorithm::CardKeyDerivation,
    KeyAlgorithm::KeyWrapping,
    KeyAlgorithm::Authentication,
    KeyAlgorithm::Signing,
    KeyAlgorithm::Agreement,
    KeyAlgorithm::SchnorrSigning,
];

fn uncompressed(point: &PublicPoint) -> Vec<u8> {
    [[0x04].as_slice(), &point.bytes()].concat()
}

/// Uses a key for what it is made for, and holds the result against another implementation.
fn works(vault: &Pkcs11Vault, algorithm: KeyAlgorithm, new: &NewKey, key: &Pkcs11Key) {
    let public = || uncompressed(new.public.as_ref().unwrap());
    match algorithm {
        KeyAlgorithm::CardKeyDerivation => {
            let one = cryptogram_with(vault, key, index(1), 1);
            assert_ne!(one, cryptogram_with(vault, key, index(1), 2));
        }
        KeyAlgorithm::KeyWrapping => {
            let data_key = Secret::new([9; 32]);
            let wrapped = vault.wrap_data_key(key, &data_key).unwrap();
            let opened = vault.unwrap_data_key(key, &wrapped).unwrap().unwrap();
            assert_eq!(opened.expose(), data_key.expose());
        }
        KeyAlgorithm::Authentication => {
            let parts: [&[u8]; 2] = [b"one ", b"and two"];
            let code = vault.authenticate(key, &parts).unwrap();
            assert_eq!(code, vault.authenticate(key, &[b"one and two"]).unwrap());
        }
        KeyAlgorithm::Signing => {
            let signature = vault.sign(key, b"message").unwrap();
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public());
            public.verify(b"message", &signature).unwrap();
        }
        KeyAlgorithm::Agreement => {
            let other = Agreement::generate(&ECDH_P256).unwrap();
            let point = other.compute_public_key().unwrap();
            let point = PublicPoint::from_bytes(point.as_ref()[1..].try_into().unwrap()).unwrap();
            let inside = vault.agree(key, &point).unwrap();
            let peer = Peer::new(&ECDH_P256, public());
            let outside = agree(&other, peer, (), |shared| Ok(shared.to_vec())).unwrap();
            assert_eq!(inside.expose().as_slice(), outside);
        }
        KeyAlgorithm::SchnorrSigning => {
            let scalar = vault.release(key).unwrap();
            let scalar = scalar.expose().as_slice().try_into().unwrap();
            let private = PrivateKey::from_bytes(scalar).unwrap();
            assert_eq!(private.public_point(), new.public.unwrap().bytes());
        }
    }
}

fn custody(algorithm: KeyAlgorithm) -> Custody {
    match algorithm {
        KeyAlgorithm::SchnorrSigning => Custody::Releasable,
        _ => Custody::Sealed,
    }
}

fn keys_of_every_kind_are_made_and_used(place: &Place) {
    let vault = vault(place);
    for algorithm in ALL {
        let new = vault.generate(algorithm, custody(algorithm)).unwrap();
        let key = vault.load(algorithm, custody(algorithm), &new.wrapped).unwrap();
        works(&vault, algorithm, &new, &key);
        let again = vault.generate(algorithm, custody(algorithm)).unwrap();
        assert_ne!(new.wrapped, again.wrapped);
        assert_ne!(new.check_value, again.check_value);
    }
}

/// A known key gives the answers and check values that other implementations give.
fn keys_that_come_in_are_the_same_keys(place: &Place) {
    let vault = vault(place);
    let bytes = |algorithm| match algorithm {
        KeyAlgorithm::CardKeyDerivation => MASTER.to_vec(),
        _ => vec![0x2D; 32],
    };
    for algorithm in ALL {
        let clear = Secret::new(bytes(algorithm));
        let new = vault.import(algorithm, custody(algorithm), &clear).unwrap();
        let key = vault.load(algorithm, custody(algorithm), &new.wrapped).unwrap();
        works(&vault, algorithm, &new, &key);
        let check = match algorithm {
            KeyAlgorithm::CardKeyDerivation => {
                tapfer_emv::mac::aes_cmac(&MASTER, &[&[0; 16]])[..3].to_vec()
            }
            KeyAlgorithm::KeyWrapping => {
                tapfer_emv::mac::aes_256_cmac_8(&[0x2D; 32], &[&[0; 16]])[..3].to_vec()
            }
            KeyAlgorithm::Authentication => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &[0x2D; 32]);
                hmac::sign(&key, b"").as_ref()[..3].to_vec()
            }
            _ => {
                let point = new.public.unwrap().bytes();
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &point);
                hash.as_ref()[..3].to_vec()
            }
        };
        assert_eq!(new.check_value.as_slice(), check, "{algorithm:?}");
        let short = Secret::new(bytes(algorithm)[1..].to_vec());
        assert!(vault.import(algorithm, custody(algorithm), &short).is_err());
    }
    let master = master(&vault);
    assert_eq!(cryptogram_with(&vault, &master, index(7), 0x0102), expected(index(7), 0x0102));
}

/// The wrapped form is that of the RFCs under the root that was installed.
fn wrapping_is_what_it_is_said_to_be(place: &Place) {
    let vault = vault(place);
    let root = AesKek::new(&AES_256, &[0x11; 32]).unwrap();
    let mut room = [0; 256];
    let clear = Secret::new(MASTER.to_vec());
    let new = vault.import(KeyAlgorithm::CardKeyDerivation, Custody::Sealed, &clear).unwrap();
    assert_eq!(root.unwrap(&new.wrapped, &mut room).unwrap(), MASTER);
    let new = vault.generate(KeyAlgorithm::Signing, Custody::Sealed).unwrap();
    let root = AesKek::new(&AES_256, &[0x11; 32]).unwrap();
    let document = root.unwrap_with_padding(&new.wrapped, &mut room).unwrap();
    assert_eq!(document[0], 0x30, "a PKCS#8 document");
}

fn limited_use_keys_come_out_for_phones(place: &Place) {
    let vault = vault(place);
    let master = master(&vault);
    let wanted: Vec<_> = (0..8).map(|counter| (KeyClass::Unverified, index(counter))).collect();
    let keys = vault.limited_use_keys(&master, &token_pan(), sequence(), &wanted).unwrap();
    for (key, (_, index)) in keys.iter().zip(&wanted) {
        assert_eq!(key.expose(), limited_use_key(*index).expose());
    }
}

fn what_is_sealed_is_not_released(place: &Place) {
    let vault = vault(place);
    let master = master(&vault);
    assert!(matches!(vault.release(&master), Err(HsmError::Internal { .. })));
    // Nor does it open under the other root, for whoever changes the catalogue.
    let algorithm = KeyAlgorithm::CardKeyDerivation;
    let sealed = vault.generate(algorithm, Custody::Sealed).unwrap();
    assert!(vault.load(algorithm, Custody::Releasable, &sealed.wrapped).is_err());
    let releasable = vault.generate(algorithm, Custody::Releasable).unwrap();
    let key = vault.load(algorithm, Custody::Releasable, &releasable.wrapped).unwrap();
    assert_eq!(vault.release(&key).unwrap().expose().len(), 16);
}

fn a_data_key_of_somebody_else_is_none(place: &Place) {
    let vault = vault(place);
    let algorithm = KeyAlgorithm::KeyWrapping;
    let keys: Vec<_> = (0..2)
        .map(|_| vault.generate(algorithm, Custody::Sealed).unwrap())
        .map(|new| vault.load(algorithm, Custody::Sealed, &new.wrapped).unwrap())
        .collect();
    let logins = vault.status().unwrap().logins;
    let mut wrapped = vault.wrap_data_key(&keys[0], &Secret::new([1; 32])).unwrap();
    assert!(vault.unwrap_data_key(&keys[1], &wrapped).unwrap().is_none());
    wrapped[3] ^= 1;
    assert!(vault.unwrap_data_key(&keys[0], &wrapped).unwrap().is_none());
    assert_eq!(vault.status().unwrap().logins, logins, "nothing was opened again for it");
}

fn a_key_is_used_for_nothing_else(place: &Place) {
    let vault = vault(place);
    let master = master(&vault);
    let is_misuse = |result: Result<(), HsmError>| matches!(result, Err(HsmError::Internal { .. }));
    assert!(is_misuse(vault.sign(&master, b"").map(drop)));
    assert!(is_misuse(vault.authenticate(&master, &[]).map(drop)));
    assert!(is_misuse(vault.wrap_data_key(&master, &Secret::new([1; 32])).map(drop)));
}

both! {
    keys_of_every_kind_are_made_and_used
    keys_that_come_in_are_the_same_keys
    wrapping_is_what_it_is_said_to_be
    limited_use_keys_come_out_for_phones
    what_is_sealed_is_not_released
    a_data_key_of_somebody_else_is_none
    a_key_is_used_for_nothing_else
}

/// Two modules with the same roots, in one process.
#[test]
fn a_key_of_one_module_opens_in_the_other() {
    let environment = [("KRYOPTIC_CONF", "{}/other/module.conf")];
    isolated_without(Kind::SoftHsm, &[], &environment, |softhsm| {
        let directory = softhsm.directory.join("other");
        std::fs::create_dir(&directory).unwrap();
        let kryoptic = Place::prepare(Kind::Kryoptic, &directory, &[]);
        let vaults = [softhsm, &kryoptic].map(|place| {
            place.make_token(TOKEN);
            Setup::at(place).install();
            Setup::at(place).open()
        });
        let [soft, kry] = &vaults;
        assert_eq!(soft.report().unwrap().roots, kry.report().unwrap().roots);
        for (from, to) in [(soft, kry), (kry, soft)] {
            for algorithm in ALL {
                let new = from.generate(algorithm, custody(algorithm)).unwrap();
                let key = to.load(algorithm, custody(algorithm), &new.wrapped).unwrap();
                works(to, algorithm, &new, &key);
            }
        }
    });
}
