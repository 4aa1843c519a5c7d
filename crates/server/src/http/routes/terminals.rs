//! Terminals of merchants.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use tapfer_payment_types::TerminalId;

use crate::api::terminals::{
    CreateTerminal, CreateTerminalCertificate, CreatedTerminal, RevokeTerminal, Terminal,
    TerminalCertificate, TerminalQuery,
};
use crate::api::{Page, PageQuery};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::caller::Caller;
use crate::service::{Service, ServiceError};

/// Create a terminal
///
/// Operator and merchant.
#[utoipa::path(
    post, path = "/v1/terminals", tag = "terminals", operation_id = "create_terminal",
    params(IdempotencyHeader), request_body = CreateTerminal,
    responses((status = 201, description = "The terminal and its API key", body = CreatedTerminal))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateTerminal>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.create_terminal(&caller, &repetition, &body)).await
}

/// List terminals
///
/// Operator; a merchant sees its own.
#[utoipa::path(
    get, path = "/v1/terminals", tag = "terminals", operation_id = "list_terminals",
    params(TerminalQuery),
    responses((status = 200, description = "A page of terminals", body = Page<Terminal>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<TerminalQuery>,
) -> Result<Json<Page<Terminal>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let listed = app.run(move |service| {
        let slice = service.list_terminals(&caller, query.merchant, page)?;
        let terminals = slice.items.iter().map(|terminal| view(service, terminal));
        Ok(Page {
            data: terminals.collect::<Result<_, _>>()?,
            next_cursor: slice.next.map(|next| next.to_string()),
        })
    });
    Ok(Json(listed.await?))
}

/// Get a terminal
///
/// Says which payment it is armed for. Operator, merchant, and the terminal itself.
#[utoipa::path(
    get, path = "/v1/terminals/{terminal}", tag = "terminals", operation_id = "get_terminal",
    params(("terminal" = String, Path, description = "The terminal's id")),
    responses((status = 200, description = "The terminal", body = Terminal))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<TerminalId>,
) -> Result<Json<Terminal>, Problem> {
    let terminal = app.run(move |service| view(service, &service.terminal(&caller, id)?));
    Ok(Json(terminal.await?))
}

/// Certify a terminal's key
///
/// With the certificate the terminal proves to phones whose it is. The terminal itself, with its own API
/// key. It renews the certificate before its end: the old one stays good until then. At most four live at
/// a time.
#[utoipa::path(
    post, path = "/v1/terminals/{terminal}/certificate", tag = "terminals",
    operation_id = "create_terminal_certificate",
    params(("terminal" = String, Path, description = "The terminal's id"), IdempotencyHeader),
    request_body = CreateTerminalCertificate,
    responses((status = 201, description = "The certificate", body = TerminalCertificate))
)]
pub(super) async fn certify(
    State(app): State<App>,
    PathId(id): PathId<TerminalId>,
    Command { caller, repetition, body }: Command<CreateTerminalCertificate>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.certify_terminal(&caller, &repetition, id, &body)).await
}

/// List a terminal's certificates
///
/// Operator, merchant, and the terminal itself.
#[utoipa::path(
    get, path = "/v1/terminals/{terminal}/certificates", tag = "terminals",
    operation_id = "list_terminal_certificates",
    params(("terminal" = String, Path, description = "The terminal's id"), PageQuery),
    responses((status = 200, description = "A page of certificates", body = Page<TerminalCertificate>))
)]
pub(super) async fn list_certificates(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<TerminalId>,
    Filter(query): Filter<PageQuery>,
) -> Result<Json<Page<TerminalCertificate>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app.run(move |service| service.list_terminal_certificates(&caller, id, page));
    Ok(Json(listed(&slice.await?)))
}

/// Revoke a terminal
///
/// For good, from the moment of the answer: its API keys, its certificates and the payment it is armed
/// for end with it, and phones hear of it with their next replenishment. Operator and merchant.
#[utoipa::path(
    post, path = "/v1/terminals/{terminal}/revoke", tag = "terminals",
    operation_id = "revoke_terminal",
    params(("terminal" = String, Path, description = "The terminal's id"), IdempotencyHeader),
    request_body = RevokeTerminal,
    responses((status = 200, description = "The terminal, revoked", body = Terminal))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    PathId(id): PathId<TerminalId>,
    Command { caller, repetition, body }: Command<RevokeTerminal>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.revoke_terminal(&caller, &repetition, id, body)).await
}

/// A terminal with the payment it waits for.
fn view(
    service: &Service,
    terminal: &tapfer_payments::terminals::Terminal,
) -> Result<Terminal, ServiceError> {
    let armed_for = service.armed_for(terminal.id)?;
    Ok(Terminal { armed_for, ..Terminal::from(terminal) })
}
