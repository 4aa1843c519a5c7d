//! The interface's description, OpenAPI 3.1, from the code that answers.
//!
//! What all routes have in common is added here, once: problems, security, headers. A route names only
//! what is its own.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::authentication;
use crate::http::problem::{PROBLEM_JSON, Problem, ProblemBody, ProblemKind};
use crate::http::scope;

/// The head of the document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "tapfer",
        description = "Issuers, cards, tokens on phones, merchants, terminals, payments. Amounts are \
            integer minor units beside an ISO 4217 currency. Errors are RFC 9457 problems with a stable \
            type. Unknown fields are refused. A payment that is declined is an answer, not an error.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ProblemBody<'static>)),
    tags(
        (name = "issuers", description = "Who gives out cards and decides on payments"),
        (name = "API keys", description = "Who may call, and who may not any more"),
        (name = "client certificates", description = "With which terminals and phones prove who they are"),
        (name = "OAuth 2", description = "Access tokens for merchants' and issuers' servers"),
        (name = "cards", description = "Cards in the vault and their accounts"),
        (name = "devices", description = "Phones with a wallet on them"),
        (name = "tokens", description = "One card on one device"),
        (name = "merchants", description = "Who is paid"),
        (name = "terminals", description = "Where is paid"),
        (name = "payment intents", description = "What a merchant wants to be paid"),
        (name = "authorizations", description = "The answer to a card at a terminal"),
        (name = "refunds", description = "Money given back"),
        (name = "operation", description = "Health, readiness, metrics, this document"),
    )
)]
pub(crate) struct Head;

/// The name of the header that makes a request repeatable, for the document and for reading it.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Routes that need no API key.
const PUBLIC: [&str; 5] = [
    "/health",
    "/ready",
    "/v1/openapi.json",
    "/oauth2/token",
    "/.well-known/oauth-authorization-server",
];

/// Headers of an answer to whoever comes too soon.
const RATE_LIMIT_HEADERS: [(&str, &str, &str); 3] = [
    ("retry-after", "integer", "Seconds until the next request may come"),
    (
        "ratelimit-policy",
        "string",
        "The limit that was reached: its name, how many requests (q) in how many seconds (w)",
    ),
    (
        "ratelimit",
        "string",
        "Its name, what is left of it (r), and in how many seconds there is more (t)",
    ),
];

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Completes the document that the routes made.
pub(crate) fn complete(api: &utoipa::openapi::OpenApi) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(api)?;
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths.iter_mut() {
            for method in METHODS {
                if let Some(operation) = item.get_mut(method).and_then(Value::as_object_mut) {
                    complete_operation(path, method, operation);
                }
            }
        }
    }
    // They follow from what the operations need.
    let scopes = scope::all(&document);
    add_components(&mut document, &scopes);
    Ok(document)
}

fn add_components(document: &mut Value, scopes: &[String]) {
    let says = |scope: &String| {
        let (resource, verb) = scope.split_once(':').unwrap_or((scope, ""));
        let verb = if verb == "read" { "Look at" } else { "Change" };
        (scope.clone(), Value::String(format!("{verb} {resource}")))
    };
    let scopes: Map<String, Value> = scopes.iter().map(says).collect();
    let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) else {
        return;
    };
    components.insert(
        "securitySchemes".to_owned(),
        json!({ "api_key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "tapfer_<role>_<secret>",
            "description": "An API key: tapfer_, the role (operator, issuer, merchant, terminal, \
                device), _, and a secret. It is shown once, when its owner is created."
        }, "client_certificate": {
            "type": "mutualTLS",
            "description": "A certificate of POST /v1/client-certificates, for terminals and phones, in place of their \
                API key. Where the platform requires certificates of them, their API keys serve that one route only."
        }, "oauth2": {
            "type": "oauth2",
            "description": "An access token in place of the API key, for merchants' and issuers' servers: client id is the \
                API key's id, client secret the API key.",
            "flows": { "clientCredentials": { "tokenUrl": "/oauth2/token", "scopes": scopes } }
        }}),
    );
    components.insert(
        "headers".to_owned(),
        json!({
            "RequestId": {
                "description": "The caller's request id if it had a decent one, else a new one",
                "schema": { "type": "string" }
            },
            "IdempotentReplayed": {
                "description": "true if this is the stored answer to an earlier request with this key",
                "schema": { "type": "string", "enum": ["true"] }
            }
        }),
    );
    let responses: Map<String, Value> = ProblemKind::ALL
        .iter()
        .map(|kind| kind.status().as_u16())
        .map(|status| (component_name(status), problem_response(status)))
        .collect();
    components.insert("responses".to_owned(), Value::Object(responses));
}

fn component_name(status: u16) -> String {
    format!("Problem{status}")
}

