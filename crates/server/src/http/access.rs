//! What is written down about every request, and the headers every answer carries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tapfer_payment_types::ApiKeyId;

use crate::clock::Stopwatch;
use crate::http::App;
use crate::http::request_id::RequestId;
use crate::metrics;
use crate::request_limits::StrangersLine;

/// The line that is written about a request: never a body, a query string or a path with what the caller put there
/// (ASVS v5.0.0-16.2.1, v5.0.0-16.2.5).
pub(crate) struct AccessLine {
    stopwatch: Stopwatch,
    method: &'static str,
    route: Option<MatchedPath>,
    caller: CallerSlot,
}

impl AccessLine {
    /// Gives authentication a place to leave word of who calls.
    pub(crate) fn begin(request: &mut Request) -> Self {
        let caller = CallerSlot::default();
        request.extensions_mut().insert(caller.clone());
        Self {
            stopwatch: Stopwatch::start(),
            method: method_name(request.method()),
            route: request.extensions().get::<MatchedPath>().cloned(),
            caller,
        }
    }

    /// Who asks, if authentication has found out.
    pub(crate) fn caller(&self) -> Option<ApiKeyId> {
        self.caller.get()
    }

    /// Of requests of nobody knows whom so many a second (`left_out` says how many before it have no line).
    pub(crate) fn write(self, app: &App, request_id: &RequestId, status: StatusCode) {
        let duration = self.stopwatch.elapsed();
        let route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str);
        let (method, status) = (self.method, status.as_u16());
        metrics::request(method, route, status, duration);
        let caller = self.caller.get();
        let left_out = match caller {
            Some(_) => None,
            None => match app.gate().may_write(StrangersLine::Access) {
                Some(left_out) => Some(left_out).filter(|count| *count > 0),
                None => return,
            },
        };
        tracing::info!(
            target: "tapfer::access",
            request_id = request_id.as_str(),
            method,
            route,
            status,
            duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            caller = caller.map_or_else(|| "-".to_owned(), |key| key.to_string()),
            left_out,
            "request"
        );
    }
}

/// Where the authentication, deep inside, leaves word for the access line, outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallerSlot(Arc<Word>);

#[derive(Debug, Default)]
struct Word {
    key: OnceLock<ApiKeyId>,
    /// Somebody has a certificate, whose API key is looked up later.
    is_certified: AtomicBool,
}

impl CallerSlot {
    /// Leaves word of who calls.
    pub(crate) fn set(&self, key: ApiKeyId) {
        // The first one counts: one request, one caller.
        let _already_set = self.0.key.set(key);
    }

    /// Leaves word that the caller has a certificate, and that its API key is looked up later.
    pub(crate) fn set_certified(&self) {
        self.0.is_certified.store(true, Ordering::Relaxed);
    }

    /// Whether it is known who calls, or will be when the body is read.
    pub(crate) fn is_set(&self) -> bool {
        self.get().is_some() || self.0.is_certified.load(Ordering::Relaxed)
    }

    fn get(&self) -> Option<ApiKeyId> {
        self.0.key.get().copied()
    }
}

/// A method as a metric label: the caller must not be able to invent new ones.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Headers of every answer. Answers are for programs: nothing may be cached, framed, sniffed or run.
const SECURITY_HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000; includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Adds [`SECURITY_HEADERS`] (ASVS v5.0.0-14.3.2 and chapter 3.4).
pub(crate) fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
