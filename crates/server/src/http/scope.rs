//! Scopes: what an access token may be used for. One for reading and one for writing of each resource, by the first part
//! of its path, so that no route is without; and one for seeing card numbers, so that a hotline's server can stop tokens and see none.

use axum::http::Method;
use serde_json::Value;

/// The scope that a request needs: `payment-intents:read`.
pub(crate) fn needed(route: &str, method: &Method) -> String {
    if route == SHOWS_CARD_NUMBERS {
        return CARD_NUMBERS.to_owned();
    }
    let resource = resource_of(route);
    match method.is_safe() {
        true => format!("{resource}:read"),
        false => format!("{resource}:write"),
    }
}

fn resource_of(route: &str) -> &str {
    let path = route.strip_prefix("/v1/").unwrap_or_else(|| route.trim_start_matches('/'));
    path.split('/').next().unwrap_or_default()
}

/// The one route whose answer holds a card number.
const SHOWS_CARD_NUMBERS: &str = "/v1/tokens/{token}/detokenize";
const CARD_NUMBERS: &str = "card-numbers:read";

/// To be named by whoever wants them: what is made with the first outlives the token, and what is shown for the second is out.
const NEVER_IMPLIED: [&str; 2] = ["api-keys:write", CARD_NUMBERS];

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
        .collect();
    scopes.sort();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::{allows, needed};
    use axum::http::Method;

    #[test]
    fn each_request_needs_one_scope() {
        let rows = [
            ("/v1/payment-intents", Method::POST, "payment-intents:write"),
            ("/v1/payment-intents/{id}/arm", Method::POST, "payment-intents:write"),
            ("/v1/payment-intents/{id}", Method::GET, "payment-intents:read"),
            ("/v1/issuers/{id}/policy", Method::PUT, "issuers:write"),
            ("/metrics", Method::GET, "metrics:read"),
            ("/v1/tokens/{token}/suspend", Method::POST, "tokens:write"),
            ("/v1/tokens/{token}/detokenize", Method::POST, "card-numbers:read"),
        ];
        for (route, method, scope) in rows {
            assert_eq!(needed(route, &method), scope);
        }
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
