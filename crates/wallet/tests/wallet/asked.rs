//! A payment that waits for the person: what the terminal and the app hear, and which tap then pays.

use tapfer_emv::curve::PrivateKey;
use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::tags;
use tapfer_emv::tlv;
use tapfer_payment_types::policy::{Requirement, UnlockMethod, VerificationPolicy};
use tapfer_wallet::policy::{Ask, DeclineReason, PinStanding};
use tapfer_wallet::{DeviceState, Notification};

use crate::issuer::{AID, Issuer, now, seal};
use crate::kernel::{Kernel, Purchase, Tap, cdol1_values, command, options_data, select};
use crate::persons::Platform;
use crate::phone::{Phone, UNLOCKED};
use crate::proving_terminal::{ProvingTerminal, trusting_issuer};
use crate::random::TestRng;

const SEE_PHONE: [u8; 2] = [0x20, 0x20];
const CONTACT_INTERFACE: [u8; 2] = [0x31, 0x18];

fn tap(phone: &mut Phone, issuer: &Issuer, minor: u32) -> Tap {
    let kernel = Kernel::new(issuer, phone.now, u64::from(phone.counter()) + 7);
    kernel.tap(&Purchase::euros(minor), |command| phone.transmit(command)).unwrap()
}

fn is_sent_to_the_phone(tap: &Tap) -> bool {
    tap.cryptogram_information == 0x00
        && tap.data.results.declined
        && tap.restart.as_deref() == Some(&SEE_PHONE)
}

fn with_policy(issuer: &Issuer, change: impl Fn(&mut VerificationPolicy)) -> Phone {
    let mut phone = Phone::enrolled(issuer);
    let wallet = phone.card.wallet_mut();
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, change);
    let sealed = seal(wallet, issuer.token, &payload);
    let _snapshot = wallet.accept(issuer.token, &sealed, now()).unwrap();
    phone
}

#[test]
fn a_locked_phone_is_asked_to_be_unlocked_and_then_pays() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 3_000)));
    assert!(matches!(
        phone.notifications[..],
        [Notification::PersonNeeded { ask: Ask::Unlock, amount, .. }] if amount.minor() == 3_000
    ));
    phone.device = UNLOCKED;
    phone.now = phone.now.plus_seconds(20);
    let paid = tap(&mut phone, &issuer, 3_000);
    assert_eq!((paid.cryptogram_information, paid.restart), (0x80, None));
}

/// A phone without any lock says that it is unlocked, whoever holds it.
#[test]
fn attack_verification_downgrade_by_a_phone_without_a_lock() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    phone.device = DeviceState { unlock_method: UnlockMethod::None, ..UNLOCKED };
    for minor in [3_000, 3_000, 100] {
        let tap = tap(&mut phone, &issuer, minor);
        assert_eq!(is_sent_to_the_phone(&tap), minor > 2_500, "{minor}");
        assert!(!tap.data.results.unlocked, "the issuer is not told so either");
    }
    phone.device = DeviceState { unlock_method: UnlockMethod::Unknown, ..UNLOCKED };
    assert_eq!(tap(&mut phone, &issuer, 3_000).cryptogram_information, 0x80);
}

/// Whoever holds the locked phone enters any digits, which the phone cannot tell from the PIN, when no key under the
/// PIN is left to show that they are wrong: that must not stand for the lock.
#[test]
fn attack_verification_downgrade_by_a_pin_that_signs_nothing() {
    let mut platform = Platform::new();
    platform.asks = (Requirement::ScreenOn, Requirement::Unlocked);
    let (token, mut phone) = (platform.issuer.token, platform.phone_with_pin("2580"));
    let request = phone.card.wallet_mut().replenish_request(token, &mut TestRng(1));
    let mut payload = platform.payload(&request, phone.now);
    payload.verified_keys.clear();
    let sealed = seal(phone.card.wallet(), token, &payload);
    let _snapshot = phone.card.wallet_mut().accept(token, &sealed, phone.now).unwrap();
    for without_lock in [false, true] {
        if without_lock {
            phone.device = DeviceState { unlock_method: UnlockMethod::None, ..UNLOCKED };
        }
        platform.enter(&mut phone, "0246");
        assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 9_000)));
        let ask = |news: &Notification| {
            matches!(news, Notification::PersonNeeded { ask: Ask::Unlock, .. })
        };
        assert!(phone.notifications.iter().any(ask), "{:?}", phone.notifications);
    }
    // Its owner unlocks it.
    phone.device = UNLOCKED;
    let paid = platform.tap(&mut phone, 9_000);
    assert_eq!(paid.data.results.method, VerificationMethod::DeviceUnlock);
    assert!(paid.cryptogram_information == 0x80 && paid.data.results.unlocked);
}

#[test]
fn the_answer_for_one_amount_serves_no_other() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 3_000)));
    phone.device = UNLOCKED;
    for again in 1..=3 {
        assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 9_000)), "however often: {again}");
    }
    assert_eq!(tap(&mut phone, &issuer, 3_000).cryptogram_information, 0x80);
    // A minute later nobody remembers the question.
    phone.device.unlocked = false;
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 3_000)));
    phone.device = UNLOCKED;
    phone.now = phone.now.plus_seconds(60);
    assert_eq!(tap(&mut phone, &issuer, 4_000).cryptogram_information, 0x80);
}

