//! Access tokens for merchants' and issuers' servers, over real TLS.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use tapfer_payments::audit::{AuditAction, AuditResult};

use crate::card_data::looks;
use crate::running::{Client, Platform, Reply, log as log_of_all};
use crate::shop::{Shop, id, reason};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRANT: &str = "grant_type=client_credentials";

/// An API key as an OAuth client.
struct OAuthClient {
    id: String,
    secret: String,
}

impl OAuthClient {
    fn of(operator: &Client, owner: &str) -> Self {
        let key = operator.post("/v1/api-keys", &json!({ "owner": owner })).expect(201);
        Self { id: id(&key), secret: key["api_key"].as_str().unwrap().to_owned() }
    }

    fn merchant(platform: &Platform) -> Self {
        let merchant = json!({ "name": "Mensa", "country": "276", "category_code": "5814" });
        let merchant = platform.operator.post("/v1/merchants", &merchant).expect(201);
        Self::of(&platform.operator, &id(&merchant))
    }

    fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.id, self.secret).as_bytes()))
    }

    fn ask(&self, platform: &Platform, body: &str) -> Reply {
        let headers = [FORM, ("authorization", &self.basic())];
        platform.operator.send_bare("POST", "/oauth2/token", &headers, body.as_bytes())
    }

    /// A caller who shows a token.
    fn token(&self, platform: &Platform, scope: &str) -> Client {
        let answer = self.ask(platform, &format!("{GRANT}&scope={scope}")).expect(200);
        assert_eq!((&answer["token_type"], &answer["expires_in"]), (&json!("Bearer"), &json!(900)));
        platform.operator.with_key(&answer["access_token"])
    }
}

fn intent() -> Value {
    json!({ "amount": 500, "currency": "EUR" })
}

#[test]
fn a_merchants_server_works_with_a_token() {
    let shop = Shop::open();
    let client = OAuthClient::of(&shop.platform.operator, &shop.merchant_id);
    let server = client.token(&shop.platform, "");
    let made = server.post_as("order-1", "/v1/payment-intents", &intent()).expect(201);
    let with_key = shop.platform.operator.with_key(&json!(client.secret));
    let again = with_key.post_as("order-1", "/v1/payment-intents", &intent());
    assert!(again.is_replayed(), "the API key hears the same");
    assert_eq!(again.expect(201), made);
    assert_eq!(server.get("/v1/cards").problem(403), "forbidden", "no more than the API key");
}

#[test]
fn attack_token_beyond_its_scope() {
    let platform = Platform::start();
    let client = OAuthClient::merchant(&platform);
    let server = client.token(&platform, "payment-intents%3Aread+refunds%3Awrite");
    assert_eq!(server.get("/v1/payment-intents").status, 200);
    let refused = server.post("/v1/payment-intents", &intent());
    assert_eq!(refused.problem(403), "insufficient_scope");
    assert_eq!(server.get("/v1/terminals").problem(403), "insufficient_scope");
}

/// What comes with an API key outlives the token, and the client.
#[test]
fn attack_token_that_makes_api_keys_by_another_way() {
    let Shop { platform, merchant_id, .. } = Shop::open();
    let client = OAuthClient::of(&platform.operator, &merchant_id);
    let terminal = json!({ "merchant": merchant_id, "label": "counter" });
    for scope in ["", "terminals%3Awrite"] {
        let server = client.token(&platform, scope);
        let refused = server.post("/v1/terminals", &terminal);
        assert_eq!(refused.problem(403), "insufficient_scope", "{scope}");
    }
    let server = client.token(&platform, "terminals%3Awrite+api-keys%3Awrite");
    assert!(server.post("/v1/terminals", &terminal).expect(201)["api_key"].is_string());
}

