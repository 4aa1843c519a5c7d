//! Reversals: approvals that were undone.

use axum::Json;
use axum::extract::State;
use tapfer_payment_types::ReversalId;

use crate::api::authorizations::Reversal;
use crate::http::App;
use crate::http::extract::PathId;
use crate::http::problem::Problem;
use crate::service::caller::Caller;

/// Get a reversal
///
/// Its id stands in the authorization that it undid. Operator, merchant, and the terminal that had asked.
#[utoipa::path(
    get, path = "/v1/reversals/{reversal}", tag = "authorizations", operation_id = "get_reversal",
    params(("reversal" = String, Path, description = "The reversal's id")),
    responses((status = 200, description = "The reversal", body = Reversal))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId<ReversalId>,
) -> Result<Json<Reversal>, Problem> {
    let reversal = app.run(move |service| service.reversal(&caller, id)).await?;
    Ok(Json((&reversal).into()))
}
