//! Device integrity: what issuers ask of phones, and how phones stand.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::{DeviceId, IssuerId};
use tapfer_payments::integrity::IntegrityPolicy;

use crate::api::integrity::{
    Challenge, CreateAttestation, CreateVerdict, IntegrityPolicySchema, Verdict,
};
use crate::api::payment_intents::Nothing;
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::PathId;
use crate::http::problem::Problem;
use crate::service::caller::Caller;

/// Say what an issuer asks of phones
///
/// Operator and issuer. Takes the place of what was asked before; counts from the next payment on.
#[utoipa::path(
    put, path = "/v1/issuers/{issuer}/integrity-policy", tag = "devices",
    operation_id = "set_integrity_policy",
    params(("issuer" = String, Path, description = "The issuer's id"), IdempotencyHeader),
    request_body = IntegrityPolicySchema,
    responses((status = 200, description = "The policy", body = IntegrityPolicySchema))
)]
pub(super) async fn set_policy(
    State(app): State<App>,
    PathId(id): PathId<IssuerId>,
    Command { caller, repetition, body }: Command<IntegrityPolicy>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_integrity_policy(&caller, &repetition, id, body)).await
}

/// What an issuer asks of phones
///
/// Operator and issuer.
#[utoipa::path(
    get, path = "/v1/issuers/{issuer}/integrity-policy", tag = "devices",
    operation_id = "get_integrity_policy",
    params(("issuer" = String, Path, description = "The issuer's id")),
    responses((status = 200, description = "The policy", body = IntegrityPolicySchema))
)]
pub(super) async fn policy(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<IssuerId>,
) -> Result<Json<IntegrityPolicy>, Problem> {
    Ok(Json(app.run(move |service| service.integrity_policy(&caller, id)).await?))
}

/// Ask a phone to attest
///
/// The question takes the place of one that is still open. Operator, issuer, and the device itself.
#[utoipa::path(
    post, path = "/v1/devices/{device}/integrity/challenges", tag = "devices",
    operation_id = "challenge_device",
    params(("device" = String, Path, description = "The device's id"), IdempotencyHeader),
    request_body = Nothing,
    responses((status = 201, description = "The question", body = Challenge))
)]
pub(super) async fn challenge(
    State(app): State<App>,
    PathId(id): PathId<DeviceId>,
    Command { caller, repetition, body: Nothing {} }: Command<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.challenge_device(&caller, &repetition, id)).await
}

/// Give a Key Attestation
///
/// A chain that is not genuine is refused and changes nothing. Operator, issuer, and the device itself.
#[utoipa::path(
    post, path = "/v1/devices/{device}/integrity/attestations", tag = "devices",
    operation_id = "attest_device",
    params(("device" = String, Path, description = "The device's id"), IdempotencyHeader),
    request_body = CreateAttestation,
    responses((status = 201, description = "How the phone stands now", body = Verdict))
)]
pub(super) async fn attest(
    State(app): State<App>,
    PathId(id): PathId<DeviceId>,
    Command { caller, repetition, body }: Command<CreateAttestation>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.attest(&caller, &repetition, id, &body)).await
}

/// Say how a phone stands
///
/// For evidence that only the issuer's own service can read, such as Play Integrity. Operator and issuer.
#[utoipa::path(
    post, path = "/v1/devices/{device}/integrity/verdicts", tag = "devices",
    operation_id = "judge_device",
    params(("device" = String, Path, description = "The device's id"), IdempotencyHeader),
    request_body = CreateVerdict,
    responses((status = 201, description = "How the phone stands now", body = Verdict))
)]
pub(super) async fn set_verdict(
    State(app): State<App>,
    PathId(id): PathId<DeviceId>,
    Command { caller, repetition, body }: Command<CreateVerdict>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_verdict(&caller, &repetition, id, body)).await
}

/// How a phone stands
///
/// Operator, issuer, and the device itself.
#[utoipa::path(
    get, path = "/v1/devices/{device}/integrity", tag = "devices", operation_id = "get_integrity",
    params(("device" = String, Path, description = "The device's id")),
    responses((status = 200, description = "What was found out last", body = Verdict))
)]
pub(super) async fn verdict(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<DeviceId>,
) -> Result<Json<Verdict>, Problem> {
    let verdict = app.run(move |service| service.verdict(&caller, id)).await?;
    Ok(Json((&verdict).into()))
}
