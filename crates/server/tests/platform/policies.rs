//! The shipped policies at the running platform: what the phone asks, what the platform accepts, what it
//! declines. Two tables: phones that obey (policies.txt), and phones that do not (policy_lies.txt).

use serde_json::{Value, json};
use tapfer_emv::iad::VerificationMethod;
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};
use tapfer_payment_types::policy::{UnlockMethod, VerificationPolicy};
use tapfer_wallet::policy::{Ask, DeclineReason};
use tapfer_wallet::{DeviceState, Notification};

use crate::liar::{Liar, Tap};
use crate::phone::{Chance, Till};
use crate::pins::{change_pin, seal};
use crate::shop::{Shop, issuer_request, reason};

const OBEYED: &str = include_str!("policies.txt");
const DISOBEYED: &str = include_str!("policy_lies.txt");
const FILES: [(&str, &str); 6] = [
    ("sparkasse", include_str!("../../../../policies/sparkasse.toml")),
    ("volksbank", include_str!("../../../../policies/volksbank.toml")),
    ("deutsche-bank", include_str!("../../../../policies/deutsche-bank.toml")),
    ("postbank", include_str!("../../../../policies/postbank.toml")),
    ("fidor", include_str!("../../../../policies/fidor.toml")),
    ("google-pay", include_str!("../../../../policies/google-pay.toml")),
];
const CARD_PIN: &str = "4711";
const WALLET_PIN: &str = "7391";
const PLENTY: i64 = 100_000;

/// A shop whose issuer has this policy of the files, set through the interface.
fn shop_under(file: &str) -> Shop {
    let mut issuer = issuer_request();
    issuer["key_policy"]["maximum_payments"] = json!(20);
    let shop = Shop::open_for(&issuer);
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
    let policy: VerificationPolicy = toml::from_str(text).unwrap();
    let path = format!("/v1/issuers/{}/policy", shop.issuer_id);
    assert_eq!(shop.issuer.put(&path, &json!(policy)).expect(200)["policy"]["name"], file);
    shop
}

/// The rows of a table, without comments.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect())
}

/// Runs the rows of each policy in a shop of its own, all policies at once.
fn run(table: &'static str, row: fn(&mut Shop, &[&str])) {
    std::thread::scope(|scope| {
        for (file, _) in FILES {
            scope.spawn(move || {
                let mut shop = shop_under(file);
                let mine: Vec<_> = rows(table).filter(|row| row[0] == file).collect();
                assert!(!mine.is_empty(), "{file}");
                mine.iter().for_each(|columns| row(&mut shop, columns));
            });
        }
    });
    let known = |row: Vec<&str>| FILES.iter().any(|(file, _)| *file == row[0]);
    assert!(rows(table).all(known));
}

fn times(text: &str) -> (usize, i64) {
    let (count, amount) = text.split_once('x').unwrap();
    (count.parse().unwrap(), amount.parse().unwrap())
}

fn device(word: &str) -> DeviceState {
    let (screen_on, unlocked, unlock_method) = match word {
        "dark" => (false, true, UnlockMethod::Pin),
        "locked" => (true, false, UnlockMethod::Pin),
        "unlocked" => (true, true, UnlockMethod::Pin),
        "no-lock" => (true, true, UnlockMethod::None),
        other => panic!("{other} is no state of a phone"),
    };
    DeviceState { screen_on, unlocked, unlock_method, ..DeviceState::default() }
}

/// What the phone told its person, in the words of the table.
fn told(news: &[Notification]) -> &'static str {
    let words = news.iter().filter_map(|one| match one {
        Notification::PaymentSent { verification, .. } => Some(match verification {
            VerificationMethod::None => "sends:nothing",
            VerificationMethod::DeviceUnlock => "sends:unlock",
            VerificationMethod::Pin => "sends:pin",
            VerificationMethod::TerminalPin => "sends:terminal",
        }),
        Notification::ScreenOff { .. } => Some("asks:screen"),
        Notification::PersonNeeded { ask, .. } => Some(match ask {
            Ask::TurnScreenOn => "asks:screen",
            Ask::Unlock => "asks:unlock",
            Ask::EnterPin => "asks:pin",
            Ask::SetPin => "asks:set-pin",
            Ask::LogIn => "asks:login",
        }),
        Notification::PaymentDeclined { reason: DeclineReason::TerminalTakesNoPin, .. } => {
            Some("declines:no-pin")
        }
        _ => None,
    });
    let words: Vec<_> = words.collect();
    assert_eq!(words.len(), 1, "{news:?}");
    words[0]
}

