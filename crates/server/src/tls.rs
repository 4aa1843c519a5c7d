//! Transport security: TLS 1.3 and 1.2 with forward secrecy, and nothing else.
//!
//! A new realm makes itself a certificate authority and a server certificate, so that no platform ever
//! starts without TLS. The authority's certificate is what clients are told to trust; the server's is
//! renewed by itself. An operator may bring a certificate and key instead.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{RootCertStore, ServerConfig};
use tapfer_payment_types::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::client_certificate::RealmTime;
use crate::clock::SharedClock;
use crate::private_file;

const DAY: i64 = 24 * 60 * 60;
/// The authority outlives the realm's hardware: replacing it means telling every client.
const AUTHORITY_DAYS: i64 = 3650;
/// Ninety days, as public authorities do.
const SERVER_DAYS: i64 = 90;
/// A certificate with less than this left is renewed.
const RENEW_BEFORE_DAYS: i64 = 30;
/// With less than this left, a certificate that was brought is told of every hour.
const TELL_BEFORE_DAYS: i64 = 14;
/// Clients' clocks may be this far behind.
const BACKDATED_DAYS: i64 = 1;

/// Why the server has no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the TLS directory cannot be read or written.
    #[error("{path}: {source}. The server needs to read and write its TLS directory")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error(
        "{path} does not hold a usable {what}. Restore it from a backup, or move the whole TLS \
         directory away and let the server make a new one (clients must then trust the new CA)"
    )]
    Content {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A file of the operator does not hold what it should.
    #[error(
        "{path} holds no usable {what}: give, as PEM, the server's certificate with those between it and its root, and the private \
         key that belongs to it"
    )]
    Brought {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
    },
    /// A name the certificate should carry is no DNS name and no IP address.
    #[error(
        "\"{0}\" is neither a DNS name nor an IP address; a name of the server stands alone, such as tapfer.example.org, without \
         https:// and port"
    )]
    Name(String),
    /// The operator's certificate is not for a name of the server.
    #[error(
        "the certificate in {path} is not for {name}, and clients that know the server by this name would refuse it. Take a \
         certificate with the name among its subject alternative names, or another --name"
    )]
    OtherName {
        /// Which file.
        path: PathBuf,
        /// Which name.
        name: String,
    },
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Generation(#[from] rcgen::Error),
    /// The TLS library refuses the certificate and key.
    #[error("the certificate and key do not go together or cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone)]
pub enum CertificateSource {
    /// The realm's own authority, with these names beside `localhost` and the loopback addresses.
    OwnAuthority {
        /// DNS names and IP addresses under which clients reach the server.
        names: Vec<String>,
    },
    /// Files of the operator, PEM.
    Files {
        /// The server's certificate, then those between it and the root.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
        /// DNS names and IP addresses under which clients reach the server; the certificate is for all of them.
        names: Vec<String>,
    },
}

impl CertificateSource {
    /// The names under which clients may ask for the server. Of a realm's own certificate, the first are this machine's for itself.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::OwnAuthority { names } => all_names(names),
            Self::Files { names, .. } => names.clone(),
        }
    }

    /// The operator's files, if there are any: certificate and key.
    pub(crate) fn files(&self) -> Option<[&Path; 2]> {
        match self {
            Self::OwnAuthority { .. } => None,
            Self::Files { chain, key, .. } => Some([chain, key]),
        }
    }
}

/// What a server's handshakes go by.
pub(crate) struct TlsSettings {
    /// Where the realm's own certificates lie.
    pub(crate) directory: PathBuf,
    /// Where the server's comes from.
    pub(crate) source: CertificateSource,
    /// Which certificates of clients are taken.
    pub(crate) clients: Arc<dyn ClientCertVerifier>,
    /// The realm's clock.
    pub(crate) clock: SharedClock,
}

impl TlsSettings {
    /// Loads or makes the certificate and gives the TLS configuration of the server.
    ///
    /// # Errors
    /// [`TlsError`] if files or names are unusable.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let clients = Arc::clone(&self.clients);
        server_config(&self.directory, &self.source, clients, &self.clock)
    }
}

