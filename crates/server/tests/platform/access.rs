//! Who may do what. Everything that is not listed is refused.

use serde_json::json;

use crate::shop::{Shop, id};

#[test]
fn without_a_key_nothing_is_told() {
    let shop = Shop::open();
    let client = &shop.platform.operator;
    let other = format!("tapfer_operator_{}", "A".repeat(43));
    for headers in [
        vec![],
        vec![("authorization", "Bearer x")],
        vec![("authorization", "Basic dGFwZmVyOg==")],
        vec![("authorization", format!("Bearer {other}").leak() as &str)],
    ] {
        for path in ["/v1/issuers", "/v1/trust", "/metrics"] {
            let reply = client.send_bare("GET", path, &headers, b"");
            assert_eq!(reply.problem(401), "unauthenticated");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
    // The role in the text must be the key's.
    let lie = shop.device.key().replace("tapfer_device_", "tapfer_operator_");
    let reply = client.with_key(&json!(lie)).get("/v1/issuers");
    assert_eq!(reply.problem(401), "unauthenticated");
}

#[test]
fn the_matrix_of_roles() {
    let shop = Shop::open();
    let (card, token) = (&shop.card, &shop.token);
    let intent = shop.intent(100);
    // Route; answers to operator, issuer, merchant, terminal, device.
    let table = [
        ("/v1/issuers".to_owned(), [200, 200, 403, 403, 403]),
        (format!("/v1/issuers/{}", shop.issuer_id), [200, 200, 403, 403, 403]),
        ("/v1/trust".to_owned(), [200, 200, 200, 200, 200]),
        ("/v1/api-keys".to_owned(), [200, 200, 200, 403, 403]),
        ("/v1/cards".to_owned(), [200, 200, 403, 403, 403]),
        (format!("/v1/cards/{card}"), [200, 200, 403, 403, 403]),
        (format!("/v1/cards/{card}/entries"), [200, 200, 403, 403, 403]),
        ("/v1/devices".to_owned(), [200, 200, 403, 403, 403]),
        (format!("/v1/devices/{}", shop.device_id), [200, 200, 403, 403, 200]),
        ("/v1/tokens".to_owned(), [200, 200, 403, 403, 200]),
        (format!("/v1/tokens/{token}"), [200, 200, 403, 403, 200]),
        ("/v1/merchants".to_owned(), [200, 403, 200, 403, 403]),
        (format!("/v1/merchants/{}", shop.merchant_id), [200, 403, 200, 403, 403]),
        ("/v1/terminals".to_owned(), [200, 403, 200, 403, 403]),
        (format!("/v1/terminals/{}", shop.terminal_id), [200, 403, 200, 200, 403]),
        ("/v1/payment-intents".to_owned(), [200, 403, 200, 403, 403]),
        (format!("/v1/payment-intents/{intent}"), [200, 403, 200, 404, 403]),
        ("/v1/authorizations".to_owned(), [200, 403, 200, 200, 403]),
        ("/v1/refunds".to_owned(), [200, 403, 200, 403, 403]),
        ("/metrics".to_owned(), [200, 403, 403, 403, 403]),
    ];
    let callers =
        [&shop.platform.operator, &shop.issuer, &shop.merchant, &shop.terminal, &shop.device];
    for (path, expected) in table {
        let found = callers.map(|caller| caller.get(&path).status);
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn what_is_anothers_does_not_exist() {
    let shop = Shop::open();
    let operator = &shop.platform.operator;
    let other = json!({
        "name": "Other", "country": "040", "currency": "EUR", "token_prefix": "888888"
    });
    let other = id(&operator.post("/v1/issuers", &other).expect(201));
    let key = operator.post(&format!("/v1/issuers/{other}/api-keys"), &json!({})).expect(201);
    let issuer = operator.with_key(&key["api_key"]);
    let block = json!({ "reason": "mischief" });
    let top_up = json!({ "amount": 1, "currency": "EUR", "reference": "x" });
    assert_eq!(issuer.get(&format!("/v1/issuers/{}", shop.issuer_id)).problem(404), "not_found");
    assert_eq!(issuer.get(&format!("/v1/cards/{}", shop.card)).problem(404), "not_found");
    for (verb, body) in [("block", &block), ("top-ups", &top_up)] {
        let reply = issuer.post(&format!("/v1/cards/{}/{verb}", shop.card), body);
        assert_eq!(reply.problem(404), "not_found");
    }
    assert_eq!(issuer.get("/v1/cards").expect(200)["data"], json!([]));
    let path = format!("/v1/tokens/{}", shop.token);
    assert_eq!(issuer.get(&path).problem(404), "not_found");
    let detokenize = issuer.post(&format!("{path}/detokenize"), &block);
    assert_eq!(detokenize.problem(404), "not_found");

    let kiosk = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    let kiosk = operator.post("/v1/merchants", &kiosk).expect(201);
    let merchant = operator.with_key(&kiosk["api_key"]);
    let intent = shop.intent(100);
    let path = format!("/v1/payment-intents/{intent}");
    assert_eq!(merchant.get(&path).problem(404), "not_found");
    assert_eq!(merchant.post(&format!("{path}/cancel"), &json!({})).problem(404), "not_found");
    let refund = json!({ "payment_intent": intent });
    assert_eq!(merchant.post("/v1/refunds", &refund).problem(404), "not_found");
    // Nor can one arm another's terminal, or a terminal take another merchant's payment.
    let own = json!({ "amount": 100, "currency": "EUR" });
    let own = id(&merchant.post("/v1/payment-intents", &own).expect(201));
    let arm = json!({ "terminal": shop.terminal_id });
    let armed = merchant.post(&format!("/v1/payment-intents/{own}/arm"), &arm);
    assert_eq!(armed.problem(404), "not_found");
}

#[test]
fn a_terminal_takes_no_payment_of_another_merchant() {
    let mut shop = Shop::open();
    let operator = shop.platform.operator.clone();
    let kiosk = json!({ "name": "Kiosk", "country": "276", "category_code": "5994" });
    let kiosk = operator.post("/v1/merchants", &kiosk).expect(201);
    let merchant = operator.with_key(&kiosk["api_key"]);
    let own = json!({ "amount": 100, "currency": "EUR" });
    let intent = id(&merchant.post("/v1/payment-intents", &own).expect(201));
    let chip_data = shop.tap(&intent, 100);
    assert_eq!(shop.authorize(&intent, &chip_data).problem(404), "not_found");
}
