//! Authorizations: the platform's answer to a card at a terminal.

use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use core::convert::Infallible;
use tapfer_payment_types::AuthorizationId;
use tapfer_payments::authorization::Language;

use crate::api::Page;
use crate::api::authorizations::{
    Authorization, AuthorizationQuery, CreateAuthorization, CreateReversal, Reversal,
};
use crate::http::App;
use crate::http::access::CallerSlot;
use crate::http::command::{Command, IdempotencyHeader};
use crate::http::extract::{Filter, PathId};
use crate::http::problem::Problem;
use crate::http::routes::{listed, page};
use crate::service::Question;
use crate::service::caller::{Asker, Caller, Keyed as _};

/// The header, for the interface's description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes a header")]
struct LanguageHeader {
    /// In which language `reason_text` is wanted: `en` or `de`, the first that is there; English if absent.
    #[param(rename = "accept-language", required = false)]
    accept_language: Option<String>,
}

/// The language that the caller reads.
pub(super) struct Reader(Language);

impl FromRequestParts<App> for Reader {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        let wanted = parts.headers.get(header::ACCEPT_LANGUAGE);
        Ok(Self(language(wanted.and_then(|value| value.to_str().ok()).unwrap_or_default())))
    }
}

/// The first language of the list (RFC 9110 12.5.4, without its weights) that there are texts in.
fn language(accepted: &str) -> Language {
    let primary = accepted.split(',').filter_map(|range| range.trim().split(['-', ';']).next());
    primary
        .filter_map(|tag| match tag.to_ascii_lowercase().as_str() {
            "de" => Some(Language::German),
            "en" => Some(Language::English),
            _ => None,
        })
        .next()
        .unwrap_or_default()
}

/// Ask whether a payment is good
///
/// Declined is an answer, not an error: read `outcome`. If the answer is lost, ask again with the same
/// idempotency key. Terminal.
#[utoipa::path(
    post, path = "/v1/authorizations", tag = "authorizations",
    operation_id = "create_authorization",
    params(IdempotencyHeader, LanguageHeader), request_body = CreateAuthorization,
    responses((status = 201, description = "The decision", body = Authorization))
)]
pub(super) async fn create(
    State(app): State<App>,
    Extension(slot): Extension<CallerSlot>,
    Reader(language): Reader,
    Command { caller, repetition, body }: Command<CreateAuthorization, Asker>,
) -> Result<impl IntoResponse, Problem> {
    let key = caller.api_key();
    let answered = app.decide(Question::new(caller, repetition, body, language)?).await?;
    // Who was decided about was looked up.
    slot.set(key);
    Ok::<_, Problem>(answered)
}

/// List authorizations
///
/// Operator; a merchant and a terminal see their own.
#[utoipa::path(
    get, path = "/v1/authorizations", tag = "authorizations",
    operation_id = "list_authorizations", params(AuthorizationQuery),
    responses((status = 200, description = "A page of authorizations", body = Page<Authorization>))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Filter(query): Filter<AuthorizationQuery>,
) -> Result<Json<Page<Authorization>>, Problem> {
    let page = page(query.limit, query.cursor.as_deref())?;
    let slice = app
        .run(move |service| service.list_authorizations(&caller, query.payment_intent, page))
        .await?;
    Ok(Json(listed(&slice)))
}

/// Get an authorization
///
/// Operator, merchant, and the terminal that asked.
#[utoipa::path(
    get, path = "/v1/authorizations/{authorization}", tag = "authorizations",
    operation_id = "get_authorization",
    params(
        ("authorization" = String, Path, description = "The authorization's id"),
        LanguageHeader
    ),
    responses((status = 200, description = "The authorization", body = Authorization))
)]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Reader(language): Reader,
    PathId(id): PathId<AuthorizationId>,
) -> Result<Json<Authorization>, Problem> {
    let found = app.run(move |service| service.authorization(&caller, id)).await?;
    Ok(Json(Authorization::in_language(&found, language)))
}

/// Undo an approval
///
/// As if it had not been: for a terminal that lost the answer. Operator, merchant, and the terminal that
/// asked.
#[utoipa::path(
    post, path = "/v1/authorizations/{authorization}/reversals", tag = "authorizations",
    operation_id = "reverse_authorization",
    params(
        ("authorization" = String, Path, description = "The authorization's id"),
        IdempotencyHeader
    ),
    request_body = CreateReversal,
    responses((status = 201, description = "The reversal", body = Reversal))
)]
pub(super) async fn reverse(
    State(app): State<App>,
    PathId(id): PathId<AuthorizationId>,
    Command { caller, repetition, body }: Command<CreateReversal>,
) -> Result<impl IntoResponse, Problem> {
    app.run(move |service| service.reverse(&caller, &repetition, id, body)).await
}

#[cfg(test)]
mod tests {
    use super::language;
    use tapfer_payments::authorization::Language;

    #[test]
    fn the_first_language_that_there_are_texts_in() {
        for accepted in ["de", "DE-at", "fr, de;q=0.5, en", "de;q=1"] {
            assert_eq!(language(accepted), Language::German, "{accepted}");
        }
        for accepted in ["", "en", "en-GB,de", "fr", "*", ";;,,-", "den"] {
            assert_eq!(language(accepted), Language::English, "{accepted}");
        }
    }
}