/// One answer for all problems that share a status code.
fn problem_response(status: u16) -> Value {
    let kinds: Vec<_> =
        ProblemKind::ALL.iter().filter(|kind| kind.status().as_u16() == status).collect();
    let lines: Vec<_> =
        kinds.iter().map(|kind| format!("`{}`: {}", kind.slug(), kind.title())).collect();
    let mut headers = json!({ "x-request-id": request_id_header() });
    if let Some(headers) = headers.as_object_mut() {
        let own = match status {
            401 => Some(("www-authenticate", "Bearer")),
            503 => Some(("retry-after", "1")),
            _ => None,
        };
        if status == 429 {
            for (name, kind, says) in RATE_LIMIT_HEADERS {
                let schema = json!({ "description": says, "schema": { "type": kind } });
                headers.insert(name.to_owned(), schema);
            }
        }
        if let Some((name, value)) = own {
            let schema = json!({ "schema": { "type": "string", "enum": [value] } });
            headers.insert(name.to_owned(), schema);
        }
    }
    json!({
        "description": lines.join("; "),
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": {
            "$ref": format!("#/components/schemas/{}", ProblemBody::name())
        }}}
    })
}

fn request_id_header() -> Value {
    json!({ "$ref": "#/components/headers/RequestId" })
}

fn complete_operation(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let shape = Shape::of(path, operation);
    if shape.needs_key {
        let scopes = scope::needed(path, &method.to_uppercase().parse().unwrap_or_default());
        operation.insert(
            "security".to_owned(),
            json!([{ "api_key": [] }, { "client_certificate": [] }, { "oauth2": scopes }]),
        );
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, response) in responses.iter_mut() {
        add_headers(response, shape.is_repeatable && status.starts_with('2'));
    }
    for status in shape.problems() {
        responses.entry(status.to_string()).or_insert_with(
            || json!({ "$ref": format!("#/components/responses/{}", component_name(status)) }),
        );
    }
}

fn add_headers(response: &mut Value, is_repeatable: bool) {
    let Some(response) = response.as_object_mut() else { return };
    let headers = response.entry("headers").or_insert_with(|| json!({}));
    let Some(headers) = headers.as_object_mut() else { return };
    headers.insert("x-request-id".to_owned(), request_id_header());
    if is_repeatable {
        let reference = json!({ "$ref": "#/components/headers/IdempotentReplayed" });
        headers.insert("idempotent-replayed".to_owned(), reference);
    }
}

/// What an operation has, from which follows what it may answer.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one operation")]
struct Shape {
    needs_key: bool,
    has_body: bool,
    has_query: bool,
    has_path: bool,
    is_repeatable: bool,
    /// Its body is a form, whose faults are told in the words of OAuth 2.
    is_form: bool,
    /// It is about a phone's store, which may be locked or old.
    has_store: bool,
    /// It repeats the name by which the server was asked for, if it is one of its own.
    says_name: bool,
    /// It is long, and everybody may have it.
    is_description: bool,
}

impl Shape {
    fn of(path: &str, operation: &Map<String, Value>) -> Self {
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let has = |place: &str, name: Option<&str>| {
            parameters.into_iter().flatten().any(|parameter| {
                let is = |key: &str, wanted: &str| {
                    parameter.get(key).and_then(Value::as_str) == Some(wanted)
                };
                is("in", place) && name.is_none_or(|name| is("name", name))
            })
        };
        Self {
            needs_key: !PUBLIC.contains(&path),
            has_body: operation.contains_key("requestBody"),
            is_form: path == "/oauth2/token",
            has_query: has("query", None),
            has_path: has("path", None),
            is_repeatable: has("header", Some(IDEMPOTENCY_KEY)),
            has_store: path.contains("/store-share"),
            says_name: path == "/.well-known/oauth-authorization-server",
            is_description: path == "/v1/openapi.json",
        }
    }

    fn problems(&self) -> Vec<u16> {
        let mut statuses = vec![500];
        let mut add = |applies: bool, more: &[u16]| {
            if applies {
                statuses.extend_from_slice(more);
            }
        };
        add(self.needs_key, &[401, 403, 404, 429, 503]);
        add(self.is_form, &[408, 413, 429, 503]);
        add(self.has_body && !self.is_form, &[400, 408, 413, 415, 422]);
        add(self.has_query, &[422]);
        add(self.has_path, &[404]);
        add(self.is_repeatable, &[400, 409, 422]);
        add(self.has_store, &[409]);
        add(self.says_name, &[400]);
        add(self.is_description, &[429]);
        statuses
    }
}

/// The interface's description
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "operation", operation_id = "get_openapi",
    responses((status = 200, description = "This document", content_type = "application/json", body = Object))
)]
pub(crate) async fn get_openapi(State(app): State<App>, parts: Parts) -> Result<Response, Problem> {
    let from = authentication::address(&parts);
    let may_have = from.map_or(Ok(()), |from| app.gate().may_be_described_to(from));
    may_have.map_err(Problem::too_soon)?;
    let body: Bytes = app.document().clone();
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
