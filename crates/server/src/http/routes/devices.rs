//! Devices: phones with a wallet on them.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::DeviceId;

use crate::api::Page;
use crate::api::devices::{CreateDevice, CreatedDevice, Device, DeviceQuery};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;

/// Register a device
///
/// Operator and issuer.
#[utoipa::path(
    post, path = "/v1/devices", tag = "devices", operation_id = "create_device",
    params(IdempotencyHeader), request_body = CreateDevice,
    responses((status = 201, description = "The device and its API key", body = CreatedDevice))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateDevice>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_device(&caller, &repetition, body)).await
}

/// List devices
///
/// Operator; an issuer sees its own.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices", operation_id = "list_devices", params(DeviceQuery),
    responses((status = 200, description = "A page of devices", body = Page<Device>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<DeviceQuery>,
) -> Result<Json<Page<Device>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_devices(&caller, query.issuer, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Get a device
///
/// Operator, issuer, and the device itself.
#[utoipa::path(
    get, path = "/v1/devices/{device}", tag = "devices", operation_id = "get_device",
    params(("device" = String, Path, description = "The device's id")),
    responses((status = 200, description = "The device", body = Device))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<DeviceId>,
) -> Result<Json<Device>, Problem> {
    let device = app.run(move |service| service.device(&caller, id)).await?;
    Ok(Json((&device).into()))
}
