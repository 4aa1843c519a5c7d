//! The HTTP client of the platform's API: TLS against the platform's own CA, API key, idempotency
//! keys, and errors in words.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::clock;
use crate::home::{DEFAULT_SERVER, Home};

/// How long one request may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A connection to the platform in the name of one caller.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    server: String,
    key: String,
}

/// A `problem+json` answer (RFC 9457).
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// HTTP status.
    pub(crate) status: u16,
    /// The whole answer.
    pub(crate) body: Value,
}

impl Problem {
    fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (title, detail) = (self.text("title"), self.text("detail"));
        match (title, detail) {
            ("", "") => write!(f, "the platform answered with HTTP status {}", self.status)?,
            (title, "") => write!(f, "{title}")?,
            ("", detail) => write!(f, "{detail}")?,
            (title, detail) => write!(f, "{title}: {detail}")?,
        }
        match self.text("request_id") {
            "" => Ok(()),
            request => write!(f, " (request {request})"),
        }
    }
}

impl std::error::Error for Problem {}

/// The platform gave no answer: whether it did anything is unknown, and only asking again with the
/// same idempotency key tells.
#[derive(Debug)]
pub(crate) struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// Who is asking, and of whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// `--server` or `TAPFER_SERVER`.
    pub(crate) server: Option<String>,
    /// `TAPFER_KEY` or the content of `--key-file`.
    pub(crate) key: Option<String>,
}

impl Access {
    /// The address that is asked.
    pub(crate) fn address(&self, home: &Home) -> anyhow::Result<String> {
        let address = match &self.server {
            Some(given) => given.clone(),
            None => home.memory()?.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
        };
        Ok(address.trim_end_matches('/').to_owned())
    }

    /// A client with the key given, else the operator's.
    pub(crate) fn client(&self, home: &Home) -> anyhow::Result<Client> {
        let key = match &self.key {
            Some(key) => key.clone(),
            None => operator_key(home)?,
        };
        Client::new(home, &self.address(home)?, key)
    }

    /// A client with the key given, else the key remembered for `owner`, else the operator's.
    pub(crate) fn client_of(&self, home: &Home, owner: &str) -> anyhow::Result<Client> {
        match (&self.key, home.memory()?.keys.remove(owner)) {
            (None, Some(key)) => Client::new(home, &self.address(home)?, key),
            _ => self.client(home),
        }
    }
}

fn operator_key(home: &Home) -> anyhow::Result<String> {
    let file = home.realm().operator_key();
    let text = fs::read_to_string(&file).with_context(|| {
        format!(
            "no API key: set TAPFER_KEY or --key-file, or give with --home the directory in which \
             `tapfer serve` runs (no operator key at {})",
            file.display()
        )
    })?;
    Ok(text.trim().to_owned())
}

impl Client {
    /// A client for one server and one key.
    pub(crate) fn new(home: &Home, server: &str, key: String) -> anyhow::Result<Self> {
        Ok(Self { agent: agent(home, server)?, server: server.to_owned(), key })
    }

    /// The address that is asked.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The same server in the name of another caller.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// Reads one resource.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.agent.get(format!("{}{path}", self.server));
        self.answer(request.header("authorization", self.bearer()).call())
    }

    /// Whether the platform lives; needs no key.
    pub(crate) fn health(home: &Home, server: &str) -> anyhow::Result<()> {
        let client = Self::new(home, server, String::new())?;
        client.answer(client.agent.get(format!("{server}/health")).call()).map(|_| ())
    }

    /// Creates or moves something, with an idempotency key of its own.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.post_once(path, body, &clock::random_hex::<16>())
    }

    /// Creates or moves something under the caller's idempotency key. If no answer comes, it asks
    /// again with the same key, which is safe, and gets the truth: what was done, or does it now.
    pub(crate) fn post_once(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        match self.post_attempt(path, body, key) {
            Err(error) if error.downcast_ref::<NoAnswer>().is_some() => {
                self.post_attempt(path, body, key)
            }
            other => other,
        }
    }

    fn post_attempt(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        let request = self
            .agent
            .post(format!("{}{path}", self.server))
            .header("authorization", self.bearer())
            .header("idempotency-key", key);
        self.answer(request.send_json(body))
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut answer = answer.map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string().map_err(|error| self.no_answer(&error))?;
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(body);
        }
        bail!(Problem { status: status.as_u16(), body })
    }

    fn no_answer(&self, error: &ureq::Error) -> NoAnswer {
        let server = &self.server;
        let advice = match error {
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
                "the certificate is not from the CA in the home directory: check --home and --server"
            }
            _ => "is `tapfer serve` running there? Start it, or give another address with --server",
        };
        NoAnswer(format!("no answer from {server} ({error}): {advice}"))
    }
}

fn agent(home: &Home, server: &str) -> anyhow::Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .no_delay(true)
        .timeout_global(Some(TIMEOUT));
    if server.starts_with("https://") {
        config = config.tls_config(TlsConfig::builder().root_certs(roots(home)?).build());
    }
    Ok(config.build().new_agent())
}

fn roots(home: &Home) -> anyhow::Result<RootCerts> {
    let file = home.realm().ca_certificate();
    let pem = fs::read(&file).with_context(|| {
        format!(
            "no CA certificate at {}: give with --home the directory in which `tapfer serve` runs",
            file.display()
        )
    })?;
    let certificate = Certificate::from_pem(&pem)
        .with_context(|| format!("{} holds no certificate", file.display()))?;
    Ok(RootCerts::new_with_certs(&[certificate]))
}

/// Makes aws-lc-rs the one provider of TLS in this process.
pub(crate) fn install_tls_provider() {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // A second call finds the first one's provider in place, which is the same.
    let _already_installed = provider.install_default();
}

/// Text of a field of an answer.
pub(crate) fn text_of(value: &Value, field: &str) -> anyhow::Result<String> {
    let text = value.get(field).and_then(Value::as_str);
    Ok(text.with_context(|| format!("the platform's answer has no \"{field}\""))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Problem;
    use serde_json::json;

    #[test]
    fn a_problem_says_what_why_and_where_to_look_it_up() {
        let body =
            json!({ "title": "Card blocked", "detail": "unblock it first", "request_id": "r1" });
        assert_eq!(
            Problem { status: 409, body }.to_string(),
            "Card blocked: unblock it first (request r1)"
        );
        assert_eq!(
            Problem { status: 502, body: json!(null) }.to_string(),
            "the platform answered with HTTP status 502"
        );
    }
}
