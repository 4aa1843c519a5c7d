//! The router without a network: the description matches the routes, and no bytes bring it down.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tapfer_hsm::Unlock;
use tempfile::TempDir;
use tower::ServiceExt;

use super::openapi::IDEMPOTENCY_KEY;
use super::problem::{PROBLEM_JSON, ProblemKind};
use super::{App, Limits, document, router};
use crate::client_certificate::ClientCertificates;
use crate::clock::{Clock, SystemClock};
use crate::entropy::SystemEntropy;
use crate::realm::{Realm, RealmKind};
use crate::service::{ApiKeysTaken, Service};

/// Refuses in the words of OAuth 2.
const TOKEN: &str = "/oauth2/token";

struct Harness {
    _home: TempDir,
    runtime: tokio::runtime::Runtime,
    app: App,
    router: Router,
    operator: String,
}

impl Harness {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let unlock = Unlock::key_from_hex(&"42".repeat(32)).unwrap();
        let now = SystemClock.now();
        let realm = Realm::create(home.path(), RealmKind::Demo, &unlock, now).unwrap();
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
        let service = Service::new(
            realm,
            clock,
            entropy,
            ApiKeysTaken::Signed,
            ClientCertificates::default(),
        )
        .unwrap();
        let operator = service.create_operator_key().unwrap().expose().clone();
        let (_, bytes) = document().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let app = App::new(service, limits, bytes, vec!["localhost".to_owned()]).unwrap();
        let router = router(app.clone());
        Self { _home: home, runtime, app, router, operator }
    }

    fn send(&self, mut request: Request<Body>) -> (StatusCode, Option<String>, Vec<u8>) {
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().entry(header::HOST).or_insert(host);
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let media_type = response.headers().get(header::CONTENT_TYPE);
            let media_type = media_type.map(|value| value.to_str().unwrap().to_owned());
            let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            (status, media_type, body.to_vec())
        })
    }
}

/// Every operation of the description: method, path, and the operation.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let operations = item.as_object().unwrap().iter();
        operations
            .map(|(method, operation)| {
                let method = method.to_uppercase().parse().unwrap();
                (method, path.clone(), operation.clone())
            })
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_committed_description_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let current = crate::http::openapi_document().unwrap();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read(path).unwrap_or_default();
    assert!(
        committed == current.as_bytes(),
        "docs/openapi.json is not what the code answers; write it anew with \
         UPDATE_OPENAPI=1 cargo test -p tapfer-server description"
    );
}

#[test]
fn the_description_is_openapi_3_1_and_its_references_lead_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let (document, bytes) = document().unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), document);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 100);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_operation_says_what_it_may_answer() {
    let (document, _) = document().unwrap();
    let operations = operations(&document);
    assert!(operations.len() > 40);
    let mut ids = std::collections::HashSet::new();
    for (method, path, operation) in &operations {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
        assert!(operation["summary"].is_string() && operation["tags"].is_array());
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
        let has = |status: &str| answers.contains_key(status);
        assert!(has("500"));
        if operation.get("security").is_some() {
            assert!(has("401") && has("403") && has("503"), "{method} {path}");
        }
        if path.contains('{') {
            assert!(has("404"), "{method} {path}");
        }
        let changes = [Method::POST, Method::PUT].contains(method)
            && !["/v1/cards/lookup", "/v1/tokens/{token}/detokenize", TOKEN].contains(&path.as_str())
            // Their answers are not kept: a kept share could not be withheld.
            && !path.contains("/store-share");
        let names = operation["parameters"].as_array().into_iter().flatten();
        let repeatable = names.filter(|parameter| parameter["name"] == IDEMPOTENCY_KEY).count();
        assert_eq!(repeatable, usize::from(changes), "{method} {path}");
        if changes {
            assert!(has("409") && has("422") && has("413") && has("415"), "{method} {path}");
        }
    }
    // Every kind of problem is explained somewhere.
    let text = document["components"]["responses"].to_string();
    for kind in ProblemKind::ALL {
        assert!(text.contains(&format!("`{}`", kind.slug())), "{}", kind.slug());
    }
}

