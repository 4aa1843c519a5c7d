//! `tapfer serve`: the platform as a process.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum, value_parser};
use serde_json::json;
use tapfer_hsm::custody::KeyPolicy;
use tapfer_hsm::seclusion::{self, NotLocked};
use tapfer_server::{
    ApiKeysTaken, CertificateSource, ClientCertificates, Rate, Realm, RealmError, RealmKind,
    RunningServer, Server, ServerConfig,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::commands::keys;
use crate::context::Context;
use crate::failure::Ending;
use crate::platform;

/// From one try to the next while no HSM answers.
const UNTIL_AN_HSM_ANSWERS: Duration = Duration::from_secs(5);

/// Where the platform listens unless told otherwise: this machine only.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8443";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tapfer serve             # a demo realm in ~/.tapfer, made on the first run
  tapfer serve --realm production --home /srv/tapfer --passphrase-file /run/secrets/tapfer
  tapfer serve --home /srv/tapfer --listen 0.0.0.0:8443 --name tapfer.example.org

The last is for tills and phones elsewhere: give them tls/ca-certificate.pem.

The database is tapfer.db in the home directory; with a database.toml there it is the PostgreSQL database that this names, which several
platforms may share (docs/postgresql.md).

The log goes to standard error: one JSON object a line, or text on a terminal. TAPFER_LOG filters it, such as
TAPFER_LOG=warn. SIGINT and SIGTERM stop after the running requests. While no HSM of the realm answers it serves nothing, says
so in the log, and begins by itself when one does.")]
pub(crate) struct ServeArguments {
    /// IP address and port to listen on; port 0 takes any free port
    #[arg(long, value_name = "IP:PORT", env = "TAPFER_LISTEN", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Name under which tills and phones reach the platform, DNS or IP; may be given several times. The server's certificate is for
    /// these names, for the address that is listened on, and for this machine's own
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Serve with this certificate, PEM, those between it and its root behind it, in place of one that the realm's own CA makes. It
    /// has to be for every --name. Put there anew, it is taken within seconds
    #[arg(long, value_name = "FILE", requires = "certificate_key", requires = "names")]
    certificate: Option<PathBuf>,
    /// The private key of --certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    /// Kind of realm to make on the first run [default: what its keys were made for, else demo]
    #[arg(long, value_enum)]
    realm: Option<Kind>,
    /// File with the passphrase of the key store [env: TAPFER_PASSPHRASE, or TAPFER_UNLOCK_KEY: 64
    /// hexadecimal digits]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Connections that may be open at the same time [default: 768, or what the limit of open files allows]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// Of these, connections from one address [default: 192]; behind a proxy, as many as in all
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..))]
    connections_per_address: Option<u16>,
    /// Requests a second of one API key of the operator, an issuer or a merchant; five times as many at once [default: 2000]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    requests_per_second: Option<u32>,
    /// The same of one terminal or phone [default: 200]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    machine_requests_per_second: Option<u32>,
    /// Requests of one API key of an issuer or a merchant between midnight and midnight, UTC [default: 10000000]
    #[arg(long, value_name = "COUNT")]
    requests_per_day: Option<u64>,
    /// Wrong credentials from one address before it has to pause [default: 10]; 0 where a proxy hides the addresses of clients
    #[arg(long, value_name = "COUNT")]
    wrong_credentials: Option<u32>,
    /// Sign the API keys that are not signed, once, behind the update that brought signatures: each has its line in the
    /// audit log. Without, they are refused. The operator's are never signed: make new ones
    #[arg(long)]
    accept_api_keys: bool,
    /// What terminals and phones show: a TLS certificate or their API key, or nothing but a certificate (then an API key gets
    /// its owner one, and serves for nothing else)
    #[arg(long, value_enum, env = "TAPFER_CLIENT_CERTIFICATES", default_value = "accepted")]
    client_certificates: Certificates,
    /// How long their certificates live
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = value_parser!(u16).range(1..=168))]
    client_certificate_hours: u16,
    /// Start although the audit log has events of a later time than the clock says: if it is they that are wrong
    #[arg(long)]
    accept_clock: bool,
    /// Let debuggers and core files see the memory of this process, with all that is secret in it
    #[arg(long)]
    debuggable: bool,
}

impl ServeArguments {
    fn configuration(&self, policy: KeyPolicy) -> ServerConfig {
        let mut config = ServerConfig::new(self.listen);
        match (&mut config.certificate, &self.certificate, &self.certificate_key) {
            (certificate, Some(chain), Some(key)) => {
                let (chain, key, names) = (chain.clone(), key.clone(), self.names.clone());
                *certificate = CertificateSource::Files { chain, key, names };
            }
            (CertificateSource::OwnAuthority { names }, ..) => {
                names.splice(0..0, self.names.iter().cloned());
            }
            _ => {}
        }
        let limits = &mut config.limits;
        limits.connections = self.connections.map_or(limits.connections, usize::from);
        limits.connections_per_address =
            self.connections_per_address.map_or(limits.connections_per_address, usize::from);
        let requests = &mut limits.requests;
        let rate = |a_second: u32| Rate { a_second, burst: a_second.saturating_mul(5) };
        requests.server = self.requests_per_second.map_or(requests.server, rate);
        requests.machine = self.machine_requests_per_second.map_or(requests.machine, rate);
        requests.a_day = self.requests_per_day.unwrap_or(requests.a_day);
        requests.wrong_credentials = self.wrong_credentials.unwrap_or(requests.wrong_credentials);
        config.key_policy = Arc::new(policy);
        config.client_certificates = ClientCertificates {
            are_required: self.client_certificates == Certificates::Required,
            life_seconds: i64::from(self.client_certificate_hours).saturating_mul(3_600),
        };
        if self.accept_api_keys {
            config.api_keys = ApiKeysTaken::SignedFromNowOn;
        }
        config.accepts_clock = self.accept_clock;
        config
    }
}

