//! Merchants.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::MerchantId;

use crate::api::merchants::{CreateMerchant, CreatedMerchant, Merchant};
use crate::api::{Page, PageQuery};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Create a merchant
///
/// Operator.
#[utoipa::path(
    post, path = "/v1/merchants", tag = "merchants", operation_id = "create_merchant",
    params(IdempotencyHeader), request_body = CreateMerchant,
    responses((status = 201, description = "The merchant and its API key", body = CreatedMerchant))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateMerchant>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_merchant(&caller, &repetition, body)).await
}

/// List merchants
///
/// Operator; a merchant sees itself.
#[utoipa::path(
    get, path = "/v1/merchants", tag = "merchants", operation_id = "list_merchants",
    params(PageQuery),
    responses((status = 200, description = "A page of merchants", body = Page<Merchant>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<Page<Merchant>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_merchants(&caller, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Get a merchant
///
/// Operator, and the merchant itself.
#[utoipa::path(
    get, path = "/v1/merchants/{merchant}", tag = "merchants", operation_id = "get_merchant",
    params(("merchant" = String, Path, description = "The merchant's id")),
    responses((status = 200, description = "The merchant", body = Merchant))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<MerchantId>,
) -> Result<Json<Merchant>, Problem> {
    let merchant = app.run(move |service| service.merchant(&caller, id)).await?;
    Ok(Json((&merchant).into()))
}
