//! Scopes: what an access token may be used for. One for reading and one for writing of each resource, by the first part
//! of its path, so that no route is without; one for seeing card numbers, and one for the money on cards, so that a hotline's server can
//! block cards and stop tokens, see no number and put no money on a card.

use axum::http::Method;
use serde_json::Value;

/// The scopes that a request needs, all of them: `payment-intents:read`; where an API key is made, that of making one too.
pub(crate) fn needed(route: &str, method: &Method) -> Vec<String> {
    if ABOUT_CARD_NUMBERS.contains(&route) {
        return vec![CARD_NUMBERS.to_owned()];
    }
    let resource = resource_of(route);
    if method.is_safe() {
        return vec![format!("{resource}:read")];
    }
    if MOVES_MONEY.contains(&route) {
        return vec![CARD_MONEY.to_owned()];
    }
    let mut scopes = vec![format!("{resource}:write")];
    if method == Method::POST && ANSWERS_WITH_API_KEYS.contains(&route) {
        scopes.push(API_KEYS.to_owned());
        scopes.dedup();
    }
    scopes
}

fn resource_of(route: &str) -> &str {
    let path = route.strip_prefix("/v1/").unwrap_or_else(|| route.trim_start_matches('/'));
    path.split('/').next().unwrap_or_default()
}

/// What is made there comes with an API key of its own.
const ANSWERS_WITH_API_KEYS: [&str; 5] = [
    "/v1/api-keys",
    "/v1/devices",
    "/v1/issuers/{issuer}/api-keys",
    "/v1/merchants",
    "/v1/terminals",
];
const API_KEYS: &str = "api-keys:write";

/// What answers with a card number, or says whether one is a card's: of a number whose ends are shown a thousand guesses find the
/// rest.
const ABOUT_CARD_NUMBERS: [&str; 2] = [DETOKENIZE, LOOKUP];
pub(crate) const DETOKENIZE: &str = "/v1/tokens/{token}/detokenize";
pub(crate) const LOOKUP: &str = "/v1/cards/lookup";
/// The scope of whoever may see card numbers, and name them.
pub(crate) const CARD_NUMBERS: &str = "card-numbers:read";

/// What puts money on a card by hand, or pays it out for good.
const MOVES_MONEY: [&str; 2] = ["/v1/cards/{card}/top-ups", "/v1/cards/{card}/close"];
const CARD_MONEY: &str = "card-money:write";

/// To be named by whoever wants them: what is made with the first outlives the token, and what is shown for the second is out.
const NEVER_IMPLIED: [&str; 2] = [API_KEYS, CARD_NUMBERS];

/// Whether a scope (RFC 6749, 3.3) allows what is needed; none allows everything but [`NEVER_IMPLIED`].
pub(crate) fn allows(scope: Option<&str>, needed: &str) -> bool {
    match scope {
        None => !NEVER_IMPLIED.contains(&needed),
        Some(scope) => scope.split(' ').any(|one| one == needed),
    }
}

/// Every scope that some operation of the interface's description needs.
pub(crate) fn all(document: &Value) -> Vec<String> {
    let paths = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let mut scopes: Vec<String> = paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.filter(|(_, operation)| operation.get("security").is_some()).filter_map(
                move |(method, _)| {
                    let method = method.to_uppercase().parse().ok()?;
                    Some(needed(path, &method))
                },
            )
        })
        .flatten()
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::{ANSWERS_WITH_API_KEYS, allows, needed};
    use axum::http::Method;
    use serde_json::Value;

    #[test]
    fn each_request_needs_one_scope() {
        let rows = [
            ("/v1/payment-intents", Method::POST, &["payment-intents:write"][..]),
            ("/v1/payment-intents/{id}/arm", Method::POST, &["payment-intents:write"]),
            ("/v1/payment-intents/{id}", Method::GET, &["payment-intents:read"]),
            ("/v1/issuers/{id}/policy", Method::PUT, &["issuers:write"]),
            ("/metrics", Method::GET, &["metrics:read"]),
            ("/v1/terminals", Method::GET, &["terminals:read"]),
            ("/v1/terminals", Method::POST, &["terminals:write", "api-keys:write"]),
            ("/v1/api-keys", Method::POST, &["api-keys:write"]),
            ("/v1/tokens/{token}/suspend", Method::POST, &["tokens:write"]),
            ("/v1/tokens/{token}/detokenize", Method::POST, &["card-numbers:read"]),
            ("/v1/cards/lookup", Method::POST, &["card-numbers:read"]),
            ("/v1/cards", Method::POST, &["cards:write"]),
            ("/v1/cards/{card}/block", Method::POST, &["cards:write"]),
            ("/v1/cards/{card}/top-ups", Method::POST, &["card-money:write"]),
            ("/v1/cards/{card}/close", Method::POST, &["card-money:write"]),
        ];
        for (route, method, scopes) in rows {
            assert_eq!(needed(route, &method), scopes);
        }
    }

    fn shows_a_key(schemas: &Value, schema: &Value) -> bool {
        let named = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let schema = named.map_or(schema, |name| &schemas[name]);
        let described = schema["properties"]["api_key"]["description"].as_str();
        let mut parts = schema["allOf"].as_array().into_iter().flatten();
        described.is_some_and(|said| said.contains("this once"))
            || parts.any(|part| shows_a_key(schemas, part))
    }

    /// The description says of each answer what is in it, so that no route with a key can be forgotten.
    #[test]
    fn whatever_answers_with_an_api_key_needs_the_scope_of_making_one() {
        let document: Value =
            serde_json::from_str(&crate::http::openapi_document().unwrap()).unwrap();
        let schemas = &document["components"]["schemas"];
        let mut found = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let made = item.pointer("/post/responses/201/content/application~1json/schema");
            if made.is_some_and(|made| shows_a_key(schemas, made)) {
                found.push(path.as_str());
            }
        }
        found.sort_unstable();
        assert_eq!(found, ANSWERS_WITH_API_KEYS);
    }

    #[test]
    fn a_scope_allows_what_it_names() {
        let scope = Some("refunds:write payment-intents:read");
        assert!(allows(scope, "payment-intents:read") && allows(scope, "refunds:write"));
        assert!(!allows(scope, "payment-intents:write") && !allows(scope, "refunds:read"));
        assert!(!allows(Some(""), "refunds:read") && allows(None, "refunds:read"));
        assert!(
            !allows(None, "card-numbers:read")
                && allows(Some("card-numbers:read"), "card-numbers:read")
        );
        assert!(
            !allows(None, "api-keys:write") && allows(Some("api-keys:write"), "api-keys:write")
        );
    }
}
