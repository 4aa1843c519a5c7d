//! The shipped policies against a table: policy × amount × phone × history → what happens, what the
//! person is asked, what the server expects.

use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::keys::KeyClass;
use tapfer_payment_types::policy::{
    LastVerified, MerchantProofRule, Requirement, Shown, SinceVerified, UnlockMethod,
    VerificationPolicy,
};
use tapfer_payment_types::{Currency, Timestamp};
use tapfer_wallet::policy::{
    Ask, Confirmation, Counted, Decision, DeclineReason, History, PinStanding, Situation,
    TerminalDemand, decide,
};
use tapfer_wallet::{DeviceState, PaymentAmount};

use crate::issuer::now;
use crate::random::TestRng;

const TABLE: &str = include_str!("../data/policies.txt");
const ROWS: usize = 121;
const FILES: [(&str, &str); 6] = [
    ("sparkasse", include_str!("../../../../policies/sparkasse.toml")),
    ("volksbank", include_str!("../../../../policies/volksbank.toml")),
    ("deutsche-bank", include_str!("../../../../policies/deutsche-bank.toml")),
    ("postbank", include_str!("../../../../policies/postbank.toml")),
    ("fidor", include_str!("../../../../policies/fidor.toml")),
    ("google-pay", include_str!("../../../../policies/google-pay.toml")),
];

fn shipped(name: &str) -> VerificationPolicy {
    let (_, text) = FILES.iter().find(|(file, _)| *file == name).unwrap();
    let policy: VerificationPolicy = toml::from_str(text).unwrap();
    assert_eq!(policy.check(), Ok(()), "{name}");
    policy
}

/// A shipped policy by its name, with a rule about merchants behind a plus.
fn policy(name: &str) -> VerificationPolicy {
    let (file, rule) = name.split_once('+').unwrap_or((name, ""));
    let merchant_proof = match rule {
        "always" => MerchantProofRule::Always,
        "above" => MerchantProofRule::AboveLimit,
        _ => MerchantProofRule::IfOffered,
    };
    VerificationPolicy { merchant_proof, ..shipped(file) }
}

fn requirement(word: &str) -> Requirement {
    serde_json::from_value(word.into()).unwrap()
}

fn device(word: &str) -> DeviceState {
    let (screen_on, unlocked, unlock_method) = match word {
        "dark" => (false, true, UnlockMethod::Unknown),
        "locked" => (true, false, UnlockMethod::Unknown),
        "unlocked" => (true, true, UnlockMethod::Unknown),
        "no-lock" => (true, true, UnlockMethod::None),
        other => panic!("{other} is no state of a phone"),
    };
    DeviceState { screen_on, unlocked, unlock_method, ..DeviceState::default() }
}

fn pin(word: &str) -> PinStanding {
    match word {
        "none" => PinStanding::NotSet,
        "set" => PinStanding::Set,
        "entered" | "keyless" => PinStanding::Entered,
        "blocked" => PinStanding::Blocked,
        other => panic!("{other} is no standing of a PIN"),
    }
}

fn terminal(word: &str) -> TerminalDemand {
    let kinds = match word {
        "any" => 0x00,
        "device" => 0x04,
        "pin" => 0x40,
        "no-pin" => 0x0C,
        "signature" => 0x20,
        other => panic!("{other} is no kind of verification"),
    };
    TerminalDemand::from_risk_management_data(Some(&[kinds]))
}

/// `payments/sum` with what is due behind a comma.
fn history(text: &str, policy: &VerificationPolicy) -> (History, SinceVerified) {
    let (counts, due) = text.split_once(',').unwrap_or((text, ""));
    let (payments, sum) = counts.split_once('/').unwrap();
    let since =
        SinceVerified { payments: payments.parse().unwrap(), sum_minor: sum.parse().unwrap() };
    let mut history = History::new(now());
    history.confirmed(policy, &Confirmation { since_verified: Some(since), ..Default::default() });
    match due {
        "" => {}
        "ask" => history.draw_lots(policy, 1, &mut crate::random::Always(0)),
        "check" => history.keys_had_expired(1),
        "login" => history = History::new(now().plus_seconds(-90 * 86_400)),
        other => panic!("{other} is nothing that can be due"),
    }
    (history, since)
}

