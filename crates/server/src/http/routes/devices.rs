//! Devices: phones with a wallet on them.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::DeviceId;
use tapfer_payment_types::store_share::{StoreReport, StoreShareMessage};
use tapfer_payments::access::Principal;

use crate::api::Page;
use crate::api::devices::{self, CreateDevice, CreatedDevice, Device, DeviceQuery, LockDevice};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, JsonBody, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;
use crate::service::store_shares::{LockChange, Wanted};

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
    let is_phone = matches!(caller.principal, Principal::Device(_));
    let device = app.run(move |service| service.device(&caller, id)).await?;
    let device = Device::from(&device);
    Ok(Json(if is_phone { device.for_the_phone() } else { device }))
}

/// Open a phone's store
///
/// The platform's share in the key of the store that the phone reports. Naming the epoch that `rotate`
/// offered confirms it, and the one before is never given out again. Refused while the device is locked
/// (`device_locked`), and for a store that is older than one that was seen (`store_rolled_back`). Asked
/// again it answers again, and needs no idempotency key: the answer is not kept. The device itself.
#[utoipa::path(
    post, path = "/v1/devices/{device}/store-share", tag = "devices",
    operation_id = "get_store_share",
    params(("device" = String, Path, description = "The device's id")),
    request_body = devices::StoreReport,
    responses((status = 200, description = "The share", body = devices::StoreShare))
)]
pub(super) async fn store_share(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<DeviceId>,
    JsonBody(report): JsonBody<StoreReport>,
) -> Result<Json<StoreShareMessage>, Problem> {
    share(app, caller, id, report, Wanted::Reported).await
}

/// Move a phone's store to the next epoch
///
/// The share of the epoch after the confirmed one; the first is asked for in epoch 0. The phone seals its
/// store under it, and then names it to `store-share`. Until then it can open the store under either.
/// Refused as `store-share` is. The device itself.
#[utoipa::path(
    post, path = "/v1/devices/{device}/store-share/rotate", tag = "devices",
    operation_id = "rotate_store_share",
    params(("device" = String, Path, description = "The device's id")),
    request_body = devices::StoreReport,
    responses((status = 200, description = "The share of the next epoch", body = devices::StoreShare))
)]
pub(super) async fn rotate_store_share(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<DeviceId>,
    JsonBody(report): JsonBody<StoreReport>,
) -> Result<Json<StoreShareMessage>, Problem> {
    share(app, caller, id, report, Wanted::Next).await
}

async fn share(
    app: App,
    caller: Caller,
    id: DeviceId,
    report: StoreReport,
    wanted: Wanted,
) -> Result<Json<StoreShareMessage>, Problem> {
    Ok(Json(app.run(move |service| service.store_share(&caller, id, report, wanted)).await?))
}

/// Lock a device
///
/// Its store stays closed the next time the wallet starts, and it gets no keys. What it holds open in
/// memory goes on: suspend its tokens to stop payments at once. A phone with cards of several issuers is a
/// device with each, and keeps its store under the first one alone: a lock of another one's device stops that
/// one's keys, and leaves the store open. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/devices/{device}/lock", tag = "devices", operation_id = "lock_device",
    params(("device" = String, Path, description = "The device's id"), IdempotencyHeader),
    request_body = LockDevice,
    responses((status = 200, description = "The device", body = Device))
)]
pub(super) async fn lock(
    State(app): State<App>,
    PathId(id): PathId<DeviceId>,
    command: Command<LockDevice>,
) -> Result<impl IntoResponse, Problem> {
    change_lock(&app, id, LockChange::Lock, command).await
}

/// Unlock a device
///
/// Its store opens again. What the operator has locked, only the operator unlocks. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/devices/{device}/unlock", tag = "devices", operation_id = "unlock_device",
    params(("device" = String, Path, description = "The device's id"), IdempotencyHeader),
    request_body = LockDevice,
    responses((status = 200, description = "The device", body = Device))
)]
pub(super) async fn unlock(
    State(app): State<App>,
    PathId(id): PathId<DeviceId>,
    command: Command<LockDevice>,
) -> Result<impl IntoResponse, Problem> {
    change_lock(&app, id, LockChange::Unlock, command).await
}

async fn change_lock(
    app: &App,
    id: DeviceId,
    change: LockChange,
    Command { caller, repetition, body }: Command<LockDevice>,
) -> Result<impl IntoResponse + use<>, Problem> {
    app.run(move |service| service.change_lock(&caller, &repetition, id, change, body)).await
}
