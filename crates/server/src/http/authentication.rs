//! Who calls: a client's certificate, a bearer API key or an access token, and what it speaks for.

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath};
use axum::http::header;
use axum::http::request::Parts;
use core::net::{IpAddr, SocketAddr};
use tapfer_payment_types::ApiKeyId;
use tapfer_payments::access::{ApiKey, Principal, Role};

use crate::api_key::{self, PresentedKey};
use crate::client_certificate::{ClientIdentity, Introduced};
use crate::http::App;
use crate::http::access::CallerSlot;
use crate::http::extract::PathId;
use crate::http::problem::{Problem, ProblemKind};
use crate::http::request_id::RequestId;
use crate::http::scope;
use crate::request_limits::StrangersLine;
use crate::service::access_tokens::{self, Token};
use crate::service::caller::{Asker, Caller};

/// The one route that takes the API key of a terminal or phone where certificates are required.
const CERTIFICATES: &str = "/v1/client-certificates";

/// The cause that has words of its own for the caller.
const TWO_PROOFS: &str = "more than one proof of who calls";

/// What a caller shows.
enum Shown {
    Certificate(ClientIdentity),
    Key(PresentedKey),
    Token(String),
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let proven = prove(parts, app, |_| false).await?;
        caller(parts, app, proven).await
    }
}

impl FromRequestParts<App> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let is_terminals = |client: &ClientIdentity| {
            matches!(client.principal, Principal::Terminal(_))
                && !client.has_ended(app.service().now())
        };
        let proven = prove(parts, app, is_terminals).await?;
        let is_looked_up = proven.is_looked_up;
        let caller = caller(parts, app, proven).await?;
        Ok(if is_looked_up { Self::looked_up(caller) } else { Self::to_look_up(caller) })
    }
}

/// For whom a request speaks.
struct Proven {
    key: ApiKeyId,
    principal: Principal,
    /// What an access token is good for, if it was one: nothing named is everything.
    of_token: Option<Option<String>>,
    /// Whether the API key was found: else a certificate says all of this.
    is_looked_up: bool,
}

impl Proven {
    fn by(key: &ApiKey) -> Self {
        Self { key: key.id, principal: key.principal, of_token: None, is_looked_up: true }
    }
}

/// What a caller shows, and whether it is good. Whose API key is not in memory may be looked up later.
async fn prove(
    parts: &Parts,
    app: &App,
    is_looked_up_later: impl Fn(&ClientIdentity) -> bool,
) -> Result<Proven, Problem> {
    let from = address(parts);
    let refused = |cause| refuse(app, parts, cause);
    match shown(parts).map_err(refused)? {
        Shown::Certificate(client) => {
            let found = match app.service().known_api_key_of(&client) {
                Some(key) => Some(key),
                None if is_looked_up_later(&client) => {
                    let (key, principal) = (client.api_key, client.principal);
                    return Ok(Proven { key, principal, of_token: None, is_looked_up: false });
                }
                None => app.run(move |service| service.find_api_key_of(&client)).await?,
            };
            let refused = || refused("an ended certificate, or one of a revoked API key");
            found.as_ref().map(Proven::by).ok_or_else(refused)
        }
        Shown::Key(presented) => {
            let hash = presented.secret_hash();
            look_up(app, from, &hash)?;
            let found = match app.service().known_api_key(&hash) {
                Some(key) => Some(key),
                None => app.run(move |service| service.find_api_key(&hash)).await?,
            };
            // The role stands in the key for people to see; it must not lie.
            let found = found.filter(|key| key.principal.role() == presented.role());
            looked_up(app, from, &hash, found.is_some());
            let key = found.ok_or_else(|| refused("unknown or revoked API key"))?;
            require_certificate(parts, app, &key)?;
            Ok(Proven::by(&key))
        }
        Shown::Token(token) => {
            let hash = token_hash(&token);
            match app.run(move |service| service.find_token(&token)).await? {
                Token::Good(key, scope) => Ok(Proven { of_token: Some(scope), ..Proven::by(&key) }),
                // Clients renew them when they hear this. Nobody guesses a signature: who shows one of ours neither
                // waits for the guesses of others, nor makes one.
                Token::Over => Err(refused("an access token that is over")),
                Token::Foreign => {
                    look_up(app, from, &hash)?;
                    looked_up(app, from, &hash, false);
                    Err(refused("an access token of another platform"))
                }
            }
        }
    }
}

/// Who that is for everything behind it, if it does not ask for too much.
async fn caller(parts: &mut Parts, app: &App, proven: Proven) -> Result<Caller, Problem> {
    let Proven { key, principal, of_token, is_looked_up } = proven;
    if let Some(slot) = parts.extensions.get::<CallerSlot>() {
        if is_looked_up { slot.set(key) } else { slot.set_certified() }
    }
    app.gate().pass(key, principal.role(), app.service().now()).map_err(Problem::too_soon)?;
    let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    let request_id = request_id.as_str().to_owned();
    let names_card_numbers =
        of_token.as_ref().is_none_or(|scope| scope::allows(scope.as_deref(), scope::CARD_NUMBERS));
    let origin = origin(address(parts));
    let caller = Caller { key, principal, origin, request_id, names_card_numbers };
    if let Some(scope) = of_token {
        require_scope(parts, app, &caller, scope.as_deref()).await?;
    }
    Ok(caller)
}

