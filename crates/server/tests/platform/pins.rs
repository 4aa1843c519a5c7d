//! PINs, end to end: the real wallet sets, changes and mistypes them, and the platform counts.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};
use serde_json::{Value, json};
use tapfer_emv::iad::VerificationMethod;
use tapfer_payment_types::Pin;
use tapfer_payment_types::pin::{CARD_PIN_INFO, ONLINE_PIN_INFO};

use crate::liar::{Liar, Tap};
use crate::phone::{hex, random, unhex};
use crate::shop::{Shop, reason};

/// Screen on up to 25.00; above, and after three payments or 60.00 without it, the wallet's PIN.
pub(crate) fn app_pin_policy() -> Value {
    json!({
        "name": "app pin", "currency": "EUR", "limit": 2_500,
        "up_to_limit": "screen_on", "above_limit": "app_pin",
        "asks": { "with": "app_pin", "every_payments": 3, "every_sum": 6_000 },
        "pin": { "length": 4, "tries": 3 }
    })
}

fn terminal_pin_policy() -> Value {
    json!({
        "name": "terminal pin", "currency": "EUR", "limit": 2_500,
        "up_to_limit": "screen_on", "above_limit": "terminal_pin"
    })
}

pub(crate) fn set_policy(shop: &Shop, policy: &Value) -> Value {
    shop.issuer.put(&format!("/v1/issuers/{}/policy", shop.issuer_id), policy).expect(200)
}

fn pin_path(shop: &Shop) -> String {
    format!("/v1/tokens/{}/pin", shop.token)
}

/// A shop whose phone has the policy, a PIN, and the keys for it.
pub(crate) fn shop_with_pin(pin: &str) -> Shop {
    let mut shop = Shop::open();
    set_policy(&shop, &app_pin_policy());
    shop.replenish();
    let status = change_pin(&mut shop, pin, None);
    assert_eq!(status["generation"], 1);
    shop.replenish();
    shop
}

/// The person sets or changes the PIN, and the phone hears the answer.
pub(crate) fn change_pin(shop: &mut Shop, new: &str, old: Option<&str>) -> Value {
    let token = shop.token.parse().unwrap();
    let request = shop.phone.new_pin(token, new, old);
    let status = shop.device.post(&pin_path(shop), &request).expect(200);
    shop.phone.hear_pin_status(token, &request, &status);
    status
}

pub(crate) fn pay_with_pin(shop: &mut Shop, pin: &str, amount: i64) -> Value {
    let now = shop.now();
    shop.phone.enter_pin(shop.token.parse().unwrap(), pin, now);
    shop.pay(amount)
}

fn tries_left(shop: &Shop) -> i64 {
    shop.device.get(&pin_path(shop)).expect(200)["tries_left"].as_i64().unwrap()
}

#[test]
fn the_right_pin_pays_and_a_wrong_one_costs_a_try() {
    let mut shop = shop_with_pin("7391");
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "approved");
    let wrong = pay_with_pin(&mut shop, "7392", 3_000);
    assert_eq!((&wrong["outcome"], &wrong["reason"]), (&json!("declined"), &json!("pin_wrong")));
    assert_eq!(tries_left(&shop), 2);
    assert_eq!(shop.account(), (7_000, 7_000));
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "approved");
    assert_eq!(tries_left(&shop), 3, "a right one gives the tries back");
}

#[test]
fn too_many_wrong_pins_block_until_the_issuer_resets() {
    let mut shop = shop_with_pin("7391");
    for _ in 0..3 {
        assert_eq!(pay_with_pin(&mut shop, "1111", 3_000)["reason"], "pin_wrong");
    }
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "pin_blocked");
    // The phone does not know whether the PINs were right, and asks for one until it has heard.
    shop.replenish();
    assert_eq!(shop.pay(500)["reason"], "approved", "small payments need no PIN");

    let reset = format!("{}/reset", pin_path(&shop));
    assert_eq!(shop.device.post(&reset, &reason("forgot")).problem(403), "forbidden");
    let status = shop.issuer.post(&reset, &reason("hotline, caller identified")).expect(200);
    assert_eq!((&status["blocked"], &status["reset_granted"]), (&json!(true), &json!(true)));
    shop.replenish();
    assert_eq!(change_pin(&mut shop, "2846", None)["blocked"], false);
    shop.replenish();
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
}

