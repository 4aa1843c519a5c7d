//! Authorizations: the platform's answer to a card at a terminal.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::AuthorizationId;

use crate::api::Page;
use crate::api::authorizations::{
    Authorization, AuthorizationQuery, CreateAuthorization, CreateReversal, Reversal,
};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Ask whether a payment is good
///
/// Declined is an answer, not an error: read `outcome`. If the answer is lost, ask again with the same
/// idempotency key. Terminal.
#[utoipa::path(
    post, path = "/v1/authorizations", tag = "authorizations",
    operation_id = "create_authorization",
    params(IdempotencyHeader), request_body = CreateAuthorization,
    responses((status = 201, description = "The decision", body = Authorization))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateAuthorization>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.authorize(&caller, &repetition, &body)).await
}

/// List authorizations
///
/// Operator; a merchant and a terminal see their own.
#[utoipa::path(
    get, path = "/v1/authorizations", tag = "authorizations",
    operation_id = "list_authorizations", params(AuthorizationQuery),
    responses((status = 200, description = "A page of authorizations", body = Page<Authorization>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<AuthorizationQuery>,
) -> Result<Json<Page<Authorization>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app
        .run(move |service| service.list_authorizations(&caller, query.payment_intent, page))
        .await?;
    Ok(Json(listed(&slice)))
}

/// Get an authorization
///
/// Operator, merchant, and the terminal that asked.
#[utoipa::path(
    get, path = "/v1/authorizations/{authorization}", tag = "authorizations",
    operation_id = "get_authorization",
    params(("authorization" = String, Path, description = "The authorization's id")),
    responses((status = 200, description = "The authorization", body = Authorization))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<AuthorizationId>,
) -> Result<Json<Authorization>, Problem> {
    let found = app.run(move |service| service.authorization(&caller, id)).await?;
    Ok(Json((&found).into()))
}

/// Undo an approval
///
/// As if it had not been: for a terminal that lost the answer. Operator, merchant, and the terminal that
/// asked.
#[utoipa::path(
    post, path = "/v1/authorizations/{authorization}/reversals", tag = "authorizations",
    operation_id = "reverse_authorization",
    params(
        ("authorization" = String, Path, description = "The authorization's id"),
        IdempotencyHeader
    ),
    request_body = CreateReversal,
    responses((status = 201, description = "The reversal", body = Reversal))
)]
pub(super) async fn reverse(
    State(app): State<App>,
    PathId(id): PathId<AuthorizationId>,
    Command { caller, repetition, body }: Command<CreateReversal>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.reverse(&caller, &repetition, id, body)).await
}
