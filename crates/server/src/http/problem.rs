//! Errors as callers see them: RFC 9457 problems with a stable `type`.
//!
//! A handler or extractor answers with a [`Problem`]. It becomes a bare response that carries the
//! problem as an extension; [`render`], the outermost layer but one, writes the body, because only there
//! the request id is known and only there answers that axum made by itself can be caught too.

use core::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tapfer_storage::StandInRefusal;
use utoipa::ToSchema;

use crate::http::request_id::RequestId;
use crate::request_limits::{ReachedLimit, TooSoon};

/// Media type of a problem (RFC 9457, section 3).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! problem_kinds {
    ($($(#[$meta:meta])* $name:ident = ($slug:literal, $status:ident, $title:literal),)+) => {
        /// Every kind of problem the interface answers with. The slugs are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProblemKind { $($(#[$meta])* $name,)+ }

        impl ProblemKind {
            /// All kinds, for the interface's description.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name, last part of `type`.
            pub(crate) const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }

            /// The status code that always goes with the kind.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// What the kind is, in a few words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

problem_kinds! {
    /// The bytes are no request of this interface.
    MalformedRequest = ("malformed_request", BAD_REQUEST, "The request cannot be read"),
    /// A request that must be repeatable came without a key.
    IdempotencyKeyMissing =
        ("idempotency_key_missing", BAD_REQUEST, "This request needs an idempotency key"),
    /// No API key, or one that is not known.
    Unauthenticated = ("unauthenticated", UNAUTHORIZED, "A valid API key is needed"),
    /// The API key's role does not allow this.
    Forbidden = ("forbidden", FORBIDDEN, "This API key may not do that"),
    /// Terminals and phones show certificates here.
    ClientCertificateRequired =
        ("client_certificate_required", FORBIDDEN, "A client's TLS certificate is needed"),
    /// The access token was given for something else.
    InsufficientScope =
        ("insufficient_scope", FORBIDDEN, "The access token was not given for that"),
    /// No such thing, or none that the caller may see.
    NotFound = ("not_found", NOT_FOUND, "There is nothing here under this name"),
    /// The route exists, the method does not.
    MethodNotAllowed = ("method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here"),
    /// The body did not arrive in time.
    RequestTimeout = ("request_timeout", REQUEST_TIMEOUT, "The request took too long to arrive"),
    /// The state of things does not allow this.
    Conflict = ("conflict", CONFLICT, "The present state does not allow this"),
    /// The phone's store is kept closed.
    DeviceLocked = ("device_locked", CONFLICT, "The phone is locked"),
    /// The phone's store is older than one that was seen.
    StoreRolledBack = ("store_rolled_back", CONFLICT, "The phone's store is an old copy"),
    /// The first request with this key is still being worked on.
    IdempotencyInProgress =
        ("idempotency_in_progress", CONFLICT, "A request with this key is still running"),
    /// The body is too large.
    PayloadTooLarge = ("payload_too_large", PAYLOAD_TOO_LARGE, "The request body is too large"),
    /// The body is not declared as JSON.
    UnsupportedMediaType =
        ("unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The request body must be JSON"),
    /// The request can be read, but what it says does not hold.
    InvalidRequest = ("invalid_request", UNPROCESSABLE_ENTITY, "The request is not valid"),
    /// The chip data of an authorization cannot be used.
    InvalidChipData = ("invalid_chip_data", UNPROCESSABLE_ENTITY, "The chip data cannot be used"),
    /// The key was used before, for a different request.
    IdempotencyKeyReused = (
        "idempotency_key_reused",
        UNPROCESSABLE_ENTITY,
        "The idempotency key was used for another request"
    ),
    /// The caller asks too often.
    TooManyRequests = ("too_many_requests", TOO_MANY_REQUESTS, "Too many requests"),
    /// A fault of the platform.
    Internal = ("internal", INTERNAL_SERVER_ERROR, "The platform failed"),
    /// A part of the platform cannot be reached or has too much to do.
    Unavailable = ("unavailable", SERVICE_UNAVAILABLE, "The platform cannot answer at the moment"),
    /// The database cannot be reached: nothing was decided.
    DatabaseDown = ("database_down", SERVICE_UNAVAILABLE, "The database cannot be reached"),
    /// No security module serves: nothing was decided.
    HsmDown = ("hsm_down", SERVICE_UNAVAILABLE, "No security module serves"),
}

/// What went wrong with one request: its kind, and what, why and what to do in words.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: String,
    too_soon: Option<TooSoon>,
    reason: Option<&'static str>,
}

impl Problem {
    /// A problem of a kind. The detail never holds card data, keys or bytes the caller sent.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), too_soon: None, reason: None }
    }

    /// The caller comes too soon.
    pub(crate) fn too_soon(too_soon: TooSoon) -> Self {
        let detail = match too_soon.limit {
            ReachedLimit::Rate(_) => {
                "this API key asks too often; nothing was done. Wait as retry-after says, and ask again with the same \
                 idempotency key"
            }
            ReachedLimit::Description(_) => {
                "the interface's description was asked for from this address again and again; it does not change while the \
                 server runs"
            }
            ReachedLimit::Quota(_) => {
                "this API key has used up its requests of today; nothing was done. They begin anew at midnight UTC; the \
                 operator sets how many there are"
            }
            ReachedLimit::WrongCredentials => {
                "wrong credentials came from this address again and again; these were not looked at. Correct them, and \
                 wait as retry-after says"
            }
        };
        Self { too_soon: Some(too_soon), ..Self::new(ProblemKind::TooManyRequests, detail) }
    }

    /// The request can be read, but what it says does not hold.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::InvalidRequest, detail)
    }

    /// Nothing of that name, or nothing the caller may see: both look the same from outside.
    pub(crate) fn not_found(what: &str) -> Self {
        let detail = format!(
            "there is no {what} of that id that this API key may see; check the id and the key"
        );
        Self::new(ProblemKind::NotFound, detail)
    }

    /// The state of things does not allow this.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Conflict, detail)
    }

    /// The API key's role does not allow this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Forbidden, detail)
    }

    /// A fault of ours: logged in full here, named to the caller by the request id only.
    pub(crate) fn internal(cause: &dyn core::fmt::Display) -> Self {
        tracing::error!(target: "tapfer::fault", cause = %cause, "internal fault");
        let detail = "an unexpected fault; nothing was changed unless a retry with the same \
                      idempotency key says otherwise. Give the request id to the operator";
        Self::new(ProblemKind::Internal, detail)
    }

    /// A part of the platform cannot be reached or has too much to do.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unavailable, detail)
    }

    /// The database cannot be reached.
    pub(crate) fn database_down() -> Self {
        let detail = "the platform's database cannot be reached at the moment; nothing of this was done. Ask again with the \
                      same idempotency key: it goes on by itself as soon as a database is there";
        Self::new(ProblemKind::DatabaseDown, detail)
    }

    /// The database cannot be reached, and the node that stands in for it does not do this.
    pub(crate) fn stand_in(refusal: StandInRefusal) -> Self {
        let detail = format!(
            "the platform's database cannot be reached at the moment; nothing of this was done: {} ({}). It goes on as soon as a \
             database is there: ask again then, with the same idempotency key",
            refusal.text(),
            refusal.as_str()
        );
        Self { reason: Some(refusal.as_str()), ..Self::new(ProblemKind::DatabaseDown, detail) }
    }

    /// No security module serves. Which one says what is the operator's to know, in log and status.
    pub(crate) fn hsm_down() -> Self {
        let detail = "the platform's keys are not served; nothing was decided. Ask again with the same idempotency \
                      key: where it passes, it goes on by itself. The operator sees whether it does with tapfer hsm status";
        Self::new(ProblemKind::HsmDown, detail)
    }

    /// The kind.
    pub(crate) const fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// The words.
    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of a problem (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `urn:tapfer:problem:` and a stable name.
    #[serde(rename = "type")]
    #[schema(example = "urn:tapfer:problem:not_found")]
    kind: String,
    /// What the kind is, in a few words.
    title: &'a str,
    /// The HTTP status code.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened, why, and what to do.
    detail: &'a str,
    /// With `database_down`: the word for why a node that is alone does not do this (`docs/high-availability.md`). Absent where no
    /// node decides anything alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "token_amount")]
    reason: Option<&'a str>,
    /// The id of this request, as in the header `x-request-id`.
    request_id: &'a str,
}