#[test]
fn a_changed_pin_is_the_only_one_that_pays() {
    let mut shop = shop_with_pin("7391");
    assert_eq!(change_pin(&mut shop, "2846", Some("7391"))["generation"], 2);
    shop.replenish();
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "pin_wrong");
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
}

#[test]
fn a_wrong_old_pin_costs_a_try_and_changes_nothing() {
    let mut shop = shop_with_pin("7391");
    let refused = change_pin(&mut shop, "2846", Some("7392"));
    assert_eq!((&refused["generation"], &refused["tries_left"]), (&json!(1), &json!(2)));
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "approved");
}

/// The phone did not hear that the old PIN was wrong, and goes on sending the same bytes: one mistake, one try.
#[test]
fn a_wrong_old_pin_that_is_sent_again_costs_one_try() {
    let mut shop = shop_with_pin("7391");
    let token = shop.token.parse().unwrap();
    let wrong = shop.phone.new_pin(token, "2846", Some("7392"));
    let first = shop.device.post(&pin_path(&shop), &wrong).expect(200);
    assert_eq!((&first["generation"], &first["tries_left"]), (&json!(1), &json!(2)));
    for _ in 0..4 {
        assert_eq!(shop.device.post(&pin_path(&shop), &wrong).expect(200), first);
    }
    // A reset lets a new request in, not this one.
    shop.issuer.post(&format!("{}/reset", pin_path(&shop)), &reason("forgot")).expect(200);
    let still = shop.device.post(&pin_path(&shop), &wrong).expect(200);
    assert_eq!((&still["generation"], &still["reset_granted"]), (&json!(1), &json!(true)));
    shop.phone.hear_pin_status(token, &wrong, &still);
    assert_eq!(change_pin(&mut shop, "1357", None)["generation"], 2);
    assert_eq!(shop.device.post(&pin_path(&shop), &wrong).problem(409), "conflict");
}

/// The answer is lost: the phone sends the same bytes again, under another name for the request.
#[test]
fn a_change_whose_answer_was_lost_ends_the_same_for_both() {
    let mut shop = shop_with_pin("7391");
    let token = shop.token.parse().unwrap();
    let request = shop.phone.new_pin(token, "2846", Some("7391"));
    let lost = shop.device.post(&pin_path(&shop), &request).expect(200);
    let again = shop.device.post(&pin_path(&shop), &request).expect(200);
    assert_eq!(lost, again);
    shop.phone.hear_pin_status(token, &request, &again);
    shop.replenish();
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
}

/// The PIN is changed after the keys of a replenishment were sealed under the old one, and before they are
/// given out: they are sealed again, and the old PIN pays with none of them.
#[test]
fn a_pin_change_that_overtakes_a_replenishment_is_obeyed_by_it() {
    let mut shop = shop_with_pin("7391");
    let token = shop.token.parse().unwrap();
    let asked = shop.phone.replenish_request(token);
    let change = shop.phone.new_pin(token, "2846", Some("7391"));
    let (device, path, body) = (shop.device.clone(), pin_path(&shop), change.clone());
    let (tell, hear) = std::sync::mpsc::channel();
    // The serial number of the phone's certificate: the token's PIN was looked up before.
    shop.platform.interruption.at_draw_of(6, move || {
        tell.send(device.post(&path, &body).expect(200)).unwrap();
    });
    let keys = shop.device.post(&format!("/v1/tokens/{token}/replenish"), &asked).expect(200);
    let status = hear.try_recv().expect("the change came in between");
    assert_eq!(status["generation"], 2);
    let now = shop.now();
    shop.phone.accept(token, &keys, now);
    shop.phone.hear_pin_status(token, &change, &status);
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "pin_wrong");
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
}

