//! Who calls: a bearer API key, and what it speaks for.

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use core::net::SocketAddr;
use tapfer_payment_types::Secret;

use crate::api_key::{self, PresentedKey};
use crate::http::App;
use crate::http::access::CallerSlot;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::request_id::RequestId;
use crate::service::caller::Caller;

/// A caller whose API key was found, and the key itself, from which the keys of its idempotent answers
/// are derived.
pub(crate) struct Authenticated {
    /// Who calls.
    pub(crate) caller: Caller,
    /// The secret part of the API key.
    pub(crate) secret: Secret<String>,
}

impl FromRequestParts<App> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let origin = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or_else(|| "local".to_owned(), |ConnectInfo(peer)| peer.ip().to_string());
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
        let Some(presented) = presented_key(parts) else {
            refuse(&origin, &request_id, "no API key of this platform's form");
            return Err(unauthenticated());
        };
        let hash = presented.secret_hash();
        let found = app.run(move |service| service.find_api_key(&hash)).await?;
        // The role stands in the key for people to see; it must not lie.
        let Some(key) = found.filter(|key| key.principal.role() == presented.role()) else {
            refuse(&origin, &request_id, "unknown or revoked API key");
            return Err(unauthenticated());
        };
        if let Some(slot) = parts.extensions.get::<CallerSlot>() {
            slot.set(key.id);
        }
        let request_id = request_id.as_str().to_owned();
        let caller = Caller { key: key.id, principal: key.principal, origin, request_id };
        Ok(Self { caller, secret: presented.into_secret() })
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Authenticated::from_request_parts(parts, app).await.map(|found| found.caller)
    }
}

fn presented_key(parts: &Parts) -> Option<PresentedKey> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    // Two keys are as bad as none: which of them counts must not depend on who reads them.
    if values.next().is_some() {
        return None;
    }
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| api_key::parse(key.trim()))?
}

/// A failed attempt to get in is a security event (ASVS v5.0.0-16.3.1).
fn refuse(origin: &str, request_id: &RequestId, cause: &'static str) {
    tracing::warn!(
        target: "tapfer::security",
        event = "authentication_failed",
        origin,
        request_id = request_id.as_str(),
        cause,
        "authentication failed"
    );
}

fn unauthenticated() -> Problem {
    Problem::new(
        ProblemKind::Unauthenticated,
        "send the header authorization: Bearer tapfer_<role>_<secret> with a key that is known here",
    )
}
