//! Payments: approved, declined for each reason a caller can provoke, captured, refunded, reversed.

use serde_json::{Value, json};
use tapfer_emv::iad::VerificationMethod;
use tapfer_emv::tags;
use tapfer_emv::tlv::{self, Tag};

use crate::liar::{Liar, Tap};
use crate::phone::hex;
use crate::shop::{Shop, id};

#[track_caller]
fn declined(decision: &Value, reason: &str) {
    assert_eq!(decision["outcome"], "declined", "{decision}");
    assert_eq!(decision["reason"], reason, "{decision}");
    assert!(!decision["reason_text"].as_str().unwrap().is_empty());
}

#[test]
fn a_payment_is_approved_and_booked_and_survives_a_restart() {
    let mut shop = Shop::open();
    let decision = shop.pay(1_234);
    assert_eq!(decision["outcome"], "approved", "{decision}");
    assert_eq!(decision["reason"], "approved");
    assert_eq!((&decision["amount"], &decision["currency"]), (&json!(1_234), &json!("EUR")));
    assert_eq!(shop.account(), (8_766, 8_766));

    shop.platform.restart();
    let operator = shop.platform.operator.clone();
    let found = operator.get(&format!("/v1/authorizations/{}", id(&decision))).expect(200);
    assert_eq!(found, decision);
    let intent = decision["payment_intent"].as_str().unwrap();
    let intent = operator.get(&format!("/v1/payment-intents/{intent}")).expect(200);
    assert_eq!(intent["status"], "succeeded");
    assert_eq!(intent["authorization"], decision["id"]);
    let entries = operator.get(&format!("/v1/cards/{}/entries?limit=2", shop.card)).expect(200);
    let entry = |number: usize| {
        let entry = &entries["data"][number];
        [entry["kind"].clone(), entry["amount"].clone(), entry["held"].clone()]
    };
    assert_eq!(entry(1), [json!("hold"), json!(-1_234), json!(1_234)]);
    assert_eq!(entry(0), [json!("capture"), json!(0), json!(-1_234)]);
    let cursor = entries["next_cursor"].as_str().unwrap();
    let next = format!("/v1/cards/{}/entries?cursor={cursor}", shop.card);
    assert_eq!(operator.get(&next).expect(200)["data"][0]["kind"], "top_up");
}

/// The cashier reads the reason in the language that the till asks for.
#[test]
fn a_reason_in_german() {
    let mut shop = Shop::open();
    let intent = shop.intent(500);
    let request = json!({ "payment_intent": intent, "chip_data": shop.tap(&intent, 500) });
    let german = ("accept-language", "de-AT,en;q=0.5");
    let headers = [("content-type", "application/json"), ("idempotency-key", "tap"), german];
    let body = request.to_string();
    let decision = shop.terminal.send("POST", "/v1/authorizations", &headers, body.as_bytes());
    let decision = decision.expect(201);
    let text = decision["reason_text"].as_str().unwrap();
    assert!(text.starts_with("Dieses Terminal war"), "{text}");
    let path = format!("/v1/authorizations/{}", id(&decision));
    assert_eq!(shop.terminal.send("GET", &path, &[german], b"").expect(200), decision);
    let english = shop.terminal.get(&path).expect(200);
    assert!(english["reason_text"].as_str().unwrap().starts_with("This terminal"));
}

#[test]
fn a_tap_counts_once() {
    let mut shop = Shop::open();
    let first = shop.armed_intent(500);
    let chip_data = shop.tap(&first, 500);
    assert_eq!(shop.authorize(&first, &chip_data).expect(201)["outcome"], "approved");
    let second = shop.armed_intent(500);
    declined(&shop.authorize(&second, &chip_data).expect(201), "replay");
    assert_eq!(shop.account(), (9_500, 9_500));
}

#[test]
fn an_unarmed_terminal_takes_no_card() {
    let mut shop = Shop::open();
    let intent = shop.intent(500);
    let chip_data = shop.tap(&intent, 500);
    declined(&shop.authorize(&intent, &chip_data).expect(201), "terminal_not_armed");
    // Armed once, for one tap, and for five minutes.
    let armed = shop.armed_intent(500);
    let chip_data = shop.tap(&armed, 500);
    assert_eq!(shop.authorize(&armed, &chip_data).expect(201)["outcome"], "approved");
    let chip_data = shop.tap(&armed, 500);
    declined(&shop.authorize(&armed, &chip_data).expect(201), "terminal_not_armed");
    let late = shop.armed_intent(500);
    shop.platform.clock.advance_seconds(301);
    let chip_data = shop.tap(&late, 500);
    declined(&shop.authorize(&late, &chip_data).expect(201), "terminal_not_armed");
}