fn server_config(
    directory: &Path,
    source: &CertificateSource,
    clients: Arc<dyn ClientCertVerifier>,
    clock: &SharedClock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = match source {
        CertificateSource::OwnAuthority { names } => {
            let (chain, key) = own_certificate(directory, names, clock.now())?;
            (read_certificates(&chain)?, read_key(&key)?)
        }
        CertificateSource::Files { chain, key, names } => {
            let certificates = read_certificates(chain).map_err(brought)?;
            demand_names(chain, &certificates, names)?;
            tell_of_its_end(chain, &certificates, clock.now());
            (certificates, read_key(key).map_err(brought)?)
        }
    };
    // The versions are named although they are the default: a default may change.
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let time = Arc::new(RealmTime(Arc::clone(clock)));
    let mut config = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    // Nothing is resumed: each connection shows its certificate, and has it looked at.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate that clients are told to trust, PEM; made when the server starts.
#[must_use]
pub fn authority_certificate_file(directory: &Path) -> PathBuf {
    directory.join("ca-certificate.pem")
}

/// All suites of this provider have forward secrecy: rustls knows no other.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The realm's own certificate, renewed if it is missing, runs out or lacks a name.
fn own_certificate(
    directory: &Path,
    extra_names: &[String],
    now: Timestamp,
) -> Result<(PathBuf, PathBuf), TlsError> {
    fs::create_dir_all(directory)
        .map_err(|source| TlsError::File { path: directory.to_owned(), source })?;
    let names = all_names(extra_names);
    let authority = load_or_make_authority(directory, now)?;
    let chain_file = directory.join("server-certificate.pem");
    let key_file = directory.join("server-key.pem");
    let present = chain_file.exists() && key_file.exists();
    if !present || !is_good_until_renewal(directory, &chain_file, &names, now)? {
        let key = KeyPair::generate()?;
        let certificate = server_parameters(&names, now)?.signed_by(&key, &authority)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        write(&chain_file, certificate.pem().as_bytes())?;
        tracing::info!(target: "tapfer::tls", days = SERVER_DAYS, "made a server certificate");
    }
    Ok((chain_file, key_file))
}

fn all_names(extra: &[String]) -> Vec<String> {
    let mut names: Vec<String> =
        ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    for name in extra {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Asks the question a client will ask on the day of the renewal: is this certificate of this
/// authority, valid then, for every one of these names?
fn is_good_until_renewal(
    directory: &Path,
    chain_file: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<bool, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(&authority_certificate_file(directory))? {
        roots.add(certificate)?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|_| TlsError::Content {
            path: authority_certificate_file(directory),
            what: "CA certificate",
        })?;
    let chain = read_certificates(chain_file)?;
    let Some((server, intermediates)) = chain.split_first() else { return Ok(false) };
    let renewal_day = unix_time(now.plus_seconds(RENEW_BEFORE_DAYS.saturating_mul(DAY)));
    for name in names {
        let name = server_name(name)?;
        if verifier.verify_server_cert(server, intermediates, &name, &[], renewal_day).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks of a certificate that was brought what each client will ask.
fn demand_names(
    path: &Path,
    chain: &[CertificateDer<'static>],
    names: &[String],
) -> Result<(), TlsError> {
    let unusable = |_| TlsError::Brought { path: path.to_owned(), what: "certificate" };
    let first = chain.first().ok_or(rustls::Error::NoCertificatesPresented);
    let certificate = first.and_then(ParsedCertificate::try_from).map_err(unusable)?;
    for name in names {
        verify_server_name(&certificate, &server_name(name)?)
            .map_err(|_| TlsError::OtherName { path: path.to_owned(), name: name.clone() })?;
    }
    Ok(())
}

/// Nobody but whoever brought a certificate can renew it.
fn tell_of_its_end(path: &Path, chain: &[CertificateDer<'_>], now: Timestamp) {
    let days = chain.first().and_then(|certificate| days_left(certificate, now));
    if let Some(days) = days.filter(|days| *days < TELL_BEFORE_DAYS) {
        tracing::warn!(
            target: "tapfer::tls",
            file = %path.display(),
            days,
            "the server's certificate ends soon, or has ended: put the next one there, with its key"
        );
    }
}

/// Whole days until a certificate ends; negative, if it has.
fn days_left(certificate: &CertificateDer<'_>, now: Timestamp) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let end = certificate.validity().not_after.timestamp();
    let left = end.checked_sub(now.unix_millis().div_euclid(1_000))?;
    Some(left.div_euclid(DAY))
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}

fn unix_time(moment: Timestamp) -> UnixTime {
    let millis = u64::try_from(moment.unix_millis()).unwrap_or(0);
    UnixTime::since_unix_epoch(core::time::Duration::from_millis(millis))
}

fn load_or_make_authority(
    directory: &Path,
    now: Timestamp,
) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let key_file = directory.join("ca-key.pem");
    let certificate_file = authority_certificate_file(directory);
    if key_file.exists() {
        let unusable = || TlsError::Content { path: key_file.clone(), what: "CA key" };
        let text = String::from_utf8(read(&key_file)?).map_err(|_| unusable())?;
        let key = KeyPair::from_pem(&text).map_err(|_| unusable())?;
        // Name and key are all that a certificate says about its authority; the dates do not matter.
        return Ok(Issuer::new(authority_parameters(now), key));
    }
    let key = KeyPair::generate()?;
    let parameters = authority_parameters(now);
    let certificate = parameters.self_signed(&key)?;
    write(&certificate_file, certificate.pem().as_bytes())?;
    write_private(&key_file, key.serialize_pem().as_bytes())?;
    Ok(Issuer::new(parameters, key))
}

fn authority_parameters(now: Timestamp) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = common_name("tapfer realm CA");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut parameters, now, AUTHORITY_DAYS);
    parameters
}

fn server_parameters(names: &[String], now: Timestamp) -> Result<CertificateParams, TlsError> {
    for name in names {
        server_name(name)?;
    }
    let mut parameters = CertificateParams::new(names.to_vec())?;
    parameters.distinguished_name = common_name("tapfer server");
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut parameters, now, SERVER_DAYS);
    Ok(parameters)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn set_validity(parameters: &mut CertificateParams, now: Timestamp, days: i64) {
    let start = now.plus_seconds(BACKDATED_DAYS.saturating_mul(DAY).saturating_neg());
    let end = now.plus_seconds(days.saturating_mul(DAY));
    let [not_before, not_after] = [start, end].map(|moment| {
        let date = moment.calendar();
        date_time_ymd(i32::from(date.year), date.month, date.day)
    });
    parameters.not_before = not_before;
    parameters.not_after = not_after;
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = || TlsError::Content { path: path.to_owned(), what: "certificate" };
    let bytes = read(path)?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|_| unusable())?;
    if certificates.is_empty() { Err(unusable()) } else { Ok(certificates) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|_| TlsError::Content { path: path.to_owned(), what: "private key" })
}

/// What is wrong with a file is the operator's to mend, if he brought it.
fn brought(error: TlsError) -> TlsError {
    match error {
        TlsError::Content { path, what } => TlsError::Brought { path, what },
        error => error,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn write(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    fs::write(path, content).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), TlsError> {
    private_file::write(path, content)
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Names an address can be reached under, for the certificate: itself, unless it means "all".
pub(crate) fn name_of_address(address: IpAddr) -> Option<String> {
    (!address.is_unspecified()).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::{CertificateSource, DAY, SERVER_DAYS, TlsError, authority_certificate_file};
    use crate::clock::{Clock, SharedClock};
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::server::NoClientAuth;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use tapfer_payment_types::Timestamp;

    struct Standing(Timestamp);

    impl Clock for Standing {
        fn now(&self) -> Timestamp {
            self.0
        }
    }

    fn server_config(
        directory: &Path,
        source: &CertificateSource,
        now: Timestamp,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let clock: SharedClock = Arc::new(Standing(now));
        super::server_config(directory, source, Arc::new(NoClientAuth), &clock)
    }

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn own(names: &[&str]) -> CertificateSource {
        CertificateSource::OwnAuthority { names: names.iter().map(|&n| n.to_owned()).collect() }
    }

    fn certificate(directory: &Path) -> String {
        fs::read_to_string(directory.join("server-certificate.pem")).unwrap()
    }

    #[test]
    fn reuses_then_renews() {
        let home = tempfile::tempdir().unwrap();
        server_config(home.path(), &own(&[]), noon()).unwrap();
        let first = certificate(home.path());
        let authority = fs::read(authority_certificate_file(home.path())).unwrap();

        let next_day = noon().plus_seconds(DAY);
        server_config(home.path(), &own(&[]), next_day).unwrap();
        assert_eq!(certificate(home.path()), first, "a fresh certificate is kept");

        let late = noon().plus_seconds((SERVER_DAYS - 10) * DAY);
        server_config(home.path(), &own(&[]), late).unwrap();
        assert_ne!(certificate(home.path()), first, "one that runs out is replaced");
        assert_eq!(fs::read(authority_certificate_file(home.path())).unwrap(), authority);
    }

    #[test]
    fn a_new_name_needs_a_new_certificate() {
        let home = tempfile::tempdir().unwrap();
        server_config(home.path(), &own(&[]), noon()).unwrap();
        let first = certificate(home.path());
        server_config(home.path(), &own(&["pay.example.org", "192.0.2.7"]), noon()).unwrap();
        assert_ne!(certificate(home.path()), first);
    }

    #[test]
    fn says_what_is_wrong() {
        let home = tempfile::tempdir().unwrap();
        let refused = server_config(home.path(), &own(&["not a name"]), noon());
        assert!(matches!(refused, Err(TlsError::Name(_))));
        let source = CertificateSource::Files {
            chain: home.path().join("absent.pem"),
            key: home.path().join("absent.key"),
            names: Vec::new(),
        };
        let refused = server_config(home.path(), &source, noon());
        assert!(matches!(refused, Err(TlsError::File { .. })));
        let source = brought(home.path(), &["tapfer.example.org"], &["tapfer.example.org"]);
        fs::write(home.path().join("brought.pem"), b"nothing").unwrap();
        let refused = server_config(home.path(), &source, noon());
        assert!(matches!(refused, Err(TlsError::Brought { what: "certificate", .. })));
    }

    /// Files as an operator brings them: a certificate over these names, for a server that is known by those.
    fn brought(directory: &Path, of: &[&str], known_by: &[&str]) -> CertificateSource {
        let of: Vec<String> = of.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(of).unwrap().self_signed(&key).unwrap();
        let (chain, key_file) = (directory.join("brought.pem"), directory.join("brought.key"));
        fs::write(&chain, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        let names = known_by.iter().map(|&name| name.to_owned()).collect();
        CertificateSource::Files { chain, key: key_file, names }
    }

    #[test]
    fn a_certificate_that_is_brought_is_for_every_name() {
        let home = tempfile::tempdir().unwrap();
        let both = ["tapfer.example.org", "pay.example.org"];
        let source = brought(home.path(), &both, &both);
        server_config(home.path(), &source, noon()).unwrap();
        let source = brought(home.path(), &both[..1], &both);
        let refused = server_config(home.path(), &source, noon());
        assert!(matches!(refused, Err(TlsError::OtherName { name, .. }) if name == both[1]));
        let source = brought(home.path(), &["*.example.org"], &both);
        server_config(home.path(), &source, noon()).unwrap();
    }

    #[test]
    fn the_end_of_a_certificate_is_known() {
        let home = tempfile::tempdir().unwrap();
        server_config(home.path(), &own(&[]), noon()).unwrap();
        let chain = super::read_certificates(&home.path().join("server-certificate.pem")).unwrap();
        let left = |days| super::days_left(&chain[0], noon().plus_seconds(days * DAY)).unwrap();
        // It ends at midnight.
        assert_eq!([0, SERVER_DAYS - 1, SERVER_DAYS].map(left), [SERVER_DAYS - 1, 0, -1]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let source = brought(home.path(), &["tapfer.example.org"], &[]);
        let other = KeyPair::generate().unwrap().serialize_pem();
        fs::write(home.path().join("brought.key"), other).unwrap();
        let refused = server_config(home.path(), &source, noon());
        assert!(matches!(refused, Err(TlsError::Unusable(_))));
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        server_config(home.path(), &own(&[]), noon()).unwrap();
        for name in ["ca-key.pem", "server-key.pem"] {
            let mode = fs::metadata(home.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