#[test]
fn every_described_route_exists_and_no_other() {
    let harness = Harness::new();
    let (document, _) = document().unwrap();
    for (method, path, operation) in operations(&document) {
        let request = Request::builder().method(method.clone()).uri(path.replace(['{', '}'], ""));
        let (status, _, body) = harness.send(request.body(Body::empty()).unwrap());
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        if operation.get("security").is_some() {
            let text = String::from_utf8(body).unwrap();
            // A malformed id is refused before the key is looked at; a route that is not there, too.
            let known =
                status == StatusCode::UNAUTHORIZED || text.contains("no resource of that id");
            assert!(known, "{method} {path} {status} {text}");
        } else {
            let is_token = path == TOKEN;
            let expected = if is_token { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            assert_eq!(status, expected, "{method} {path}");
        }
    }
    // What the sources register is what the document has: the router is made from the same list, so
    // the number of handlers with a description is the number of operations.
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let routes = std::fs::read_dir(here.join("routes")).unwrap();
    let sources = routes.map(|entry| entry.unwrap().path()).chain([here.join("openapi.rs")]);
    let described: usize = sources
        .map(|path| std::fs::read_to_string(path).unwrap().matches("#[utoipa::path(").count())
        .sum();
    assert_eq!(described, operations(&document).len());
}

/// The caller does not wait for ever, but what was begun goes on to its end.
#[test]
fn an_answer_that_takes_too_long_is_given_up_but_not_the_work() {
    let limits = Limits { answer: core::time::Duration::from_millis(20), ..Limits::default() };
    let harness = Harness::with(limits);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (finish, finished) = std::sync::mpsc::channel();
    let work = harness.app.run(move |_| {
        released.recv().ok();
        finish.send("done").ok();
        Ok(())
    });
    let problem = harness.runtime.block_on(work).unwrap_err();
    assert_eq!(problem.kind(), ProblemKind::Unavailable);
    release.send(()).unwrap();
    assert_eq!(finished.recv(), Ok("done"));
    harness.runtime.block_on(harness.app.drain());
    assert!(harness.runtime.block_on(harness.app.run(|_| Ok(()))).is_err(), "nothing new begins");
}

#[test]
fn a_panic_is_a_problem_and_counted() {
    let harness = Harness::new();
    let work = harness.app.run::<()>(|_| panic!("4111111111111111"));
    let problem = harness.runtime.block_on(work).unwrap_err();
    assert_eq!(problem.kind(), ProblemKind::Internal);
    assert!(!problem.detail().contains("4111"));
    let counted = harness.app.metrics().unwrap().render();
    assert!(!counted.contains("tapfer_http_panics_total 0"), "{counted}");
    // And the next request is served.
    let request = Request::get("/ready").body(Body::empty()).unwrap();
    assert_eq!(harness.send(request).0, StatusCode::OK);
}

/// Ids and keys of things that exist, and a whole body for each route that takes one.
struct World {
    ids: Vec<(&'static str, String)>,
    keys: Vec<String>,
    bodies: Vec<(&'static str, Value)>,
}

impl World {
    fn make(harness: &Harness) -> Self {
        let point = format!("04{}{}", GENERATOR_X, GENERATOR_Y);
        let mut world = Self { ids: Vec::new(), keys: Vec::new(), bodies: Vec::new() };
        world.keys.push(harness.operator.clone());
        let issuer = world.create(
            harness,
            "{issuer}",
            "/v1/issuers",
            json!({
                "name": "n", "country": "276", "currency": "EUR", "token_prefix": "999922",
                "pan_prefix": "999911", "aid": "f054415046455201", "unverified_limit": 1
            }),
        );
        let card = json!({ "issuer": issuer, "expiry": "2031-12" });
        let card = world.create(harness, "{card}", "/v1/cards", card);
        let device = json!({ "issuer": issuer, "label": "l", "public_key": point });
        let device = world.create(harness, "{device}", "/v1/devices", device);
        let token = json!({ "card": card, "device": device });
        world.create(harness, "{token}", "/v1/tokens", token);
        let merchant = json!({ "name": "n", "country": "276", "category_code": "5814" });
        let merchant = world.create(harness, "{merchant}", "/v1/merchants", merchant);
        let terminal = json!({ "merchant": merchant, "label": "l" });
        let terminal = world.create(harness, "{terminal}", "/v1/terminals", terminal);
        let intent = json!({ "amount": 1, "currency": "EUR", "reference": "r" });
        let path = "/v1/payment-intents";
        let intent = world.create(harness, "{payment_intent}", path, intent);
        // A key that no other request is sent with.
        let api_key = json!({ "owner": issuer });
        world.create(harness, "{api_key}", "/v1/api-keys", api_key);
        world.keys.pop();
        let change = json!({ "actor": "issuer", "reason": "r" });
        world.bodies.extend([
            ("/top-ups", json!({ "amount": 1, "currency": "EUR", "reference": "r" })),
            ("/lookup", json!({ "pan": "4111111111111111" })),
            ("block", json!({ "reason": "r" })),
            ("/revoke", json!({ "reason": "r" })),
            ("/reversals", json!({ "reason": "r" })),
            ("/detokenize", json!({ "reason": "r" })),
            ("activate", change.clone()),
            ("suspend", change.clone()),
            ("/delete", change),
            (
                "/replenish",
                json!({
                    "icc_public_key": GENERATOR_X, "application_transaction_counter": 0
                }),
            ),
            ("/arm", json!({ "terminal": terminal })),
            ("/capture", json!({ "amount": 1 })),
            ("/authorizations", json!({ "payment_intent": intent, "chip_data": "9f270180" })),
            ("/refunds", json!({ "payment_intent": intent, "amount": 1 })),
        ]);
        world
    }

    /// Makes one thing with the newest key that may, and remembers it.
    fn create(
        &mut self,
        harness: &Harness,
        name: &'static str,
        path: &'static str,
        body: Value,
    ) -> String {
        let answer = self.keys.iter().rev().find_map(|key| {
            let request = Request::post(path)
                .header(header::AUTHORIZATION, format!("Bearer {key}"))
                .header(header::CONTENT_TYPE, "application/json")
                .header(IDEMPOTENCY_KEY, path);
            let request = request.body(Body::from(body.to_string())).unwrap();
            let (status, _, answer) = harness.send(request);
            (status == StatusCode::CREATED)
                .then(|| serde_json::from_slice::<Value>(&answer).unwrap())
        });
        let answer = answer.unwrap();
        let id = answer["id"].as_str().unwrap().to_owned();
        self.keys.extend(answer["api_key"].as_str().map(str::to_owned));
        self.ids.push((name, id.clone()));
        self.bodies.push((path, body));
        id
    }

    /// The path with ids of things that exist.
    fn fill(&self, template: &str) -> String {
        let named = |path: String, (name, id): &(&str, String)| path.replace(name, id);
        self.ids.iter().fold(template.to_owned(), named)
    }

    /// A whole body for a path; the longest end that fits.
    fn body(&self, template: &str) -> Value {
        let fitting = self.bodies.iter().filter(|(end, _)| template.ends_with(end));
        fitting.max_by_key(|(end, _)| end.len()).map_or_else(|| json!({}), |(_, body)| body.clone())
    }
}

/// The generator of P-256 (SEC 2, 2.4.2): a point that is surely on the curve.
const GENERATOR_X: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
const GENERATOR_Y: &str = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

/// How a whole body is changed: a field and what becomes of it.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Value)>> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[0-9]{1,20}".prop_map(Value::from),
        "[0-9a-f]{0,140}".prop_map(Value::from),
        "(iss|card|dev|tok|mer|term|pi|auth|ref)_[0-7][0-9a-hjkmnp-tv-z]{25}".prop_map(Value::from),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), value), 0..3)
}

