//! The same request twice has one effect and one answer.

use serde_json::{Value, json};

use crate::running::Reply;
use crate::shop::{Shop, issuer_request};

#[test]
fn the_stored_answer_comes_again_byte_for_byte() {
    let mut shop = Shop::open();
    let intent = shop.armed_intent(700);
    let chip_data = shop.tap(&intent, 700);
    let request = json!({ "payment_intent": intent, "chip_data": chip_data });
    let first = shop.terminal.post_as("tap-1", "/v1/authorizations", &request);
    assert_eq!(first.expect(201)["outcome"], "approved");
    assert!(!first.is_replayed());
    let again = shop.terminal.post_as("tap-1", "/v1/authorizations", &request);
    assert!(again.is_replayed());
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(shop.account(), (9_300, 9_300));

    shop.platform.restart();
    let terminal = shop.platform.operator.with_key(&json!(shop.terminal.key()));
    let after_restart = terminal.post_as("tap-1", "/v1/authorizations", &request);
    assert!(after_restart.is_replayed());
    assert_eq!(after_restart.body, first.body);
}

/// A till that lost the answer and its idempotency key still has the tap: it learns what was decided.
#[test]
fn the_same_tap_under_another_key_is_answered_with_the_first_decision() {
    let mut shop = Shop::open();
    let ask = |shop: &Shop, key: &str, request: &Value| {
        shop.terminal.post_as(key, "/v1/authorizations", request)
    };
    // Approved, and declined for want of money.
    shop.phone.device.unlocked = true;
    for (amount, outcome) in [(700, "approved"), (15_000, "declined")] {
        let intent = shop.armed_intent(amount);
        let chip_data = shop.tap(&intent, amount);
        let request = json!({ "payment_intent": intent, "chip_data": chip_data });
        let first = ask(&shop, &format!("{outcome}-1"), &request).expect(201);
        assert_eq!(first["outcome"], outcome);
        let again = ask(&shop, &format!("{outcome}-2"), &request);
        assert!(again.is_replayed());
        assert_eq!(again.expect(201), first);
        let third = ask(&shop, &format!("{outcome}-2"), &request);
        assert_eq!((third.is_replayed(), &third.body), (true, &again.body));
        let listed = format!("/v1/authorizations?payment_intent={intent}");
        assert_eq!(shop.merchant.get(&listed).expect(200)["data"], json!([first]));
    }
    assert_eq!(shop.account(), (9_300, 9_300));
}