/// Writes the bodies of problems, and turns bare error answers of the machinery below into problems.
pub(crate) fn render(mut response: Response, request_id: &RequestId) -> Response {
    let known = response.extensions_mut().remove::<Problem>();
    let Some(problem) = known.or_else(|| foreign(&response)) else { return response };
    write_body(response, &problem, request_id)
}

/// Stands at an error answer whose words another specification prescribes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnWords;

/// The problem behind an error answer that no code of ours made.
fn foreign(response: &Response) -> Option<Problem> {
    if response.extensions().get::<OwnWords>().is_some() {
        return None;
    }
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    let is_rendered = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == PROBLEM_JSON.as_bytes());
    if is_rendered {
        return None;
    }
    let kind = ProblemKind::ALL.iter().copied().find(|kind| kind.status() == status);
    let fallback = if status.is_server_error() {
        ProblemKind::Internal
    } else {
        ProblemKind::MalformedRequest
    };
    Some(Problem::new(kind.unwrap_or(fallback), "the request was refused before it was looked at"))
}

fn write_body(response: Response, problem: &Problem, request_id: &RequestId) -> Response {
    let kind = problem.kind;
    let body = ProblemBody {
        kind: format!("urn:tapfer:problem:{}", kind.slug()),
        title: kind.title(),
        status: kind.status().as_u16(),
        detail: &problem.detail,
        reason: problem.reason,
        request_id: request_id.as_str(),
    };
    let (mut parts, _) = response.into_parts();
    parts.status = kind.status();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if kind == ProblemKind::Unauthenticated {
        // RFC 6750, section 3: a 401 names the scheme.
        parts.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if kind.status() == StatusCode::SERVICE_UNAVAILABLE {
        parts.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(too_soon) = problem.too_soon {
        say_when(&mut parts.headers, too_soon);
    }
    let bytes = serde_json::to_vec(&body).unwrap_or_default();
    Response::from_parts(parts, Body::from(bytes))
}

/// Policy of a limit, and what is left of it (draft-ietf-httpapi-ratelimit-headers-10).
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// When to ask again, in whole seconds and never too early, and which limit was reached.
fn say_when(headers: &mut HeaderMap, TooSoon { limit, after }: TooSoon) {
    let whole = |time: Duration| time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    let (name, wait) = (limit.name(), whole(after).max(1));
    let policy = match limit {
        ReachedLimit::Rate(rate) | ReachedLimit::Description(rate) => {
            format!("\"{name}\";q={};w={}", rate.burst, whole(rate.window()).max(1))
        }
        ReachedLimit::Quota(a_day) => format!("\"{name}\";q={a_day};w=86400"),
        ReachedLimit::WrongCredentials => format!("\"{name}\";q=1;w={wait}"),
    };
    headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    let texts = [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, format!("\"{name}\";r=0;t={wait}"))];
    for (header, text) in texts {
        // Names and digits: always a value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ProblemKind;
    use std::collections::HashSet;

    #[test]
    fn slugs_are_distinct_and_plain() {
        let slugs: HashSet<_> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
        for slug in slugs {
            assert!(slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{slug}");
        }
    }
}
