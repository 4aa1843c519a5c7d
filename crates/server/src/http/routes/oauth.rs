//! OAuth 2 for merchants' and issuers' servers: client credentials (RFC 6749, 4.4) and metadata (RFC 8414).

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use tapfer_payment_types::{ApiKeyId, Secret};

use crate::api::oauth::{AccessToken, AuthorizationServerMetadata, TokenError, TokenRequest};
use crate::api_key::{self, PresentedKey};
use crate::http::authentication::{address, look_up, looked_up, refuse};
use crate::http::problem::{OwnWords, Problem};
use crate::http::{App, body, form, host};
use crate::service::access_tokens::LIFE_SECONDS;

/// What is refused here is refused in the RFC's words.
enum Refusal {
    Token(&'static str, &'static str),
    Problem(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (error, why) = match self {
            Self::Problem(problem) => return problem.into_response(),
            Self::Token(error, why) => (error, why),
        };
        let is_client = error == "invalid_client";
        let status = if is_client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let (error, error_description) = (error.to_owned(), why.to_owned());
        let mut response = (status, Json(TokenError { error, error_description })).into_response();
        response.extensions_mut().insert(OwnWords);
        if is_client {
            let basic = HeaderValue::from_static("Basic realm=\"tapfer\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    }
}

/// Get an access token
///
/// OAuth 2, client credentials: for the servers of merchants and issuers. A token is good for a quarter of an hour, for what its scope names and its
/// API key may, and ends with its API key.
#[utoipa::path(
    post, path = "/oauth2/token", tag = "OAuth 2", operation_id = "create_access_token",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token", body = AccessToken),
        (status = 400, description = "No token, in the words of RFC 6749", content_type = "application/json", body = TokenError),
        (status = 401, description = "The client is not known, in the words of RFC 6749", content_type = "application/json", body = TokenError)
    )
)]
pub(super) async fn token(
    State(app): State<App>,
    parts: Parts,
) -> Result<Json<AccessToken>, Response> {
    issue(&app, &parts).await.map(Json).map_err(Refusal::into_response)
}

async fn issue(app: &App, parts: &Parts) -> Result<AccessToken, Refusal> {
    let body = body::read(parts, app).await?;
    let invalid = |why| Refusal::Token("invalid_request", why);
    let request = request(&parts.headers, &body).ok_or_else(|| {
        invalid("send grant_type=client_credentials as application/x-www-form-urlencoded, each parameter once")
    })?;
    let (id, key) = client(&parts.headers, &request)?;
    if request.grant_type != "client_credentials" {
        let why = "the one grant_type here is client_credentials";
        return Err(Refusal::Token("unsupported_grant_type", why));
    }
    let scope = request.scope.filter(|scope| !scope.is_empty());
    let known = |one: &str| app.scopes().iter().any(|scope| scope == one);
    if scope.as_deref().is_some_and(|scope| !scope.split(' ').all(known)) {
        let why =
            "scope names one that is not there; /.well-known/oauth-authorization-server lists all";
        return Err(Refusal::Token("invalid_scope", why));
    }
    let (from, hash) = (address(parts), key.secret_hash());
    look_up(app, from, &hash)?;
    let found = app.run(move |service| service.find_api_key(&hash)).await?;
    let found = found.filter(|found| found.id == id && found.principal.role() == key.role());
    looked_up(app, from, &hash, found.is_some());
    let Some(found) = found else {
        refuse(app, parts, "unknown OAuth client, or a wrong secret");
        let why = "the id or the secret is wrong, or the API key was revoked: client_id is the id of an API key that is in force \
             here (key_...), client_secret the key itself";
        return Err(Refusal::Token("invalid_client", why));
    };
    let now = app.service().now();
    app.gate().pass(found.id, found.principal.role(), now).map_err(Problem::too_soon)?;
    let asked = scope.clone();
    let token = app.run(move |service| service.issue_token(&found, asked)).await?;
    let access_token = token.ok_or(Refusal::Token(
        "unauthorized_client",
        "access tokens are for merchants and issuers; terminals and phones show certificates",
    ))?;
    Ok(AccessToken {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: LIFE_SECONDS,
        scope,
    })
}

/// The parameters. Unknown ones are ignored, and none may occur twice (RFC 6749, 3.2).
fn request(headers: &HeaderMap, body: &[u8]) -> Option<TokenRequest> {
    let media_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let pairs = form::parse(body)?;
    let only = |name: &str| {
        let mut found = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
        let first = found.next().cloned();
        if found.next().is_some() { Err(()) } else { Ok(first) }
    };
    Some(TokenRequest {
        grant_type: only("grant_type").ok()??,
        scope: only("scope").ok()?,
        client_id: only("client_id").ok()?,
        client_secret: only("client_secret").ok()?,
    })
}

/// Who asks: in the header, or in the body, and not in both (RFC 6749, 2.3).
fn client(
    headers: &HeaderMap,
    request: &TokenRequest,
) -> Result<(ApiKeyId, PresentedKey), Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let shown = match (values.next(), values.next(), &request.client_secret) {
        (Some(value), None, None) => basic(value),
        (None, None, Some(secret)) => {
            request.client_id.clone().map(|id| (id, Secret::new(secret.clone())))
        }
        (None, None, None) => None,
        _ => {
            let why = "the client's secret stands in the header or in the body, once";
            return Err(Refusal::Token("invalid_request", why));
        }
    };
    let read = shown.and_then(|(id, key)| {
        let is_same = request.client_id.as_ref().is_none_or(|named| *named == id);
        Some((id.parse().ok()?, api_key::parse(key.expose())?)).filter(|_| is_same)
    });
    let why = "send client id and secret, in the header authorization: Basic: the id of an API key of a merchant or an issuer \
               (key_...), and the key itself. Terminals and phones get certificates in place of access tokens (POST \
               /v1/client-certificates)";
    read.ok_or(Refusal::Token("invalid_client", why))
}

/// `Basic`, of id and secret as a form would have them (RFC 6749, 2.3.1).
fn basic(value: &HeaderValue) -> Option<(String, Secret<String>)> {
    let (scheme, text) = value.to_str().ok()?.split_once(' ')?;
    let decoded =
        scheme.eq_ignore_ascii_case("basic").then(|| BASE64.decode(text.trim().as_bytes()));
    let decoded = String::from_utf8(decoded?.ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form::decode(id)?, Secret::new(form::decode(secret)?)))
}

/// Where tokens are to be had
///
/// RFC 8414, at the address that was asked: one of the names of the platform's certificate.
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "OAuth 2",
    operation_id = "get_authorization_server_metadata",
    responses((status = 200, description = "The metadata", body = AuthorizationServerMetadata))
)]
pub(super) async fn metadata(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<AuthorizationServerMetadata>, Problem> {
    // Clients send secrets there, so it is nothing that somebody else could have written.
    let issuer = format!("https://{}", host::asked_for(&app, &uri, &headers)?);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Ok(Json(AuthorizationServerMetadata {
        token_endpoint: format!("{issuer}/oauth2/token"),
        issuer,
        grant_types_supported: words(&["client_credentials"]),
        response_types_supported: Vec::new(),
        token_endpoint_auth_methods_supported: words(&[
            "client_secret_basic",
            "client_secret_post",
        ]),
        scopes_supported: app.scopes().to_vec(),
    }))
}
