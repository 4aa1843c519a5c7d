//! A module that breaks: what is opened again, what is reported, what is never tried twice.

use std::fs;

use tapfer_hsm::HsmError;
use tapfer_hsm::pkcs11::Pkcs11Vault;
use tapfer_hsm::vault::Vault;
use tapfer_payment_types::Secret;
use tapfer_test_tokens::{Kind, Place, faulty_module, isolated_without};

use crate::{Setup, TOKEN, cryptogram_with, expected, index, master, try_cryptogram};

fn setup(place: &Place) -> Setup {
    place.make_token(TOKEN);
    Setup::at(place).install();
    place.load().finalize().unwrap();
    Setup { module: faulty_module(), ..Setup::at(place) }
}

fn break_with(place: &Place, rule: &str) {
    let new = place.directory.join("control.new");
    fs::write(&new, rule).unwrap();
    fs::rename(new, place.directory.join("control")).unwrap();
}

fn calls_of(place: &Place, function: &str) -> usize {
    let calls = fs::read_to_string(place.directory.join("calls")).unwrap();
    calls.lines().filter(|line| *line == function).count()
}

fn what_is_gone_is_opened_again(place: &Place) {
    let vault = setup(place).open();
    let master = master(&vault);
    let mut logins = vault.status().unwrap().logins;
    for (number, fault) in [
        "CKR_SESSION_HANDLE_INVALID C_DeriveKey",
        "CKR_SESSION_HANDLE_INVALID C_Sign",
        "CKR_KEY_HANDLE_INVALID C_SignInit",
        "CKR_USER_NOT_LOGGED_IN C_DeriveKey",
        "CKR_DEVICE_ERROR C_DeriveKey",
        "CKR_DEVICE_REMOVED C_Sign",
        "CKR_FUNCTION_FAILED C_SignInit",
        "CKR_GENERAL_ERROR C_Sign",
        "CKR_TOKEN_NOT_PRESENT C_DeriveKey",
        "CKR_CRYPTOKI_NOT_INITIALIZED C_DeriveKey",
    ]
    .into_iter()
    .enumerate()
    {
        break_with(place, &format!("once {fault}  # {number}\n"));
        let counter = u16::try_from(number).unwrap();
        let made = cryptogram_with(&vault, &master, index(1), counter);
        assert_eq!(made, expected(index(1), counter), "{fault}");
        let now = vault.status().unwrap().logins;
        assert_eq!(now, logins + 1, "{fault}");
        logins = now;
    }
}

fn what_stays_broken_is_reported_and_heals(place: &Place) {
    let vault = setup(place).open();
    let master = master(&vault);
    for fault in [
        "CKR_DEVICE_ERROR",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_USER_NOT_LOGGED_IN",
        "CKR_FUNCTION_FAILED",
        "CKR_DEVICE_ERROR C_Sign",
    ] {
        break_with(place, fault);
        for _ in 0..3 {
            let error = try_cryptogram(&vault, &master, index(1), 1).unwrap_err();
            assert!(matches!(error, HsmError::ModuleFailed { .. }), "{error}");
            assert!(error.to_string().contains(fault.split(' ').next().unwrap()), "{error}");
        }
        assert!(fault.contains(' ') || vault.health().is_err());
        break_with(place, "");
        assert_eq!(cryptogram_with(&vault, &master, index(1), 2), expected(index(1), 2));
        vault.health().unwrap();
    }
}

fn what_is_refused_opens_nothing_again(place: &Place) {
    let vault = setup(place).open();
    let master = master(&vault);
    break_with(place, "CKR_MECHANISM_INVALID C_DeriveKey");
    let logins = vault.status().unwrap().logins;
    let error = try_cryptogram(&vault, &master, index(1), 1).unwrap_err();
    assert!(error.to_string().contains("C_DeriveKey answered CKR_MECHANISM_INVALID"), "{error}");
    assert_eq!(vault.status().unwrap().logins, logins);
}

fn a_refused_pin_is_tried_once(place: &Place) {
    let setup = setup(place);
    let vault = setup.open();
    let master = master(&vault);
    let before = calls_of(place, "C_Login");
    // The login is lost, and the PIN has been changed meanwhile.
    break_with(place, "CKR_USER_NOT_LOGGED_IN C_DeriveKey\nCKR_PIN_INCORRECT C_Login\n");
    for _ in 0..5 {
        let error = try_cryptogram(&vault, &master, index(1), 1).unwrap_err();
        assert!(error.to_string().contains("CKR_PIN_INCORRECT"), "{error}");
    }
    assert_eq!(calls_of(place, "C_Login"), before + 1);

    break_with(place, "");
    let mut configuration = setup.configuration();
    configuration.pin = Secret::new("not the PIN".to_owned());
    let error = Pkcs11Vault::open(configuration).unwrap_err().to_string();
    assert!(error.contains("CKR_PIN_INCORRECT") && !error.contains("not the PIN"), "{error}");
}

macro_rules! with_faults {
    ($($clause:ident)*) => {
        with_faults! { softhsm SoftHsm: $($clause)* }
        with_faults! { kryoptic Kryoptic: $($clause)* }
    };
    ($module:ident $kind:ident: $($clause:ident)*) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $clause() {
                let module = Kind::$kind.module().display().to_string();
                let environment = [
                    ("FAULTY_MODULE", module.as_str()),
                    ("FAULTY_CONTROL", "{}/control"),
                    ("FAULTY_CALLS", "{}/calls"),
                ];
                isolated_without(Kind::$kind, &[], &environment, |place| super::$clause(place));
            })*
        }
    };
}

with_faults! {
    what_is_gone_is_opened_again
    what_stays_broken_is_reported_and_heals
    what_is_refused_opens_nothing_again
    a_refused_pin_is_tried_once
}

/// A token whose keys the HSM protects by itself: nothing is logged in to, and the roots are public objects.
#[test]
fn a_token_without_login_is_used_without() {
    let module = Kind::SoftHsm.module().display().to_string();
    let environment = [("FAULTY_MODULE", module.as_str()), ("FAULTY_WITHOUT_LOGIN", "1")];
    isolated_without(Kind::SoftHsm, &[], &environment, |place| {
        place.make_token(TOKEN);
        let setup = Setup { module: faulty_module(), ..Setup::at(place) };
        setup.install();
        let vault = setup.open();
        let master = master(&vault);
        assert_eq!(cryptogram_with(&vault, &master, index(1), 1), expected(index(1), 1));
    });
}
