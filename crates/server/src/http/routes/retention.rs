//! For how long what has ended is kept.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;

use crate::api::retention::{Retention, SetRetention};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::problem::Problem;
use crate::service::caller::Caller;

/// For how long what has ended is kept
///
/// Behind so many days the numbers of closed cards and ended tokens are erased, with all that hangs on them. Operator and issuer.
#[utoipa::path(
    get, path = "/v1/retention", tag = "operation", operation_id = "get_retention",
    responses((status = 200, description = "The limit", body = Retention))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Retention>, Problem> {
    let limit = app.run(move |service| service.retention(&caller)).await?;
    Ok(Json(limit.into()))
}

/// Keep what has ended for another time
///
/// Counts from the next erasure on, which is within the hour. What is erased does not come back. Operator.
#[utoipa::path(
    put, path = "/v1/retention", tag = "operation", operation_id = "set_retention",
    params(IdempotencyHeader), request_body = SetRetention,
    responses((status = 200, description = "The limit", body = Retention))
)]
pub(super) async fn set(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<SetRetention>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_retention(&caller, &repetition, body)).await
}
