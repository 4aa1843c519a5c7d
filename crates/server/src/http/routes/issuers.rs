//! Issuers, and whom a terminal has to trust.

use axum::Json;
use axum::response::IntoResponse;
use tapfer_payment_types::IssuerId;
use tapfer_payment_types::policy::VerificationPolicy;
use tapfer_payments::access::Principal;

use crate::api::api_keys::CreatedApiKey;
use crate::api::issuers::{CreateIssuer, Issuer, RevokeCertificate, RevokedCertificate, Trust};
use crate::api::payment_intents::Nothing;
use crate::api::policies::{IssuerPolicy, VerificationPolicySchema};
use crate::api::{Page, PageQuery};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;
use axum::extract::State;

/// Create an issuer
///
/// Makes its keys in the security module and its certificate. Operator.
#[utoipa::path(
    post, path = "/v1/issuers", tag = "issuers", operation_id = "create_issuer",
    params(IdempotencyHeader), request_body = CreateIssuer,
    responses((status = 201, description = "The issuer", body = Issuer))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateIssuer>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_issuer(&caller, &repetition, body)).await
}

/// List issuers
///
/// Operator; an issuer sees itself.
#[utoipa::path(
    get, path = "/v1/issuers", tag = "issuers", operation_id = "list_issuers", params(PageQuery),
    responses((status = 200, description = "A page of issuers", body = Page<Issuer>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<Page<Issuer>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_issuers(&caller, page)).await?;
    Ok(Json(listed(&slice)))
}

/// Get an issuer
///
/// Operator, or the issuer itself.
#[utoipa::path(
    get, path = "/v1/issuers/{issuer}", tag = "issuers", operation_id = "get_issuer",
    params(("issuer" = String, Path, description = "The issuer's id")),
    responses((status = 200, description = "The issuer", body = Issuer))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<IssuerId>,
) -> Result<Json<Issuer>, Problem> {
    let issuer = app.run(move |service| service.issuer(&caller, id)).await?;
    Ok(Json((&issuer).into()))
}

/// Set an issuer's verification policy
///
/// The document is one more version; phones get it with their next keys. A payment is judged by the version
/// that the phone obeyed, for as long after its replacement as a key lives. Operator, or the issuer itself.
#[utoipa::path(
    put, path = "/v1/issuers/{issuer}/policy", tag = "issuers", operation_id = "set_issuer_policy",
    params(("issuer" = String, Path, description = "The issuer's id"), IdempotencyHeader),
    request_body = VerificationPolicySchema,
    responses((status = 200, description = "The policy with its version", body = IssuerPolicy))
)]
pub(super) async fn set_policy(
    State(app): State<App>,
    PathId(id): PathId<IssuerId>,
    Command { caller, repetition, body }: Command<VerificationPolicy>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.set_policy(&caller, &repetition, id, body)).await
}

/// Get an issuer's verification policy
///
/// Operator, or the issuer itself.
#[utoipa::path(
    get, path = "/v1/issuers/{issuer}/policy", tag = "issuers", operation_id = "get_issuer_policy",
    params(("issuer" = String, Path, description = "The issuer's id")),
    responses((status = 200, description = "The policy", body = IssuerPolicy))
)]
pub(super) async fn policy(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<IssuerId>,
) -> Result<Json<IssuerPolicy>, Problem> {
    let issued = app.run(move |service| service.policy(&caller, id)).await?;
    Ok(Json((&issued).into()))
}

/// Create an API key of an issuer
///
/// As `POST /v1/api-keys` does for every owner. Operator.
#[utoipa::path(
    post, path = "/v1/issuers/{issuer}/api-keys", tag = "issuers",
    operation_id = "create_issuer_api_key",
    params(("issuer" = String, Path, description = "The issuer's id"), IdempotencyHeader),
    request_body = Nothing,
    responses((status = 201, description = "The key, shown this once", body = CreatedApiKey))
)]
pub(super) async fn create_api_key(
    State(app): State<App>,
    PathId(id): PathId<IssuerId>,
    Command { caller, repetition, body: Nothing {} }: Command<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    let owner = Principal::Issuer(id);
    app.run(move |service| service.create_api_key(&caller, &repetition, owner)).await
}

/// Take an issuer's certificate out of use
///
/// For good: terminals hear of it with `GET /v1/trust` and decline cards whose certificate it is. Operator.
#[utoipa::path(
    post, path = "/v1/issuers/{issuer}/certificate/revoke", tag = "issuers",
    operation_id = "revoke_issuer_certificate",
    params(("issuer" = String, Path, description = "The issuer's id"), IdempotencyHeader),
    request_body = RevokeCertificate,
    responses((status = 200, description = "The entry of the revocation list", body = RevokedCertificate))
)]
pub(super) async fn revoke_certificate(
    State(app): State<App>,
    PathId(id): PathId<IssuerId>,
    Command { caller, repetition, body }: Command<RevokeCertificate>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.revoke_issuer_certificate(&caller, &repetition, id, body)).await
}

/// Whom a terminal has to trust
///
/// The public keys of the certification authorities, and the issuers certified under them. Every caller; an issuer
/// and its phones see no issuer but their own.
#[utoipa::path(
    get, path = "/v1/trust", tag = "issuers", operation_id = "get_trust",
    responses((status = 200, description = "Authorities and issuers", body = Trust))
)]
pub(super) async fn trust(State(app): State<App>, caller: Caller) -> Result<Json<Trust>, Problem> {
    Ok(Json(app.run(move |service| service.trust(&caller)).await?))
}
