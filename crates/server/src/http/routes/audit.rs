//! Signed configurations and the audit chain.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_emv::audit_chain::KnownHead;
use tapfer_payment_types::configuration::{SignedConfiguration, SignedDocument};
use tapfer_payment_types::messages::HexBytes;

use crate::api::audit::{
    AuditHeadAnswer, ConfigurationQuery, Links, LinksQuery, RecordRestoration, Restored,
    SignedConfigurationSchema,
};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::Filter;
use crate::http::problem::Problem;
use crate::service::caller::Caller;

/// Most hashes in one answer.
const MAXIMUM_LINKS: u16 = 1_000;

fn answer((known, head): (KnownHead, SignedDocument)) -> Json<AuditHeadAnswer> {
    let KnownHead { restoration, sequence, hash } = known;
    Json(AuditHeadAnswer { sequence, hash: HexBytes(hash.to_vec()), restoration, head })
}

/// What a phone or terminal obeys
///
/// Signed by the security module, with a version that only rises and the newest audit head. A phone gets its
/// issuer's, a terminal that of all terminals; the operator may see every one.
#[utoipa::path(
    get, path = "/v1/configuration", tag = "operation", operation_id = "get_configuration",
    params(ConfigurationQuery),
    responses((status = 200, description = "The signed configuration", body = SignedConfigurationSchema))
)]
pub(super) async fn configuration(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<ConfigurationQuery>,
) -> Result<Json<SignedConfiguration>, Problem> {
    let found = app.run(move |service| service.configuration(&caller, query.audience)).await?;
    Ok(Json(found))
}

/// The end of the audit chain, signed
///
/// As it is at this moment. Whoever keeps it can tell later whether anything before was changed. Every caller.
#[utoipa::path(
    get, path = "/v1/audit/head", tag = "operation", operation_id = "get_audit_head",
    responses((status = 200, description = "The signed head", body = AuditHeadAnswer))
)]
pub(super) async fn head(
    State(app): State<App>,
    _caller: Caller,
) -> Result<Json<AuditHeadAnswer>, Problem> {
    Ok(answer(app.run(|service| service.sign_audit_head(service.now())).await?))
}

/// What leads from one audit head to the next
///
/// Hashes of events, in order, and nothing that an event says. Every caller.
#[utoipa::path(
    get, path = "/v1/audit/links", tag = "operation", operation_id = "list_audit_links",
    params(LinksQuery),
    responses((status = 200, description = "Hashes behind a place", body = Links))
)]
pub(super) async fn links(
    State(app): State<App>,
    _caller: Caller,
    Filter(LinksQuery { after, limit }): Filter<LinksQuery>,
) -> Result<Json<Links>, Problem> {
    let limit = limit.unwrap_or(MAXIMUM_LINKS);
    if !(1..=MAXIMUM_LINKS).contains(&limit) {
        return Err(Problem::invalid("limit is 1 to 1000"));
    }
    if i64::try_from(after).is_err() {
        return Err(Problem::invalid("after is no place in the chain"));
    }
    let hashes = app.run(move |service| service.audit_hashes(after, limit)).await?;
    let event_hashes = hashes.iter().map(|hash| HexBytes(hash.to_vec())).collect();
    Ok(Json(Links { after, event_hashes }))
}

/// Say that the platform goes on from a backup
///
/// Phones and terminals refuse a platform that knows less than before. After this they follow it, once, and
/// everybody can see that it happened. Operator.
#[utoipa::path(
    post, path = "/v1/audit/restorations", tag = "operation", operation_id = "record_restoration",
    params(IdempotencyHeader), request_body = RecordRestoration,
    responses((status = 200, description = "What devices are told from now on", body = Restored))
)]
pub(super) async fn record_restoration(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<RecordRestoration>,
) -> Result<impl IntoResponse, Problem> {
    let reason = String::from(body.reason);
    app.run(move |service| service.record_restoration(&caller, &repetition, &reason)).await
}
