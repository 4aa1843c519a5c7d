//! A server in this process, and a small client for it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use serde_json::Value;
use tapfer_hsm::Unlock;
use tapfer_payment_types::Timestamp;
use tapfer_server::clock::Clock;
use tapfer_server::entropy::{Entropy, EntropyError, SystemEntropy};
use tapfer_server::realm::{Owner, migrate_database};
use tapfer_server::{
    ClientCertificates, Limits, Realm, RealmKind, RunningServer, Server, ServerConfig,
};
use tapfer_test_postgres::{OWNER, PLATFORM, TestPostgres};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Everything that any server of this test program writes down, JSON, at the finest level.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn capture_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(|| LogWriter)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// The log so far.
pub(crate) fn log() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

/// The system's randomness, with whose drawing a test can interrupt a request: what is drawn within a request
/// is drawn in a known place.
#[derive(Default)]
pub(crate) struct Interruption(Mutex<Option<(usize, Act)>>);

type Act = Box<dyn FnOnce() + Send>;

impl Interruption {
    /// Does this once, when so many bytes are drawn at a time.
    pub(crate) fn at_draw_of(&self, length: usize, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some((length, Box::new(act)));
    }
}

impl Entropy for Interruption {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        let due = self.0.lock().unwrap().take_if(|(length, _)| *length == buffer.len());
        if let Some((_, act)) = due {
            act();
        }
        SystemEntropy.fill(buffer)
    }
}

/// A platform with its realm in a directory of its own.
pub(crate) struct Platform {
    pub(crate) interruption: Arc<Interruption>,
    limits: Limits,
    certificates: ClientCertificates,
    runtime: Runtime,
    server: Option<RunningServer>,
    home: TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) operator: Client,
}

fn unlock() -> Unlock {
    Unlock::key_from_hex(&"42".repeat(32)).unwrap()
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::start_with(Limits::default())
    }

    pub(crate) fn start_with(limits: Limits) -> Self {
        Self::start_as(limits, ClientCertificates::default())
    }

    /// With these limits, and this asked of terminals and phones.
    pub(crate) fn start_as(limits: Limits, certificates: ClientCertificates) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), limits, certificates)
    }

    /// On a PostgreSQL database, with this behind its address in `database.toml`.
    pub(crate) fn start_on(database: &TestPostgres, settings: &str) -> Self {
        Self::start_on_each(&[database], settings)
    }

    /// On several, each a partition; the first is the home.
    pub(crate) fn start_on_partitions(databases: &[&TestPostgres]) -> Self {
        let others = databases.iter().skip(1).map(|database| database.address(PLATFORM));
        let others: String =
            others.map(|address| format!("[[partition]]\naddress = {address:?}\n")).collect();
        Self::start_on_each(databases, &others)
    }

    fn start_on_each(databases: &[&TestPostgres], settings: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let named = format!("address = {:?}\n{settings}", databases[0].address(PLATFORM));
        std::fs::write(home.path().join("database.toml"), named).unwrap();
        for database in databases {
            database.say(&format!("CREATE ROLE {PLATFORM} LOGIN"));
        }
        // The first attempt makes the keys, and says whose turn it is.
        let empty =
            Realm::create(home.path(), RealmKind::Demo, &unlock(), Timestamp::from_unix_millis(1));
        assert!(empty.is_err());
        for (partition, database) in (0..).zip(databases) {
            let owner = Owner { name: OWNER, password_file: None, partition };
            migrate_database(home.path(), owner).unwrap();
            database.say(&format!("GRANT tapfer_server TO {PLATFORM}"));
            if partition > 0 {
                let from = databases[0].conninfo();
                database.say(&format!(
                    "CREATE SUBSCRIPTION tapfer_{partition} CONNECTION '{from}' PUBLICATION tapfer_everywhere"
                ));
            }
        }
        Self::start_in(home, Limits::default(), ClientCertificates::default())
    }

    fn start_in(home: TempDir, limits: Limits, certificates: ClientCertificates) -> Self {
        capture_log();
        // TLS certificates are checked against the real time, so the test's clock starts near it.
        let start = "2026-11-21T12:00:00Z".parse::<Timestamp>().unwrap().unix_millis();
        let now = tapfer_server::clock::SystemClock.now().unix_millis();
        let clock = Arc::new(TestClock(AtomicI64::new(now.max(start))));
        let realm = Realm::create(home.path(), RealmKind::Demo, &unlock(), clock.now()).unwrap();
        let runtime = Runtime::new().unwrap();
        let interruption = Arc::<Interruption>::default();
        let (server, operator) =
            serve(&runtime, realm, &clock, &interruption, limits, certificates);
        let server = Some(server);
        Self { interruption, limits, certificates, runtime, server, home, clock, operator }
    }

    /// Stops and starts again on the same realm.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let realm = Realm::open(self.home.path(), &unlock()).unwrap();
        let (clock, interruption) = (&self.clock, &self.interruption);
        let (limits, certificates) = (self.limits, self.certificates);
        let (server, operator) =
            serve(&self.runtime, realm, clock, interruption, limits, certificates);
        self.server = Some(server);
        // Whose idempotency keys go on, not begin again.
        let counter = Arc::clone(&self.operator.counter);
        self.operator = Client { counter, ..operator };
    }

    /// Goes on in another directory, as after a restoration.
    pub(crate) fn go_on_in(&mut self, home: TempDir) {
        self.stop();
        self.home = home;
        self.restart();
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop()).unwrap();
        }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    pub(crate) fn ca_certificate(&self) -> PathBuf {
        self.server.as_ref().unwrap().paths().ca_certificate()
    }
}