#[test]
fn what_was_signed_is_what_counts() {
    let mut shop = Shop::open();
    // The till asks for more than the card agreed to.
    let intent = shop.armed_intent(50_000);
    let chip_data = shop.tap(&intent, 500);
    declined(&shop.authorize(&intent, &chip_data).expect(201), "amount_mismatch");
    // Somebody changes the amount on the way.
    let intent = shop.armed_intent(50_000);
    let forged = shop.tap(&intent, 500).replace("9f0206000000000500", "9f0206000000050000");
    declined(&shop.authorize(&intent, &forged).expect(201), "cryptogram_invalid");
    assert_eq!(shop.account(), (10_000, 10_000));
}

/// What neither our wallet nor our terminal would send, rightly signed.
#[test]
fn a_right_cryptogram_is_not_enough() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    let tap = Tap::new(500, shop.now());
    let lies = [
        (Tap { currency: 840, ..tap.clone() }, "currency_mismatch"),
        (Tap { now: tap.now.plus_seconds(3 * 86_400), ..tap.clone() }, "stale_date"),
        (Tap { tvr: [0x04, 0, 0, 0, 0], ..tap.clone() }, "local_authentication_failed"),
        (Tap { declined: true, ..tap.clone() }, "card_declined"),
        (Tap { amount: 2_501, key: 1, ..tap.clone() }, "verification_required"),
        (Tap { screen_on: false, key: 1, ..tap.clone() }, "verification_required"),
        // A PIN without a key that needs it.
        (
            Tap { amount: 2_501, key: 1, method: VerificationMethod::Pin, ..tap },
            "verification_required",
        ),
    ];
    for (lie, reason) in lies {
        declined(&shop.pay_with_lie(&mut liar, &lie), reason);
    }
    assert_eq!(shop.account(), (10_000, 10_000));
}

#[test]
fn limits_of_person_and_money() {
    let mut shop = Shop::open();
    assert_eq!(shop.pay(2_500)["outcome"], "approved");
    shop.phone.device.unlocked = true;
    assert_eq!(shop.pay(6_500)["outcome"], "approved");
    declined(&shop.pay(1_001), "insufficient_funds");
    assert_eq!(shop.pay(1_000)["outcome"], "approved");
    assert_eq!(shop.account(), (0, 0));
}

/// The platform keeps the limits of keys itself, whatever a phone thinks it may.
#[test]
fn limits_of_keys() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    let tap = Tap::new(100, shop.now());
    for _ in 0..4 {
        assert_eq!(shop.pay_with_lie(&mut liar, &tap)["outcome"], "approved");
    }
    declined(&shop.pay_with_lie(&mut liar, &tap), "key_exhausted");
    let other_key = Tap { key: 1, ..tap };
    assert_eq!(shop.pay_with_lie(&mut liar, &other_key)["outcome"], "approved");
    shop.platform.clock.advance_seconds(86_401);
    let late = Tap { now: shop.now(), ..other_key };
    declined(&shop.pay_with_lie(&mut liar, &late), "key_expired");
    liar.replenish();
    assert_eq!(shop.pay_with_lie(&mut liar, &late)["outcome"], "approved");
}

/// A card of somebody else is declined, and that is an answer: recorded, and the tap is used up.
#[test]
fn a_card_that_is_not_ours() {
    let mut shop = Shop::open();
    let intent = shop.intent(500);
    let chip_data = shop.tap(&intent, 500);
    let numbers = [
        ("another issuer's", "5a084111111111111111"),
        ("without check digit", "5a084111111111111112"),
        ("short", "5a0541111111ff"),
    ];
    for (name, number) in numbers {
        for application_data in [None, Some(""), Some("06011203a00000"), Some(&"06".repeat(18))] {
            let intent = shop.armed_intent(500);
            let mut foreign = replace_object(&chip_data, tags::APPLICATION_PAN, number);
            if let Some(data) = application_data {
                let object = format!("9f10{:02x}{data}", data.len() / 2);
                foreign = replace_object(&foreign, tags::ISSUER_APPLICATION_DATA, &object);
            }
            let decision = shop.authorize(&intent, &foreign).expect(201);
            declined(&decision, "unknown_token");
            let path = format!("/v1/authorizations/{}", id(&decision));
            assert_eq!(shop.terminal.get(&path).expect(200), decision, "{name}");
            let path = format!("/v1/payment-intents/{intent}");
            let arming = &shop.merchant.get(&path).expect(200)["arming"];
            assert_eq!(arming["state"], "consumed", "{name}");
        }
    }
    // One of ours, but with application data of another making.
    let intent = shop.armed_intent(500);
    let object = format!("9f1012{}", "06".repeat(18));
    let changed = replace_object(&chip_data, tags::ISSUER_APPLICATION_DATA, &object);
    declined(&shop.authorize(&intent, &changed).expect(201), "cryptogram_invalid");
}