/// Null removes a field, a truth value gives it a wrong name, all else replaces its value.
fn change(body: &mut Value, changes: Vec<(prop::sample::Index, Value)>) {
    let fields = body.as_object_mut().unwrap();
    for (place, value) in changes {
        let names: Vec<String> = fields.keys().cloned().collect();
        let Some(name) = (!names.is_empty()).then(|| place.get(&names)) else { return };
        match value {
            Value::Null => drop(fields.remove(name)),
            Value::Bool(_) => drop(fields.insert(format!("{name}_"), value)),
            other => drop(fields.insert(name.clone(), other)),
        }
    }
}

/// `None`: the body that belongs to the route, with changes.
fn noise() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        12 => Just(None),
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Some),
        1 => Just(Some(vec![b'['; 20_000])),
        1 => Just(Some(vec![b'1'; 70_000])),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "content-type",
            "content-length",
            "idempotency-key",
            "x-request-id",
            "authorization",
            "accept",
            "expect",
            "content-encoding",
            "range",
            "if-none-match",
            "host",
        ])
        .prop_map(str::to_owned),
        "[a-z][a-z0-9-]{0,20}",
    ];
    let value = prop_oneof![
        Just(b"application/json".to_vec()),
        Just(b"Bearer tapfer_operator_".to_vec()),
        prop::collection::vec(0x20..0x7F_u8, 0..60),
        prop::collection::vec(0x80..=0xFF_u8, 0..60),
    ];
    prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec((name, value), 0..5)]
}

