//! Where the database is, and how it is reached.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::partition::{Part, PlaceName};
use super::presence::Presence;

/// How long a server may say nothing. Longer than a lock is waited for, shorter than a till waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a connection may take to come about, for each host.
const CONNECTING: Duration = Duration::from_secs(3);
/// The schema with all tables; how long a row's lock is waited for; that a transaction which its platform has forgotten
/// ends; that a commit waits for its standby, and that it is said when it did not; that a session writes, and lasts: whatever is set
/// for the login, which may set it itself. No statement is compiled: one whose plan looks dear for want of another would be, for longer than it runs.
const SETTINGS: &str = "-c search_path=tapfer -c lock_timeout=8s -c statement_timeout=15s \
                        -c idle_in_transaction_session_timeout=30s -c default_transaction_isolation=read\\ committed \
                        -c synchronous_commit=on -c client_min_messages=warning -c jit=off \
                        -c default_transaction_read_only=off -c idle_session_timeout=0";
/// Whatever payments ask, and what is done for each of them, is found by an index: a plan that was made while tables were small must be right when they are large.
pub(super) const BY_INDEX: &str = " -c enable_seqscan=off -c enable_bitmapscan=off \
                                   -c enable_hashjoin=off -c enable_mergejoin=off \
                                   -c plan_cache_mode=force_generic_plan";
/// A peer that vanished without a word is asked after so long a silence, again so often, and is gone after so long.
const SILENCE: Duration = Duration::from_secs(3);
const ASKED_EVERY: Duration = Duration::from_secs(1);
const GONE: Duration = Duration::from_secs(8);
/// How many connections one platform uses at most for payments and changes.
const CONNECTIONS: usize = 12;
/// PostgreSQL's port.
const USUAL: u16 = 5432;

/// Why a database cannot be named so.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOptionsError {
    /// Not an address.
    #[error(
        "this is no address of a database: {0}; it looks like postgres://NAME@HOST:5432/DATABASE"
    )]
    Address(#[source] tokio_postgres::Error),
    /// A password in an address is seen by whoever lists processes or reads configurations.
    #[error(
        "the address of the database holds a password; take it out, and put it into a file that only the platform's \
         user can read"
    )]
    PasswordInAddress,
    /// Over a network without TLS.
    #[error(
        "the database is reached over a network, and no certificate says which it is; give the certificate authority \
         of the database's servers, or use a unix socket"
    )]
    NoCertificate,
    /// The certificates are none.
    #[error("the certificates of the database cannot be used: {0}")]
    Certificate(String),
}

/// Where the database is, and how it is reached.
#[derive(Clone)]
pub struct PostgresOptions {
    config: Config,
    tls: Option<ClientConfig>,
    connections: usize,
    presence: Arc<Presence>,
    part: Option<Part>,
    place: Option<PlaceName>,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions").field("place", &self.place()).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    /// `postgres://name@host1:5432,host2:5432/database`, or a directory with a unix socket in the place of the hosts
    /// (`%2Frun%2Fpostgresql`). Of several hosts the one is used that takes writes. `certificates` are the authorities
    /// of the servers' certificates, as PEM; without them only sockets and loopback addresses are reached.
    ///
    /// # Errors
    /// [`PostgresOptionsError`]
    pub fn new(
        address: &str,
        password: Option<&str>,
        certificates: Option<&[u8]>,
    ) -> Result<Self, PostgresOptionsError> {
        let mut config: Config = address.parse().map_err(PostgresOptionsError::Address)?;
        if config.get_password().is_some() {
            return Err(PostgresOptionsError::PasswordInAddress);
        }
        if let Some(password) = password {
            config.password(password);
        }
        let tls = certificates.map(tls).transpose()?;
        if tls.is_none() && !config.get_hosts().iter().all(is_here) {
            return Err(PostgresOptionsError::NoCertificate);
        }
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        // A standby answers with what was; decisions rest on what is.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECTING).tcp_user_timeout(GONE).options(SETTINGS);
        config.keepalives_idle(SILENCE).keepalives_interval(ASKED_EVERY).keepalives_retries(4);
        config.application_name("tapfer");
        Ok(Self {
            config,
            tls,
            connections: CONNECTIONS,
            presence: Arc::default(),
            part: None,
            place: None,
        })
    }

    /// The same database, for another login.
    #[must_use]
    pub fn as_user(mut self, user: &str) -> Self {
        self.config.user(user);
        self
    }

    /// The same database, as the partition that it has to be.
    #[must_use]
    pub fn as_partition(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
    }

    /// The same, at the place of this name, if it is known.
    #[must_use]
    pub fn at_place(self, name: Option<PlaceName>) -> Self {
        Self { place: name, ..self }
    }

    pub(super) const fn place_name(&self) -> Option<PlaceName> {
        self.place
    }

    /// The same database, for what is asked and done for each payment.
    pub(super) fn by_index(mut self) -> Self {
        self.config.options(format!("{SETTINGS}{BY_INDEX}"));
        self
    }

    pub(super) const fn part(&self) -> Option<Part> {
        self.part
    }

    pub(super) const fn config(&self) -> &Config {
        &self.config
    }

    pub(super) const fn tls(&self) -> Option<&ClientConfig> {
        self.tls.as_ref()
    }

    /// Whether a server is there, for all who have these options.
    pub(super) fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.presence)
    }

    /// How long a connection may take until it can be used: each host may be tried, and the last one has to let us in.
    pub(super) fn connected_within(&self) -> Duration {
        let tries = u32::try_from(self.config.get_hosts().len()).unwrap_or(u32::MAX);
        CONNECTING.saturating_mul(tries.saturating_add(1))
    }

    pub(super) const fn connections(&self) -> usize {
        self.connections
    }

    /// Which database, in words: never how to get in.
    pub(super) fn place(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(directory) => directory.display().to_string(),
        });
        // One port for each host, one for all, or none.
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.first()).filter(|port| **port != USUAL);
        let hosts = hosts.enumerate().map(|(place, host)| match port(place) {
            Some(port) => format!("{host} (port {port})"),
            None => host,
        });
        let hosts: Vec<_> = hosts.collect();
        format!("{} on {}", self.config.get_dbname().unwrap_or("(no name)"), hosts.join(", "))
    }
}

/// Whether no network is between.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn tls(certificates: &[u8]) -> Result<ClientConfig, PostgresOptionsError> {
    let unusable = |error: &dyn fmt::Display| PostgresOptionsError::Certificate(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::{PostgresOptions, PostgresOptionsError};

    #[test]
    fn a_password_is_not_taken_from_an_address() {
        let refused = PostgresOptions::new("postgres://node:geheim@localhost/tapfer", None, None);
        assert!(matches!(refused, Err(PostgresOptionsError::PasswordInAddress)));
    }

    #[test]
    fn nothing_goes_over_a_network_to_somebody_unknown() {
        for here in ["%2Frun%2Fpostgresql", "127.0.0.1", "localhost", "[::1]"] {
            PostgresOptions::new(&format!("postgres://node@{here}/tapfer"), None, None).unwrap();
        }
        for there in ["db.example", "192.0.2.1", "localhost,db.example"] {
            let address = format!("postgres://node@{there}/tapfer");
            let refused = PostgresOptions::new(&address, None, None);
            assert!(matches!(refused, Err(PostgresOptionsError::NoCertificate)), "{there}");
        }
    }

    #[test]
    fn what_is_printed_holds_no_password() {
        let address = "postgres://node@localhost/tapfer";
        let options = PostgresOptions::new(address, Some("geheim"), None).unwrap();
        assert!(!format!("{options:?}").contains("geheim"));
    }
}
