//! Tokens: one card on one device.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::TokenId;
use tapfer_payment_types::messages::ReplenishRequest;
use tapfer_payments::tokens::TokenAction;

use crate::api::Page;
use crate::api::tokens::{
    self, ChangeToken, CreateToken, Detokenize, Detokenized, Token, TokenQuery,
};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, JsonBody, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Put a card onto a device
///
/// The token is INACTIVE until it is activated. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token",
    params(IdempotencyHeader), request_body = CreateToken,
    responses((status = 201, description = "The token", body = Token))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateToken>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_token(&caller, &repetition, &body)).await
}

/// List tokens
///
/// Operator; an issuer and a device see their own.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens", params(TokenQuery),
    responses((status = 200, description = "A page of tokens", body = Page<Token>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<TokenQuery>,
) -> Result<Json<Page<Token>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app
        .run(move |service| service.list_tokens(&caller, query.card, query.device, page))
        .await?;
    Ok(Json(listed(&slice)))
}

/// Get a token
///
/// Operator, issuer, and the device it lives on.
#[utoipa::path(
    get, path = "/v1/tokens/{token}", tag = "tokens", operation_id = "get_token",
    params(("token" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token", body = Token))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<TokenId>,
) -> Result<Json<Token>, Problem> {
    let token = app.run(move |service| service.token(&caller, id)).await?;
    Ok(Json((&token).into()))
}

/// Activate a token
///
/// It may pay from now on. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/activate", tag = "tokens", operation_id = "activate_token",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = ChangeToken,
    responses((status = 200, description = "The token", body = Token))
)]
pub(super) async fn activate(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    command: Command<ChangeToken>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, TokenAction::Activate, command).await
}

/// Suspend a token
///
/// It may not pay until the same class of actor resumes it. Operator, issuer, and the device for its
/// cardholder.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/suspend", tag = "tokens", operation_id = "suspend_token",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = ChangeToken,
    responses((status = 200, description = "The token", body = Token))
)]
pub(super) async fn suspend(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    command: Command<ChangeToken>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, TokenAction::Suspend, command).await
}

/// Resume a token
///
/// Lifts the suspension of this class of actor. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/unsuspend", tag = "tokens", operation_id = "unsuspend_token",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = ChangeToken,
    responses((status = 200, description = "The token", body = Token))
)]
pub(super) async fn unsuspend(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    command: Command<ChangeToken>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, TokenAction::Unsuspend, command).await
}

/// End a token
///
/// It never pays again. Operator, issuer, and the device for its cardholder.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/delete", tag = "tokens", operation_id = "delete_token",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = ChangeToken,
    responses((status = 200, description = "The token", body = Token))
)]
pub(super) async fn delete(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    command: Command<ChangeToken>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, TokenAction::Delete, command).await
}

async fn change(
    app: &App,
    id: TokenId,
    action: TokenAction,
    Command { caller, repetition, body }: Command<ChangeToken>,
) -> Result<impl IntoResponse + use<>, Problem> {
    app.run(move |service| service.change_token(&caller, &repetition, id, action, body)).await
}

/// Give a phone its profile and fresh keys
///
/// The payload is sealed to the device; the certificate and the keys in it live as long as the issuer's
/// key policy says. Operator, issuer, and the device the token lives on.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/replenish", tag = "tokens", operation_id = "replenish_token",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = tokens::ReplenishRequest,
    responses((
        status = 200, description = "The sealed payload: a ProvisioningPayload as JSON",
        body = tokens::SealedPayload
    ))
)]
pub(super) async fn replenish(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    Command { caller, repetition, body }: Command<ReplenishRequest>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.replenish(&caller, &repetition, id, &body)).await
}

/// Show the card number behind a token
///
/// Recorded in the audit log with its reason before it is shown. The one answer of this interface that
/// holds a card number. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/detokenize", tag = "tokens", operation_id = "detokenize_token",
    params(("token" = String, Path, description = "The token's id")),
    request_body = Detokenize,
    responses((status = 200, description = "The card number", body = Detokenized))
)]
pub(super) async fn detokenize(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<TokenId>,
    JsonBody(request): JsonBody<Detokenize>,
) -> Result<Json<Detokenized>, Problem> {
    Ok(Json(app.run(move |service| service.detokenize(&caller, id, &request)).await?))
}
