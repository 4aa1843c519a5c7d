//! Whole taps: what is paid, what is declined, what is refused, and what the app hears of it.

use data_encoding::HEXLOWER;
use tapfer_emv::iad::VerificationMethod;
use tapfer_payment_types::policy::FreshLogin;
use tapfer_wallet::policy::Ask;
use tapfer_wallet::{Notification, PaymentAmount, Wallet};

use crate::issuer::{AID, Issuer, PAYMENTS_PER_KEY, now, seal};
use crate::kernel::{ASK_DECLINE, Ended, Kernel, Purchase, Tap, command, select};
use crate::phone::{DARK, Phone, UNLOCKED};
use crate::random::TestRng;

const CONDITIONS_NOT_SATISFIED: [u8; 2] = [0x69, 0x85];
const GET_PROCESSING_OPTIONS: u8 = 0xA8;

fn tap(phone: &mut Phone, issuer: &Issuer, purchase: &Purchase) -> Result<Tap, Ended> {
    let kernel = Kernel::new(issuer, phone.now, u64::from(phone.counter()) + 100);
    kernel.tap(purchase, |command| phone.transmit(command))
}

#[test]
fn a_small_amount_is_paid_without_asking() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let paid = tap(&mut phone, &issuer, &Purchase::euros(1_234)).unwrap();
    assert_eq!((paid.cryptogram_information, paid.verification, paid.counter), (0x80, 0x00, 1));
    assert_eq!(paid.data.results.method, VerificationMethod::None);
    assert!(paid.data.results.screen_on && !paid.data.results.unlocked);
    assert_eq!((paid.data.derivation_key_index, paid.data.policy_version), (1, 3));
    let sent = Notification::PaymentSent {
        token: issuer.token,
        amount: PaymentAmount::new(1_234, 978),
        verification: VerificationMethod::None,
        application_transaction_counter: 1,
        merchant: None,
    };
    assert_eq!(phone.notifications, [sent]);
}

#[test]
fn a_large_amount_needs_the_unlocked_phone() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let declined = tap(&mut phone, &issuer, &Purchase::euros(2_501)).unwrap();
    assert_eq!((declined.cryptogram_information, declined.verification), (0x00, 0xFF));
    assert!(matches!(
        phone.notifications[..],
        [Notification::PersonNeeded { ask: Ask::Unlock, .. }]
    ));
    phone.device = UNLOCKED;
    let paid = tap(&mut phone, &issuer, &Purchase::euros(2_501)).unwrap();
    assert_eq!((paid.cryptogram_information, paid.verification, paid.counter), (0x80, 0x03, 2));
    assert_eq!(paid.data.results.method, VerificationMethod::DeviceUnlock);
}

#[test]
fn a_foreign_amount_needs_the_unlocked_phone_and_is_not_added_up() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let dollars = Purchase { currency: [0x08, 0x40], ..Purchase::euros(99_999_999) };
    assert_eq!(tap(&mut phone, &issuer, &dollars).unwrap().cryptogram_information, 0x00);
    phone.device = UNLOCKED;
    let before = phone.card.wallet().token(issuer.token).unwrap().readiness(now());
    assert_eq!(tap(&mut phone, &issuer, &dollars).unwrap().cryptogram_information, 0x80);
    let after = phone.card.wallet().token(issuer.token).unwrap().readiness(now());
    assert_eq!(after.largest_payment_minor, before.largest_payment_minor);
    assert_eq!(after.payments_left + 1, before.payments_left);
}

#[test]
fn a_terminal_that_declines_gets_a_decline() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let declined = Purchase { ask: ASK_DECLINE, ..Purchase::euros(100) };
    let tap = tap(&mut phone, &issuer, &declined).unwrap();
    assert_eq!((tap.cryptogram_information, tap.verification), (0x00, 0x0F));
}

#[test]
fn an_approval_offline_is_never_given() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let asked = Purchase { ask: 0x40, ..Purchase::euros(100) };
    assert_eq!(tap(&mut phone, &issuer, &asked).unwrap().cryptogram_information, 0x80);
}