/// The cashier corrects the amount: the person withdraws from the first question on her phone, is asked about the
/// second at once, and what she did for the first does not pay it.
#[test]
fn a_corrected_amount_is_asked_about_at_once_when_the_person_withdraws() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 9_000)));
    phone.device = UNLOCKED;
    phone.card.withdraw_from_question(phone.now);
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 3_000)), "unlocked, and not asked yet");
    // That question stands like any other.
    assert!(is_sent_to_the_phone(&tap(&mut phone, &issuer, 9_000)));
    assert_eq!(tap(&mut phone, &issuer, 3_000).cryptogram_information, 0x80);
    // With nothing to withdraw from, nothing happens.
    phone.card.withdraw_from_question(phone.now);
    assert_eq!(tap(&mut phone, &issuer, 3_000).cryptogram_information, 0x80);

    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 9_000)));
    platform.enter(&mut phone, "2580");
    phone.card.withdraw_from_question(phone.now);
    assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 1_000)), "the PIN was for the other");
    platform.enter(&mut phone, "2580");
    assert_eq!(platform.tap(&mut phone, 1_000).cryptogram_information, 0x80);
}

#[test]
fn the_answer_for_one_merchant_serves_no_other() {
    let issuer = trusting_issuer();
    let mut phone = Phone::enrolled(&issuer);
    let (shop, other) = (ProvingTerminal::new(), ProvingTerminal::of_another_merchant());
    let mut tap_at = |terminal, unlocked| {
        phone.device.unlocked = unlocked;
        let seed = u64::from(phone.counter()) + 7;
        let kernel = Kernel { terminal: Some(terminal), ..Kernel::new(&issuer, now(), seed) };
        kernel.tap(&Purchase::euros(3_000), |command| phone.transmit(command)).unwrap()
    };
    assert!(is_sent_to_the_phone(&tap_at(&shop, false)));
    for again in 1..=3 {
        assert!(is_sent_to_the_phone(&tap_at(&other, true)), "however often: {again}");
    }
    assert_eq!(tap_at(&shop, true).cryptogram_information, 0x80);
}

#[test]
fn a_pin_that_was_entered_for_one_amount_serves_no_other() {
    let mut platform = Platform::new();
    let mut phone = platform.phone_with_pin("2580");
    assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 1_000)));
    platform.enter(&mut phone, "2580");
    assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 9_000)));
    let token = phone.card.wallet().tokens().next().unwrap();
    assert_eq!(token.pin_standing(phone.now), PinStanding::Set, "the PIN is wiped");
    platform.enter(&mut phone, "2580");
    assert!(is_sent_to_the_phone(&platform.tap(&mut phone, 9_000)), "nor the next one");
    platform.enter(&mut phone, "2580");
    let paid = platform.tap(&mut phone, 1_000);
    assert!(paid.is_right && paid.cryptogram_information == 0x80, "the payment she was asked for");
}

#[test]
fn a_terminal_without_a_pin_pad_is_told_to_try_the_chip() {
    let issuer = Issuer::new();
    let mut phone = with_policy(&issuer, |policy| policy.above_limit = Requirement::TerminalPin);
    let declined = tap(&mut phone, &issuer, 3_000);
    assert_eq!(declined.restart.as_deref(), Some(&CONTACT_INTERFACE[..]));
    assert!(matches!(
        phone.notifications[0],
        Notification::PaymentDeclined { reason: DeclineReason::TerminalTakesNoPin, .. }
    ));
}

#[test]
fn a_discouraged_way_to_unlock_is_told() {
    let issuer = Issuer::new();
    let discourage = |policy: &mut VerificationPolicy| {
        policy.discouraged_unlock = vec![UnlockMethod::Pattern];
    };
    for (method, is_told) in [(UnlockMethod::Pattern, true), (UnlockMethod::Pin, false)] {
        let mut phone = with_policy(&issuer, discourage);
        phone.device = DeviceState { unlock_method: method, ..UNLOCKED };
        assert_eq!(tap(&mut phone, &issuer, 3_000).cryptogram_information, 0x80);
        let news = Notification::DiscouragedUnlock { token: issuer.token, method };
        assert_eq!(phone.notifications.contains(&news), is_told, "{method:?}");
    }
}

/// A terminal, or somebody in between, says that it takes payments without verification: the policy of
/// the phone is not for it to lower.
#[test]
fn a_terminal_can_not_talk_the_phone_out_of_asking() {
    for kinds in [0x08, 0x0C, 0x48, 0x00] {
        let mut phone = Phone::enrolled(&Issuer::new());
        let key = PrivateKey::from_bytes(&[0x77; 32]).unwrap().public_point();
        let purchase = Purchase::euros(3_000);
        let options = options_data(&key, &purchase, [1; 4]);
        let mut values = cdol1_values(&purchase, [1; 4]);
        let risk_management = values.len() - 8;
        values[risk_management] = kinds;
        assert!(phone.exchange(&select(&AID)).1.is_ok());
        assert!(phone.exchange(&command(0x80, 0xA8, 0, 0, &options)).1.is_ok());
        let (answer, status) = phone.exchange(&command(0x80, 0xAE, 0x80, 0, &values));
        assert!(status.is_ok());
        let path = [tags::RESPONSE_TEMPLATE_FORMAT_2, tags::CRYPTOGRAM_INFORMATION_DATA];
        assert_eq!(tlv::find_path(&answer, &path).unwrap(), Some(&[0x00][..]), "{kinds:02X}");
    }
}