/// Two cards on one phone: the right PIN of one is a wrong one of the other, and each has its own tries.
#[test]
fn every_token_has_a_pin_and_tries_of_its_own() {
    let mut shop = shop_with_pin("7391");
    let first = shop.token.clone();
    shop.take_another_card(10_000);
    assert_eq!(change_pin(&mut shop, "2846", None)["generation"], 1);
    shop.replenish();
    let second = shop.token.clone();
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "pin_wrong");
    assert_eq!(tries_left(&shop), 2);
    shop.choose(&first);
    assert_eq!(tries_left(&shop), 3);
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "pin_wrong");
    assert_eq!(tries_left(&shop), 2);
    // What is right for one gives the other no tries back.
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "approved");
    assert_eq!(tries_left(&shop), 3);
    shop.choose(&second);
    assert_eq!(tries_left(&shop), 2);
    for _ in 0..2 {
        assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "pin_wrong");
    }
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "pin_blocked");
    // A reset of one, a change of the other: neither touches its neighbour.
    shop.choose(&first);
    assert_eq!(pay_with_pin(&mut shop, "7391", 3_000)["reason"], "approved");
    assert_eq!(change_pin(&mut shop, "1357", Some("7391"))["generation"], 2);
    shop.replenish();
    shop.choose(&second);
    assert_eq!(shop.device.get(&pin_path(&shop)).expect(200)["blocked"], true);
    shop.choose(&first);
    assert_eq!(pay_with_pin(&mut shop, "1357", 3_000)["reason"], "approved");
}

/// The answer to a payment with a wrong PIN is lost: asked again, it is told again and costs nothing.
#[test]
fn one_wrong_tap_costs_one_try() {
    let mut shop = shop_with_pin("7391");
    let now = shop.now();
    shop.phone.enter_pin(shop.token.parse().unwrap(), "1111", now);
    let intent = shop.armed_intent(3_000);
    let chip_data = shop.tap(&intent, 3_000);
    let first = shop.authorize(&intent, &chip_data).expect(201);
    let again = shop.authorize(&intent, &chip_data).expect(201);
    assert_eq!((&first["reason"], &first["id"]), (&json!("pin_wrong"), &again["id"]));
    let elsewhere = shop.armed_intent(3_000);
    assert_eq!(shop.authorize(&elsewhere, &chip_data).expect(201)["reason"], "replay");
    assert_eq!(tries_left(&shop), 2);
}

#[test]
fn attack_verification_downgrade() {
    let shop = Shop::open();
    set_policy(&shop, &app_pin_policy());
    let mut liar = Liar::enrol(&shop);
    for method in
        [VerificationMethod::None, VerificationMethod::DeviceUnlock, VerificationMethod::Pin]
    {
        let tap = Tap { method, ..Tap::new(3_000, shop.now()) };
        let answer = shop.pay_with_lie(&mut liar, &tap);
        assert_eq!(answer["reason"], "verification_required", "{method:?}");
    }
}

#[test]
fn attack_no_verification_limit_bypass_by_split_amounts() {
    for (amounts, last) in [([100; 3].as_slice(), 100), ([2_400, 2_400].as_slice(), 2_400)] {
        let shop = Shop::open();
        set_policy(&shop, &app_pin_policy());
        let mut liar = Liar::enrol(&shop);
        for &amount in amounts {
            let tap = Tap::new(amount, shop.now());
            assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "approved");
        }
        let tap = Tap::new(last, shop.now());
        assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "verification_required");
    }
}

#[test]
fn attack_no_verification_limit_bypass_by_currency() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    let tap = Tap { currency: 392, ..Tap::new(100, shop.now()) };
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "currency_mismatch");
}

#[test]
fn attack_key_use_after_suspension() {
    let mut shop = shop_with_pin("7391");
    let intent = shop.armed_intent(3_000);
    let now = shop.now();
    shop.phone.enter_pin(shop.token.parse().unwrap(), "7391", now);
    let chip_data = shop.tap(&intent, 3_000);
    shop.change_token("suspend", "issuer").expect(200);
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["reason"], "token_suspended");
    // A guess while the token is suspended is answered alike, and counts nothing.
    shop.phone.enter_pin(shop.token.parse().unwrap(), "1111", now);
    assert_eq!(shop.pay(3_000)["reason"], "token_suspended");
    assert_eq!(shop.issuer.get(&pin_path(&shop)).expect(200)["tries_left"], 3);
}