#[test]
fn a_dark_phone_spends_nothing() {
    let issuer = Issuer::new();
    let mut phone = Phone { device: DARK, ..Phone::enrolled(&issuer) };
    let ended = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap_err();
    assert_eq!(ended, Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED));
    assert_eq!(phone.notifications, [Notification::ScreenOff { token: issuer.token }]);
    assert_eq!(phone.counter(), 0);
}

/// Whether the stored wallet holds a limited-use key of the issuer.
fn holds_key(phone: &Phone, issuer: &Issuer, counter: u8) -> bool {
    let key = HEXLOWER.encode(issuer.grant(now(), counter).key.expose());
    serde_json::to_string(&phone.stored()).unwrap().contains(&key)
}

/// Both keys are used, the older one first; near the end the wallet asks for more; at the end it
/// refuses; fresh keys bring it back, and the counter goes on.
#[test]
fn keys_run_out_and_come_back() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let mut indices = Vec::new();
    for payment in 1..=2 * PAYMENTS_PER_KEY {
        let paid = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
        assert_eq!(paid.counter, payment);
        indices.push(paid.data.key_index);
        let erased = !holds_key(&phone, &issuer, 0);
        assert_eq!(erased, payment >= PAYMENTS_PER_KEY, "the first key, after {payment} payments");
    }
    let (first, second) = indices.split_at(usize::from(PAYMENTS_PER_KEY));
    assert!(first.iter().all(|index| *index == indices[0]));
    assert!(second.iter().all(|index| *index > indices[0]));
    let soon = Notification::ReplenishSoon { token: issuer.token };
    let warnings = phone.notifications.iter().filter(|news| **news == soon).count();
    assert_eq!(warnings, 3, "with two, one and no payment left");

    let ended = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap_err();
    assert_eq!(ended, Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED));
    let none = Notification::NoKeysLeft { token: issuer.token };
    assert_eq!(phone.notifications.last(), Some(&none));

    // The platform sends the same keys by mistake: they stay used up.
    issuer.provision(phone.card.wallet_mut(), now());
    assert!(tap(&mut phone, &issuer, &Purchase::euros(100)).is_err());
    phone.now = now().plus_seconds(3_600);
    issuer.provision(phone.card.wallet_mut(), phone.now);
    let paid = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    assert_eq!(paid.counter, 2 * PAYMENTS_PER_KEY + 1);
}

#[test]
fn a_key_pays_no_more_than_its_total() {
    let issuer = Issuer::new();
    let mut phone = Phone { device: UNLOCKED, ..Phone::enrolled(&issuer) };
    for _ in 0..2 {
        tap(&mut phone, &issuer, &Purchase::euros(14_000)).unwrap();
    }
    let ended = tap(&mut phone, &issuer, &Purchase::euros(1_001)).unwrap_err();
    assert_eq!(ended, Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED));
    tap(&mut phone, &issuer, &Purchase::euros(1_000)).unwrap();
}

#[test]
fn keys_and_certificate_expire() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let refused = Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED);
    phone.now = now().plus_seconds(6 * 3_600 + 1);
    let paid = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    assert_eq!(paid.data.key_index.to_bytes()[3], 1, "the key that is still good");
    phone.now = now().plus_seconds(6 * 3_600 + 2);
    assert_eq!(tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap_err(), refused);
    let token = issuer.token;
    assert_eq!(phone.notifications.last(), Some(&Notification::NoKeysLeft { token }));
    phone.now = now().plus_seconds(86_400 + 60);
    assert_eq!(tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap_err(), refused);
    assert_eq!(phone.notifications.last(), Some(&Notification::CertificateExpired { token }));
}