/// What is asked about one card number tells whether there is a card: who may not see numbers may not guess at them.
pub(super) fn require_card_numbers(caller: &Caller) -> Result<(), Problem> {
    if caller.names_card_numbers {
        return Ok(());
    }
    caller.lacks_scope(scope::CARD_NUMBERS);
    Err(insufficient(scope::CARD_NUMBERS))
}

/// Where a request comes from; nowhere, if it did not come over the network.
pub(super) fn address(parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(peer)| peer.ip())
}

fn origin(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "local".to_owned(), |address| address.to_string())
}

/// Before credentials are looked up: whether their address has to pause.
pub(super) fn look_up(
    app: &App,
    from: Option<IpAddr>,
    credential: &[u8; 32],
) -> Result<(), Problem> {
    let may_try = from.map_or(Ok(()), |from| app.gate().may_try(from, credential));
    may_try.map_err(Problem::too_soon)
}

/// Behind it.
pub(super) fn looked_up(app: &App, from: Option<IpAddr>, credential: &[u8; 32], is_right: bool) {
    if let Some(from) = from {
        app.gate().tried(from, credential, is_right);
    }
}

/// What proves who calls. Two things are as bad as none: which of them counts must not depend on who reads them.
fn shown(parts: &Parts) -> Result<Shown, &'static str> {
    let certificate = parts.extensions.get::<Introduced>().and_then(|introduced| introduced.0);
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    match (certificate, values.next(), values.next()) {
        (Some(client), None, None) => Ok(Shown::Certificate(client)),
        (None, Some(value), None) => {
            let value = value.to_str().ok().and_then(|value| value.split_once(' '));
            let bearer = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let shown = bearer.and_then(|(_, text)| match text.trim() {
                token if access_tokens::is_token(token) => Some(Shown::Token(token.to_owned())),
                key => api_key::parse(key).map(Shown::Key),
            });
            shown.ok_or("no API key of this platform's form")
        }
        (None, None, None) => Err("no API key and no certificate"),
        _ => Err(TWO_PROOFS),
    }
}

/// Where they are required, the API key of a terminal or phone gets it a certificate, and nothing else.
fn require_certificate(parts: &Parts, app: &App, key: &ApiKey) -> Result<(), Problem> {
    let is_machine = matches!(key.principal.role(), Role::Terminal | Role::Device);
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    if !is_machine || route == Some(CERTIFICATES) || !app.service().requires_certificates() {
        return Ok(());
    }
    let detail = "terminals and phones show a TLS certificate here; get one with POST /v1/client-certificates, which takes \
                  this API key, and connect with it";
    Err(Problem::new(ProblemKind::ClientCertificateRequired, detail))
}

/// An access token is good for what it was given for. A look at a card number that it was not given for is written down before
/// it is refused.
async fn require_scope(
    parts: &mut Parts,
    app: &App,
    caller: &Caller,
    scope: Option<&str>,
) -> Result<(), Problem> {
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let needed = scope::needed(route, &parts.method);
    let Some(needed) = needed.iter().find(|needed| !scope::allows(scope, needed)) else {
        return Ok(());
    };
    caller.lacks_scope(needed);
    let looked_at = match route {
        scope::DETOKENIZE => {
            PathId::from_request_parts(parts, app).await.ok().map(|PathId(token)| Some(token))
        }
        scope::LOOKUP => Some(None),
        _ => None,
    };
    if let Some(token) = looked_at {
        let (caller, why) = (caller.clone(), format!("an access token without the scope {needed}"));
        app.run(move |service| service.record_refused_look(&caller, token, Some(why))).await?;
    }
    Err(insufficient(needed))
}

fn insufficient(needed: &str) -> Problem {
    let detail =
        format!("this needs an access token with the scope {needed}; ask for one that names it");
    Problem::new(ProblemKind::InsufficientScope, detail)
}

/// What a token is counted by.
fn token_hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// A failed attempt to get in is a security event (ASVS v5.0.0-16.3.1). Not each of a flood has a line: they are counted.
pub(super) fn refuse(app: &App, parts: &Parts, cause: &'static str) -> Problem {
    let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_default();
    note_refused(app, &origin(address(parts)), request_id.as_str(), cause);
    if cause == TWO_PROOFS {
        return Problem::new(
            ProblemKind::Unauthenticated,
            "this request proves twice who calls: it has a client's certificate and the header authorization, or the header \
             twice. Send one proof",
        );
    }
    unauthenticated()
}

/// Refuses a terminal whose API key turned out not to be in force when its payment was to be decided.
pub(super) fn turn_away(app: &App, origin: &str, request_id: &str) -> Problem {
    note_refused(app, origin, request_id, "a certificate whose API key is not in force");
    unauthenticated()
}

fn note_refused(app: &App, origin: &str, request_id: &str, cause: &'static str) {
    if let Some(left_out) = app.gate().may_write(StrangersLine::Refusal) {
        tracing::warn!(
            target: "tapfer::security",
            event = "authentication_failed",
            origin,
            request_id,
            cause,
            left_out = Some(left_out).filter(|count| *count > 0),
            "authentication failed"
        );
    }
}

/// Whoever calls is nobody here.
pub(super) fn unauthenticated() -> Problem {
    Problem::new(
        ProblemKind::Unauthenticated,
        "send the header authorization: Bearer tapfer_<role>_<secret> with a key that is known here, or connect with a \
         client's certificate that is good and of an API key that is not revoked",
    )
}
