//! A request that changes something: who asks, under which idempotency key, and for what.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tapfer_storage::IdempotencyKey;
use utoipa::IntoParams;

use crate::api::could_be_card_number;
use crate::http::extract::parse_json;
use crate::http::openapi::IDEMPOTENCY_KEY;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::{App, body};
use crate::service::Answered;
use crate::service::caller::{Caller, Keyed};
use crate::service::repetition::{Repetition, RequestContent};

/// Says that an answer is the stored one.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The header, for the interface's description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header")]
pub(crate) struct IdempotencyHeader {
    /// The caller's own name for this request: 1 to 255 visible ASCII characters. The same key with the
    /// same content gets the same answer and has one effect. 12 to 19 digits alone, and names that hold what
    /// looks like a card number, are refused.
    #[param(rename = "idempotency-key", pattern = "^[!-~]{1,255}$")]
    idempotency_key: String,
}

/// A request that changes something.
pub(crate) struct Command<T, C = Caller> {
    /// Who asks.
    pub(crate) caller: C,
    /// Under which idempotency key.
    pub(crate) repetition: Repetition,
    /// For what.
    pub(crate) body: T,
}

impl<T: DeserializeOwned, C> FromRequest<App> for Command<T, C>
where
    C: FromRequestParts<App, Rejection = Problem> + Keyed + Send,
{
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (mut parts, _) = request.into_parts();
        let caller = C::from_request_parts(&mut parts, app).await?;
        let key = idempotency_key(&parts.headers)?;
        let bytes = body::read(&parts, app).await?;
        let content =
            RequestContent { method: parts.method.as_str(), path: parts.uri.path(), body: &bytes };
        let secret = app.service().repetition_secret();
        let repetition = Repetition::new(caller.api_key(), secret, key, &content)?;
        let body = parse_json(&parts.headers, &bytes)?;
        Ok(Self { caller, repetition, body })
    }
}

fn idempotency_key(headers: &axum::http::HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (first, second) = (values.next(), values.next());
    let missing = || {
        let detail = "send the header idempotency-key with your own name for this request, 1 to 255 \
                      visible ASCII characters; keep it when you ask again";
        Problem::new(ProblemKind::IdempotencyKeyMissing, detail)
    };
    if second.is_some() {
        let detail = "the header idempotency-key occurs twice; send it once";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail));
    }
    let text = first.ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    if could_be_card_number(text) {
        let detail = "this idempotency key could be a card number, or hold one, and keys are kept as they are; take a name \
                      without one, such as a UUID";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail));
    }
    text.parse().map_err(|_| missing())
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        // Statuses are stored by us: 200 or 201.
        let status = StatusCode::from_u16(self.response.status).unwrap_or(StatusCode::OK);
        let json = HeaderValue::from_static("application/json");
        let mut response = (status, self.response.body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
