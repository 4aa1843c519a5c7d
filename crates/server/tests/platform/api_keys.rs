//! API keys come and go: changed without a pause, taken back for good, by whom it concerns.

use serde_json::{Value, json};

use crate::running::Client;
use crate::shop::{Shop, id, reason};

const KEYS: &str = "/v1/api-keys";

/// Ids of the keys that speak for somebody, newest first.
fn keys_of(client: &Client, owner: &str) -> Vec<String> {
    let listed = client.get(&format!("{KEYS}?owner={owner}")).expect(200);
    listed["data"].as_array().unwrap().iter().map(id).collect()
}

fn revoke(client: &Client, key: &str) -> crate::running::Reply {
    client.post(&format!("{KEYS}/{key}/revoke"), &reason("leaked"))
}

#[test]
fn a_key_is_changed_without_a_pause() {
    let shop = Shop::open();
    let owners = [
        (&shop.terminal_id, &shop.merchant, &shop.terminal, "/v1/authorizations"),
        (&shop.device_id, &shop.issuer, &shop.device, "/v1/tokens"),
        (&shop.issuer_id, &shop.platform.operator, &shop.issuer, "/v1/cards"),
        (&shop.merchant_id, &shop.platform.operator, &shop.merchant, "/v1/refunds"),
    ];
    for (owner, above, old, path) in owners {
        shop.platform.clock.advance_seconds(1);
        let created = above.post(KEYS, &json!({ "owner": owner })).expect(201);
        let new = above.with_key(&created["api_key"]);
        old.get(path).expect(200);
        new.get(path).expect(200);
        let keys = keys_of(above, owner);
        assert_eq!(keys[0], id(&created));
        let revoked = revoke(above, &keys[1]).expect(200);
        assert_eq!(revoked["owner"], json!(owner));
        assert!(revoked["revoked_at"].is_string());
        assert_eq!(old.get(path).problem(401), "unauthenticated");
        new.get(path).expect(200);
        // Again, and it is as it was.
        shop.platform.clock.advance_seconds(1);
        assert_eq!(revoke(above, &keys[1]).expect(200), revoked);
    }
}

#[test]
fn a_stolen_key_cannot_make_itself_another() {
    let shop = Shop::open();
    let own = [
        (&shop.issuer, &shop.issuer_id),
        (&shop.merchant, &shop.merchant_id),
        (&shop.terminal, &shop.terminal_id),
        (&shop.device, &shop.device_id),
    ];
    for (client, owner) in own {
        for owner in [owner.as_str(), "operator"] {
            let refused = client.post(KEYS, &json!({ "owner": owner }));
            assert_eq!(refused.problem(403), "forbidden", "{owner}");
        }
    }
    for owner in ["", "nobody", "mer_", &shop.card] {
        let refused = shop.platform.operator.post(KEYS, &json!({ "owner": owner }));
        assert_eq!(refused.problem(422), "invalid_request", "{owner}");
    }
}

#[test]
fn who_sees_and_takes_back_which_keys() {
    let shop = Shop::open();
    let operator = &shop.platform.operator;
    let kiosk = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    let kiosk = operator.post("/v1/merchants", &kiosk).expect(201);
    let stranger = operator.with_key(&kiosk["api_key"]);
    let (merchants, terminals) =
        (keys_of(operator, &shop.merchant_id), keys_of(operator, &shop.terminal_id));
    for owner in [&shop.merchant_id, &shop.terminal_id] {
        let path = format!("{KEYS}?owner={owner}");
        assert_eq!(stranger.get(&path).problem(404), "not_found");
        shop.merchant.get(&path).expect(200);
    }
    assert_eq!(revoke(&stranger, &merchants[0]).problem(404), "not_found");
    assert_eq!(revoke(&stranger, &terminals[0]).problem(404), "not_found");
    let unknown = format!("key_{}", &merchants[0][4..].chars().rev().collect::<String>());
    assert_eq!(revoke(&stranger, &unknown).problem(404), "not_found");
    for machine in [&shop.terminal, &shop.device] {
        assert_eq!(machine.get(KEYS).problem(403), "forbidden");
        assert_eq!(revoke(machine, &merchants[0]).problem(403), "forbidden");
    }
    // Nobody named: one's own; for the operator everybody's, and never a secret.
    let of = |client: &Client| client.get(&format!("{KEYS}?limit=100")).expect(200)["data"].clone();
    assert_eq!(of(&shop.merchant)[0]["id"], merchants[0]);
    assert_eq!(of(operator).as_array().unwrap().len(), 6);
    let secret = shop.merchant.key().rsplit('_').next().unwrap().to_owned();
    assert!(!of(operator).to_string().contains(&secret));
    // A merchant whose key leaked ends it himself.
    revoke(&shop.merchant, &merchants[0]).expect(200);
    assert_eq!(shop.merchant.get("/v1/refunds").problem(401), "unauthenticated");
}

#[test]
fn an_operator_key_file_that_is_gone_ends_its_key() {
    let mut shop = Shop::open();
    let before = json!(shop.platform.operator.key());
    let by_hand = shop.platform.operator.post(KEYS, &json!({ "owner": "operator" })).expect(201);
    shop.platform.restart();
    shop.platform.operator.with_key(&before).get("/v1/issuers").expect(200);
    std::fs::remove_file(shop.platform.home().join("operator.key")).unwrap();
    shop.platform.restart();
    shop.platform.operator.get("/v1/issuers").expect(200);
    for old in [&before, &by_hand["api_key"]] {
        let refused = shop.platform.operator.with_key(old).get("/v1/issuers");
        assert_eq!(refused.problem(401), "unauthenticated");
    }
    let keys = keys_of(&shop.platform.operator, "operator");
    assert_eq!(keys.len(), 3);
    let of = |key: &Value| key["revoked_at"].is_null();
    let listed = shop.platform.operator.get(&format!("{KEYS}?owner=operator")).expect(200);
    assert_eq!(listed["data"].as_array().unwrap().iter().filter(|key| of(key)).count(), 1);
}