/// What stands in the places of ids: `None` for things that exist.
fn part() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        4 => Just(None),
        1 => "(iss|card|dev|tok|mer|term|pi|auth|ref)_[0-7][0-9a-hjkmnp-tv-z]{25}".prop_map(Some),
        1 => "[!-~&&[^/?#%]]{1,40}".prop_map(Some),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|bytes| {
            Some(bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>())
        }),
    ]
}

fn fill(template: &str, part: &str) -> String {
    let piece =
        |piece: &str| if piece.starts_with('{') { part.to_owned() } else { piece.to_owned() };
    template.split('/').map(piece).collect::<Vec<_>>().join("/")
}

/// Whatever the caller sends is answered, and it is never our fault.
#[test]
fn no_request_is_a_server_error() {
    let harness = Harness::new();
    let world = World::make(&harness);
    let (document, _) = document().unwrap();
    let mut routes: Vec<(Method, String)> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    routes.push((Method::GET, "/{x}/{y}".to_owned()));
    let strategy = (
        prop::sample::select(routes),
        prop_oneof![9 => Just(None), 1 => prop::sample::select(vec!["PUT", "HEAD", "X"]).prop_map(Some)],
        (part(), prop_oneof![Just(String::new()), "\\?(limit|cursor|card|x)=[!-~&&[^#]]{0,20}"]),
        headers(),
        (noise(), changes()),
        prop::sample::select(
            world.keys.iter().cloned().map(Some).chain([None]).collect::<Vec<_>>(),
        ),
    );
    let mut seen = std::collections::BTreeMap::new();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) };
    let seen_here = std::cell::RefCell::new(&mut seen);
    let outcome = proptest::test_runner::TestRunner::new(config).run(
        &strategy,
        |((method, template), other_method, (part, query), headers, (noise, changes), key)| {
            let method = other_method.unwrap_or(method.as_str());
            let path = part.map_or_else(|| world.fill(&template), |part| fill(&template, &part));
            let mut body = world.body(&template);
            change(&mut body, changes);
            let body = noise.unwrap_or_else(|| body.to_string().into_bytes());
            let mut request = Request::builder().method(method).uri(format!("{path}{query}"));
            if let Some(key) = key {
                request = request
                    .header(header::AUTHORIZATION, format!("Bearer {key}"))
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(IDEMPOTENCY_KEY, format!("{path}-{}", body.len()));
            }
            for (name, value) in headers {
                request = request.header(name, value);
            }
            // What is no request for the HTTP library never reaches us.
            let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
            let (status, media_type, body) = harness.send(request);
            *seen_here.borrow_mut().entry(status.as_u16()).or_insert(0_u32) += 1;
            prop_assert!(!status.is_server_error(), "{method} {path}: {status}");
            let is_in_oauths_words = path == TOKEN && matches!(status.as_u16(), 400 | 401);
            if status.is_client_error() && method != "HEAD" && !is_in_oauths_words {
                prop_assert_eq!(media_type.as_deref(), Some(PROBLEM_JSON));
                let problem: Value = serde_json::from_slice(&body).unwrap();
                prop_assert_eq!(&problem["status"], status.as_u16());
            }
            Ok(())
        },
    );
    outcome.unwrap();
    // A net that catches nothing proves nothing: every kind of answer has to have been provoked.
    for status in [200, 201, 400, 401, 403, 404, 405, 409, 413, 422] {
        assert!(seen.contains_key(&status), "{status} is missing among {seen:?}");
    }
}
