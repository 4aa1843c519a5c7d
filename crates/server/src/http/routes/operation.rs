//! For whoever runs the platform: health, readiness, metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;
use tapfer_payment_types::Timestamp;
use utoipa::ToSchema;

use crate::api::hsm::HsmState;
use crate::http::App;
use crate::http::problem::{Problem, ProblemKind};
use crate::metrics as count;
use crate::service::caller::Caller;

/// Text format of Prometheus.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the server is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always `ok`: a server that is not well answers with a problem, or not at all.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether payments can be decided.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ok`; `stand_in`, if the database is away and this node decides small payments alone.
    #[schema(example = "ok")]
    status: &'static str,
    /// Since when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    since: Option<Timestamp>,
}

/// Whether the process lives
///
/// Asks nothing but itself: restart it if this does not answer.
#[utoipa::path(
    get, path = "/health", tag = "operation", operation_id = "get_health",
    responses((status = 200, description = "It lives", body = Health))
)]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether payments can be decided
///
/// Asks the database and the security module: send no requests here while this is 503. A node that stands in for its database says
/// so: where another node has one, send them there.
#[utoipa::path(
    get, path = "/ready", tag = "operation", operation_id = "get_ready",
    responses(
        (status = 200, description = "They can", body = Ready),
        (status = 503, description = "They cannot at the moment", content_type = "application/problem+json", body = crate::http::problem::ProblemBody<'static>)
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    if app.is_leaving() {
        return Err(crate::http::stopping());
    }
    let check = app.run(|service| service.check()).await;
    check.map_err(|problem| match problem.kind() {
        ProblemKind::HsmDown | ProblemKind::DatabaseDown => problem,
        _ => Problem::unavailable(
            "the store or the catalogue of keys does not allow payments; the log says what is wrong (tapfer::fault)",
        ),
    })?;
    let status = app.service().stand_in().filter(|status| status.since.is_some());
    Ok(Json(Ready {
        status: if status.is_some() { "stand_in" } else { "ok" },
        since: status.and_then(|status| status.since),
    }))
}

/// Metrics in the text format of Prometheus
///
/// They tell the volume of business, so they are for the operator's key only, on loopback too: behind a
/// proxy on the same machine everybody comes from there.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", operation_id = "get_metrics",
    responses((status = 200, description = "Metrics", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(
    State(app): State<App>,
    caller: Caller,
) -> Result<impl IntoResponse, Problem> {
    caller.require_operator()?;
    let Some(recorder) = app.metrics() else {
        return Err(Problem::unavailable("this process records its metrics elsewhere"));
    };
    count::load(app.service().storage_load(), app.running_jobs());
    count::hsm(&app.service().hsm_state());
    if let Some(status) = app.service().stand_in() {
        count::stand_in(&status, app.service().now());
    }
    recorder.run_upkeep();
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], recorder.render()))
}

/// How the security modules stand
///
/// Answers when none of them serves, too: it says why. For the operator's key only.
#[utoipa::path(
    get, path = "/v1/hsm", tag = "operation", operation_id = "get_hsm",
    responses((status = 200, description = "How they stand", body = HsmState))
)]
pub(super) async fn hsm(State(app): State<App>, caller: Caller) -> Result<Json<HsmState>, Problem> {
    caller.require_operator()?;
    Ok(Json(app.run(|service| Ok(service.hsm_state())).await?))
}