/// A hotline's token, which may block cards, puts money on one and closes another, which pays it out.
#[test]
fn attack_money_moved_with_a_hotlines_token() {
    let shop = Shop::open();
    let client = OAuthClient::of(&shop.platform.operator, &shop.issuer_id);
    let hotline =
        client.token(&shop.platform, "cards%3Aread+cards%3Awrite+tokens%3Aread+tokens%3Awrite");
    let top_up = json!({ "amount": 999_999, "currency": "EUR", "reference": "for me" });
    let close = json!({ "reason": "left", "pay_out": true });
    for (verb, body) in [("top-ups", &top_up), ("close", &close)] {
        let refused = hotline.post(&format!("/v1/cards/{}/{verb}", shop.card), body);
        assert_eq!(refused.problem(403), "insufficient_scope", "{verb}");
    }
    assert_eq!(shop.account(), (10_000, 10_000));
    hotline.post(&format!("/v1/cards/{}/block", shop.card), &reason("lost")).expect(200);
    let desk = client.token(&shop.platform, "card-money%3Awrite");
    desk.post(&format!("/v1/cards/{}/top-ups", shop.card), &top_up).expect(201);
}

/// A hotline's token tries for card numbers: it is refused, and the audit log and the log of requests say whose it is.
#[test]
fn attack_look_for_numbers_that_nobody_hears_of() {
    let shop = Shop::open();
    let client = OAuthClient::of(&shop.platform.operator, &shop.issuer_id);
    let hotline = client.token(&shop.platform, "cards%3Aread+tokens%3Awrite");
    let detokenize = format!("/v1/tokens/{}/detokenize", shop.token);
    let lookup = json!({ "pan": "4111111111111111" });
    for (path, body, action, object) in [
        (&detokenize[..], &reason("hotline"), AuditAction::TokenDetokenized, shop.token.as_str()),
        ("/v1/cards/lookup", &lookup, AuditAction::CardLookedUp, "none"),
    ] {
        assert_eq!(hotline.post(path, body).problem(403), "insufficient_scope");
        let log = looks(&shop);
        let line = log.first().unwrap();
        assert_eq!((line.action, line.object.as_str()), (action, object));
        assert_eq!(line.result, AuditResult::Refused);
        assert_eq!(line.caller.api_key.unwrap().to_string(), client.id);
        assert!(line.detail.as_ref().unwrap().contains("without the scope"), "{line:?}");
        let is_told = |target: &str| {
            let of_it = [target, &client.id, &line.caller.request_id];
            log_of_all().lines().any(|line| of_it.iter().all(|word| line.contains(word)))
        };
        assert!(is_told("tapfer::security") && is_told("tapfer::access"));
    }
    assert_eq!(looks(&shop).len(), 2);
    // What is no token is nobody's.
    assert_eq!(
        hotline.post("/v1/tokens/x/detokenize", &reason("hotline")).problem(403),
        "insufficient_scope"
    );
}

/// The mask shows both ends of a number, and a thousand questions whether it is a card's find the middle.
#[test]
fn attack_token_that_guesses_card_numbers() {
    let Shop { platform, issuer_id, card, .. } = Shop::open();
    let client = OAuthClient::of(&platform.operator, &issuer_id);
    let hotline = client.token(&platform, "cards%3Aread+cards%3Awrite+tokens%3Awrite");
    assert_eq!(hotline.get(&format!("/v1/cards/{card}")).status, 200);
    let pan = json!({ "pan": "4111111111111111" });
    assert_eq!(hotline.post("/v1/cards/lookup", &pan).problem(403), "insufficient_scope");
    let mut new = json!({ "issuer": issuer_id, "expiry": "2031-12" });
    hotline.post("/v1/cards", &new).expect(201);
    new["pan"] = pan["pan"].clone();
    assert_eq!(hotline.post("/v1/cards", &new).problem(403), "insufficient_scope");
    let is_told = |line: &str| {
        [&client.id[..], "access_refused", "card-numbers:read"]
            .iter()
            .all(|word| line.contains(word))
    };
    assert_eq!(log_of_all().lines().filter(|line| is_told(line)).count(), 2, "each refusal");
    let vault = client.token(&platform, "cards%3Awrite+card-numbers%3Aread");
    assert_ne!(vault.post("/v1/cards/lookup", &pan).status, 403);
    assert_ne!(vault.post("/v1/cards", &new).status, 403);
}