pub(crate) fn seal(shop: &Shop, info: &[u8], associated: &str, pin: &str) -> Value {
    let trust = shop.terminal.get("/v1/trust").expect(200);
    let key = unhex(&trust["issuers"][0]["pin_key"]);
    let key = <DhP256HkdfSha256 as Kem>::PublicKey::from_bytes(&key).unwrap();
    let block = pin.parse::<Pin>().unwrap().to_block([7; 8]);
    let (encapsulated, ciphertext) =
        hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &OpModeS::Base,
            &key,
            info,
            block.expose(),
            associated.as_bytes(),
            &mut random(),
        )
        .unwrap();
    json!({ "encapsulated_key": hex(&encapsulated.to_bytes()), "ciphertext": hex(&ciphertext) })
}

#[test]
fn the_cards_pin_at_the_terminal() {
    let shop = Shop::open();
    set_policy(&shop, &terminal_pin_policy());
    let sealed = seal(&shop, CARD_PIN_INFO, &shop.card, "4711");
    let path = format!("/v1/cards/{}/pin", shop.card);
    shop.issuer.post(&path, &json!({ "sealed_pin": sealed })).expect(200);
    let mut liar = Liar::enrol(&shop);
    let mut judged = 0;
    let mut pay = |pin: Option<&str>, bound_to_this: bool| {
        // A key of this shop is good for four payments.
        let (key, method) = (judged / 4, VerificationMethod::TerminalPin);
        judged += usize::from(bound_to_this);
        let tap = Tap { key, method, ..Tap::new(3_000, shop.now()) };
        let intent = shop.armed_intent(3_000);
        let mut request = json!({ "payment_intent": intent, "chip_data": liar.tap(&tap) });
        if let Some(pin) = pin {
            let other = shop.intent(3_000);
            let bound_to = if bound_to_this { &intent } else { &other };
            let associated = format!("{bound_to}{}", shop.terminal_id);
            request["online_pin"] = seal(&shop, ONLINE_PIN_INFO, &associated, pin);
        }
        let reply = shop.terminal.post("/v1/authorizations", &request);
        if !bound_to_this {
            assert_eq!(reply.problem(422), "invalid_request");
            shop.merchant.post(&format!("/v1/payment-intents/{intent}/cancel"), &json!({}));
            return json!(null);
        }
        reply.expect(201)["reason"].clone()
    };
    assert_eq!(pay(None, true), "verification_required");
    assert_eq!(pay(Some("4711"), false), json!(null), "sealed for another payment");
    assert_eq!(pay(Some("4711"), true), "approved");
    assert_eq!(pay(Some("4712"), true), "pin_wrong");
    assert_eq!(pay(Some("4711"), true), "approved", "which gives the tries back");
    for _ in 0..3 {
        assert_eq!(pay(Some("4712"), true), "pin_wrong");
    }
    assert_eq!(pay(Some("4711"), true), "pin_blocked");
}

/// Where neither a right nor a wrong PIN on the phone counts, what comes with the tap must not tell them
/// apart: here a PIN at the terminal that does not open, with a terminal that waits for nothing.
#[test]
fn attack_pin_guessed_beside_an_unreadable_terminal_pin() {
    let mut shop = shop_with_pin("7391");
    let sealed = seal(&shop, CARD_PIN_INFO, &shop.card, "4711");
    let path = format!("/v1/cards/{}/pin", shop.card);
    shop.issuer.post(&path, &json!({ "sealed_pin": sealed })).expect(200);
    let mut answer = |pin: &str| {
        let (token, now) = (shop.token.parse().unwrap(), shop.now());
        shop.phone.enter_pin(token, pin, now);
        let intent = shop.intent(3_000);
        let chip_data = shop.tap(&intent, 3_000);
        let garbage = seal(&shop, ONLINE_PIN_INFO, "another payment", "4711");
        let request = json!({
            "payment_intent": intent, "chip_data": chip_data, "online_pin": garbage
        });
        shop.terminal.post("/v1/authorizations", &request).problem(422).to_owned()
    };
    assert_eq!(answer("7391"), answer("1111"));
    assert_eq!(tries_left(&shop), 3);
}