/// Puts another object (hex) where the object of this tag stands.
fn replace_object(chip_data: &str, tag: Tag, object: &str) -> String {
    let bytes = data_encoding::HEXLOWER.decode(chip_data.as_bytes()).unwrap();
    let objects = tlv::parse(&bytes).unwrap();
    let texts = objects.iter().map(|found| match found.tag == tag {
        true => object.to_owned(),
        false => hex(found.raw),
    });
    texts.collect()
}

#[test]
fn captured_later_in_part_then_refunded_then_reversed() {
    let mut shop = Shop::open();
    let request = json!({ "amount": 2_000, "currency": "EUR", "capture_method": "manual" });
    let intent = id(&shop.merchant.post("/v1/payment-intents", &request).expect(201));
    shop.arm(&intent);
    let chip_data = shop.tap(&intent, 2_000);
    let authorization = shop.authorize(&intent, &chip_data).expect(201);
    assert_eq!(shop.account(), (10_000, 8_000), "held, not booked");

    let path = format!("/v1/payment-intents/{intent}");
    let too_much = shop.merchant.post(&format!("{path}/capture"), &json!({ "amount": 2_001 }));
    assert_eq!(too_much.problem(422), "invalid_request");
    let captured = shop.merchant.post(&format!("{path}/capture"), &json!({ "amount": 1_500 }));
    assert_eq!(captured.expect(200)["captured"], 1_500);
    assert_eq!(shop.account(), (8_500, 8_500));
    let again = shop.merchant.post(&format!("{path}/capture"), &json!({}));
    assert_eq!(again.problem(409), "conflict");

    let refund = json!({ "payment_intent": intent, "amount": 400 });
    let refunded = shop.merchant.post("/v1/refunds", &refund).expect(201);
    assert_eq!(refunded["amount"], 400);
    let too_much = json!({ "payment_intent": intent, "amount": 1_101 });
    assert_eq!(shop.merchant.post("/v1/refunds", &too_much).problem(422), "invalid_request");
    let listed = shop.merchant.get(&format!("/v1/refunds?payment_intent={intent}")).expect(200);
    assert_eq!(listed["data"], json!([refunded]));
    assert_eq!(shop.account(), (8_900, 8_900));

    let path = format!("/v1/authorizations/{}/reversals", id(&authorization));
    // The merchant has captured and refunded: no business of the terminal's any more.
    let by_terminal = shop.terminal.post(&path, &json!({ "reason": "lost the answer" }));
    assert_eq!(by_terminal.problem(409), "conflict");
    let reversal = shop.merchant.post(&path, &json!({ "reason": "walked away" })).expect(201);
    assert_eq!(reversal["amount"], 1_100);
    assert_eq!(shop.account(), (10_000, 10_000));
    let again = shop.merchant.post(&path, &json!({ "reason": "once more" }));
    assert_eq!(again.problem(409), "conflict");
    let path = format!("/v1/reversals/{}", id(&reversal));
    for client in [&shop.merchant, &shop.terminal, &shop.platform.operator] {
        assert_eq!(client.get(&path).expect(200), reversal);
    }
    assert_eq!(shop.issuer.get(&path).problem(403), "forbidden");
    let intent = shop.merchant.get(&format!("/v1/payment-intents/{intent}")).expect(200);
    let amounts = ["captured", "refunded", "reversed"].map(|field| intent[field].clone());
    assert_eq!(amounts, [1_500, 400, 1_100]);
}

