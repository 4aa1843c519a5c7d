//! Extractors that refuse in our own words: bodies, path parts and query strings.
//!
//! What the caller sent is never repeated in a refusal, since it may be a card number in the wrong place.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use core::str::FromStr;
use serde::de::DeserializeOwned;

use crate::http::problem::{Problem, ProblemKind};
use crate::http::{App, body};

/// Reads a JSON body. Nothing at all counts as an empty object.
///
/// # Errors
/// 400 if it is not JSON, 415, 422 if a field is not what it should be.
pub(crate) fn parse_json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T, Problem> {
    if body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
        return deserialize(b"{}");
    }
    require_json(headers)?;
    deserialize(body)
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    if media_type.is_some_and(|text| text.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let detail = "send the body as JSON with the header content-type: application/json";
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

fn deserialize<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        json_problem(&path, error.inner())
    })?;
    reader.end().map_err(|error| json_problem("", &error))?;
    Ok(value)
}

fn json_problem(path: &str, error: &serde_json::Error) -> Problem {
    let place = format!("line {}, column {}", error.line(), error.column());
    if !error.is_data() {
        let detail = format!("the body is not JSON (at {place})");
        return Problem::new(ProblemKind::MalformedRequest, detail);
    }
    let field = if is_field_name(path) { format!("field \"{path}\": ") } else { String::new() };
    let message = error.to_string();
    let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
    Problem::invalid(format!("{field}{} (at {place})", without_caller_text(reason)))
}

/// The name of a field of ours, and not whatever the caller put in its place.
fn is_field_name(path: &str) -> bool {
    (1..=64).contains(&path.len())
        && path.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
}

/// serde quotes what it found. Only what it expected is ours to repeat; messages that serde did not
/// make come from our own types, which never quote.
fn without_caller_text(reason: &str) -> String {
    let quoting = [
        ("invalid type", "the value has the wrong type"),
        ("invalid value", "the value is not allowed"),
        ("invalid length", "the value has the wrong length"),
        ("unknown field", "there is a field that this request does not have"),
        ("unknown variant", "the value is not one of those allowed"),
    ];
    let Some((_, plain)) = quoting.iter().find(|(start, _)| reason.starts_with(start)) else {
        return reason.to_owned();
    };
    match reason.rsplit_once(", expected ") {
        Some((_, expected)) => format!("{plain}; expected {expected}"),
        None => (*plain).to_owned(),
    }
}

/// The id in a path. Text that is no id of the right kind names nothing: 404.
pub(crate) struct PathId<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<App> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, app).await else {
            return Err(Problem::not_found("resource"));
        };
        text.parse().map(Self).map_err(|_| Problem::not_found("resource"))
    }
}

/// A query string in which every name is known.
pub(crate) struct Filter<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Filter<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Query::from_request_parts(parts, app).await.map(|Query(value)| Self(value)).map_err(|_| {
            let detail = "the query string has a name this route does not know, or a value that \
                          is not of the right form; see the interface's description";
            Problem::invalid(detail)
        })
    }
}

/// A JSON body of a request that changes nothing, such as a look-up.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, _) = request.into_parts();
        let body = body::read(&parts, app).await?;
        parse_json(&parts.headers, &body).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_json;
    use crate::http::problem::{Problem, ProblemKind};
    use axum::http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;
    use tapfer_payment_types::Currency;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by serde")]
    struct Sample {
        amount: i64,
        currency: Currency,
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "snake_case")]
    enum Inner {
        One,
    }

    fn refusal(body: &str) -> Problem {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        parse_json::<Sample>(&headers, body.as_bytes()).unwrap_err()
    }

    #[test]
    fn refusals_name_the_field_and_not_the_value() {
        let pan = "4111111111111111";
        let rows = [
            (
                format!(r#"{{"amount":"{pan}","currency":"EUR"}}"#),
                "field \"amount\": the value has",
            ),
            (format!(r#"{{"amount":1,"currency":"{pan}"}}"#), "unknown currency"),
            (format!(r#"{{"amount":1,"currency":"EUR","{pan}":1}}"#), "a field that this request"),
            (format!(r#"{{"amount":1,"currency":"EUR","inner":"{pan}"}}"#), "expected `one`"),
            (format!(r#"{{"amount":"{pan}, expected {pan}"}}"#), "expected i64"),
            (r#"{"amount":1}"#.to_owned(), "missing field `currency`"),
        ];
        for (body, expected) in rows {
            let problem = refusal(&body);
            assert_eq!(problem.kind(), ProblemKind::InvalidRequest, "{body}");
            assert!(problem.detail().contains(expected), "{}", problem.detail());
            assert!(!problem.detail().contains(pan), "{}", problem.detail());
        }
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for body in [
            "{",
            "",
            r#"{"amount":1,"currency":"EUR"}{}"#,
            "nul",
            "\u{0}",
            r#"{"amount":1,"currency":"EUR"} x"#,
        ] {
            assert_eq!(refusal(body).kind(), ProblemKind::MalformedRequest, "{body}");
        }
    }

    #[test]
    fn json_must_be_declared() {
        let refused = parse_json::<Sample>(&HeaderMap::new(), b"{}").unwrap_err();
        assert_eq!(refused.kind(), ProblemKind::UnsupportedMediaType);
    }

    proptest! {
        #[test]
        fn any_body_is_answered(body in ".{0,200}") {
            let _ = refusal(&format!("x{body}"));
        }
    }
}
