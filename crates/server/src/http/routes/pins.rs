//! PINs of phones and cards.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::messages::{PinStatus, SetPersonKeyRequest};
use tapfer_payment_types::{CardId, TokenId};

use crate::api::pins::{self, CardPinSet, Login, PinReason, SetCardPin};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::PathId;
use crate::http::problem::Problem;
use crate::service::caller::Caller;

/// How a token stands to its PIN
///
/// Operator, issuer, and the device the token lives on.
#[utoipa::path(
    get, path = "/v1/tokens/{token}/pin", tag = "tokens", operation_id = "get_token_pin",
    params(("token" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The PIN's status", body = pins::PinStatus))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<TokenId>,
) -> Result<Json<PinStatus>, Problem> {
    Ok(Json(app.run(move |service| service.pin_status(&caller, id)).await?))
}

/// Set or change the PIN of a phone
///
/// What travels is a new person's key, sealed to the issuer's key, with a proof of the old one. If the old
/// PIN was wrong, the answer is 200 as well: the generation stays, and there is one try less. The session
/// keys under the old key end. The device the token lives on.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/pin", tag = "tokens", operation_id = "set_token_pin",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = pins::SetPersonKeyRequest,
    responses((status = 200, description = "The PIN's status", body = pins::PinStatus))
)]
pub(super) async fn set(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    Command { caller, repetition, body }: Command<SetPersonKeyRequest>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_pin(&caller, &repetition, id, &body)).await
}

/// Let a phone choose a new PIN without the old one
///
/// A blocked PIN stays blocked until the new one is there. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/pin/reset", tag = "tokens", operation_id = "reset_token_pin",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = PinReason,
    responses((status = 200, description = "The PIN's status", body = pins::PinStatus))
)]
pub(super) async fn reset(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    Command { caller, repetition, body }: Command<PinReason>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.grant_pin_reset(&caller, &repetition, id, body)).await
}

/// Say that the person has logged in at the issuer
///
/// For policies that want a fresh login now and then; the phone is told with its next keys. Operator and
/// issuer.
#[utoipa::path(
    post, path = "/v1/tokens/{token}/login", tag = "tokens", operation_id = "record_token_login",
    params(("token" = String, Path, description = "The token's id"), IdempotencyHeader),
    request_body = PinReason,
    responses((status = 200, description = "When", body = Login))
)]
pub(super) async fn login(
    State(app): State<App>,
    PathId(id): PathId<TokenId>,
    Command { caller, repetition, body }: Command<PinReason>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.record_login(&caller, &repetition, id, body)).await
}

/// Set a card's PIN for terminals
///
/// All tries are given back. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/{card}/pin", tag = "cards", operation_id = "set_card_pin",
    params(("card" = String, Path, description = "The card's id"), IdempotencyHeader),
    request_body = SetCardPin,
    responses((status = 200, description = "The PIN is set", body = CardPinSet))
)]
pub(super) async fn set_of_card(
    State(app): State<App>,
    PathId(id): PathId<CardId>,
    Command { caller, repetition, body }: Command<SetCardPin>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_card_pin(&caller, &repetition, id, &body)).await
}
