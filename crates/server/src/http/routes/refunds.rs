//! Refunds: money given back after a payment.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::RefundId;

use crate::api::Page;
use crate::api::refunds::{CreateRefund, Refund, RefundQuery};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Give money back
///
/// All that is left of a payment, or a part. Operator and merchant.
#[utoipa::path(
    post, path = "/v1/refunds", tag = "refunds", operation_id = "create_refund",
    params(IdempotencyHeader), request_body = CreateRefund,
    responses((status = 201, description = "The refund", body = Refund))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateRefund>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_refund(&caller, &repetition, body)).await
}

/// List refunds
///
/// Operator; a merchant sees its own.
#[utoipa::path(
    get, path = "/v1/refunds", tag = "refunds", operation_id = "list_refunds", params(RefundQuery),
    responses((status = 200, description = "A page of refunds", body = Page<Refund>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<RefundQuery>,
) -> Result<Json<Page<Refund>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice =
        app.run(move |service| service.list_refunds(&caller, query.payment_intent, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Get a refund
///
/// Operator and merchant.
#[utoipa::path(
    get, path = "/v1/refunds/{refund}", tag = "refunds", operation_id = "get_refund",
    params(("refund" = String, Path, description = "The refund's id")),
    responses((status = 200, description = "The refund", body = Refund))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<RefundId>,
) -> Result<Json<Refund>, Problem> {
    let refund = app.run(move |service| service.refund(&caller, id)).await?;
    Ok(Json((&refund).into()))
}
