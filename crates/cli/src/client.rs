//! The HTTP client of the platform's API: TLS against the platform's own CA, API key, idempotency
//! keys, and errors in words.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde_json::Value;
use tapfer_payment_types::TerminalId;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{ClientCert, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithBody;
use ureq::{Agent, Body, RequestBuilder};

use crate::clock;
use crate::failure::UsageError;
use crate::home::{DEFAULT_SERVER, Home};
use crate::idempotency::IdempotencyKeys;
use crate::language::Language;
use crate::tls_identity;
use crate::trouble::{MayBeDone, NoAnswer, Problem};

/// How long one request may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a command asks again when it is unknown what was done.
const PATIENCE: Duration = Duration::from_secs(2);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// What shows the platform who asks.
#[derive(Clone)]
enum Proof {
    /// The API key of each request.
    ApiKey(String),
    /// The certificate of the agent's connections; behind it an agent that shows none.
    Certificate(Agent),
}

/// A connection to the platform in the name of one caller.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    server: String,
    proof: Proof,
    idempotency: IdempotencyKeys,
    language: Language,
    patience: Duration,
}

/// Whether the platform lives but its security modules do not answer.
pub(crate) fn is_hsm_down(error: &anyhow::Error) -> bool {
    let problem = error.downcast_ref::<Problem>();
    problem.is_some_and(|problem| problem.slug() == "hsm_down")
}

/// Whether it is unknown what came of a request: no answer, one that says so, or the first request
/// under this idempotency key still running. Asking again with the same key is safe, and tells.
pub(crate) fn is_undecided(error: &anyhow::Error) -> bool {
    let problem = error.downcast_ref::<Problem>();
    error.is::<NoAnswer>() || problem.is_some_and(Problem::is_undecided)
}

/// Whether a node that is alone, its database away, does not do this: not now, and not a moment later.
pub(crate) fn is_refused_alone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Problem>().is_some_and(Problem::is_refused_alone)
}

/// Whether there is more to learn by waiting a moment. A platform without its security modules has said what
/// there is to say, and whoever stands at the till wants to hear it.
fn asking_again_may_tell(error: &anyhow::Error) -> bool {
    is_undecided(error) && !is_hsm_down(error)
}

/// Who is asking, and of whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// `--server` or `TAPFER_SERVER`.
    pub(crate) server: Option<String>,
    /// `TAPFER_KEY` or the content of `--key-file`.
    pub(crate) key: Option<String>,
    /// `--idempotency-key`, or a new one.
    pub(crate) idempotency: IdempotencyKeys,
    /// `--language`.
    pub(crate) language: Language,
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
        self.client_with_key(home, key)
    }

    /// A client with exactly this key.
    pub(crate) fn client_with_key(&self, home: &Home, key: String) -> anyhow::Result<Client> {
        let client = Client::new(home, &self.address(home)?, key)?;
        Ok(Client { idempotency: self.idempotency.clone(), language: self.language, ..client })
    }

    /// A client with the key given, else the key remembered for `owner`, which gets a terminal its certificate.
    pub(crate) fn client_of(&self, home: &Home, owner: &str) -> anyhow::Result<Client> {
        let client = self.client_with_key_of(home, owner)?;
        match (&self.key, owner.parse::<TerminalId>()) {
            (None, Ok(terminal)) => {
                tls_identity::connect(home, &home.tls_identity_of(terminal), client)
            }
            _ => Ok(client),
        }
    }

    fn client_with_key_of(&self, home: &Home, owner: &str) -> anyhow::Result<Client> {
        match (&self.key, home.memory()?.keys.remove(owner)) {
            (None, Some(key)) => self.client_with_key(home, key),
            (Some(key), _) => self.client_with_key(home, key.clone()),
            (None, None) => {
                bail!("no API key of {owner} is known here: give it with --key-file or TAPFER_KEY")
            }
        }
    }
}