fn decision(word: &str) -> Decision {
    let online = |method, key_class| Decision::Online { method, key_class };
    match word {
        "pays:nothing" => online(VerificationMethod::None, KeyClass::Unverified),
        "pays:unlock" => online(VerificationMethod::DeviceUnlock, KeyClass::Unverified),
        "pays:pin" => online(VerificationMethod::Pin, KeyClass::Verified),
        "terminal" => Decision::AskAtTerminal,
        "asks:screen" => Decision::AskPerson(Ask::TurnScreenOn),
        "asks:unlock" => Decision::AskPerson(Ask::Unlock),
        "asks:pin" => Decision::AskPerson(Ask::EnterPin),
        "asks:set-pin" => Decision::AskPerson(Ask::SetPin),
        "asks:login" => Decision::AskPerson(Ask::LogIn),
        "declines:no-pin" => Decision::Decline(DeclineReason::TerminalTakesNoPin),
        "declines:merchant" => Decision::Decline(DeclineReason::MerchantUnproven),
        "declines:blocked" => Decision::Decline(DeclineReason::PinBlocked),
        other => panic!("{other} is nothing that a phone does"),
    }
}

/// What the issuer sees of a payment that was decided like this, if a PIN at the terminal was right.
fn shown(decision: Decision, device: &DeviceState) -> Option<Shown> {
    let method = match decision {
        Decision::Online { method, .. } => method,
        Decision::AskAtTerminal => VerificationMethod::TerminalPin,
        _ => return None,
    };
    Some(Shown {
        screen_on: device.screen_on,
        unlocked: method == VerificationMethod::DeviceUnlock && device.unlocked,
        app_pin: method == VerificationMethod::Pin,
        terminal_pin: method == VerificationMethod::TerminalPin,
    })
}

#[test]
fn the_shipped_policies_do_what_the_table_says() {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    let mut run = 0;
    for line in rows {
        let row: Vec<&str> = line.split_whitespace().collect();
        let [name, level, minor, currency, phone, wallet_pin, past, takes, merchant, does, server] =
            row[..]
        else {
            panic!("a row has another number of columns: {line}")
        };
        let policy = policy(name);
        let currency: Currency = currency.parse().unwrap();
        let amount = PaymentAmount::new(minor.parse().unwrap(), currency.numeric());
        let device = device(phone);
        let (history, since) = history(past, &policy);
        let decided = decide(&Situation {
            policy: &policy,
            chosen_level: (level != "-").then(|| requirement(level)),
            amount,
            device: &device,
            history: &history,
            terminal: terminal(takes),
            merchant_proven: merchant == "proven",
            pin: pin(wallet_pin),
            has_verified_key: wallet_pin != "keyless",
            now: now(),
        });
        assert_eq!(decided, decision(does), "{line}");
        let expected = policy.expected(amount.minor(), currency.numeric(), &since);
        assert_eq!(expected, requirement(server), "{line}");
        // Whatever the phone goes online with is enough for the server.
        if let Some(shown) = shown(decided, &device) {
            assert!(shown.reached() >= expected, "the server would decline: {line}");
        }
        run += 1;
    }
    assert_eq!(run, ROWS);
}

#[test]
fn a_shipped_file_is_the_document_that_phones_get() {
    for (name, _) in FILES {
        let policy = shipped(name);
        assert_eq!((policy.name.as_str(), policy.version, policy.limit), (name, 0, 2_500));
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<VerificationPolicy>(&json).unwrap(), policy);
    }
    assert_eq!(shipped("google-pay").discouraged_unlock, [UnlockMethod::Pattern]);
    assert!(toml::from_str::<VerificationPolicy>("name = \"x\"\nlimits = 3").is_err());
}

