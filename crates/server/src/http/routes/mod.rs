//! The routes, one module a resource. A handler takes a request apart, lets the service do the work, and
//! puts the answer together; it decides nothing.

mod api_keys;
mod audit;
mod authorizations;
mod cards;
mod client_certificates;
mod devices;
mod integrity;
mod issuers;
mod merchants;
mod oauth;
mod operation;
mod payment_intents;
mod pins;
mod refunds;
mod retention;
mod reversals;
mod terminals;
mod tokens;

use axum::body::Bytes;
use core::fmt::Display;
use core::str::FromStr;
use serde_json::Value;
use tapfer_storage::{Page, Slice};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api;
use crate::http::App;
use crate::http::openapi::{self, Head};
use crate::http::problem::Problem;

/// Items a page unless the caller says otherwise.
const DEFAULT_LIMIT: u16 = 20;
/// Most items a page.
const MAXIMUM_LIMIT: u16 = 100;

/// Every route and its description.
pub(crate) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(operation::health))
        .routes(routes!(operation::ready))
        .routes(routes!(operation::metrics))
        .routes(routes!(operation::hsm))
        .routes(routes!(openapi::get_openapi))
        .routes(routes!(oauth::token))
        .routes(routes!(oauth::metadata))
        .routes(routes!(issuers::create, issuers::list))
        .routes(routes!(issuers::get))
        .routes(routes!(issuers::create_api_key))
        .routes(routes!(issuers::set_policy, issuers::policy))
        .routes(routes!(issuers::revoke_certificate))
        .routes(routes!(issuers::trust))
        .routes(routes!(audit::configuration))
        .routes(routes!(audit::head))
        .routes(routes!(audit::links))
        .routes(routes!(audit::record_restoration))
        .routes(routes!(retention::get, retention::set))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(cards::create, cards::list))
        .routes(routes!(cards::lookup))
        .routes(routes!(cards::get))
        .routes(routes!(cards::block))
        .routes(routes!(cards::unblock))
        .routes(routes!(cards::close))
        .routes(routes!(cards::top_up))
        .routes(routes!(cards::entries))
        .routes(routes!(pins::set_of_card))
        .routes(routes!(devices::create, devices::list))
        .routes(routes!(devices::get))
        .routes(routes!(integrity::verdict))
        .routes(routes!(integrity::challenge))
        .routes(routes!(integrity::attest))
        .routes(routes!(integrity::set_verdict))
        .routes(routes!(integrity::set_policy, integrity::policy))
        .routes(routes!(devices::store_share))
        .routes(routes!(devices::rotate_store_share))
        .routes(routes!(devices::lock))
        .routes(routes!(devices::unlock))
        .routes(routes!(client_certificates::create))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::get))
        .routes(routes!(tokens::activate))
        .routes(routes!(tokens::suspend))
        .routes(routes!(tokens::unsuspend))
        .routes(routes!(tokens::delete))
        .routes(routes!(tokens::replenish))
        .routes(routes!(tokens::detokenize))
        .routes(routes!(pins::get, pins::set))
        .routes(routes!(pins::reset))
        .routes(routes!(pins::login))
        .routes(routes!(merchants::create, merchants::list))
        .routes(routes!(merchants::get))
        .routes(routes!(terminals::create, terminals::list))
        .routes(routes!(terminals::get))
        .routes(routes!(terminals::certify))
        .routes(routes!(terminals::list_certificates))
        .routes(routes!(terminals::revoke))
        .routes(routes!(payment_intents::create, payment_intents::list))
        .routes(routes!(payment_intents::get))
        .routes(routes!(payment_intents::arm))
        .routes(routes!(payment_intents::cancel))
        .routes(routes!(payment_intents::capture))
        .routes(routes!(authorizations::create, authorizations::list))
        .routes(routes!(authorizations::get))
        .routes(routes!(authorizations::reverse))
        .routes(routes!(reversals::get))
        .routes(routes!(refunds::create, refunds::list))
        .routes(routes!(refunds::get))
}

/// The interface's description, complete.
///
/// # Errors
/// Never in practice: the document is plain data.
pub(crate) fn document() -> Result<(Value, Bytes), serde_json::Error> {
    let (_, api) = all().split_for_parts();
    let document = openapi::complete(&api)?;
    let bytes = serde_json::to_vec(&document)?;
    Ok((document, Bytes::from(bytes)))
}

/// Reads which page is wanted.
fn page<C: FromStr>(limit: Option<u16>, cursor: Option<&str>) -> Result<Page<C>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAXIMUM_LIMIT).contains(&limit) {
        return Err(Problem::invalid("limit is 1 to 100"));
    }
    let cursor = cursor.map(str::parse).transpose().map_err(|_| {
        Problem::invalid("cursor is not one of this list; give next_cursor of the page before")
    })?;
    Ok(Page { cursor, limit })
}

/// Puts a page together.
fn listed<T, C: Display, A: for<'a> From<&'a T>>(slice: &Slice<T, C>) -> api::Page<A> {
    api::Page {
        data: slice.items.iter().map(A::from).collect(),
        next_cursor: slice.next.as_ref().map(ToString::to_string),
    }
}
