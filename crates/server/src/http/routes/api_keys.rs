//! API keys: making more of them, and taking them back.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::ApiKeyId;

use crate::api::Page;
use crate::api::api_keys::{ApiKey, ApiKeyQuery, CreateApiKey, CreatedApiKey, RevokeApiKey};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Create an API key
///
/// One more for somebody who is there: to change a key, create the new one, use it, and revoke the old
/// one. Operator; an issuer for its devices, a merchant for its terminals.
#[utoipa::path(
    post, path = "/v1/api-keys", tag = "API keys", operation_id = "create_api_key",
    params(IdempotencyHeader), request_body = CreateApiKey,
    responses((status = 201, description = "The key, shown this once", body = CreatedApiKey))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateApiKey>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_api_key(&caller, &repetition, body.owner)).await
}

/// List API keys
///
/// Without their secrets. Operator; an issuer its own and its devices', a merchant its own and its
/// terminals'.
#[utoipa::path(
    get, path = "/v1/api-keys", tag = "API keys", operation_id = "list_api_keys",
    params(ApiKeyQuery),
    responses((status = 200, description = "A page of API keys", body = Page<ApiKey>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<ApiKeyQuery>,
) -> Result<Json<Page<ApiKey>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_api_keys(&caller, query.owner, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Revoke an API key
///
/// For good, from the moment of the answer. Operator; an issuer its own and its devices', a merchant its
/// own and its terminals'.
#[utoipa::path(
    post, path = "/v1/api-keys/{api_key}/revoke", tag = "API keys",
    operation_id = "revoke_api_key",
    params(("api_key" = String, Path, description = "The key's id"), IdempotencyHeader),
    request_body = RevokeApiKey,
    responses((status = 200, description = "The key, revoked", body = ApiKey))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    PathId(id): PathId<ApiKeyId>,
    Command { caller, repetition, body }: Command<RevokeApiKey>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.revoke_api_key(&caller, &repetition, id, body)).await
}
