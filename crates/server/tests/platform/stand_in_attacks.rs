//! What attackers try at a node that decides small payments alone while its database is away.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::pins::{app_pin_policy, change_pin, set_policy};
use crate::running::log;
use crate::shop::{id, reason};
use crate::stand_in::{Town, approved, refused, until};

/// A tap with the highest counter (`9F36`) in the place of its own: its cryptogram is none of that counter's.
fn highest_counter_is_declined(town: &Town, intent: &str, mut tapped: String) {
    let counter = tapped.to_lowercase().find("9f3602").unwrap() + 6;
    tapped.replace_range(counter..counter + 4, "ffff");
    let declined = town.shop.authorize(intent, &tapped).expect(201);
    assert_eq!(declined["reason"], "cryptogram_invalid", "{declined}");
}

/// Whoever has a till and a card gets no more out of a node than its limits.
#[test]
fn attack_more_than_a_stand_in_may_promise() {
    let mut town = Town::open();
    town.lose_the_database();
    let too_much = json!({ "amount": 1_001, "currency": "EUR" });
    refused(&town.shop.merchant.post("/v1/payment-intents", &too_much), "payment_amount");
    for _ in 0..2 {
        approved(&town.shop.pay(1_000));
    }
    let intent = town.shop.armed_intent(501);
    let tapped = town.shop.tap(&intent, 501);
    refused(&town.shop.authorize(&intent, &tapped), "token_amount");
    town.shop
        .merchant
        .post(&format!("/v1/payment-intents/{intent}/cancel"), &json!({}))
        .expect(200);
    approved(&town.shop.pay(400));
    let intent = town.shop.armed_intent(10);
    let tapped = town.shop.tap(&intent, 10);
    refused(&town.shop.authorize(&intent, &tapped), "token_payments");
    // Ten minutes later nothing is decided any more, and no intent is made.
    town.shop.platform.clock.advance_seconds(601);
    let small = json!({ "amount": 10, "currency": "EUR" });
    refused(&town.shop.merchant.post("/v1/payment-intents", &small), "minutes");
    refused(&town.ready(), "minutes");
    town.find_the_database();
    assert_eq!(town.shop.account(), (10_000 - 2_500, 10_000 - 2_500));
    // What was refused there can be paid now.
    town.shop.arm(&intent);
    let tapped = town.shop.tap(&intent, 10);
    approved(&town.shop.authorize(&intent, &tapped).expect(201));
    town.assert_sound();
}

/// Whoever saw a tap names any counter with a wrong cryptogram: the phone that has the right ones pays at a node that is alone all the
/// same.
#[test]
fn attack_highest_counter_with_a_wrong_cryptogram() {
    let mut town = Town::open();
    let intent = town.shop.armed_intent(100);
    let tapped = town.shop.tap(&intent, 100);
    highest_counter_is_declined(&town, &intent, tapped);
    town.lose_the_database();
    approved(&town.shop.pay(200));
    town.find_the_database();
    town.assert_sound();
}

/// Where a wrong PIN does not count, a right one is not told from it: also not by what a node refuses alone behind it.
#[test]
fn attack_pin_guessed_by_what_a_stand_in_refuses() {
    let mut town = Town::open();
    set_policy(&town.shop, &app_pin_policy());
    town.shop.replenish();
    change_pin(&mut town.shop, "7391", None);
    town.shop.replenish();
    approved(&town.shop.pay(100));
    let intent = town.shop.armed_intent(100);
    let kept = town.shop.tap(&intent, 100);
    // The right one, at a terminal that waits for another payment: no try is counted.
    let now = town.shop.now();
    town.shop.phone.enter_pin(town.shop.token.parse().unwrap(), "7391", now);
    let unarmed = town.shop.intent(3_000);
    let guessed = town.shop.tap(&unarmed, 3_000);
    let declined = town.shop.authorize(&unarmed, &guessed).expect(201);
    assert_eq!(declined["outcome"], "declined", "{declined}");
    let cancel = format!("/v1/payment-intents/{intent}/cancel");
    town.shop.merchant.post(&cancel, &json!({})).expect(200);
    town.lose_the_database();
    let own = town.shop.armed_intent(100);
    approved(&town.shop.authorize(&own, &kept).expect(201));
    town.find_the_database();
    town.assert_sound();
}

/// Whoever can make the database go and come gets no new limits with it.
#[test]
fn attack_limits_anew_with_each_short_break() {
    let mut town = Town::open();
    town.lose_the_database();
    (0..3).for_each(|_| drop(approved(&town.shop.pay(10))));
    for is_anew in [false, true] {
        town.find_the_database();
        approved(&town.shop.pay(10));
        town.shop.platform.clock.advance_seconds(if is_anew { 601 } else { 1 });
        town.lose_the_database();
        let intent = town.shop.armed_intent(10);
        let tapped = town.shop.tap(&intent, 10);
        let answer = town.shop.authorize(&intent, &tapped);
        match is_anew {
            false => refused(&answer, "token_payments"),
            true => drop(approved(&answer.expect(201))),
        }
        let cancel = format!("/v1/payment-intents/{intent}/cancel");
        let _done_or_paid = town.shop.merchant.post(&cancel, &json!({}));
    }
    town.find_the_database();
    town.assert_sound();
}

