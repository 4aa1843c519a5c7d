//! Who may do what. Everything that is not listed is refused.

use serde_json::json;

use crate::running::Client;
use crate::shop::{Shop, by, id};

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

/// What a role may not see answers the same whether it exists or not.
#[test]
fn a_refused_role_does_not_learn_what_exists() {
    let mut shop = Shop::open();
    let paid = shop.pay(100);
    let refund = json!({ "payment_intent": paid["payment_intent"] });
    let (paid, intent) = (id(&paid), shop.intent(100));
    let refund = id(&shop.merchant.post("/v1/refunds", &refund).expect(201));
    // Something that exists, and who may not know.
    let (payments, tokens) = ([&shop.issuer, &shop.device], [&shop.merchant, &shop.terminal]);
    let table = [
        (format!("/v1/terminals/{}", shop.terminal_id), payments),
        (format!("/v1/payment-intents/{intent}"), payments),
        (format!("/v1/authorizations/{paid}"), payments),
        (format!("/v1/refunds/{refund}"), payments),
        (format!("/v1/devices/{}", shop.device_id), tokens),
        (format!("/v1/tokens/{}", shop.token), tokens),
        (format!("/v1/cards/{}", shop.card), tokens),
    ];
    for (path, callers) in table {
        let (start, last) = path.split_at(path.len() - 1);
        let absent = format!("{start}{}", if last == "0" { "1" } else { "0" });
        assert_eq!(shop.platform.operator.get(&absent).problem(404), "not_found", "{absent}");
        for caller in callers {
            for path in [&path, &absent] {
                assert_eq!(caller.get(path).problem(403), "forbidden", "{path}");
            }
        }
    }
    for verb in ["activate", "suspend", "unsuspend", "delete"] {
        let reply = shop.merchant.post(&format!("/v1/tokens/{}/{verb}", shop.token), &by("issuer"));
        assert_eq!(reply.problem(403), "forbidden", "{verb}");
        let absent = format!("/v1/tokens/tok_00000000000000000000000000/{verb}");
        assert_eq!(shop.merchant.post(&absent, &by("issuer")).problem(403), "forbidden");
    }
}

#[test]
fn issuers_and_phones_do_not_learn_of_other_issuers() {
    let shop = Shop::open();
    let other = json!({
        "name": "Other", "country": "040", "currency": "EUR", "token_prefix": "888888"
    });
    let other = id(&shop.platform.operator.post("/v1/issuers", &other).expect(201));
    let path = format!("/v1/issuers/{other}/certificate/revoke");
    shop.platform.operator.post(&path, &json!({ "reason": "copied" })).expect(200);
    let revoked = |caller: &Client| {
        caller.get("/v1/trust").expect(200)["revoked_certificates"].as_array().unwrap().len()
    };
    assert_eq!([&shop.terminal, &shop.issuer, &shop.device].map(revoked), [1, 0, 0]);
    let seen = |caller: &Client| {
        let trust = caller.get("/v1/trust").expect(200);
        assert_eq!(trust["ca_index"], 1, "the authority is for everyone");
        let mut issuers: Vec<String> =
            trust["issuers"].as_array().unwrap().iter().map(id).collect();
        issuers.sort();
        issuers
    };
    let mut all = vec![shop.issuer_id.clone(), other];
    all.sort();
    for caller in [&shop.platform.operator, &shop.merchant, &shop.terminal] {
        assert_eq!(seen(caller), all);
    }
    for caller in [&shop.issuer, &shop.device] {
        assert_eq!(seen(caller), std::slice::from_ref(&shop.issuer_id));
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
