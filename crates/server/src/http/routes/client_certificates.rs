//! TLS certificates of terminals and phones.

use axum::extract::State;
use axum::response::IntoResponse;

use crate::api::client_certificates::{ClientCertificate, CreateClientCertificate};
use crate::http::App;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::problem::Problem;

/// Get a TLS certificate
///
/// With it a terminal or a phone proves who it is, in place of its API key. The first one it gets with its API key; it
/// renews it over a connection that shows the one before.
#[utoipa::path(
    post, path = "/v1/client-certificates", tag = "client certificates",
    operation_id = "create_client_certificate",
    params(IdempotencyHeader), request_body = CreateClientCertificate,
    responses((status = 201, description = "The certificate", body = ClientCertificate))
)]
pub(super) async fn create(
    State(app): State<App>,
    Command { caller, repetition, body }: Command<CreateClientCertificate>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.certify_client(&caller, &repetition, &body)).await
}
