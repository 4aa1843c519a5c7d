//! The running server: a realm, a listener, and the chores in between.

use core::time::Duration;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tapfer_hsm::FileStamp;
use tapfer_hsm::custody::KeyPolicy;
use tokio::task::JoinHandle;

use crate::client_certificate::{ClientCertificates, Introduction};
use crate::clock::SharedClock;
use crate::connections::{self, Door, Places};
use crate::entrance::{Closer, Entrance, Peer};
use crate::entropy::SharedEntropy;
use crate::hsm_watch;
use crate::http::{self, App, Limits};
use crate::key_watch;
use crate::private_file;
use crate::realm::{Realm, RealmPaths};
use crate::service::{ApiKeysTaken, FirstKey, Service, ServiceError};
use crate::tls::{self, CertificateSource, TlsError, TlsSettings};

/// How often it is looked whether the operator has put another certificate in the place of the server's: two calls to the system.
const LOOK: Duration = Duration::from_secs(5);
/// How often the realm's own certificate and old answers are looked after.
const CHORES: Duration = Duration::from_secs(3_600);
/// How often measured times are counted into their buckets: some ten thousand lie there meanwhile.
const METRICS: Duration = Duration::from_secs(5);
/// So far the clock may be set back over a restart.
const CLOCK_MAY_LAG_SECONDS: i64 = 86_400;
/// Answers to idempotency keys are kept this long: a till that was offline for a month may still ask.
const ANSWERS_KEPT_SECONDS: i64 = 30 * 86_400;
/// A client that does not answer HTTP/2 pings is asked, and given up, after this long.
const PING: Duration = Duration::from_secs(10);
/// Streams that one HTTP/2 connection may have open.
const STREAMS: u32 = 16;
/// Bytes that a client may send ahead, on one stream and on all of a connection: they wait in memory until who sends them is known.
/// No connection of HTTP/2 can have less (RFC 9113, 6.9.2).
const STREAM_WINDOW: u32 = 32 * 1024;
const CONNECTION_WINDOW: u32 = 65_535;
/// Bytes of an answer that wait for an HTTP/2 client to read them, on one stream.
const ANSWER_WAITS: usize = 64 * 1024;
/// The largest head of a request: the largest honest one has an access token in it, of less than two kilobytes.
const HEAD: u32 = 16 * 1024;
/// Fields that a head may have.
const FIELDS: usize = 64;

/// Why the server does not start or run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}. Give another address, or stop who uses this one"
    )]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file beside the realm's keys, such as the operator's API key, cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    OperatorKey {
        /// Which file.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The realm's keys or database.
    #[error("the platform cannot be set up: {0}")]
    Setup(String),
    /// The server ended by itself.
    #[error("the server ended: {0}")]
    Ended(String),
}

impl From<ServiceError> for ServerError {
    fn from(error: ServiceError) -> Self {
        Self::Setup(error.to_string())
    }
}

/// What a server is started with.
pub struct ServerConfig {
    /// Where to listen; port 0 takes any free port.
    pub address: SocketAddr,
    /// Where the certificate comes from.
    pub certificate: CertificateSource,
    /// How long and how many.
    pub limits: Limits,
    /// Where the time comes from.
    pub clock: SharedClock,
    /// Where randomness for names comes from.
    pub entropy: SharedEntropy,
    /// How long keys are to be used, for warnings.
    pub key_policy: Arc<KeyPolicy>,
    /// Which API keys get in.
    pub api_keys: ApiKeysTaken,
    /// How terminals and phones prove who they are.
    pub client_certificates: ClientCertificates,
    /// Whether the clock is taken as it is, also if it stands far before the newest event of the audit log.
    pub accepts_clock: bool,
}

