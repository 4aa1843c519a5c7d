//! Cards and tokens: blocked, suspended, ended, looked up, shown.

use serde_json::json;

use crate::liar::{Liar, Tap};
use crate::shop::{Shop, by, id, reason};

#[test]
fn only_who_suspended_may_resume() {
    let mut shop = Shop::open();
    let suspended = shop.change_token("suspend", "issuer").expect(200);
    assert_eq!(
        (&suspended["status"], &suspended["suspended_by"]),
        (&json!("SUSPENDED"), &json!(["issuer"]))
    );
    assert_eq!(shop.pay(100)["reason"], "token_suspended");
    let replenish = format!("/v1/tokens/{}/replenish", shop.token);
    let request = shop.phone.replenish_request(shop.token.parse().unwrap());
    let refused = shop.device.post(&replenish, &request);
    assert_eq!(refused.problem(409), "conflict");
    assert_eq!(shop.change_token("unsuspend", "cardholder").problem(409), "conflict");
    assert_eq!(shop.change_token("unsuspend", "issuer").expect(200)["status"], "ACTIVE");
    assert_eq!(shop.pay(100)["outcome"], "approved");

    // The phone may stop its own token for its person, but not release it.
    let path = |verb: &str| format!("/v1/tokens/{}/{verb}", shop.token);
    assert_eq!(
        shop.device.post(&path("suspend"), &by("cardholder")).expect(200)["status"],
        "SUSPENDED"
    );
    assert_eq!(shop.device.post(&path("unsuspend"), &by("cardholder")).problem(403), "forbidden");
    assert_eq!(shop.issuer.post(&path("suspend"), &by("platform")).problem(403), "forbidden");

    assert_eq!(shop.change_token("delete", "issuer").expect(200)["status"], "DEACTIVATED");
    assert_eq!(shop.pay(100)["reason"], "token_deactivated");
    assert_eq!(shop.change_token("activate", "issuer").problem(409), "conflict");
}

#[test]
fn blocking_a_card_stops_its_tokens() {
    let mut shop = Shop::open();
    let path = format!("/v1/cards/{}", shop.card);
    let blocked = shop.issuer.post(&format!("{path}/block"), &reason("lost")).expect(200);
    assert_eq!(blocked["status"], "blocked");
    assert_eq!(shop.pay(100)["reason"], "card_blocked");
    let token = json!({ "card": shop.card, "device": shop.device_id });
    assert_eq!(shop.issuer.post("/v1/tokens", &token).problem(409), "conflict");
    shop.issuer.post(&format!("{path}/unblock"), &reason("found")).expect(200);
    assert_eq!(shop.pay(100)["outcome"], "approved");
}

/// What a closed card's phone has kept pays nowhere: its token is gone, and no verb brings card or token back.
#[test]
fn attack_closed_card_pays() {
    let mut shop = Shop::open();
    let path = format!("/v1/cards/{}", shop.card);
    let close = json!({ "reason": "left the campus", "pay_out": true });
    let reply = shop.issuer.post(&format!("{path}/close"), &reason("left"));
    assert_eq!(reply.problem(409), "conflict");
    for stranger in [&shop.device, &shop.merchant, &shop.terminal] {
        assert_eq!(stranger.post(&format!("{path}/close"), &close).problem(403), "forbidden");
    }
    let closed = shop.issuer.post_as("close-1", &format!("{path}/close"), &close).expect(200);
    assert_eq!((&closed["status"], &closed["balance"]), (&json!("closed"), &json!(0)));
    let again = shop.issuer.post_as("close-1", &format!("{path}/close"), &close).expect(200);
    assert_eq!(again, closed);
    assert_eq!(shop.pay(100)["reason"], "token_deactivated");
    for verb in ["block", "unblock", "close"] {
        let reply = shop.issuer.post(&format!("{path}/{verb}"), &reason("open it again"));
        assert_eq!(reply.problem(409), "conflict", "{verb}");
    }
    let top_up = json!({ "amount": 100, "currency": "EUR", "reference": "x" });
    assert_eq!(shop.issuer.post(&format!("{path}/top-ups"), &top_up).problem(409), "conflict");
    let token = json!({ "card": shop.card, "device": shop.device_id });
    assert_eq!(shop.issuer.post("/v1/tokens", &token).problem(409), "conflict");
    assert_eq!(shop.change_token("activate", "issuer").problem(409), "conflict");
    assert_eq!(shop.pay(100)["reason"], "token_deactivated");
}