fn with_asks(one_in: u32) -> VerificationPolicy {
    let mut policy = shipped("sparkasse");
    policy.asks.as_mut().unwrap().at_random_one_in = Some(one_in);
    policy
}

/// 20,000 draws at one in 25: 800 on average, and 4.5 standard deviations either way.
#[test]
fn chance_asks_as_often_as_the_policy_says() {
    let (policy, mut rng) = (with_asks(25), TestRng(11));
    let asked = (0..20_000).filter(|_| {
        let mut history = History::new(now());
        history.draw_lots(&policy, 1, &mut rng);
        history.asks_for(&policy) == Requirement::TerminalPin
    });
    let asked = asked.count();
    assert!((675..=925).contains(&asked), "{asked}");
}

/// One euro, with the screen on.
fn in_hand(counter: u16) -> Counted {
    Counted { counter, charge_minor: 100, reached: Requirement::ScreenOn, by_pin: false, at: now() }
}

/// Tapping again does not throw the dice again: what chance asked for is done first.
#[test]
fn what_chance_asked_for_stays_due_until_it_is_done() {
    let policy = with_asks(25);
    let mut history = History::new(now());
    history.draw_lots(&policy, 7, &mut crate::random::Always(0));
    for counter in [8, 10, 12] {
        history.draw_lots(&policy, 8, &mut crate::random::Always(1));
        history.count(&policy, in_hand(counter), UNVERIFIED);
        history.count(&policy, in_hand(counter + 1), Decision::AskAtTerminal);
        assert_eq!(history.asks_for(&policy), Requirement::TerminalPin);
    }
    let seen = |counter, reached| Confirmation {
        last_verified: Some(LastVerified { application_transaction_counter: counter, reached }),
        ..Confirmation::default()
    };
    for too_little in [
        Confirmation::default(),
        Confirmation { since_verified: Some(SinceVerified::default()), ..Default::default() },
        seen(6, Requirement::TerminalPin),
        seen(9, Requirement::AppPin),
    ] {
        history.confirmed(&policy, &too_little);
        assert_eq!(history.asks_for(&policy), Requirement::TerminalPin, "{too_little:?}");
    }
    history.confirmed(&policy, &seen(8, Requirement::TerminalPin));
    assert_eq!(history.asks_for(&policy), Requirement::Anything);
}

const UNVERIFIED: Decision =
    Decision::Online { method: VerificationMethod::None, key_class: KeyClass::Unverified };

/// Where nobody is asked up to the limit, and now and then for a lit screen, a payment with a lit screen is
/// the answer, on the phone as on the platform.
#[test]
fn a_lit_screen_counts_where_that_is_what_is_asked_for() {
    let mut policy = with_asks(u32::MAX);
    policy.up_to_limit = Requirement::Anything;
    policy.person_may_choose.clear();
    let asks = policy.asks.as_mut().unwrap();
    (asks.with, asks.every_payments) = (Requirement::ScreenOn, Some(2));
    assert_eq!(policy.check(), Ok(()));
    let mut history = History::new(now());
    history.draw_lots(&policy, 1, &mut crate::random::Always(0));
    for (phone, payments) in [("dark", 1), ("dark", 2), ("locked", 0)] {
        let reached = UNVERIFIED.reached(&device(phone));
        let payment = Counted { reached, ..in_hand(1) };
        history.count(&policy, payment, UNVERIFIED);
        assert_eq!(history.since_verified().payments, payments, "{phone}");
    }
    assert_eq!(history.asks_for(&policy), Requirement::Anything, "chance was answered too");
}

/// The lock counts if the payment went by it, and never for a phone without one.
#[test]
fn what_a_payment_reached_is_what_the_issuer_reads() {
    let by_lock = Decision::Online {
        method: VerificationMethod::DeviceUnlock,
        key_class: KeyClass::Unverified,
    };
    for (decision, phone, reached) in [
        (UNVERIFIED, "dark", Requirement::Anything),
        (UNVERIFIED, "unlocked", Requirement::ScreenOn),
        (Decision::AskAtTerminal, "locked", Requirement::ScreenOn),
        (by_lock, "unlocked", Requirement::Unlocked),
        (by_lock, "no-lock", Requirement::ScreenOn),
    ] {
        assert_eq!(decision.reached(&device(phone)), reached, "{decision:?} {phone}");
    }
}