/// Whether terminals and phones have to show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Certificates {
    /// They may; their API keys serve too
    Accepted,
    /// They have to
    Required,
}

/// What the realm is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// To try and to show: keys may be looked at, and open without a passphrase
    Demo,
    /// Real cards: needs a passphrase or key, and no key is ever shown
    Production,
}

impl From<Kind> for RealmKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Demo => Self::Demo,
            Kind::Production => Self::Production,
        }
    }
}

pub(crate) fn run(context: &Context, arguments: &ServeArguments) -> anyhow::Result<Ending> {
    start_log(context);
    let memory = seclude(arguments.debuggable)?;
    if let Err(error) = &memory {
        context.output.remark(format!(
            "caution: this process's memory is not locked and may reach the swap device: {error}"
        ));
    }
    let policy = keys::policy(&context.home)?;
    let runtime = platform::runtime()?;
    let before_it_serves = runtime.block_on(async {
        let stopped = stop_signal()?;
        anyhow::Ok(tokio::spawn(async {
            stopped.await;
            tracing::info!(target: "tapfer::server", "stopped before anything was served");
            std::process::exit(0);
        }))
    })?;
    let realm = open_realm(context, arguments)?;
    let description = realm.hsm().describe();
    runtime.block_on(async {
        // Before anyone is told that the platform runs, so that a signal right after finds us ready.
        let stopped = stop_signal()?;
        before_it_serves.abort();
        let server = Server::start(realm, arguments.configuration(policy)).await?;
        announce(context, arguments, &server, description.notice, memory.is_ok())?;
        stopped.await;
        server.stop().await?;
        Ok(Ending::Done)
    })
}

/// Ends with the first signal to stop from now on. Handled, for process 1 of a container hears of no other.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Opens the realm. If it has been started before and none of its HSMs answers now, this waits until one does: a site
/// whose power comes back starts its server before its HSMs. What only a person can mend ends it at once.
fn open_realm(context: &Context, arguments: &ServeArguments) -> anyhow::Result<Realm> {
    let is_new = !context.home.realm().is_realm();
    let mut told = None;
    loop {
        let opened = {
            let _progress = context.output.progress("opening the realm");
            let kind = arguments.realm.map(RealmKind::from);
            platform::open_realm(&context.home, kind, arguments.passphrase_file.as_deref())
        };
        let cause = match opened {
            Ok(realm) => return Ok(realm),
            Err(error) => match error.downcast_ref() {
                Some(RealmError::NoneAnswers(cause)) if !is_new => cause.clone(),
                _ => return Err(error),
            },
        };
        // Once for each cause: it may be a long night.
        if told.as_ref() != Some(&cause) {
            tracing::error!(target: "tapfer::hsm", cause,
                "no HSM of this realm answers, so nothing is served. It is tried every {} seconds until one does",
                UNTIL_AN_HSM_ANSWERS.as_secs());
            told = Some(cause);
        }
        std::thread::park_timeout(UNTIL_AN_HSM_ANSWERS);
    }
}

/// Keeps keys, before there are any, out of core files, the reach of other processes and, where no limit forbids it,
/// the swap.
fn seclude(debuggable: bool) -> anyhow::Result<Result<(), NotLocked>> {
    if !debuggable {
        seclusion::forbid_looking().context("keeping other processes out of this one's memory")?;
    }
    Ok(seclusion::lock_memory())
}

/// Tells where the platform is, and remembers it for the commands that ask it.
fn announce(
    context: &Context,
    arguments: &ServeArguments,
    server: &RunningServer,
    notice: &str,
    is_memory_locked: bool,
) -> anyhow::Result<()> {
    let address = platform::address_of(server);
    context.home.remember(|memory| memory.server = Some(address.clone()))?;
    let paths = server.paths();
    let operator = paths.operator_key().display().to_string();
    let brought = arguments.certificate.as_ref().map(|file| file.display().to_string());
    let authority = brought.is_none().then(|| paths.ca_certificate().display().to_string());
    let port = server.address().port();
    let elsewhere: Vec<_> =
        arguments.names.iter().map(|name| platform::address_with(name, port)).collect();
    if context.output.is_json() {
        return context.output.json_line(&json!({
            "server": address,
            "names": elsewhere,
            "home": paths.home(),
            "operator_key": operator,
            "ca_certificate": authority,
            "certificate": brought,
            "notice": notice,
            "is_memory_locked": is_memory_locked,
        }));
    }
    context.output.line(format!("platform        {address}"));
    context.output.line(format!("operator key    {operator}"));
    for elsewhere in elsewhere {
        context.output.line(format!("from elsewhere  {elsewhere}"));
    }
    if let Some(authority) = authority {
        context.output.line(format!("CA certificate  {authority}"));
    }
    if let Some(brought) = brought {
        context.output.line(format!(
            "certificate     {brought}; name its CA to tapfer's commands with --ca-certificate"
        ));
    }
    context.output.line(format!("keys            {notice}"));
    let init = context.home.command("tapfer init");
    context.output.line(format!("Stop with Ctrl-C. In another terminal: {init}"));
    Ok(())
}

fn start_log(context: &Context) {
    let filter = EnvFilter::try_from_env("TAPFER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second subscriber is refused; there is only this one.
    let _started = match io::stderr().is_terminal() && !context.output.is_json() {
        true => builder.try_init(),
        false => builder.json().flatten_event(true).try_init(),
    };
}