/// Who has a number and a terminal's key, but not the card, learns nothing about either.
#[test]
fn states_are_told_to_who_shows_the_card() {
    let mut shop = Shop::open();
    let forged = |shop: &mut Shop| {
        let intent = shop.armed_intent(100);
        let chip_data = shop.tap(&intent, 100);
        let (before, after) = chip_data.split_once("9f2608").unwrap();
        let forged = format!("{before}9f2608{}{}", "00".repeat(8), &after[16..]);
        shop.authorize(&intent, &forged).expect(201)["reason"].clone()
    };
    let block = |verb: &str| format!("/v1/cards/{}/{verb}", shop.card);
    let (block, unblock) = (block("block"), block("unblock"));
    assert_eq!(forged(&mut shop), "cryptogram_invalid");
    shop.issuer.post(&block, &reason("lost")).expect(200);
    assert_eq!(forged(&mut shop), "cryptogram_invalid");
    shop.issuer.post(&unblock, &reason("found")).expect(200);
    for verb in ["suspend", "delete"] {
        shop.change_token(verb, "issuer").expect(200);
        assert_eq!(forged(&mut shop), "cryptogram_invalid", "{verb}");
    }
}

#[test]
fn an_inactive_token_does_not_pay() {
    let shop = Shop::open();
    let mut liar = Liar::enrol(&shop);
    liar.take_new_token(&shop);
    let token = shop.issuer.get(&format!("/v1/tokens/{}", liar.token)).expect(200);
    assert_eq!(token["status"], "INACTIVE");
    liar.replenish();
    let tap = Tap::new(100, shop.now());
    assert_eq!(shop.pay_with_lie(&mut liar, &tap)["reason"], "token_inactive");
    let listed = liar.device.get("/v1/tokens").expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
}

#[test]
fn a_card_number_comes_in_and_only_the_audited_verb_shows_it() {
    let shop = Shop::open();
    let pan = "9999112222222222";
    let pan = format!("{}{}", &pan[..15], tapfer_payment_types::pan::check_digit(&pan[..15]));
    let request = json!({ "issuer": shop.issuer_id, "pan": pan, "expiry": "2030-01" });
    let created = shop.issuer.post("/v1/cards", &request);
    assert!(!created.text().contains(&pan));
    let card = created.expect(201);
    assert_eq!(card["last_four"], pan[12..]);
    assert_eq!(shop.issuer.post("/v1/cards", &request).problem(409), "conflict");

    let found = shop.issuer.post("/v1/cards/lookup", &json!({ "pan": pan }));
    assert_eq!(found.expect(200)["id"], card["id"]);
    let unknown = json!({ "pan": "4111111111111111" });
    assert_eq!(shop.issuer.post("/v1/cards/lookup", &unknown).problem(404), "not_found");

    let token = json!({ "card": card["id"], "device": shop.device_id });
    let token = id(&shop.issuer.post("/v1/tokens", &token).expect(201));
    let path = format!("/v1/tokens/{token}/detokenize");
    let shown = shop.issuer.post(&path, &reason("chargeback 4711")).expect(200);
    assert_eq!(shown, json!({ "pan": pan }));
    for client in [&shop.device, &shop.merchant, &shop.terminal] {
        assert_eq!(client.post(&path, &reason("curious")).problem(403), "forbidden");
    }
    for file in ["tapfer.db", "tapfer.db-wal"] {
        let bytes = std::fs::read(shop.platform.home().join(file)).unwrap();
        assert!(!bytes.windows(16).any(|window| window == pan.as_bytes()), "{file}");
    }
}

#[test]
fn what_makes_no_card() {
    let shop = Shop::open();
    let card = |pan: &str, expiry: &str| {
        let request = json!({ "issuer": shop.issuer_id, "pan": pan, "expiry": expiry });
        shop.issuer.post("/v1/cards", &request)
    };
    for (pan, expiry) in [
        ("4111111111111111", "2030-01"),
        ("4111111111111112", "2030-01"),
        ("41111111", "2030-01"),
        ("9999110000000000", "2020-01"),
        ("9999110000000000", "2030-13"),
    ] {
        let reply = card(pan, expiry);
        assert_eq!(reply.problem(422), "invalid_request");
        assert!(!reply.text().contains(pan));
    }
}