/// The card gets a PIN for terminals.
fn set_card_pin(shop: &Shop) {
    let path = format!("/v1/cards/{}/pin", shop.card);
    let sealed = seal(shop, CARD_PIN_INFO, &shop.card, CARD_PIN);
    shop.issuer.post(&path, &json!({ "sealed_pin": sealed })).expect(200);
}

/// Asks the platform, with what was entered at the till: the reason it gives.
fn ask_platform(shop: &Shop, intent: &str, chip_data: &str, card_pin: &str) -> Value {
    let mut request = json!({ "payment_intent": intent, "chip_data": chip_data });
    let entered = match card_pin {
        "right" => Some(CARD_PIN),
        "wrong" => Some("4712"),
        _ => None,
    };
    if let Some(pin) = entered {
        let bound_to = format!("{intent}{}", shop.terminal_id);
        request["online_pin"] = seal(shop, ONLINE_PIN_INFO, &bound_to, pin);
    }
    shop.terminal.post("/v1/authorizations", &request).expect(201)["reason"].clone()
}

/// The phone is enrolled, and knows the policy, its person's choice, and her PIN if she has one.
fn prepare(shop: &mut Shop, level: &str, wallet_pin: &str) {
    shop.take_another_phone(PLENTY);
    shop.phone.chance = Chance::Never;
    set_card_pin(shop);
    let token = shop.token.parse().unwrap();
    if level != "-" {
        let level = serde_json::from_value(level.into()).unwrap();
        shop.phone.wallet().choose_level(token, level).unwrap();
    }
    if wallet_pin != "none" {
        assert_eq!(change_pin(shop, WALLET_PIN, None)["generation"], 1);
        shop.replenish();
    }
}

fn obeyed(shop: &mut Shop, row: &[&str]) {
    let [_, level, before, due, amount, phone, wallet, till, does, card, platform] = *row else {
        panic!("a row has another number of columns: {row:?}")
    };
    prepare(shop, level, wallet);
    shop.phone.device = device(phone);
    let trust = shop.terminal.get("/v1/trust").expect(200);
    shop.till = if till == "pad" { Till::with_pin_pad(&trust) } else { Till::trusting(&trust) };
    let (count, each) = times(before);
    for _ in 0..count {
        assert_eq!(shop.pay(each)["reason"], "approved", "before {row:?}");
    }
    let now = shop.now();
    let entered = match wallet {
        "right" => Some(WALLET_PIN),
        "wrong" => Some("7392"),
        _ => None,
    };
    if let Some(pin) = entered {
        shop.phone.enter_pin(shop.token.parse().unwrap(), pin, now);
    }
    if due == "ask" {
        shop.phone.chance = Chance::Always;
    }
    let amount = amount.parse().unwrap();
    if platform == "-" {
        shop.tap_in_vain(amount);
        assert_eq!(told(&shop.phone.news), does, "{row:?}");
        return;
    }
    let intent = shop.armed_intent(amount);
    let chip_data = shop.tap(&intent, amount);
    assert_eq!(told(&shop.phone.news), does, "{row:?}");
    assert_eq!(ask_platform(shop, &intent, &chip_data, card), platform, "{row:?}");
}

#[test]
fn the_shipped_policies_are_obeyed_and_judged_as_the_table_says() {
    run(OBEYED, obeyed);
}

