//! Which server a request is for.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, Version, header};

use crate::http::App;
use crate::http::problem::{Problem, ProblemKind};

/// HTTP/1.1 names the server, once (RFC 9112, 3.2): where a request names none or two, a proxy may take another one than this
/// server does.
///
/// # Errors
/// 400: none, or two.
pub(crate) fn demand_one(request: &Request) -> Result<(), Problem> {
    let named = request.headers().get_all(header::HOST).iter().count();
    let is_named = match request.version() {
        Version::HTTP_09 | Version::HTTP_10 => named <= 1,
        Version::HTTP_11 => named == 1,
        // In the pseudo-header.
        _ => true,
    };
    if is_named {
        return Ok(());
    }
    let detail = "an HTTP/1.1 request has one header host; send it once";
    Err(Problem::new(ProblemKind::MalformedRequest, detail))
}

/// The server as it was asked for, with the port, if that is one of its names; else what a caller writes there could lead others
/// astray.
///
/// # Errors
/// 400: it is none.
pub(crate) fn asked_for(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<String, Problem> {
    let asked = match (uri.authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(|_| other_name())?,
        (None, None) => return app.names().first().cloned().ok_or_else(other_name),
    };
    let host = asked.host().trim_start_matches('[').trim_end_matches(']');
    let is_ours = app.names().iter().any(|name| name.eq_ignore_ascii_case(host));
    // Who has a user's name in front of it is not asked for.
    if is_ours && !asked.as_str().contains('@') { Ok(asked.to_string()) } else { Err(other_name()) }
}

fn other_name() -> Problem {
    let detail = "this platform is not known by the name in the request's host; ask for it by a name of its certificate. The operator \
                  gives names with tapfer serve --name";
    Problem::new(ProblemKind::MalformedRequest, detail)
}