#[test]
fn a_policy_has_versions_and_old_ones_end() {
    let mut shop = Shop::open();
    let first = shop.issuer.get(&format!("/v1/issuers/{}/policy", shop.issuer_id)).expect(200);
    assert_eq!(first["policy"]["version"], 1);
    let second = set_policy(&shop, &app_pin_policy());
    assert_eq!(second["policy"]["version"], 2);
    assert_eq!(shop.pay(500)["reason"], "approved", "by the version that the phone knows");
    let path = format!("/v1/issuers/{}/policy", shop.issuer_id);
    let mut bad = app_pin_policy();
    bad["currency"] = json!("CHF");
    assert_eq!(shop.issuer.put(&path, &bad).problem(422), "invalid_request");
    bad = app_pin_policy();
    bad["limit"] = json!(-1);
    assert_eq!(shop.issuer.put(&path, &bad).problem(422), "invalid_request");
    assert_eq!(shop.merchant.put(&path, &app_pin_policy()).problem(403), "forbidden");
}

/// Who has fetched keys all day long and then forgets the PIN pays with the new one at once.
#[test]
fn a_new_pin_has_keys_whatever_was_fetched_before() {
    let mut shop = shop_with_pin("7391");
    for _ in 0..60 {
        shop.replenish();
    }
    let reset = format!("{}/reset", pin_path(&shop));
    shop.issuer.post(&reset, &reason("hotline, caller identified")).expect(200);
    shop.replenish();
    assert_eq!(change_pin(&mut shop, "2846", None)["generation"], 2);
    shop.replenish();
    assert_eq!(pay_with_pin(&mut shop, "2846", 3_000)["reason"], "approved");
}

/// The chip data of a real tap under another counter, with an invented cryptogram.
fn invented(chip_data: &str, counter: u16) -> String {
    use tapfer_emv::{tags, tlv};
    let bytes = data_encoding::HEXLOWER.decode(chip_data.as_bytes()).unwrap();
    let mut out = Vec::new();
    for object in tlv::parse(&bytes).unwrap() {
        let value = match object.tag {
            tags::APPLICATION_TRANSACTION_COUNTER => counter.to_be_bytes().to_vec(),
            tags::APPLICATION_CRYPTOGRAM => vec![0xEE; 8],
            _ => object.value.to_vec(),
        };
        tlv::write(&mut out, object.tag, &value);
    }
    hex(&out)
}

/// A merchant with one real tap invents forty more and blocks the PIN. After the issuer's reset the new PIN pays,
/// under the very counters that were invented.
#[test]
fn attack_counters_invented_behind_a_blocked_pin() {
    let mut shop = shop_with_pin("7391");
    let now = shop.now();
    shop.phone.enter_pin(shop.token.parse().unwrap(), "7391", now);
    let intent = shop.armed_intent(3_000);
    let real = shop.tap(&intent, 3_000);
    let paid = shop.authorize(&intent, &real).expect(201);
    assert_eq!(paid["reason"], "approved");
    let bytes = data_encoding::HEXLOWER.decode(real.as_bytes()).unwrap();
    let counter = tapfer_emv::tlv::find(&bytes, tapfer_emv::tags::APPLICATION_TRANSACTION_COUNTER);
    let last = u16::from_be_bytes(counter.unwrap().unwrap().try_into().unwrap());
    let mut blocked = 0;
    for counter in last + 1..last + 41 {
        let intent = shop.armed_intent(3_000);
        let answer = shop.authorize(&intent, &invented(&real, counter)).expect(201);
        blocked += u16::from(answer["reason"] == "pin_blocked");
    }
    assert!(blocked > 20, "{blocked}");
    let reset = format!("{}/reset", pin_path(&shop));
    shop.issuer.post(&reset, &reason("hotline, caller identified")).expect(200);
    shop.replenish();
    assert_eq!(change_pin(&mut shop, "2846", None)["blocked"], false);
    for _ in 0..6 {
        shop.replenish();
        assert_eq!(pay_with_pin(&mut shop, "2846", 500)["reason"], "approved");
    }
}