/// A break in which nothing was decided is one all the same: what was promised before it counts on behind it.
#[test]
fn attack_limits_anew_behind_a_break_without_a_decision() {
    let mut town = Town::open();
    town.lose_the_database();
    (0..3).for_each(|_| drop(approved(&town.shop.pay(10))));
    town.find_the_database();
    // Each break begins less than ten minutes behind the one before, and the last one more than that behind the first.
    town.shop.platform.clock.advance_seconds(400);
    town.lose_the_database();
    assert!(!town.journal().exists(), "nothing is decided");
    town.find_the_database();
    approved(&town.shop.pay(10));
    town.shop.platform.clock.advance_seconds(400);
    town.lose_the_database();
    let intent = town.shop.armed_intent(10);
    let tapped = town.shop.tap(&intent, 10);
    refused(&town.shop.authorize(&intent, &tapped), "token_payments");
    town.find_the_database();
    town.assert_sound();
}

/// Behind a tap that was put to the database, of which nothing came, somebody names a higher counter with a wrong cryptogram, and the
/// database declines it. That is no reason to forget the tap.
#[test]
fn attack_tried_counter_forgotten_behind_a_wrong_cryptogram() {
    let mut town = Town::open();
    let rule =
        "ALTER TABLE authorizations ADD CONSTRAINT none_of_these CHECK (amount <> 500) NOT VALID";
    town.database.say(rule);
    let of_database = town.shop.armed_intent(500);
    let tapped = town.shop.tap(&of_database, 500);
    assert_eq!(town.shop.authorize(&of_database, &tapped).status, 500);
    let cancel = format!("/v1/payment-intents/{of_database}/cancel");
    town.shop.merchant.post(&cancel, &json!({})).expect(200);
    let intent = town.shop.armed_intent(100);
    highest_counter_is_declined(&town, &intent, tapped.clone());

    town.lose_the_database();
    let own = town.shop.armed_intent(500);
    refused(&town.shop.authorize(&own, &tapped), "counter");
    let new = town.shop.tap(&own, 500);
    approved(&town.shop.authorize(&own, &new).expect(201));
    town.database.stand_still(false);
    town.database.say("ALTER TABLE authorizations DROP CONSTRAINT none_of_these");
    town.find_the_database();
    assert_eq!(town.shop.account(), (10_000 - 600, 10_000 - 600));
    town.assert_sound();
}

/// A tap that was put to the database, whose fate nobody knows, pays nothing alone.
#[test]
fn attack_tap_of_the_database_presented_to_a_stand_in() {
    let mut town = Town::open();
    let of_database = town.shop.armed_intent(500);
    let tapped = town.shop.tap(&of_database, 500);
    let question = json!({ "payment_intent": of_database, "chip_data": tapped });
    // The payment waits in the middle of its transaction when the database stops. Its commit was sent behind it: nobody knows.
    let mut holder = town.database.program("psql");
    let mut holder = holder.arg("-q").stdin(Stdio::piped()).spawn().unwrap();
    let mut order = holder.stdin.take().unwrap();
    order.write_all(b"BEGIN; LOCK TABLE tapfer.authorizations IN EXCLUSIVE MODE;\n").unwrap();
    let waiting =
        |count: &str| town.database.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == count;
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation = 'authorizations'::regclass";
    until("it is locked", || (town.database.ask(locked) == "1").then_some(()));
    let terminal = town.shop.terminal.clone();
    let asked = question.clone();
    let first = std::thread::spawn(move || terminal.post_as("first", "/v1/authorizations", &asked));
    until("the payment waits", || waiting("1").then_some(()));
    town.lose_the_database();
    assert_eq!(first.join().unwrap().problem(503), "unavailable");
    let again = town.shop.terminal.post_as("first", "/v1/authorizations", &question);
    refused(&again, "database_request");
    // The same tap for an intent of the node's own, which asks for as much; a new tap is another thing.
    let own = town.shop.armed_intent(500);
    refused(&town.shop.authorize(&own, &tapped), "counter");
    let new = town.shop.tap(&own, 500);
    approved(&town.shop.authorize(&own, &new).expect(201));
    drop(order);
    town.find_the_database();
    holder.wait().unwrap();
    assert_eq!(town.shop.account(), (10_000 - 600, 10_000 - 600));
    town.assert_sound();
}