fn disobeyed(shop: &mut Shop, row: &[&str]) {
    let [_, before, claims, amount, card, platform] = *row else {
        panic!("a row has another number of columns: {row:?}")
    };
    shop.take_another_phone(PLENTY);
    set_card_pin(shop);
    let mut liar = Liar::enrol(shop);
    let (count, each) = times(before);
    for _ in 0..count {
        let tap = Tap::new(each, shop.now());
        assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "approved", "before {row:?}");
    }
    let (screen_on, method) = match claims {
        "dark" => (false, VerificationMethod::None),
        "nothing" => (true, VerificationMethod::None),
        "unlock" => (true, VerificationMethod::DeviceUnlock),
        "pin" => (true, VerificationMethod::Pin),
        "terminal" => (true, VerificationMethod::TerminalPin),
        other => panic!("{other} is nothing that a phone claims"),
    };
    let amount = amount.parse().unwrap();
    let tap = Tap { screen_on, method, ..Tap::new(amount, shop.now()) };
    let intent = shop.armed_intent(amount);
    let chip_data = liar.tap(&tap);
    assert_eq!(ask_platform(shop, &intent, &chip_data, card), platform, "{row:?}");
}

#[test]
fn phones_that_do_not_obey_the_shipped_policies_are_declined_as_the_table_says() {
    run(DISOBEYED, disobeyed);
}

/// What chance asked for stays due, however often the phone is held to a till, until the platform has seen
/// it done and the phone has heard of it.
#[test]
fn what_chance_asked_for_is_done_once() {
    let mut shop = shop_under("sparkasse");
    prepare(&mut shop, "-", "none");
    shop.phone.device = device("locked");
    shop.phone.chance = Chance::Always;
    shop.tap_in_vain(100);
    assert_eq!(told(&shop.phone.news), "declines:no-pin");
    shop.phone.chance = Chance::Never;
    shop.tap_in_vain(100);
    assert_eq!(told(&shop.phone.news), "declines:no-pin", "tapping again throws no dice");
    shop.till = Till::with_pin_pad(&shop.terminal.get("/v1/trust").expect(200));
    for (card_pin, expected) in [("wrong", "pin_wrong"), ("right", "approved")] {
        let intent = shop.armed_intent(100);
        let chip_data = shop.tap(&intent, 100);
        assert_eq!(told(&shop.phone.news), "sends:terminal");
        assert_eq!(ask_platform(&shop, &intent, &chip_data, card_pin), expected);
        shop.platform.clock.advance_seconds(60);
    }
    shop.replenish();
    assert_eq!(shop.pay(100)["reason"], "approved");
    assert_eq!(told(&shop.phone.news), "sends:nothing");
}

/// Unlocked up to 25.00; a login after three payments, and after two days.
fn policy_with_logins() -> Value {
    json!({
        "name": "logins", "currency": "EUR", "limit": 2_500,
        "up_to_limit": "screen_on", "above_limit": "unlocked",
        "fresh_login": { "every_payments": 3, "every_hours": 48 }
    })
}

fn shop_with_logins() -> Shop {
    let mut issuer = issuer_request();
    issuer["key_policy"]["maximum_payments"] = json!(20);
    let mut shop = Shop::open_for(&issuer);
    let path = format!("/v1/issuers/{}/policy", shop.issuer_id);
    shop.issuer.put(&path, &policy_with_logins()).expect(200);
    shop.replenish();
    shop
}

fn log_in(shop: &Shop, token: &str) {
    shop.platform.clock.advance_seconds(1);
    let path = format!("/v1/tokens/{token}/login");
    shop.issuer.post(&path, &reason("web session")).expect(200);
}

/// A phone that never asks its person to log in is declined, until her issuer says that she did.
#[test]
fn attack_login_skipped_by_the_phone() {
    let shop = shop_with_logins();
    let mut liar = Liar::enrol(&shop);
    let pays = |liar: &mut Liar| {
        let tap = Tap::new(100, shop.now());
        shop.pay_with_lie(liar, &tap)["reason"].clone()
    };
    for _ in 0..3 {
        assert_eq!(pays(&mut liar), "approved");
    }
    assert_eq!(pays(&mut liar), "login_required");
    liar.replenish();
    assert_eq!(pays(&mut liar), "login_required", "new keys are no login");
    let path = format!("/v1/tokens/{}/login", liar.token);
    assert_eq!(liar.device.post(&path, &reason("by myself")).problem(403), "forbidden");
    log_in(&shop, &liar.token);
    liar.replenish();
    assert_eq!(pays(&mut liar), "approved");
    // Two days later, without another payment.
    shop.platform.clock.advance_seconds(49 * 3_600);
    liar.replenish();
    assert_eq!(pays(&mut liar), "login_required");
    log_in(&shop, &liar.token);
    liar.replenish();
    assert_eq!(pays(&mut liar), "approved");
}