#[test]
fn the_last_counter_is_the_last() {
    let issuer = Issuer::new();
    let phone = Phone::enrolled(&issuer);
    let mut content = serde_json::to_value(phone.card.wallet()).unwrap();
    content["tokens"][0]["application_transaction_counter"] = 0xFFFE.into();
    let mut phone = Phone::with(serde_json::from_value::<Wallet>(content).unwrap());
    tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    assert_eq!(phone.counter(), 0xFFFF);
    for _ in 0..3 {
        let ended = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap_err();
        assert_eq!(ended, Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED));
        let worn_out = Notification::CounterExhausted { token: issuer.token };
        assert_eq!(phone.notifications.last(), Some(&worn_out));
        phone.restart();
        assert_eq!(phone.counter(), 0xFFFF);
        issuer.provision(phone.card.wallet_mut(), now());
    }
}

#[test]
fn the_chosen_token_is_offered_first_and_the_other_next() {
    let (first, second) = (Issuer::of_token(1), Issuer::of_token(2));
    let mut wallet = Wallet::new(&mut TestRng(1));
    first.provision(&mut wallet, now());
    second.provision(&mut wallet, now());
    let mut phone = Phone::with(wallet);
    tap(&mut phone, &first, &Purchase::euros(100)).unwrap();
    assert_eq!(
        phone.card.wallet().token(second.token).unwrap().application_transaction_counter(),
        0
    );
    phone.card.wallet_mut().set_default_token(second.token).unwrap();
    let kernel = Kernel::new(&second, now(), 9);
    kernel.tap(&Purchase::euros(100), |command| phone.transmit(command)).unwrap();
    assert_eq!(
        phone.card.wallet().token(second.token).unwrap().application_transaction_counter(),
        1
    );

    // By a partial name, one after the other (EMV Book 1, 12.3.3).
    let (_, status) = phone.exchange(&select(&AID[..5]));
    assert!(status.is_ok());
    let next = command(0x00, 0xA4, 0x04, 0x02, &AID[..5]);
    assert!(phone.exchange(&next).1.is_ok());
    assert_eq!(phone.exchange(&next).1.bytes(), [0x6A, 0x82]);
    assert_eq!(phone.exchange(&next).1.bytes(), [0x6A, 0x82]);
}

#[test]
fn a_stricter_policy_takes_effect_at_once() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let wallet = phone.card.wallet_mut();
    let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, |policy| (policy.version, policy.limit) = (4, 0));
    let sealed = seal(wallet, issuer.token, &payload);
    let _snapshot = wallet.accept(issuer.token, &sealed, now()).unwrap();
    let declined = tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    assert_eq!((declined.cryptogram_information, declined.data.policy_version), (0x00, 4));
}

fn refused(phone: &mut Phone, issuer: &Issuer) -> bool {
    let ended = tap(phone, issuer, &Purchase::euros(100));
    ended.err() == Some(Ended::Refused(GET_PROCESSING_OPTIONS, CONDITIONS_NOT_SATISFIED))
}

/// Attack: whoever has the phone sets its clock back, and what has ended is good again.
#[test]
fn what_was_over_at_an_earlier_tap_stays_so_when_the_clock_is_set_back() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    // The first key ends a second before the second one, at which the phone pays.
    phone.now = now().plus_seconds(6 * 3_600 + 1);
    tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    phone.restart();
    phone.now = now();
    for _ in 1..PAYMENTS_PER_KEY {
        tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    }
    assert!(holds_key(&phone, &issuer, 0), "the first key was never used");
    assert!(refused(&mut phone, &issuer));
    // The platform is the way back: whether its keys are good, it judges by a clock of its own.
    issuer.provision(phone.card.wallet_mut(), now().plus_seconds(3_600));
    phone.now = now().plus_seconds(3_600);
    tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
}