/// A copied phone signs under a counter that the other one has used: both are stopped, and the operator
/// alone lets them pay again.
#[test]
fn attack_copied_phone() {
    let mut shop = Shop::open();
    let mut copy = shop.phone.copy();
    assert_eq!(shop.pay(100)["outcome"], "approved");
    core::mem::swap(&mut shop.phone, &mut copy);
    assert_eq!(shop.pay(200)["reason"], "counter_reused");
    core::mem::swap(&mut shop.phone, &mut copy);
    assert_eq!(shop.pay(100)["reason"], "token_suspended");
    assert_eq!(shop.account(), (9_900, 9_900));
    let path = format!("/v1/tokens/{}", shop.token);
    let token = shop.issuer.get(&path).expect(200);
    assert_eq!(token["suspended_by"], json!(["platform"]));
    assert_eq!(shop.change_token("unsuspend", "issuer").problem(409), "conflict");
    let seen = crate::running::log();
    let mut events = seen.lines().filter(|line| line.contains(&shop.token));
    assert!(
        events.any(|line| line.contains("counter_reused") && line.contains("tapfer::security"))
    );
    let operator = &shop.platform.operator;
    operator.post(&format!("{path}/unsuspend"), &crate::shop::by("platform")).expect(200);
    assert_eq!(shop.pay(100)["outcome"], "approved");
}

#[test]
fn a_canceled_intent_gives_back_what_is_held() {
    let mut shop = Shop::open();
    let request = json!({ "amount": 2_000, "currency": "EUR", "capture_method": "manual" });
    let intent = id(&shop.merchant.post("/v1/payment-intents", &request).expect(201));
    shop.arm(&intent);
    let chip_data = shop.tap(&intent, 2_000);
    shop.authorize(&intent, &chip_data).expect(201);
    let canceled = shop.merchant.post(&format!("/v1/payment-intents/{intent}/cancel"), &json!({}));
    assert_eq!(canceled.expect(200)["status"], "canceled");
    assert_eq!(shop.account(), (10_000, 10_000));
}

#[test]
fn bad_chip_data_is_the_callers_problem() {
    let mut shop = Shop::open();
    let intent = shop.armed_intent(500);
    let good = shop.tap(&intent, 500);
    let without = |tag: &str, length: usize| {
        let (before, after) = good.split_once(tag).unwrap();
        format!("{before}{}", &after[length..])
    };
    let bad = [
        String::new(),
        "ff".to_owned(),
        "9f02".to_owned(),
        "00".repeat(2_049),
        good[..good.len() - 2].to_owned(),
        format!("{good}9f2701 80").replace(' ', ""),
        without("9f2608", 16),
        good.replace("9f270180", "9f270100"),
        good.replace("9f0206000000000500", "9f02060000000005aa"),
    ];
    for chip_data in bad {
        let reply = shop.authorize(&intent, &chip_data);
        assert_eq!(reply.problem(422), "invalid_chip_data", "{chip_data}");
    }
    // None of them used up the arming.
    assert_eq!(shop.authorize(&intent, &good).expect(201)["outcome"], "approved");
}

#[test]
fn at_the_same_moment_money_is_spent_once() {
    let mut shop = Shop::open();
    // Four payments of 30.00 from 100.00, each verified, all at once.
    shop.phone.device.unlocked = true;
    let taps: Vec<_> = (0..4)
        .map(|_| {
            let terminal = json!({ "merchant": shop.merchant_id, "label": "more" });
            let terminal = shop.merchant.post("/v1/terminals", &terminal).expect(201);
            let intent = shop.intent(3_000);
            let path = format!("/v1/payment-intents/{intent}/arm");
            shop.merchant.post(&path, &json!({ "terminal": terminal["id"] })).expect(200);
            let client = shop.platform.operator.with_key(&terminal["api_key"]);
            (client, json!({ "payment_intent": intent, "chip_data": shop.tap(&intent, 3_000) }))
        })
        .collect();
    let decisions: Vec<Value> = std::thread::scope(|scope| {
        let running: Vec<_> = taps
            .iter()
            .map(|(client, request)| {
                scope.spawn(move || client.post("/v1/authorizations", request).expect(201))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let approved = decisions.iter().filter(|decision| decision["outcome"] == "approved").count();
    let (balance, available) = shop.account();
    assert_eq!(balance, available);
    assert_eq!(balance, 10_000 - 3_000 * i64::try_from(approved).unwrap());
    assert!((1..=3).contains(&approved), "{decisions:?}");
    for decision in decisions.iter().filter(|decision| decision["outcome"] == "declined") {
        let reason = decision["reason"].as_str().unwrap();
        assert!(["insufficient_funds", "counter_stale"].contains(&reason), "{reason}");
    }
}