fn operator_key(home: &Home) -> anyhow::Result<String> {
    let file = home.realm().operator_key();
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "no platform has run in {}: start `tapfer serve` in another terminal, or give its directory \
             with --home, or an API key with --key-file or TAPFER_KEY",
            home.path().display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

impl Client {
    /// A client for one server and one key.
    fn new(home: &Home, server: &str, key: String) -> anyhow::Result<Self> {
        Ok(Self {
            agent: agent(home, server, None)?,
            server: server.to_owned(),
            proof: Proof::ApiKey(key),
            idempotency: IdempotencyKeys::default(),
            language: Language::default(),
            patience: PATIENCE,
        })
    }

    /// The same, but asking again for longer when there is no answer.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience: patience.max(self.patience), ..self }
    }

    /// The same caller, at another node of the platform.
    pub(crate) fn at(&self, server: &str) -> Self {
        Self { server: server.trim_end_matches('/').to_owned(), ..self.clone() }
    }

    /// The same server in the name of another caller.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        let agent = match &self.proof {
            Proof::ApiKey(_) => self.agent.clone(),
            Proof::Certificate(without) => without.clone(),
        };
        Self { agent, proof: Proof::ApiKey(key.to_owned()), ..self.clone() }
    }

    /// The same server, with a certificate in place of the API key.
    pub(crate) fn with_certificate(
        &self,
        home: &Home,
        certificate: ClientCert,
    ) -> anyhow::Result<Self> {
        let agent = agent(home, &self.server, Some(certificate))?;
        Ok(Self { agent, proof: Proof::Certificate(self.agent.clone()), ..self.clone() })
    }

    /// SHA-256 of the API key, if it is shown where there is a handshake for a certificate to take its place.
    pub(crate) fn replaceable_key(&self) -> Option<String> {
        match (&self.proof, scheme_and_host(&self.server)) {
            (Proof::ApiKey(key), (Some("https"), _)) => {
                Some(HEXLOWER.encode(digest(&SHA256, key.as_bytes()).as_ref()))
            }
            _ => None,
        }
    }

    /// Reads one resource. Only a client that is more patient than most asks again.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let begin = clock::instant();
        loop {
            let request = self.agent.get(format!("{}{path}", self.server));
            let answer = self.answer(self.signed(request).call());
            match answer {
                Err(error)
                    if asking_again_may_tell(&error)
                        && self.patience > PATIENCE
                        && begin.elapsed() < self.patience =>
                {
                    std::thread::park_timeout(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Reads one resource that is not JSON.
    pub(crate) fn get_text(&self, path: &str) -> anyhow::Result<String> {
        let request = self.agent.get(format!("{}{path}", self.server));
        let answer = self.signed(request).call();
        let mut answer = answer.map_err(|error| self.no_answer(&error))?;
        let text = answer.body_mut().read_to_string().map_err(|error| self.no_answer(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(text);
        }
        bail!(self.problem(&answer, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Whether the platform lives; needs no key.
    pub(crate) fn health(home: &Home, server: &str) -> anyhow::Result<()> {
        let client = Self::new(home, server, String::new())?;
        client.answer(client.agent.get(format!("{server}/health")).call()).map(|_| ())
    }

    /// Creates or moves something, under the command's next idempotency key.
    pub(crate) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.post_patiently(path, body, &self.idempotency.next(path), self.patience);
        answer.map_err(|error| match is_undecided(&error) {
            true => error.context(MayBeDone {
                key: self.idempotency.command().to_owned(),
                language: self.language,
            }),
            false => error,
        })
    }

    /// Creates or moves something under the caller's idempotency key. As long as it is unknown what
    /// came of it, it asks again with the same key, until `patience` is over: the platform does it
    /// once, however often it is asked. That no security module serves is told at once.
    ///
    /// # Errors
    /// One that [`is_undecided`] if that is still unknown; else why it was refused.
    pub(crate) fn post_patiently(
        &self,
        path: &str,
        body: &Value,
        key: &str,
        patience: Duration,
    ) -> anyhow::Result<Value> {
        let begin = clock::instant();
        let mut open = None;
        loop {
            match self.post_attempt(path, body, key) {
                Err(error) if asking_again_may_tell(&error) && begin.elapsed() < patience => {
                    open = Some(error);
                }
                // What an earlier attempt did, at another node perhaps, this one does not know.
                Err(refused) if is_refused_alone(&refused) && open.is_some() => {
                    if begin.elapsed() >= patience {
                        return Err(open.unwrap_or(refused));
                    }
                }
                other => return other,
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Replaces something, under the command's next idempotency key.
    pub(crate) fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.put(format!("{}{path}", self.server));
        self.send(request, body, &self.idempotency.next(path))
    }

    fn post_attempt(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        self.send(self.agent.post(format!("{}{path}", self.server)), body, key)
    }

    fn send(
        &self,
        request: RequestBuilder<WithBody>,
        body: &Value,
        key: &str,
    ) -> anyhow::Result<Value> {
        let request = self
            .signed(request)
            .header("accept-language", self.language.tag())
            .header("idempotency-key", key);
        self.answer(request.send_json(body))
    }

    /// A request that says who asks, unless the connection does.
    fn signed<Body>(&self, request: RequestBuilder<Body>) -> RequestBuilder<Body> {
        match &self.proof {
            Proof::ApiKey(key) => request.header("authorization", format!("Bearer {key}")),
            Proof::Certificate(_) => request,
        }
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
        bail!(self.problem(&answer, body))
    }

    fn problem(&self, answer: &Response<Body>, body: Value) -> Problem {
        let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|seconds| seconds.parse().ok());
        Problem { status: answer.status().as_u16(), body, wait, language: self.language }
    }

    fn no_answer(&self, error: &ureq::Error) -> NoAnswer {
        NoAnswer::from(&self.server, error, self.language)
    }
}

fn agent(home: &Home, server: &str, certificate: Option<ClientCert>) -> anyhow::Result<Agent> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .no_delay(true)
        .timeout_global(Some(TIMEOUT));
    match scheme_and_host(server) {
        (Some("https"), _) => {
            let tls = TlsConfig::builder().root_certs(roots(home)?).client_cert(certificate);
            config = config.tls_config(tls.build());
        }
        (Some("http"), Some(host)) if is_this_machine(&host) => {}
        _ => bail!(UsageError(format!(
            "{server}: the address starts with https://, because API keys go there"
        ))),
    }
    Ok(config.build().new_agent())
}

fn scheme_and_host(server: &str) -> (Option<&'static str>, Option<String>) {
    let uri = server.parse::<Uri>().unwrap_or_default();
    let scheme = ["https", "http"].into_iter().find(|known| uri.scheme_str() == Some(known));
    (scheme, uri.host().map(str::to_owned))
}

/// Whether the bytes for this host stay on this machine, where TLS may be left out.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
}

fn roots(home: &Home) -> anyhow::Result<RootCerts> {
    let file = home.ca_certificate();
    let pem = fs::read(&file).with_context(|| {
        format!(
            "no CA certificate at {}: give with --home the directory in which `tapfer serve` runs; on another machine, with \
             --ca-certificate a copy of its tls/ca-certificate.pem, or of what else the platform's certificate comes from",
            file.display()
        )
    })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    anyhow::ensure!(!certificates.is_empty(), "{} holds no certificate", file.display());
    Ok(RootCerts::new_with_certs(&certificates))
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
    use super::{Access, is_hsm_down, is_this_machine, is_undecided};
    use crate::home::Home;
    use serde_json::{Value, json};
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    /// Answers one request on a connection of its own, and gives its idempotency key.
    fn answer(mut stream: TcpStream, status: u16, body: &Value) -> String {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut key, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("idempotency-key", value)) => key = value.to_owned(),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        reader.take(length).read_to_end(&mut Vec::new()).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        key
    }

    /// A platform with these answers, one after another: what the client makes of it, and the keys
    /// under which it asked.
    fn ask(answers: Vec<(u16, Value)>, patience: Duration) -> (anyhow::Result<Value>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().to_owned()));
        let access = Access { server: Some(address), ..Access::default() };
        let client = access.client_with_key(&home, "tapfer_terminal_x".to_owned()).unwrap();
        thread::scope(|scope| {
            let asked =
                scope.spawn(move || client.post_patiently("/v1/x", &json!({}), "key-1", patience));
            let keys = answers
                .iter()
                .map(|(status, body)| answer(listener.accept().unwrap().0, *status, body))
                .collect();
            (asked.join().unwrap(), keys)
        })
    }

    #[test]
    fn what_is_undecided_is_asked_again_under_the_same_key() {
        let running = json!({ "type": "urn:tapfer:problem:idempotency_in_progress" });
        let answers = vec![
            (409, running),
            (503, json!({ "type": "urn:tapfer:problem:unavailable" })),
            (500, json!(null)),
            (201, json!({ "id": "auth_1" })),
        ];
        let (answer, keys) = ask(answers, Duration::from_secs(60));
        assert_eq!(answer.unwrap()["id"], "auth_1");
        assert_eq!(keys, ["key-1"; 4]);
    }

    #[test]
    fn what_stays_undecided_is_not_taken_for_a_refusal() {
        for (status, body) in [
            (409, json!({ "type": "urn:tapfer:problem:idempotency_in_progress" })),
            (500, json!(null)),
            (502, json!(null)),
            (503, json!(null)),
            (504, json!(null)),
        ] {
            let (answer, _) = ask(vec![(status, body)], Duration::ZERO);
            assert!(is_undecided(&answer.unwrap_err()), "{status}");
        }
    }

    #[test]
    fn a_refusal_is_not_asked_again() {
        for (status, kind) in [(409, "conflict"), (422, "invalid_chip_data"), (401, "unauthorized")]
        {
            let body = json!({ "type": format!("urn:tapfer:problem:{kind}") });
            let (answer, keys) = ask(vec![(status, body)], Duration::from_secs(60));
            assert!(!is_undecided(&answer.unwrap_err()), "{status}");
            assert_eq!(keys.len(), 1);
        }
    }

    #[test]
    fn a_platform_without_its_security_modules_is_not_asked_again() {
        let body = json!({ "type": "urn:tapfer:problem:hsm_down" });
        let (answer, keys) = ask(vec![(503, body)], Duration::from_secs(60));
        let error = answer.unwrap_err();
        assert!(is_hsm_down(&error) && is_undecided(&error), "{error:#}");
        assert_eq!(keys.len(), 1);
    }

    #[test]
    fn nobody_answering_is_undecided() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let home = Home::new(Some(std::env::temp_dir()));
        let access = Access { server: Some(address), ..Access::default() };
        let client = access.client_with_key(&home, String::new()).unwrap();
        let error = client.post_patiently("/", &json!({}), "k", Duration::ZERO).unwrap_err();
        assert!(is_undecided(&error), "{error:#}");
        assert!(is_undecided(&error.context("more")));
    }

    #[test]
    fn keys_leave_this_machine_only_over_tls() {
        let home = Home::new(Some(std::env::temp_dir()));
        let is_refused = |server: &str| {
            let access = Access { server: Some(server.to_owned()), ..Access::default() };
            access.client_with_key(&home, String::new()).is_err()
        };
        for server in ["http://192.0.2.1:8443", "http://example.invalid", "ftp://127.0.0.1", "x"] {
            assert!(is_refused(server), "{server}");
        }
        assert!(!is_refused("http://127.0.0.1:1") && !is_refused("http://[::1]:1"));
        assert!(!is_this_machine("127.0.0.1.example.invalid"));
    }
}
