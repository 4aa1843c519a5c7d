//! Cards in the vault and their accounts.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::CardId;
use tapfer_storage::CardChange;

use crate::api::cards::{
    BlockCard, Card, CardQuery, CloseCard, CreateCard, LedgerEntry, LookupCard, TopUpCard,
};
use crate::api::{Page, PageQuery};
use crate::http::App;
use crate::http::authentication::require_card_numbers;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, JsonBody, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Create a card
///
/// Under the number given, or a new one of the issuer's range. The number is encrypted by the security
/// module and never comes back. An access token that gives one needs the scope `card-numbers:read` as well. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards", tag = "cards", operation_id = "create_card",
    params(IdempotencyHeader), request_body = CreateCard,
    responses((status = 201, description = "The card", body = Card))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateCard>,
) -> Result<impl IntoResponse, Problem> {
    if body.pan.is_some() {
        require_card_numbers(&caller)?;
    }
    app.run(move |service| service.create_card(&caller, &repetition, body)).await
}

/// List cards
///
/// Operator; an issuer sees its own.
#[utoipa::path(
    get, path = "/v1/cards", tag = "cards", operation_id = "list_cards", params(CardQuery),
    responses((status = 200, description = "A page of cards", body = Page<Card>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<CardQuery>,
) -> Result<Json<Page<Card>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_cards(&caller, query.issuer, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Find a card by its number
///
/// The number is hashed under a key of the security module; the look-up is recorded in the audit log.
/// Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/lookup", tag = "cards", operation_id = "lookup_card",
    request_body = LookupCard,
    responses((status = 200, description = "The card", body = Card))
)]
pub(super) async fn lookup(
    State(app): State<App>,
    caller: Caller,
    JsonBody(request): JsonBody<LookupCard>,
) -> Result<Json<Card>, Problem> {
    let account = app.run(move |service| service.find_card(&caller, &request)).await?;
    Ok(Json((&account).into()))
}

/// Get a card
///
/// Operator and issuer.
#[utoipa::path(
    get, path = "/v1/cards/{card}", tag = "cards", operation_id = "get_card",
    params(("card" = String, Path, description = "The card's id")),
    responses((status = 200, description = "The card", body = Card))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<CardId>,
) -> Result<Json<Card>, Problem> {
    let account = app.run(move |service| service.card(&caller, id)).await?;
    Ok(Json((&account).into()))
}

/// Block a card
///
/// Stops the card and every token of it; effective when the answer is there. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/{card}/block", tag = "cards", operation_id = "block_card",
    params(("card" = String, Path, description = "The card's id"), IdempotencyHeader),
    request_body = BlockCard,
    responses((status = 200, description = "The card", body = Card))
)]
pub(super) async fn block(
    State(app): State<App>,
    PathId(id): PathId<CardId>,
    command: Command<BlockCard>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, CardChange::Block, command).await
}

/// Unblock a card
///
/// Its tokens are as they were before the block. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/{card}/unblock", tag = "cards", operation_id = "unblock_card",
    params(("card" = String, Path, description = "The card's id"), IdempotencyHeader),
    request_body = BlockCard,
    responses((status = 200, description = "The card", body = Card))
)]
pub(super) async fn unblock(
    State(app): State<App>,
    PathId(id): PathId<CardId>,
    command: Command<BlockCard>,
) -> Result<impl IntoResponse, Problem> {
    change(&app, id, CardChange::Unblock, command).await
}

async fn change(
    app: &App,
    id: CardId,
    change: CardChange,
    Command { caller, repetition, body }: Command<BlockCard>,
) -> Result<impl IntoResponse + use<>, Problem> {
    app.run(move |service| service.change_card(&caller, &repetition, id, change, body)).await
}

/// Close a card
///
/// For good: every token of it ends with it, and it never pays or opens again. Refused while something is held for payments, and
/// while there is money on it, unless `pay_out` gives that back to the issuer's account. A closed card onto which a refund came
/// is closed once more with `pay_out`. What is kept of it is erased when the realm's retention limit is over. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/{card}/close", tag = "cards", operation_id = "close_card",
    params(("card" = String, Path, description = "The card's id"), IdempotencyHeader),
    request_body = CloseCard,
    responses((status = 200, description = "The card", body = Card))
)]
pub(super) async fn close(
    State(app): State<App>,
    PathId(id): PathId<CardId>,
    Command { caller, repetition, body }: Command<CloseCard>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.close_card(&caller, &repetition, id, body)).await
}

/// Load money onto a card
///
/// Operator and issuer.
#[utoipa::path(
    post, path = "/v1/cards/{card}/top-ups", tag = "cards", operation_id = "top_up_card",
    params(("card" = String, Path, description = "The card's id"), IdempotencyHeader),
    request_body = TopUpCard,
    responses((status = 201, description = "The booking", body = LedgerEntry))
)]
pub(super) async fn top_up(
    State(app): State<App>,
    PathId(id): PathId<CardId>,
    Command { caller, repetition, body }: Command<TopUpCard>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.top_up(&caller, &repetition, id, body)).await
}

/// List what was booked on a card's account
///
/// Operator and issuer.
#[utoipa::path(
    get, path = "/v1/cards/{card}/entries", tag = "cards", operation_id = "list_card_entries",
    params(("card" = String, Path, description = "The card's id"), PageQuery),
    responses((status = 200, description = "A page of bookings", body = Page<LedgerEntry>))
)]
pub(super) async fn entries(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<CardId>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<Page<LedgerEntry>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.card_entries(&caller, id, page)).await?;
    Ok(Json(listed(&slice)))
}