impl ServerConfig {
    /// Listens on an address with the realm's own certificate, the system's clock and randomness.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let names = tls::name_of_address(address.ip()).into_iter().collect();
        Self {
            address,
            certificate: CertificateSource::OwnAuthority { names },
            limits: Limits::default(),
            clock: Arc::new(crate::clock::SystemClock),
            entropy: Arc::new(crate::entropy::SystemEntropy),
            key_policy: Arc::default(),
            api_keys: ApiKeysTaken::Signed,
            client_certificates: ClientCertificates::default(),
            accepts_clock: false,
        }
    }
}

/// The platform's server.
pub struct Server;

/// A server that is running. Dropping it stops nothing gracefully: call [`RunningServer::stop`].
pub struct RunningServer {
    address: SocketAddr,
    certificate: CertificateSource,
    paths: RealmPaths,
    app: App,
    limits: Limits,
    places: Arc<Places>,
    closer: Closer,
    handle: Handle<Peer>,
    serving: JoinHandle<io::Result<()>>,
    chores: JoinHandle<((), (), (), (), ())>,
}

impl Server {
    /// Starts serving a realm. Returns when the address is bound and requests are taken.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(realm: Realm, config: ServerConfig) -> Result<RunningServer, ServerError> {
        let paths = realm.paths().clone();
        let prepared = tokio::task::spawn_blocking(move || prepare(realm, config));
        let Prepared { app, listener, tls, settings, config } =
            prepared.await.map_err(|failure| ServerError::Setup(failure.to_string()))??;
        let listen_error = |source| ServerError::Listen { address: config.address, source };
        let address = listener.local_addr().map_err(listen_error)?;
        let handle = Handle::new();
        let limits = connections::within_open_files(config.limits);
        let places = Arc::new(Places::new(&limits));
        let handshake = RustlsAcceptor::new(tls.clone()).handshake_timeout(limits.opening);
        let (entrance, closer) = Entrance::new(listener).map_err(listen_error)?;
        let mut server = axum_server::Server::from_listener(entrance)
            .acceptor(Door::new(Introduction::new(handshake), Arc::clone(&places), &limits))
            .handle(handle.clone());
        limit_requests(&mut server, limits);
        let routes = http::router(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let serving = tokio::spawn(server.serve(routes));
        tracing::info!(target: "tapfer::server", %address, "serving");
        let watch = key_watch::watch(app.clone(), paths.clone(), Arc::clone(&config.key_policy));
        let brought = follow_certificate(tls.clone(), Arc::clone(&settings));
        let chores = chores(app.clone(), tls, settings);
        let hsm_watch = hsm_watch::watch(app.clone());
        let metrics = keep_metrics_small(app.clone());
        let chores =
            tokio::spawn(async { tokio::join!(chores, watch, hsm_watch, metrics, brought) });
        let certificate = config.certificate;
        Ok(RunningServer {
            address,
            certificate,
            paths,
            app,
            limits,
            places,
            closer,
            handle,
            serving,
            chores,
        })
    }
}

impl RunningServer {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its certificate comes from.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateSource {
        &self.certificate
    }

    /// Where the realm's files are: the CA certificate, the operator's key.
    #[must_use]
    pub const fn paths(&self) -> &RealmPaths {
        &self.paths
    }

    /// Takes no new connections and tells those there are to go elsewhere, lets running requests end within the limit, writes
    /// what waits, closes.
    ///
    /// # Errors
    /// [`ServerError::Ended`] if the server had failed before.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.chores.abort();
        // Waited for, because it holds the service and with it the lock on the keystore.
        let _aborted = self.chores.await;
        self.app.leave();
        self.closer.close().await;
        self.places.emptied(self.limits.leaving).await;
        self.handle.graceful_shutdown(Some(self.limits.shutdown));
        let ended = self.serving.await;
        if tokio::time::timeout(self.limits.shutdown, self.app.drain()).await.is_err() {
            tracing::warn!(target: "tapfer::server", "stopping with requests still running");
        }
        let app = self.app;
        let closed = tokio::task::spawn_blocking(move || app.service().close()).await;
        tracing::info!(target: "tapfer::server", "stopped");
        closed.map_err(|failure| ServerError::Ended(failure.to_string()))?;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ServerError::Ended(error.to_string())),
            Err(failure) => Err(ServerError::Ended(failure.to_string())),
        }
    }
}