/// A tap that was paid with alone is paid with once.
#[test]
fn attack_replayed_tap_at_a_stand_in() {
    let mut town = Town::open();
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let tapped = town.shop.tap(&intent, 300);
    approved(&town.shop.authorize(&intent, &tapped).expect(201));
    let second = town.shop.armed_intent(300);
    assert_eq!(town.shop.authorize(&second, &tapped).expect(201)["reason"], "replay");
    town.find_the_database();
    let third = town.shop.armed_intent(300);
    assert_eq!(town.shop.authorize(&third, &tapped).expect(201)["reason"], "replay");
    assert_eq!(town.shop.account(), (10_000 - 400, 10_000 - 400));
    town.assert_sound();
}

/// An API key that was taken back at this node, or not seen in force for too long, lets nobody in.
#[test]
fn attack_revoked_api_key_at_a_stand_in() {
    let town = Town::open();
    let operator = town.shop.platform.operator.clone();
    let owner = json!({ "owner": town.shop.merchant_id });
    let made = operator.post("/v1/api-keys", &owner).expect(201);
    let stolen = operator.with_key(&made["api_key"]);
    let small = json!({ "amount": 10, "currency": "EUR" });
    stolen.post("/v1/payment-intents", &small).expect(201);
    let revoke = format!("/v1/api-keys/{}/revoke", id(&made));
    operator.post(&revoke, &reason("stolen")).expect(200);
    town.lose_the_database();
    refused(&stolen.post("/v1/payment-intents", &small), "unknown_caller");
    town.shop.merchant.post("/v1/payment-intents", &small).expect(201);
    // What was seen long ago may be another by now.
    town.shop.platform.clock.advance_seconds(1_801);
    refused(&town.shop.merchant.post("/v1/payment-intents", &small), "unknown_caller");
    town.find_the_database();
}

/// A card that was blocked at this node does not pay alone.
#[test]
fn attack_blocked_card_at_a_stand_in() {
    let mut town = Town::open();
    town.shop
        .issuer
        .post(&format!("/v1/cards/{}/block", town.shop.card), &reason("lost"))
        .expect(200);
    town.lose_the_database();
    let intent = town.shop.armed_intent(300);
    let tapped = town.shop.tap(&intent, 300);
    refused(&town.shop.authorize(&intent, &tapped), "unknown_token");
    town.find_the_database();
    let tapped = town.shop.tap(&intent, 300);
    assert_eq!(town.shop.authorize(&intent, &tapped).expect(201)["reason"], "card_blocked");
}

/// What was taken out of service at another node, while all was well.
#[test]
fn attack_blocked_elsewhere_before_the_outage() {
    let of_till = "SELECT id FROM api_keys WHERE terminal_id IS NOT NULL";
    let blocks = [
        ("cards", "status = 'blocked', status_reason = 'lost'", "cards card_", "unknown_token"),
        (
            "terminals",
            "revoked_at = 1, revocation_reason = 'x'",
            "terminals term_",
            "unknown_terminal",
        ),
        (
            "api_keys",
            &format!("revoked_at = 1 WHERE id IN ({of_till})"),
            "api_keys key_",
            "unknown_caller",
        ),
    ];
    for (table, change, heard, refusal) in blocks {
        let mut town = Town::open();
        // As the other node writes it.
        town.database.say(&format!("UPDATE {table} SET {change}"));
        until("the node hears of it", || log().contains(heard).then_some(()));
        town.lose_the_database();
        let intent = town.shop.intent(300);
        let arm = json!({ "terminal": town.shop.terminal_id });
        let arming = town.shop.merchant.post(&format!("/v1/payment-intents/{intent}/arm"), &arm);
        if table == "terminals" {
            refused(&arming, refusal);
            continue;
        }
        arming.expect(200);
        let tapped = town.shop.tap(&intent, 300);
        refused(&town.shop.authorize(&intent, &tapped), refusal);
    }
}

/// One merchant's key that makes more payments than anybody pays leaves room for others'.
#[test]
fn attack_journal_filled_by_one_merchant() {
    let mut town = Town::open();
    let merchant = json!({ "name": "Kiosk", "country": "276", "category_code": "5814" });
    let operator = town.shop.platform.operator.clone();
    let other = operator.post("/v1/merchants", &merchant).expect(201);
    let greedy = operator.with_key(&other["api_key"]);
    let small = json!({ "amount": 1, "currency": "EUR" });
    greedy.post("/v1/payment-intents", &small).expect(201);
    town.lose_the_database();
    let made = (0..3_000).find(|_| greedy.post("/v1/payment-intents", &small).status != 201);
    assert_eq!(made, Some(2_000));
    refused(&greedy.post("/v1/payment-intents", &small), "full");
    approved(&town.shop.pay(300));
    town.find_the_database();
    assert_eq!(town.shop.account(), (9_600, 9_600));
    town.assert_sound();
}