/// The platform's count takes the place of the phone's; what has not come there yet is added to it, or the
/// phone would pay where the platform expects the person.
#[test]
fn payments_that_the_platform_has_not_heard_of_stay_counted() {
    let policy = with_asks(u32::MAX);
    let since = |payments, sum_minor| SinceVerified { payments, sum_minor };
    for (heard, counted) in [
        (Some(0), since(7, 700)),
        (Some(2), since(5, 500)),
        (Some(3), since(4, 400)),
        (None, since(4, 400)),
    ] {
        let mut history = History::new(now());
        (1..=3).for_each(|counter| history.count(&policy, in_hand(counter), UNVERIFIED));
        let news =
            Confirmation { since_verified: Some(since(4, 400)), heard, ..Default::default() };
        history.confirmed(&policy, &news);
        assert_eq!(*history.since_verified(), counted, "{heard:?}");
        // One by PIN is left to the platform: it may never be heard, because the PIN was wrong.
        let by_pin =
            Decision::Online { method: VerificationMethod::Pin, key_class: KeyClass::Verified };
        history.count(&policy, in_hand(4), by_pin);
        history.confirmed(&policy, &news);
        assert_eq!(*history.since_verified(), counted, "{heard:?}");
        // Once heard, they are in the platform's count.
        history.confirmed(&policy, &Confirmation { heard: Some(3), ..news });
        assert_eq!(*history.since_verified(), since(4, 400));
    }
}

#[test]
fn only_the_platform_can_say_that_the_person_logged_in() {
    let policy = shipped("fidor");
    let later = |days: i64| now().plus_seconds(days * 86_400);
    let mut history = History::new(now());
    assert!(!history.login_is_due(&policy, later(89)));
    assert!(history.login_is_due(&policy, later(90)));
    let login = |at: Timestamp| Confirmation { logged_in_at: Some(at), ..Default::default() };
    history.confirmed(&policy, &login(later(-1)));
    assert!(history.login_is_due(&policy, later(90)), "an old login is no fresh one");
    history.confirmed(&policy, &login(later(60)));
    assert!(!history.login_is_due(&policy, later(90)));
    history.draw_lots(&policy, 3, &mut crate::random::Always(0));
    assert!(history.login_is_due(&policy, later(61)), "chance wants one");
    history.confirmed(&policy, &login(later(60)));
    assert!(history.login_is_due(&policy, later(61)), "the same login again");
    history.confirmed(&policy, &login(later(61)));
    assert!(!history.login_is_due(&policy, later(61)));
}

/// Payments that never come to the platform count up to the login that they made due, and not behind it: the
/// phone pays nothing while one is due, so the platform would never hear of a later one either.
#[test]
fn payments_from_before_a_login_count_no_more_behind_it() {
    let mut policy = shipped("fidor");
    policy.fresh_login.as_mut().unwrap().every_payments = Some(3);
    let mut history = History::new(now());
    for counter in 1..=3 {
        history.count(&policy, in_hand(counter), UNVERIFIED);
    }
    assert!(history.login_is_due(&policy, now()));
    let news = |logged_in_at| Confirmation {
        logged_in_at,
        since_login: Some(0),
        heard: Some(0),
        ..Default::default()
    };
    history.confirmed(&policy, &news(None));
    assert!(history.login_is_due(&policy, now()), "there was no login");
    let login = Some(now().plus_seconds(1));
    history.confirmed(&policy, &news(login));
    assert!(!history.login_is_due(&policy, now()));
    for counter in 4..=6 {
        assert!(!history.login_is_due(&policy, now()), "{counter}");
        let behind_it = Counted { at: now().plus_seconds(2), ..in_hand(counter) };
        history.count(&policy, behind_it, UNVERIFIED);
    }
    history.confirmed(&policy, &news(login));
    assert!(history.login_is_due(&policy, now()), "those behind it count");
}