/// A payment between a login and the keys with which the phone hears of it counts on both sides, and so does one
/// that is on its way then; an answer that never arrives changes nothing.
#[test]
fn phone_and_platform_count_the_same_payments_since_a_login() {
    let mut shop = shop_with_logins();
    for is_lost in [true, false] {
        assert_eq!(shop.pay(100)["reason"], "approved");
        log_in(&shop, &shop.token.clone());
        assert_eq!(shop.pay(100)["reason"], "approved");
        if is_lost {
            let request = shop.phone.replenish_request(shop.token.parse().unwrap());
            let path = format!("/v1/tokens/{}/replenish", shop.token);
            shop.device.post(&path, &request).expect(200);
            assert_eq!(shop.pay(100)["reason"], "approved");
            shop.replenish();
        } else {
            let intent = shop.armed_intent(100);
            let on_its_way = shop.tap(&intent, 100);
            shop.replenish();
            assert_eq!(shop.authorize(&intent, &on_its_way).expect(201)["reason"], "approved");
        }
        assert_eq!(shop.pay(100)["reason"], "approved");
        shop.tap_in_vain(100);
        assert_eq!(told(&shop.phone.news), "asks:login");
        log_in(&shop, &shop.token.clone());
        shop.replenish();
    }
}

/// By chance or after ninety days, the person logs in at the issuer, and nothing else helps.
#[test]
fn a_login_that_is_due_is_done_at_the_issuer() {
    let mut shop = shop_under("fidor");
    prepare(&mut shop, "-", "set");
    shop.phone.device = device("unlocked");
    let login = |shop: &mut Shop| {
        let path = format!("/v1/tokens/{}/login", shop.token);
        assert_eq!(shop.device.post(&path, &reason("by myself")).problem(403), "forbidden");
        shop.issuer.post(&path, &reason("web session")).expect(200);
    };
    let pays = |shop: &mut Shop| {
        let now = shop.now();
        shop.phone.enter_pin(shop.token.parse().unwrap(), WALLET_PIN, now);
        assert_eq!(shop.pay(100)["reason"], "approved");
    };
    let asks = |shop: &mut Shop| {
        shop.tap_in_vain(100);
        assert_eq!(told(&shop.phone.news), "asks:login");
    };
    pays(&mut shop);
    shop.phone.chance = Chance::Always;
    asks(&mut shop);
    shop.phone.chance = Chance::Never;
    shop.replenish();
    asks(&mut shop);
    shop.platform.clock.advance_seconds(1);
    login(&mut shop);
    asks(&mut shop);
    shop.replenish();
    pays(&mut shop);
    shop.platform.clock.advance_seconds(2_160 * 3_600);
    shop.replenish();
    asks(&mut shop);
    login(&mut shop);
    shop.replenish();
    pays(&mut shop);
}

/// A declined tap that names an older version, which asked for nothing now and then, must not give the count back.
#[test]
fn attack_count_reset_by_naming_an_older_policy() {
    let mut shop = shop_under("sparkasse");
    // Keys that came with the newer policy do not pay by the older one.
    shop.platform.clock.advance_seconds(60);
    shop.take_another_phone(PLENTY);
    set_card_pin(&shop);
    let mut liar = Liar::enrol(&shop);
    let newest = liar.policy_version;
    let small = |shop: &Shop| Tap::new(100, shop.now());
    let mut approved = 0;
    let reason = loop {
        let tap = small(&shop);
        let answer = shop.pay_with_lie(&mut liar, &tap);
        if answer["reason"] != "approved" {
            break answer["reason"].clone();
        }
        approved += 1;
    };
    assert_eq!((approved, reason), (5, "verification_required".into()));
    let tap = small(&shop);
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "verification_required");
    liar.policy_version = 1;
    let tap = small(&shop);
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "key_expired");
    // The terminal waits for nothing.
    let intent = shop.intent(100);
    let chip_data = liar.tap(&small(&shop));
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["reason"], "terminal_not_armed");
    liar.policy_version = newest;
    let tap = small(&shop);
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "verification_required");
}