#[test]
fn the_same_tap_at_the_same_moment_is_decided_once() {
    let mut shop = Shop::open();
    let intent = shop.armed_intent(700);
    let chip_data = shop.tap(&intent, 700);
    let decisions: Vec<Value> = std::thread::scope(|scope| {
        let ask = || shop.authorize(&intent, &chip_data).expect(201);
        let running: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(decisions[0]["outcome"], "approved");
    assert!(decisions.iter().all(|decision| *decision == decisions[0]), "{decisions:?}");
    assert_eq!(shop.account(), (9_300, 9_300));
}

/// The same tap for another payment, at another terminal, or changed on the way is no repetition.
#[test]
fn a_tap_for_anything_else_is_no_repetition() {
    let mut shop = Shop::open();
    let intent = shop.armed_intent(700);
    let chip_data = shop.tap(&intent, 700);
    assert_eq!(shop.authorize(&intent, &chip_data).expect(201)["outcome"], "approved");
    let reason = |reply: Reply| reply.expect(201)["reason"].clone();
    let changed = chip_data.replace("9f0206000000000700", "9f0206000000000701");
    assert_eq!(reason(shop.authorize(&intent, &changed)), "cryptogram_invalid");
    let other_intent = shop.armed_intent(700);
    assert_eq!(reason(shop.authorize(&other_intent, &chip_data)), "replay");
    let terminal = json!({ "merchant": shop.merchant_id, "label": "till 2" });
    let terminal = shop.merchant.post("/v1/terminals", &terminal).expect(201);
    shop.terminal = shop.platform.operator.with_key(&terminal["api_key"]);
    assert_eq!(reason(shop.authorize(&intent, &chip_data)), "replay");
}

#[test]
fn the_same_key_with_other_content_is_refused() {
    let shop = Shop::open();
    let path = format!("/v1/cards/{}/top-ups", shop.card);
    let top_up = |amount| json!({ "amount": amount, "currency": "EUR", "reference": "cash" });
    shop.issuer.post_as("k", &path, &top_up(100)).expect(201);
    let other = shop.issuer.post_as("k", &path, &top_up(200));
    assert_eq!(other.problem(422), "idempotency_key_reused");
    let elsewhere = format!("/v1/cards/{}/block", shop.card);
    let other = shop.issuer.post_as("k", &elsewhere, &json!({ "reason": "lost" }));
    assert_eq!(other.problem(422), "idempotency_key_reused");
    // Keys of different callers never meet.
    shop.platform.operator.post_as("k", &path, &top_up(200)).expect(201);
    assert_eq!(shop.account().0, 10_300);
}

#[test]
fn a_key_shown_once_is_shown_again_to_who_asked_and_works() {
    let shop = Shop::open();
    let request = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    let operator = &shop.platform.operator;
    let first = operator.post_as("kiosk", "/v1/merchants", &request);
    let again = operator.post_as("kiosk", "/v1/merchants", &request);
    assert!(again.is_replayed());
    assert_eq!(first.expect(201), again.expect(201));
    let merchant = operator.with_key(&again.json()["api_key"]);
    assert_eq!(merchant.get("/v1/merchants").expect(200)["data"][0]["name"], "Kiosk");
    // The database holds neither this key nor any other.
    let secret =
        again.json()["api_key"].as_str().unwrap().rsplit_once("merchant_").unwrap().1.to_owned();
    for file in ["tapfer.db", "tapfer.db-wal"] {
        let bytes = std::fs::read(shop.platform.home().join(file)).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{file}");
    }
}

#[test]
fn refused_requests_are_judged_anew() {
    let shop = Shop::open();
    let block = format!("/v1/cards/{}/unblock", shop.card);
    let body = json!({ "reason": "found" });
    assert_eq!(shop.issuer.post_as("u", &block, &body).problem(409), "conflict");
    let path = format!("/v1/cards/{}/block", shop.card);
    shop.issuer.post_as("b", &path, &body).expect(200);
    assert_eq!(shop.issuer.post_as("u", &block, &body).expect(200)["status"], "active");
}

#[test]
fn of_many_at_the_same_moment_one_has_an_effect() {
    let shop = Shop::open();
    let path = format!("/v1/cards/{}/top-ups", shop.card);
    let top_up = json!({ "amount": 100, "currency": "EUR", "reference": "cash" });
    let replies: Vec<_> = std::thread::scope(|scope| {
        let ask = || shop.issuer.post_as("once", &path, &top_up);
        let running: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(shop.account().0, 10_100);
    let answers: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    assert!(!answers.is_empty());
    assert!(answers.iter().all(|reply| reply.body == answers[0].body));
    for reply in replies.iter().filter(|reply| reply.status != 201) {
        assert_eq!(reply.problem(409), "idempotency_in_progress");
    }
}

#[test]
fn the_key_is_needed_and_has_a_form() {
    let shop = Shop::open();
    let json = ("content-type", "application/json");
    let body = issuer_request().to_string();
    let long = "k".repeat(256);
    let operator = &shop.platform.operator;
    for headers in [
        vec![json],
        vec![json, ("idempotency-key", "")],
        vec![json, ("idempotency-key", "with blank")],
        vec![json, ("idempotency-key", &long)],
    ] {
        let reply = operator.send("POST", "/v1/issuers", &headers, body.as_bytes());
        assert_eq!(reply.problem(400), "idempotency_key_missing");
    }
    let number = [json, ("idempotency-key", "4111111111111111")];
    let reply = operator.send("POST", "/v1/issuers", &number, body.as_bytes());
    assert_eq!(reply.problem(400), "malformed_request");
    let twice = [json, ("idempotency-key", "a"), ("idempotency-key", "b")];
    let reply = operator.send("POST", "/v1/issuers", &twice, body.as_bytes());
    assert_eq!(reply.problem(400), "malformed_request");
}