/// The platform's count since the login, and what it has not heard of: with a PIN or without.
#[test]
fn payments_since_a_login_are_counted_by_the_platform_and_what_is_on_its_way() {
    let mut policy = shipped("fidor");
    policy.fresh_login.as_mut().unwrap().every_payments = Some(5);
    let by_pin =
        Decision::Online { method: VerificationMethod::Pin, key_class: KeyClass::Verified };
    for (told, heard, is_due) in
        [(1, 0, false), (2, 0, true), (2, 1, false), (4, 3, false), (5, 3, true)]
    {
        let mut history = History::new(now());
        history.count(&policy, in_hand(1), UNVERIFIED);
        history.count(&policy, in_hand(2), by_pin);
        history.count(&policy, in_hand(3), UNVERIFIED);
        let since_login = Some(told);
        let news = Confirmation { since_login, heard: Some(heard), ..Default::default() };
        history.confirmed(&policy, &news);
        assert_eq!(history.login_is_due(&policy, now()), is_due, "{told} {heard}");
    }
}

/// Attack: many payments below the limit, or in another currency, in the place of one above it.
#[test]
fn attack_no_verification_limit_bypass_by_currency_or_split_amounts() {
    // Pieces of 25 EUR are held by their sum, pieces of 1 EUR by their number.
    for (piece, every_payments, every_sum, most) in
        [(2_500, None, Some(15_000), 15_000), (100, Some(5), None, 500)]
    {
        let mut policy = with_asks(u32::MAX);
        let asks = policy.asks.as_mut().unwrap();
        (asks.every_payments, asks.every_sum) = (every_payments, every_sum);
        let (mut since, mut paid) = (SinceVerified::default(), 0);
        while policy.expected(piece, 978, &since) == Requirement::ScreenOn {
            paid += piece;
            since = since.after(&policy, piece, Requirement::ScreenOn);
            assert!(paid <= most, "the split is never noticed");
        }
        assert_eq!((paid, policy.expected(piece, 978, &since)), (most, Requirement::TerminalPin));
        // A weaker check than the policy's does not start the count again.
        since = since.after(&policy, piece, Requirement::AppPin);
        assert_eq!(policy.expected(piece, 978, &since), Requirement::TerminalPin);
        since = since.after(&policy, piece, Requirement::TerminalPin);
        assert_eq!(since, SinceVerified::default());
    }
    let policy = shipped("sparkasse");
    for currency in [840, 392, 826, 0, 999, 9_999] {
        for amount in [0, 1, 2_500, i64::MAX] {
            let expected = policy.expected(amount, currency, &SinceVerified::default());
            assert_eq!(expected, Requirement::TerminalPin, "{amount} of {currency}");
        }
    }
}

/// Attack: the person chose a strict level, and the issuer's next policy, or a level that is not
/// offered, makes it a lax one.
#[test]
fn attack_verification_downgrade_by_another_choice() {
    let mut policy = shipped("sparkasse");
    assert_eq!(policy.level(None), Requirement::ScreenOn);
    assert_eq!(policy.level(Some(Requirement::Anything)), Requirement::ScreenOn);
    assert_eq!(policy.level(Some(Requirement::AppPin)), Requirement::AppPin);
    policy.person_may_choose = vec![Requirement::ScreenOn, Requirement::Unlocked];
    assert_eq!(policy.level(Some(Requirement::AppPin)), Requirement::Unlocked);
    policy.person_may_choose = vec![Requirement::ScreenOn, Requirement::AppPin];
    assert_eq!(policy.level(Some(Requirement::Unlocked)), Requirement::AppPin);
    policy.person_may_choose.push(Requirement::Anything);
    assert!(policy.check().is_err(), "a choice that undercuts the issuer");
}