#[test]
fn attack_token_of_a_revoked_client() {
    let platform = Platform::start();
    let client = OAuthClient::merchant(&platform);
    let server = client.token(&platform, "");
    assert_eq!(server.get("/v1/payment-intents").status, 200);
    let path = format!("/v1/api-keys/{}/revoke", client.id);
    platform.operator.post(&path, &reason("left in a log")).expect(200);
    assert_eq!(server.get("/v1/payment-intents").problem(401), "unauthenticated");
    assert_eq!(client.ask(&platform, GRANT).expect(401)["error"], "invalid_client");
}

#[test]
fn attack_token_behind_its_end() {
    let platform = Platform::start();
    let server = OAuthClient::merchant(&platform).token(&platform, "");
    platform.clock.advance_seconds(899);
    assert_eq!(server.get("/v1/payment-intents").status, 200);
    platform.clock.advance_seconds(1);
    assert_eq!(server.get("/v1/payment-intents").problem(401), "unauthenticated");
}

/// Who renews a token when it is refused guesses nothing, and pauses never.
#[test]
fn an_ended_token_counts_against_nobody() {
    let platform = Platform::start();
    let client = OAuthClient::merchant(&platform);
    for _ in 0..30 {
        let server = client.token(&platform, "");
        platform.clock.advance_seconds(900);
        assert_eq!(server.get("/v1/payment-intents").problem(401), "unauthenticated");
    }
    assert_eq!(client.token(&platform, "").get("/v1/payment-intents").status, 200);
}

/// In a pause that somebody behind the same address has earned, a token that was made there is no guess.
#[test]
fn a_new_token_is_looked_up_in_a_pause() {
    let platform = Platform::start();
    let client = OAuthClient::merchant(&platform);
    drop(client.token(&platform, ""));
    let guess = platform.operator.with_key(&json!(format!("tapfer_token_e30.{}", "A".repeat(86))));
    let refusals: Vec<u16> = (0..15).map(|_| guess.get("/v1/payment-intents").status).collect();
    assert!(refusals.contains(&429), "{refusals:?}");
    assert_eq!(client.token(&platform, "").get("/v1/payment-intents").status, 200);
}

/// Attack: a neighbour guesses, so that whoever shares the address with him has to pause with a token that nobody has seen yet, or
/// with one that has ended.
#[test]
fn attack_neighbour_whose_guesses_lock_tokens_out() {
    let mut platform = Platform::start();
    let server = OAuthClient::merchant(&platform).token(&platform, "");
    // What this node remembered of credentials is gone, as at any other.
    platform.restart();
    let server = platform.operator.with_key(&json!(server.key()));
    let guess = |number: usize| {
        platform.operator.with_key(&json!(format!("tapfer_operator_{number:043}"))).get("/v1/trust")
    };
    let in_a_pause = (0..1_000).any(|number| {
        let before = guess(number).status;
        server.get("/v1/payment-intents").expect(200);
        (before, guess(number).status) == (429, 429)
    });
    assert!(in_a_pause, "he has to pause, and the server has not");
    platform.clock.advance_seconds(900);
    for _ in 0..20 {
        assert_eq!(server.get("/v1/payment-intents").problem(401), "unauthenticated");
    }
    let (statement, signature) = server.key().split_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{statement}.{first}{}", &signature[1..]);
    let forged = platform.operator.with_key(&json!(forged));
    let refusals = (0..1_000).map(|_| forged.get("/v1/payment-intents").status);
    assert!({ refusals }.any(|status| status == 429), "a forged one is a guess");
}