struct Prepared {
    app: App,
    listener: TcpListener,
    tls: RustlsConfig,
    settings: Arc<TlsSettings>,
    config: ServerConfig,
}

/// Everything that waits for disks and keys, before the first request.
fn prepare(realm: Realm, config: ServerConfig) -> Result<Prepared, ServerError> {
    let paths = realm.paths().clone();
    let (clock, entropy) = (Arc::clone(&config.clock), Arc::clone(&config.entropy));
    let service = Service::new(realm, clock, entropy, config.api_keys, config.client_certificates)?;
    if !config.accepts_clock {
        demand_clock(&service)?;
    }
    let settings = Arc::new(TlsSettings {
        directory: paths.tls(),
        source: config.certificate.clone(),
        clients: service.trusted_clients(),
        clock: Arc::clone(&config.clock),
    });
    let tls = settings.load()?;
    match config.api_keys {
        ApiKeysTaken::SignedFromNowOn => service.accept_api_keys()?,
        ApiKeysTaken::Signed => service.warn_of_unsigned_api_keys()?,
        ApiKeysTaken::MadeHere => {}
    }
    match service.erase_ended() {
        Ok(erased) => note_erased(erased),
        Err(error) => tracing::error!(target: "tapfer::server", %error, "{NOT_ERASED}"),
    }
    ensure_operator_key(&service, &paths)?;
    write_configuration_key(&service, &paths)?;
    let (_, document) = http::document().map_err(|error| ServerError::Setup(error.to_string()))?;
    let app = App::new(service, config.limits, document, config.certificate.names())
        .map_err(|error| ServerError::Setup(format!("no threads to decide payments: {error}")))?;
    let listener = TcpListener::bind(config.address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| ServerError::Listen { address: config.address, source })?;
    Ok(Prepared { app, listener, tls: RustlsConfig::from_config(tls), settings, config })
}

const NOT_ERASED: &str = "what is past its limit could not be erased; it is tried again in an hour (tapfer db retention)";

fn note_erased(erased: usize) {
    if erased > 0 {
        tracing::info!(target: "tapfer::server", erased, "what was past its limit was erased");
    }
}

/// A clock that stands before what is in the audit log is wrong: a machine without one of its own that was started a moment
/// ago, perhaps. What is written now would bear a wrong time for good, and answers to idempotency keys be forgotten early.
fn demand_clock(service: &Service) -> Result<(), ServerError> {
    let (now, Some(newest)) = (service.now(), service.newest_event()?) else { return Ok(()) };
    if now.plus_seconds(CLOCK_MAY_LAG_SECONDS) >= newest {
        return Ok(());
    }
    Err(ServerError::Setup(format!(
        "the clock of this machine says {now}, and the audit log has an event of {newest}: set the clock (timedatectl), and \
         start again. If it is the event whose time is wrong, start once with --accept-clock"
    )))
}

