//! A module that breaks: what is opened again, what is reported, what is never tried twice.

use std::fs;
use std::time::Duration;

use tapfer_hsm::HsmError;
use tapfer_hsm::pkcs11::{LoginRecord, Pkcs11Configuration, Pkcs11Vault, refused_pin};
use tapfer_hsm::vault::Vault;
use tapfer_payment_types::Secret;
use tapfer_test_tokens::{Kind, Place, USER_PIN, faulty_module, isolated_without};

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
    // Not there before the first call.
    let calls = fs::read_to_string(place.directory.join("calls")).unwrap_or_default();
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

/// As another process would be configured: the same record, and this PIN.
fn with_record(place: &Place, pin: &str) -> Pkcs11Configuration {
    Pkcs11Configuration {
        pin: Secret::new(pin.to_owned()),
        login_record: Some(record(place)),
        ..Setup { module: faulty_module(), ..Setup::at(place) }.configuration()
    }
}

fn record(place: &Place) -> LoginRecord {
    LoginRecord::at(place.directory.join("login"))
}

/// A minute goes by, for those who wait for their login.
fn let_a_minute_pass(place: &Place) {
    let record = fs::File::options().write(true).open(place.directory.join("login")).unwrap();
    let written = record.metadata().unwrap().modified().unwrap();
    record.set_modified(written - Duration::from_secs(60)).unwrap();
}

fn refusal(configuration: Pkcs11Configuration) -> String {
    match Pkcs11Vault::open(configuration).unwrap_err() {
        HsmError::PinRefused { cause } => cause,
        other => panic!("{other}"),
    }
}

fn a_refused_pin_is_remembered_across_starts(place: &Place) {
    setup(place);
    let file = place.directory.join("login");
    let before = calls_of(place, "C_Login");
    for _ in 0..4 {
        assert!(refusal(with_record(place, "wrong")).contains("CKR_PIN_INCORRECT"));
    }
    assert_eq!(calls_of(place, "C_Login"), before + 1, "three starts later, too");
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("CKR_PIN_INCORRECT") && !kept.contains("wrong"), "{kept}");
    assert!(refused_pin(&file).unwrap().unwrap().contains("CKR_PIN_INCORRECT"));

    // Half of a file that is being written is none.
    let error = Pkcs11Vault::open(with_record(place, "")).unwrap_err();
    assert!(matches!(error, HsmError::ModuleFailed { .. }), "{error}");
    assert_eq!(calls_of(place, "C_Login"), before + 1);

    // Another wrong one is another try, and the right one is taken and ends the matter.
    assert!(refusal(with_record(place, "wrong too")).contains("CKR_PIN_INCORRECT"));
    // Two that hold two wrong ones take turns: each was one try.
    for pin in ["wrong", "wrong too", "wrong", "wrong too"] {
        assert!(refusal(with_record(place, pin)).contains("as it was found before"));
    }
    assert_eq!(calls_of(place, "C_Login"), before + 2);
    Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap();
    assert_eq!(refused_pin(&file).unwrap(), None);
}

fn what_was_refused_is_tried_again_when_a_person_says_so(place: &Place) {
    setup(place);
    for code in ["CKR_PIN_LOCKED", "CKR_PIN_EXPIRED"] {
        break_with(place, &format!("{code} C_Login"));
        let before = calls_of(place, "C_Login");
        for _ in 0..3 {
            assert!(refusal(with_record(place, USER_PIN)).contains(code));
        }
        assert_eq!(calls_of(place, "C_Login"), before + 1, "{code}");
        // The security officer has mended it: nobody can know but a person.
        break_with(place, "");
        assert!(refusal(with_record(place, USER_PIN)).contains(code));
        let overruled = record(place).overruled();
        let configuration =
            Pkcs11Configuration { login_record: Some(overruled), ..with_record(place, USER_PIN) };
        drop(Pkcs11Vault::open(configuration).unwrap());
        Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap();
    }
}

fn codes_that_do_not_say_whether_the_pin_was_wrong_are_not_tried_for_ever(place: &Place) {
    setup(place);
    for code in [
        "CKR_USER_PIN_NOT_INITIALIZED",
        "CKR_FUNCTION_FAILED",
        "CKR_GENERAL_ERROR",
        "CKR_VENDOR_DEFINED",
    ] {
        break_with(place, &format!("{code} C_Login"));
        let before = calls_of(place, "C_Login");
        for _ in 0..6 {
            let error = Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap_err();
            assert!(error.to_string().contains("C_Login answered"), "{error}");
        }
        refusal(with_record(place, USER_PIN));
        assert_eq!(calls_of(place, "C_Login"), before + 2, "{code}");
        break_with(place, "");
        fs::write(place.directory.join("login"), "").unwrap();
    }
    // What is the device's matter goes on by itself.
    break_with(place, "CKR_DEVICE_ERROR C_Login");
    for _ in 0..6 {
        let error = Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap_err();
        assert!(matches!(error, HsmError::ModuleFailed { .. }), "{error}");
    }
    break_with(place, "");
    Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap();
}

