//! What every request goes through before its route, and every answer behind it, in one layer: each layer costs every
//! request a copy of all that is below it.

use axum::extract::{Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::connections::ToSomebodyKnown;
use crate::http::access::{self, AccessLine};
use crate::http::request_id::RequestId;
use crate::http::{App, body, host, problem};

/// From the outside in: request id, security headers, access line, problem bodies, the host's name, the place where the body
/// waits.
pub(crate) async fn answer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&app, request.headers());
    request.extensions_mut().insert(id.clone());
    let line = AccessLine::begin(&mut request);
    let is_http_1 = request.version() <= Version::HTTP_11;
    let answered = match host::demand_one(&request) {
        Ok(()) => body::wait_outside(&app, request, next).await,
        Err(problem) => problem.into_response(),
    };
    let mut response = problem::render(answered, &id);
    if let Some(key) = line.caller() {
        response.extensions_mut().insert(ToSomebodyKnown(key));
    }
    line.write(&app, &id, response.status());
    access::secure(response.headers_mut());
    id.tell(response.headers_mut());
    if app.is_leaving() && is_http_1 {
        // Ended here, a connection of HTTP/1.1 could have the next request on its way; HTTP/2 says which one it took last.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
