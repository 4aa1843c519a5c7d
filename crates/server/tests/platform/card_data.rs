//! What of card data each role is shown, over every route that reads.

use serde_json::{Value, json};
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_storage::sqlite::{SqliteOptions, SqliteStorage};
use tapfer_storage::{AuditStore as _, DatabaseReader, Page};

use crate::running::Client;
use crate::shop::{Shop, id, reason};

/// What of a card a role is shown by routes that read. The whole number is in none of their answers.
const SHOWN: [(&str, &[&str]); 5] = [
    ("operator", &["last_four", "expiry", "holder_reference"]),
    ("issuer", &["last_four", "expiry", "holder_reference"]),
    ("merchant", &[]),
    ("terminal", &[]),
    ("device", &[]),
];

/// Words that answers about cards have, and what would be more than anybody is to see.
const CARD_DATA: [&str; 10] = [
    "last_four",
    "expiry",
    "holder_reference",
    "pan",
    "number",
    "number_sealed",
    "number_hash",
    "pin",
    "token_pan",
    "sealed",
];

fn fields(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                // What a policy says of PINs, and a status, are no PIN.
                if CARD_DATA.contains(&name.as_str()) && !(name == "pin" && value.is_object()) {
                    found.push(name.clone());
                }
                fields(value, found);
            }
        }
        Value::Array(all) => all.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

/// Whether a text has more of a number than its last digits: nine of it in a row.
fn has_part_of(text: &str, pan: &str) -> bool {
    (0..=pan.len() - 9).any(|start| text.contains(&pan[start..start + 9]))
}

#[test]
fn attack_role_sees_more_than_its_row() {
    let mut shop = Shop::open();
    let operator = shop.platform.operator.clone();
    let pan = "9999112345678012";
    let card = json!({
        "issuer": shop.issuer_id, "pan": pan, "expiry": "2031-11", "holder_reference": "holder-4711"
    });
    let card = id(&shop.issuer.post("/v1/cards", &card).expect(201));
    let token = json!({ "card": card, "device": shop.device_id });
    let token = id(&shop.issuer.post("/v1/tokens", &token).expect(201));
    let paid = shop.pay(100);
    let (authorization, intent) = (id(&paid), paid["payment_intent"].as_str().unwrap().to_owned());
    let refund = json!({ "payment_intent": intent, "amount": 10 });
    let refund = id(&shop.merchant.post("/v1/refunds", &refund).expect(201));
    let roles: [(&str, &Client); 5] = [
        ("operator", &operator),
        ("issuer", &shop.issuer),
        ("merchant", &shop.merchant),
        ("terminal", &shop.terminal),
        ("device", &shop.device),
    ];
    let detokenize = format!("/v1/tokens/{token}/detokenize");
    let document = operator.get("/v1/openapi.json").expect(200);
    for (role, client) in roles {
        let (_, shown) = SHOWN.iter().find(|(of, _)| *of == role).unwrap();
        let mut seen = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            if item.get("get").is_none() {
                continue;
            }
            let path = path
                .replace("{issuer}", &shop.issuer_id)
                .replace("{card}", &card)
                .replace("{device}", &shop.device_id)
                .replace("{token}", &token)
                .replace("{merchant}", &shop.merchant_id)
                .replace("{terminal}", &shop.terminal_id)
                .replace("{payment_intent}", &intent)
                .replace("{authorization}", &authorization)
                .replace("{refund}", &refund)
                .replace("{reversal}", "rev_01kaj5m8g0e9z1a2b3c4d5e6f7");
            assert!(!path.contains('{'), "say which one is meant: {path}");
            let reply = client.get(&path);
            let text = reply.text();
            assert!(!has_part_of(&text, pan), "{role} {path}");
            if path == "/v1/openapi.json" || !text.starts_with('{') {
                continue;
            }
            let mut found = Vec::new();
            fields(&reply.json(), &mut found);
            for field in found {
                assert!(shown.contains(&field.as_str()), "{role} sees {field} at {path}");
                seen.push(field);
            }
        }
        for field in *shown {
            assert!(seen.iter().any(|seen| seen == field), "{role} does not see {field}");
        }
        // The number itself: with a reason, and a line of the audit log, whoever asks and whatever comes of it.
        let reply = client.post(&detokenize, &reason(&format!("chargeback of {role}")));
        match shown.is_empty() {
            true => assert_eq!(reply.problem(403), "forbidden", "{role}"),
            false => assert_eq!(reply.expect(200), json!({ "pan": pan }), "{role}"),
        }
        let without = client.post(&detokenize, &json!({}));
        assert!(without.status >= 400, "{role}: nobody without a reason");
    }
    let log = looks(&shop);
    for (role, client) in roles {
        let why = Some(format!("chargeback of {role}"));
        let line = log.iter().find(|line| line.detail == why).unwrap();
        let is_shown = matches!(role, "operator" | "issuer");
        let result = if is_shown { "succeeded" } else { "refused" };
        assert_eq!((line.caller.role.as_str(), line.result.as_str()), (role, result));
        let before = looks(&shop).len();
        let found = client.post("/v1/cards/lookup", &json!({ "pan": pan })).status;
        assert_eq!(found, if is_shown { 200 } else { 403 }, "{role}");
        let log = looks(&shop);
        assert_eq!(log.len(), before + 1, "{role}");
        let line = log.iter().find(|line| line.action == AuditAction::CardLookedUp).unwrap();
        assert_eq!((line.caller.role.as_str(), line.result.as_str()), (role, result));
    }
}

/// Every look at a card number in the audit log, the newest first.
pub(crate) fn looks(shop: &Shop) -> Vec<AuditEvent> {
    let database = shop.platform.home().join("tapfer.db");
    let realm = DatabaseReader::file(&database).unwrap().realm();
    let beside = SqliteStorage::open_beside(&database, realm, &SqliteOptions::default()).unwrap();
    let lines = beside.audit_events(Page::first(100)).unwrap().items.into_iter();
    let looks = [AuditAction::TokenDetokenized, AuditAction::CardLookedUp];
    lines.map(|line| line.event).filter(|event| looks.contains(&event.action)).collect()
}