fn unclear_answers_to_the_pin_that_was_taken_last_refuse_nothing(place: &Place) {
    setup(place);
    let open = || Pkcs11Vault::open(with_record(place, USER_PIN));
    drop(open().unwrap());
    break_with(place, "CKR_FUNCTION_FAILED C_Login");
    let before = calls_of(place, "C_Login");
    for logins in 2..=5 {
        for _ in 0..3 {
            let error = open().unwrap_err();
            assert!(matches!(error, HsmError::LoginUnclear { .. }), "{error}");
        }
        // Two at once, and from then on one after each pause.
        assert_eq!(calls_of(place, "C_Login"), before + logins);
        let_a_minute_pass(place);
    }
    assert_eq!(refused_pin(&place.directory.join("login")).unwrap(), None);
    // What is said of another PIN says nothing of this one; what is said of this one ends its good name.
    for _ in 0..3 {
        Pkcs11Vault::open(with_record(place, "another")).unwrap_err();
    }
    assert_eq!(calls_of(place, "C_Login"), before + 7);
    break_with(place, "CKR_PIN_INCORRECT C_Login");
    let_a_minute_pass(place);
    assert!(refusal(with_record(place, USER_PIN)).contains("CKR_PIN_INCORRECT"));
    break_with(place, "CKR_FUNCTION_FAILED C_Login");
    assert!(refusal(with_record(place, USER_PIN)).contains("CKR_PIN_INCORRECT"));
    assert_eq!(calls_of(place, "C_Login"), before + 8);
}

fn the_last_try_is_left_to_people(place: &Place) {
    setup(place);
    let before = calls_of(place, "C_Login");
    for (flag, said) in [
        ("CKF_USER_PIN_FINAL_TRY", "one more wrong PIN locks it"),
        ("CKF_USER_PIN_LOCKED", "security officer"),
    ] {
        break_with(place, &format!("flags {flag}"));
        for pin in ["wrong", USER_PIN] {
            let cause = refusal(with_record(place, pin));
            assert!(cause.contains(said) && cause.contains(flag), "{cause}");
        }
    }
    assert_eq!(calls_of(place, "C_Login"), before);
    // Fewer tries than there were are no reason not to try.
    break_with(place, "flags CKF_USER_PIN_COUNT_LOW");
    Pkcs11Vault::open(with_record(place, USER_PIN)).unwrap();
}

fn a_login_that_nobody_judged_forgets_no_refusal(place: &Place) {
    setup(place);
    let refused = ["wrong 1", "wrong 2", "wrong 3", "wrong 4"];
    for pin in refused {
        assert!(refusal(with_record(place, pin)).contains("CKR_PIN_INCORRECT"));
    }
    break_with(place, "CKR_DEVICE_ERROR C_Login");
    Pkcs11Vault::open(with_record(place, "wrong 5")).unwrap_err();
    break_with(place, "");
    let before = calls_of(place, "C_Login");
    for pin in refused {
        assert!(refusal(with_record(place, pin)).contains("as it was found before"), "{pin}");
    }
    assert_eq!(calls_of(place, "C_Login"), before);
}

fn a_damaged_record_is_a_refusal(place: &Place) {
    setup(place);
    fs::write(place.directory.join("login"), "{\"salt\":").unwrap();
    let before = calls_of(place, "C_Login");
    assert!(refusal(with_record(place, USER_PIN)).contains("does not say which"));
    assert_eq!(calls_of(place, "C_Login"), before);
}

macro_rules! faulty {
    ($kind:ident, $clause:ident) => {
        let module = Kind::$kind.module().display().to_string();
        let environment = [
            ("FAULTY_MODULE", module.as_str()),
            ("FAULTY_CONTROL", "{}/control"),
            ("FAULTY_CALLS", "{}/calls"),
        ];
        isolated_without(Kind::$kind, &[], &environment, |place| $clause(place));
    };
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
                let clause = super::$clause;
                faulty!($kind, clause);
            })*
        }
    };
}

with_faults! {
    what_is_gone_is_opened_again
    what_stays_broken_is_reported_and_heals
    what_is_refused_opens_nothing_again
    a_refused_pin_is_tried_once
    what_was_refused_is_tried_again_when_a_person_says_so
    codes_that_do_not_say_whether_the_pin_was_wrong_are_not_tried_for_ever
    unclear_answers_to_the_pin_that_was_taken_last_refuse_nothing
    a_login_that_nobody_judged_forgets_no_refusal
    a_damaged_record_is_a_refusal
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

#[test]
fn attack_pin_locked_by_starting_again_and_again() {
    faulty!(SoftHsm, a_refused_pin_is_remembered_across_starts);
}

#[test]
fn attack_pin_locked_by_starting_again_and_again_of_kryoptic() {
    faulty!(Kryoptic, a_refused_pin_is_remembered_across_starts);
}

#[test]
fn attack_last_try_of_a_pin_used_up() {
    faulty!(SoftHsm, the_last_try_is_left_to_people);
}

#[test]
fn attack_last_try_of_a_pin_used_up_of_kryoptic() {
    faulty!(Kryoptic, the_last_try_is_left_to_people);
}