fn serve(
    runtime: &Runtime,
    realm: Realm,
    clock: &Arc<TestClock>,
    interruption: &Arc<Interruption>,
    limits: Limits,
    certificates: ClientCertificates,
) -> (RunningServer, Client) {
    let mut config = ServerConfig::new("127.0.0.1:0".parse().unwrap());
    config.limits = limits;
    config.client_certificates = certificates;
    config.clock = Arc::<TestClock>::clone(clock);
    config.entropy = Arc::<Interruption>::clone(interruption);
    let server = runtime.block_on(Server::start(realm, config)).unwrap();
    let key = std::fs::read_to_string(server.paths().operator_key()).unwrap();
    let pem = std::fs::read(server.paths().ca_certificate()).unwrap();
    let client = Client::new(server.address(), &pem, key.trim());
    (server, client)
}

/// An answer of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {} {:?}", self.status, self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// The answer's JSON, which must come with this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The stable name of the problem, which must be one in every respect.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id").unwrap());
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert!(!body["detail"].as_str().unwrap().is_empty());
        body["type"].as_str().unwrap().strip_prefix("urn:tapfer:problem:").unwrap().to_owned()
    }
}

/// Calls the server with one API key.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    key: String,
    counter: Arc<AtomicU64>,
}

impl Client {
    pub(crate) fn new(address: std::net::SocketAddr, ca_pem: &[u8], key: &str) -> Self {
        let ca = Certificate::from_pem(ca_pem).unwrap().to_owned();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[ca]))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self {
            agent: config.into(),
            base: format!("https://{address}"),
            key: key.to_owned(),
            counter: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The same caller at another server.
    pub(crate) fn at(&self, other: &Self) -> Self {
        Self { key: self.key.clone(), ..other.clone() }
    }

    /// The same server, another key.
    pub(crate) fn with_key(&self, key: &Value) -> Self {
        Self { key: key.as_str().unwrap().to_owned(), ..self.clone() }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    /// With a new idempotency key each time.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        let number = self.counter.fetch_add(1, Ordering::SeqCst);
        self.post_as(&format!("test-{number}"), path, body)
    }

    /// As [`Client::post`], with PUT.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Reply {
        let number = self.counter.fetch_add(1, Ordering::SeqCst);
        let key = format!("test-{number}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        self.send("PUT", path, &headers, body.to_string().as_bytes())
    }

    pub(crate) fn post_as(&self, idempotency_key: &str, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json"), ("idempotency-key", idempotency_key)];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let bearer = format!("Bearer {}", self.key);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.send_bare(method, path, &all, body)
    }

    /// Without any header but those given.
    pub(crate) fn send_bare(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).unwrap();
        let mut response = self.agent.run(request).unwrap();
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let status = response.status().as_u16();
        Reply { status, headers, body: response.body_mut().read_to_vec().unwrap() }
    }
}