#[test]
fn attack_token_with_another_scope_written_into_it() {
    let platform = Platform::start();
    let client = OAuthClient::merchant(&platform);
    let token = client.token(&platform, "payment-intents%3Aread").key().to_owned();
    let (statement, signature) =
        token.strip_prefix("tapfer_token_").unwrap().split_once('.').unwrap();
    let statement = BASE64URL_NOPAD.decode(statement.as_bytes()).unwrap();
    let statement = String::from_utf8(statement).unwrap();
    let wider = statement.replace("payment-intents:read", "payment-intents:write");
    assert_ne!(wider, statement);
    let wider = BASE64URL_NOPAD.encode(wider.as_bytes());
    let forged = platform.operator.with_key(&json!(format!("tapfer_token_{wider}.{signature}")));
    let refused = forged.post("/v1/payment-intents", &intent());
    assert_eq!(refused.problem(401), "unauthenticated");
}

#[test]
fn refusals_are_in_the_words_of_the_rfc() {
    let shop = Shop::open();
    let platform = &shop.platform;
    let client = OAuthClient::of(&platform.operator, &shop.merchant_id);
    let terminal = OAuthClient::of(&shop.merchant, &shop.terminal_id);
    let wrong = OAuthClient { id: client.id.clone(), secret: terminal.secret.clone() };
    let twice = format!("{GRANT}&{GRANT}");
    let both = format!("{GRANT}&client_id={}&client_secret={}", client.id, client.secret);
    let rows = [
        (&client, "grant_type=password", 400, "unsupported_grant_type"),
        (&client, "", 400, "invalid_request"),
        (&client, twice.as_str(), 400, "invalid_request"),
        (&client, both.as_str(), 400, "invalid_request"),
        (&client, "grant_type=client_credentials&scope=all", 400, "invalid_scope"),
        (&wrong, GRANT, 401, "invalid_client"),
        (&terminal, GRANT, 400, "unauthorized_client"),
    ];
    for (client, body, status, error) in rows {
        let refused = client.ask(platform, body);
        assert_eq!(refused.expect(status)["error"], error, "{body}");
        assert_eq!(refused.header("content-type"), Some("application/json"));
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        let asked_for = refused.header("www-authenticate");
        assert_eq!(asked_for.is_some_and(|scheme| scheme.starts_with("Basic")), status == 401);
    }
    let in_body = platform.operator.send_bare("POST", "/oauth2/token", &[FORM], both.as_bytes());
    in_body.expect(200);
}

/// Attack: somebody has a proxy keep metadata with a name of his own in it, to which clients then send their secrets.
#[test]
fn attack_metadata_under_another_name() {
    let platform = Platform::start();
    let path = "/.well-known/oauth-authorization-server";
    for host in ["evil.example", "evil.example@localhost", "localhost.evil.example", "", "a b"] {
        let asked = platform.operator.send_bare("GET", path, &[("host", host)], b"");
        assert_eq!(asked.problem(400), "malformed_request", "{host}");
    }
    let asked = platform.operator.send_bare("GET", path, &[("host", "LOCALHOST:1")], b"");
    assert_eq!(asked.expect(200)["issuer"], "https://LOCALHOST:1");
}

#[test]
fn the_metadata_leads_to_tokens() {
    let platform = Platform::start();
    let path = "/.well-known/oauth-authorization-server";
    let metadata = platform.operator.send_bare("GET", path, &[], b"").expect(200);
    let issuer = format!("https://{}", platform.address());
    assert_eq!(metadata["issuer"], issuer.as_str());
    assert_eq!(metadata["token_endpoint"], format!("{issuer}/oauth2/token").as_str());
    let scopes = metadata["scopes_supported"].as_array().unwrap();
    assert!(scopes.contains(&json!("payment-intents:write")), "{scopes:?}");
    let client = OAuthClient::merchant(&platform);
    for scope in scopes {
        let scope = scope.as_str().unwrap().replace(':', "%3A");
        client.token(&platform, &scope);
    }
}
