//! Payment intents: what a merchant wants to be paid.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::PaymentIntentId;

use crate::api::Page;
use crate::api::payment_intents::{
    ArmTerminal, Capture, CreatePaymentIntent, Nothing, PaymentIntent, PaymentIntentQuery,
};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Ask for a payment
///
/// Merchant.
#[utoipa::path(
    post, path = "/v1/payment-intents", tag = "payment intents",
    operation_id = "create_payment_intent",
    params(IdempotencyHeader), request_body = CreatePaymentIntent,
    responses((status = 201, description = "The payment intent", body = PaymentIntent))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreatePaymentIntent>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_intent(&caller, &repetition, body)).await
}

/// List payment intents
///
/// Operator; a merchant sees its own.
#[utoipa::path(
    get, path = "/v1/payment-intents", tag = "payment intents",
    operation_id = "list_payment_intents", params(PaymentIntentQuery),
    responses((status = 200, description = "A page of payment intents", body = Page<PaymentIntent>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<PaymentIntentQuery>,
) -> Result<Json<Page<PaymentIntent>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_intents(&caller, query.merchant, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Get a payment intent
///
/// Operator, merchant, and a terminal that was armed for it.
#[utoipa::path(
    get, path = "/v1/payment-intents/{payment_intent}", tag = "payment intents",
    operation_id = "get_payment_intent",
    params(("payment_intent" = String, Path, description = "The payment intent's id")),
    responses((status = 200, description = "The payment intent", body = PaymentIntent))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<PaymentIntentId>,
) -> Result<Json<PaymentIntent>, Problem> {
    let intent = app.run(move |service| service.intent(&caller, id)).await?;
    Ok(Json((&intent).into()))
}

/// Arm a terminal for a payment
///
/// The terminal takes one card for it, within five minutes. Operator and merchant.
#[utoipa::path(
    post, path = "/v1/payment-intents/{payment_intent}/arm", tag = "payment intents",
    operation_id = "arm_payment_intent",
    params(
        ("payment_intent" = String, Path, description = "The payment intent's id"),
        IdempotencyHeader
    ),
    request_body = ArmTerminal,
    responses((status = 200, description = "The payment intent", body = PaymentIntent))
)]
pub(super) async fn arm(
    State(app): State<App>,
    PathId(id): PathId<PaymentIntentId>,
    Command { caller, repetition, body }: Command<ArmTerminal>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.arm_intent(&caller, &repetition, id, &body)).await
}

/// Give a payment up
///
/// What is held for it goes back to the card. Operator and merchant.
#[utoipa::path(
    post, path = "/v1/payment-intents/{payment_intent}/cancel", tag = "payment intents",
    operation_id = "cancel_payment_intent",
    params(
        ("payment_intent" = String, Path, description = "The payment intent's id"),
        IdempotencyHeader
    ),
    request_body = Nothing,
    responses((status = 200, description = "The payment intent", body = PaymentIntent))
)]
pub(super) async fn cancel(
    State(app): State<App>,
    PathId(id): PathId<PaymentIntentId>,
    Command { caller, repetition, body: Nothing {} }: Command<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.cancel_intent(&caller, &repetition, id)).await
}

/// Capture an approved payment
///
/// All of it or a part; the rest goes back to the card. Operator and merchant.
#[utoipa::path(
    post, path = "/v1/payment-intents/{payment_intent}/capture", tag = "payment intents",
    operation_id = "capture_payment_intent",
    params(
        ("payment_intent" = String, Path, description = "The payment intent's id"),
        IdempotencyHeader
    ),
    request_body = Capture,
    responses((status = 200, description = "The payment intent", body = PaymentIntent))
)]
pub(super) async fn capture(
    State(app): State<App>,
    PathId(id): PathId<PaymentIntentId>,
    Command { caller, repetition, body }: Command<Capture>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.capture_intent(&caller, &repetition, id, body)).await
}
