//! What is negotiated with modules that can less.

use tapfer_hsm::pkcs11::{Operation, Pkcs11Vault, Place as Where};
use tapfer_hsm::vault::{Custody, KeyAlgorithm, Vault};
use tapfer_test_tokens::{Kind, Place, isolated, isolated_without};

use crate::{
    Setup, TOKEN, cryptogram_with, expected, index, limited_use_key, master, roots, sequence,
    token_pan, vault,
};

fn place_of(vault: &Pkcs11Vault, operation: Operation) -> (Where, String) {
    let capabilities = vault.report().unwrap().capabilities;
    let found = capabilities.into_iter().find(|one| one.operation == operation).unwrap();
    (found.place, found.how)
}

fn pays(vault: &Pkcs11Vault) {
    let master = master(vault);
    for counter in 1..4 {
        assert_eq!(cryptogram_with(vault, &master, index(1), counter), expected(index(1), counter));
    }
    let wanted = [(tapfer_emv::keys::KeyClass::Unverified, index(3))];
    let keys = vault.limited_use_keys(&master, &token_pan(), sequence(), &wanted).unwrap();
    assert_eq!(keys[0].expose(), limited_use_key(index(3)).expose());
    let new = vault.generate(KeyAlgorithm::CardKeyDerivation, Custody::Sealed).unwrap();
    assert_ne!(new.check_value, [0; 3]);
}

fn whole_modules_do_everything_inside(place: &Place) {
    let vault = vault(place);
    for operation in [
        Operation::CardKeys,
        Operation::Cryptogram,
        Operation::Authentication,
        Operation::Signing,
        Operation::Agreement,
        Operation::KeyWrap,
        Operation::PrivateKeyWrap,
    ] {
        assert_eq!(place_of(&vault, operation).0, Where::Inside, "{operation}");
    }
    assert_eq!(place_of(&vault, Operation::SchnorrSigning).0, Where::LockedMemory);
    assert!(!vault.describe().says_it_is_hardware);
    pays(&vault);
}

#[test]
fn softhsm_does_everything_inside() {
    isolated(Kind::SoftHsm, |place| {
        whole_modules_do_everything_inside(place);
        let vault = Setup::at(place).open();
        let (found, how) = place_of(&vault, Operation::PrivateKeyWrap);
        assert_eq!((found, how.as_str()), (Where::Inside, "CKM_AES_KEY_WRAP_PAD"));
        assert_eq!(place_of(&vault, Operation::UnwrapTemplate).0, Where::Inside);
        assert_eq!(place_of(&vault, Operation::AllowedMechanisms).0, Where::Inside);
        assert_eq!(place_of(&vault, Operation::RootsStay).0, Where::Inside);
    });
}

#[test]
fn kryoptic_does_everything_inside() {
    isolated(Kind::Kryoptic, |place| {
        whole_modules_do_everything_inside(place);
        let vault = Setup::at(place).open();
        let (found, how) = place_of(&vault, Operation::PrivateKeyWrap);
        assert_eq!((found, how.as_str()), (Where::Inside, "CKM_AES_KEY_WRAP_KWP"));
        assert_eq!(place_of(&vault, Operation::UnwrapTemplate).0, Where::Inside);
        assert_eq!(place_of(&vault, Operation::AllowedMechanisms).0, Where::Inside);
        assert_eq!(place_of(&vault, Operation::RootsStay).0, Where::Inside);
    });
}

#[test]
fn without_a_cmac_the_limited_use_key_comes_out() {
    isolated_without(Kind::Kryoptic, &["CKM_AES_CMAC"], &[], |place| {
        let vault = vault(place);
        assert_eq!(place_of(&vault, Operation::CardKeys).0, Where::LockedMemory);
        assert_eq!(place_of(&vault, Operation::Cryptogram).0, Where::LockedMemory);
        pays(&vault);
    });
}

#[test]
fn without_the_derivation_of_one_block_that_of_several_is_taken() {
    isolated_without(Kind::Kryoptic, &["CKM_AES_ECB_ENCRYPT_DATA"], &[], |place| {
        let vault = vault(place);
        let (found, how) = place_of(&vault, Operation::CardKeys);
        assert_eq!((found, how.as_str()), (Where::Inside, "CKM_AES_CBC_ENCRYPT_DATA"));
        pays(&vault);
    });
}

#[test]
fn without_derivations_the_token_key_comes_out() {
    let without = ["CKM_AES_ECB_ENCRYPT_DATA", "CKM_AES_CBC_ENCRYPT_DATA"];
    isolated_without(Kind::Kryoptic, &without, &[], |place| {
        let vault = vault(place);
        let (found, how) = place_of(&vault, Operation::CardKeys);
        assert_eq!(found, Where::LockedMemory, "{how}");
        pays(&vault);
    });
}

#[test]
fn a_module_without_ecdsa_is_refused_with_what_it_lacks() {
    isolated_without(Kind::Kryoptic, &["CKM_ECDSA"], &[], |place| {
        place.make_token(TOKEN);
        let setup = Setup::at(place);
        let text = Pkcs11Vault::open(setup.configuration()).unwrap_err().to_string();
        assert!(!text.contains("ECDSA"), "roots are looked for first: {text}");
        let error = Pkcs11Vault::install_roots(&setup.configuration(), &roots(1, 2)).unwrap_err();
        assert!(error.to_string().contains("ECDSA P-256 (no CKM_ECDSA"), "{error}");
    });
}