/// Two issuers: the answer of one platform says nothing about the other's keys.
#[test]
fn the_answer_of_one_platform_leaves_the_other_token_its_time() {
    let (issuer, other) = (Issuer::of_token(1), Issuer::of_token(2));
    let mut wallet = Wallet::new(&mut TestRng(1));
    [&issuer, &other].iter().for_each(|issuer| issuer.provision(&mut wallet, now()));
    let mut phone = Phone::with(wallet);
    phone.now = now().plus_seconds(25 * 3_600);
    assert!(refused(&mut phone, &issuer), "everything has ended");
    phone.now = now().plus_seconds(3_600);
    issuer.provision(phone.card.wallet_mut(), phone.now);
    tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    // What is fetched for goes by the same time.
    let wants = |phone: &Phone, issuer: &Issuer| {
        let readiness = phone.card.wallet().token(issuer.token).unwrap().readiness(phone.now);
        (readiness.payments_left == 0, readiness.wants_replenishment)
    };
    assert_eq!((wants(&phone, &issuer), wants(&phone, &other)), ((false, false), (true, true)));
    phone.card.wallet_mut().set_default_token(other.token).unwrap();
    phone.card.wallet_mut().remove_token(issuer.token).unwrap();
    assert!(refused(&mut phone, &other), "good again by the other platform's answer");
}

/// A login that was due at a tap is due until there is one, though the clock is set back and keys are fetched.
#[test]
fn a_login_that_was_due_stays_due_when_the_clock_is_set_back() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    let fetch = |phone: &mut Phone, logged_in_at| {
        let wallet = phone.card.wallet_mut();
        let request = wallet.replenish_request(issuer.token, &mut TestRng(3));
        let mut payload = issuer.payload(&request, now().plus_seconds(3_600));
        let rule =
            FreshLogin { every_hours: Some(24), every_payments: None, at_random_one_in: None };
        payload.logged_in_at = logged_in_at;
        issuer.set_policy(&mut payload, |policy| policy.fresh_login = Some(rule));
        let sealed = seal(wallet, issuer.token, &payload);
        let _snapshot = wallet.accept(issuer.token, &sealed, now().plus_seconds(3_600)).unwrap();
        wallet.token(issuer.token).unwrap().login_is_due(now().plus_seconds(3_600))
    };
    assert!(!fetch(&mut phone, None));
    phone.now = now().plus_seconds(24 * 3_600);
    assert!(refused(&mut phone, &issuer), "keys have ended, and the login is due");
    assert!(fetch(&mut phone, None), "forgotten with the keys");
    assert!(!fetch(&mut phone, Some(now().plus_seconds(3_000))));
}

/// A tap that was refused for the time counts as well: the next one must not find it changed.
#[test]
fn a_refused_tap_tells_the_time_too() {
    let issuer = Issuer::new();
    let mut phone = Phone::enrolled(&issuer);
    phone.now = now().plus_seconds(25 * 3_600);
    assert!(refused(&mut phone, &issuer), "everything has ended");
    phone.now = now();
    assert!(refused(&mut phone, &issuer));
}

/// Keys that never had the limit in them do not have it when they are new: asking again changes nothing.
#[test]
fn a_key_below_the_policys_limit_is_no_reason_to_ask_for_keys_again_and_again() {
    let issuer = Issuer::new();
    let mut wallet = Wallet::new(&mut TestRng(1));
    let request = wallet.replenish_request(issuer.token, &mut TestRng(2));
    let mut payload = issuer.payload(&request, now());
    issuer.set_policy(&mut payload, |policy| policy.limit = 50_000);
    let sealed = seal(&wallet, issuer.token, &payload);
    wallet.accept(issuer.token, &sealed, now()).unwrap();
    let mut phone = Phone::with(wallet);
    let readiness = |phone: &Phone| {
        let token = phone.card.wallet().token(issuer.token).unwrap();
        (token.readiness(now()).largest_payment_minor, token.readiness(now()).wants_replenishment)
    };
    assert_eq!(readiness(&phone), (15_000, false));
    // Both keys have paid something: fresh ones would bring more.
    for _ in 0..=PAYMENTS_PER_KEY {
        tap(&mut phone, &issuer, &Purchase::euros(100)).unwrap();
    }
    assert_eq!(readiness(&phone), (14_900, true));
}