/// The operator's key lies in the realm's directory. If it is not there, or the database does not know it,
/// a new one is made: whoever can write there could replace the database anyway.
pub(crate) fn ensure_operator_key(
    service: &Service,
    paths: &RealmPaths,
) -> Result<(), ServerError> {
    let path = paths.operator_key();
    let failed = |source| ServerError::OperatorKey { path: path.clone(), source };
    let present = match fs::read_to_string(&path) {
        Ok(text) => service.is_operator_key(text.trim())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    if present {
        return Ok(());
    }
    let key: FirstKey = service.create_operator_key()?;
    let mut line = key.expose().clone();
    line.push('\n');
    private_file::write(&path, line.as_bytes()).map_err(failed)
}

/// What phones and terminals are to be set up with lies in the realm's directory: no secret, but nobody else's.
pub(crate) fn write_configuration_key(
    service: &Service,
    paths: &RealmPaths,
) -> Result<(), ServerError> {
    let path = paths.configuration_key();
    let line = service.configuration_key()?;
    if fs::read(&path).is_ok_and(|found| found == line.as_bytes()) {
        return Ok(());
    }
    private_file::write(&path, line.as_bytes())
        .map_err(|source| ServerError::OperatorKey { path, source })
}

/// Slow or greedy requests (ASVS v5.0.0-13.1.2): time and room for a head, streams. The connections themselves
/// are limited by their [`Door`].
fn limit_requests<A: axum_server::Address, T>(
    server: &mut axum_server::Server<A, T>,
    limits: Limits,
) {
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(usize::try_from(HEAD).unwrap_or(usize::MAX))
        .max_headers(FIELDS);
    builder
        .http2()
        .max_header_list_size(HEAD)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(ANSWER_WAITS)
        .keep_alive_interval(Some(PING));
}

/// Times that were measured are kept one by one until they are counted into their buckets, which asking for metrics does:
/// where nobody asks they would fill the memory.
async fn keep_metrics_small(app: App) {
    let mut timer = tokio::time::interval(METRICS);
    while let Some(recorder) = app.metrics() {
        timer.tick().await;
        recorder.run_upkeep();
    }
}

/// Takes the operator's certificate and key anew when one of the files is another one. A pair that cannot be used is told of, and the
/// one before serves on: certificate and key are seldom put there in the same moment.
async fn follow_certificate(tls: RustlsConfig, settings: Arc<TlsSettings>) {
    let Some(files) = settings.source.files() else { return };
    let stamps = || files.map(|file| FileStamp::of(file).ok());
    let mut seen = stamps();
    let mut timer = tokio::time::interval(LOOK);
    loop {
        timer.tick().await;
        let now = stamps();
        if now == seen {
            continue;
        }
        seen = now;
        let settings = Arc::clone(&settings);
        match tokio::task::spawn_blocking(move || settings.load()).await {
            Ok(Ok(renewed)) => {
                tls.reload_from_config(renewed);
                tracing::info!(target: "tapfer::tls", "took the new certificate");
            }
            Ok(Err(error)) => {
                tracing::error!(target: "tapfer::tls", %error, "the new certificate cannot be used; the one before serves on");
            }
            Err(_) => return,
        }
    }
}

/// Renews the certificate before it runs out, forgets old answers, erases what is past its limit, and signs the audit chain.
async fn chores(app: App, tls: RustlsConfig, settings: Arc<TlsSettings>) {
    let mut timer = tokio::time::interval(CHORES);
    for round in 0_u64.. {
        timer.tick().await;
        // Not at the start: a machine's clock is often set a moment later.
        if round > 0 {
            let forgotten = app.run(|service| service.forget_answers(ANSWERS_KEPT_SECONDS)).await;
            if forgotten.is_err() {
                tracing::warn!(target: "tapfer::server", "old answers could not be forgotten");
            }
            match app.run(Service::erase_ended).await {
                Ok(erased) => note_erased(erased),
                Err(problem) => {
                    tracing::error!(target: "tapfer::server", ?problem, "{NOT_ERASED}");
                }
            }
        }
        // What was signed cannot be rewritten unnoticed, even if nobody asks for a configuration.
        if let Err(problem) = app.run(|service| service.sign_audit_head(service.now())).await {
            tracing::warn!(target: "tapfer::server", ?problem, "the audit chain could not be signed");
        }
        let settings = Arc::clone(&settings);
        match tokio::task::spawn_blocking(move || settings.load()).await {
            Ok(Ok(renewed)) => tls.reload_from_config(renewed),
            Ok(Err(error)) => tracing::error!(target: "tapfer::tls", %error, "renewal failed"),
            Err(_) => return,
        }
    }
}
