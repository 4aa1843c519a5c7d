//! How a terminal or a phone of this machine proves to the platform who it is: a TLS key that was made here and is
//! never given away, and the platform's certificate for it, in one file for each. The API key gets the first
//! certificate; each gets the next, when less than a third of its life is left.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tapfer_payment_types::Timestamp;
use ureq::tls::{Certificate, ClientCert, PrivateKey};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::client::{Client, is_undecided, text_of};
use crate::clock;
use crate::home::{Home, write_private};

/// How long a certificate is asked for again when no answer comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// A TLS key and its certificate, both PEM, as they lie in a file.
#[derive(Serialize, Deserialize, ZeroizeOnDrop)]
struct TlsIdentity {
    #[zeroize(skip)]
    certificate: String,
    private_key: String,
    /// SHA-256 of the API key that the certificate stands for, and ends with.
    #[zeroize(skip)]
    api_key: String,
    #[zeroize(skip)]
    created_at: Timestamp,
    #[zeroize(skip)]
    expires_at: Timestamp,
}

impl TlsIdentity {
    /// What lies in a file. One that cannot be read, has ended, or stands for another API key, is as good as none: a
    /// new one is asked for.
    fn stored(file: &Path, api_key: &str, now: Timestamp) -> anyhow::Result<Option<Self>> {
        let bytes = match fs::read(file).map(Zeroizing::new) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        let found: Option<Self> = serde_json::from_slice(&bytes).ok();
        let serves = |found: &Self| {
            found.api_key == api_key && now < found.expires_at && found.credential().is_ok()
        };
        Ok(found.filter(serves))
    }

    /// Whether less than a third of its life is left.
    fn is_nearly_over(&self, now: Timestamp) -> bool {
        let life = self.expires_at.millis_since(self.created_at);
        self.expires_at.millis_since(now).saturating_mul(3) < life
    }

    /// A certificate over a new key, in the name of whoever this client is.
    fn ask(client: &Client, api_key: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.pem()?;
        let body = json!({ "certificate_request": request });
        // No part of the command that needs it: repeated, that one asks for a certificate over another key.
        let once = clock::random_hex::<16>();
        let answer = client.post_patiently("/v1/client-certificates", &body, &once, PATIENCE)?;
        Ok(Self {
            certificate: text_of(&answer, "certificate")?,
            private_key: key.serialize_pem(),
            api_key: api_key.to_owned(),
            created_at: text_of(&answer, "created_at")?.parse()?,
            expires_at: text_of(&answer, "expires_at")?.parse()?,
        })
    }

    fn keep(&self, file: &Path) -> anyhow::Result<()> {
        write_private(file, &Zeroizing::new(serde_json::to_vec_pretty(self)?))
    }

    /// What a connection shows.
    fn credential(&self) -> anyhow::Result<ClientCert> {
        // The client's library panics over a key that is another one.
        let key = KeyPair::from_pem(&self.private_key)?;
        let certificate = Certificate::from_pem(self.certificate.as_bytes())?;
        let point = key.public_key_raw();
        let is_of_key = certificate.der().windows(point.len()).any(|part| part == point);
        anyhow::ensure!(is_of_key, "the certificate is over another key");
        let key = PrivateKey::from_pem(self.private_key.as_bytes())?;
        Ok(ClientCert::new_with_certs(&[certificate], key))
    }
}

/// The client that shows the certificate of a file. Where there is none that is good, `with_key` gets one first. If the
/// platform gives no answer, whoever asks goes on with the API key, and hears of it there.
///
/// # Errors
/// The platform gives no certificate to this API key; the file cannot be read or written.
pub(crate) fn connect(home: &Home, file: &Path, with_key: Client) -> anyhow::Result<Client> {
    let Some(api_key) = with_key.replaceable_key() else { return Ok(with_key) };
    // Two commands that start together would each fetch a certificate.
    let _lock = home.lock()?;
    let now = clock::now();
    let stored = TlsIdentity::stored(file, &api_key, now)?;
    let identity = match stored {
        Some(stored) if !stored.is_nearly_over(now) => stored,
        Some(stored) => {
            let renewed = with_key.with_certificate(home, stored.credential()?);
            // One that cannot be renewed now serves to its end.
            match renewed.and_then(|client| TlsIdentity::ask(&client, &api_key)) {
                Ok(renewed) => {
                    renewed.keep(file)?;
                    renewed
                }
                Err(_) => stored,
            }
        }
        None => match TlsIdentity::ask(&with_key, &api_key) {
            Ok(first) => {
                first.keep(file)?;
                first
            }
            Err(error) if is_undecided(&error) => return Ok(with_key),
            Err(error) => return Err(error),
        },
    };
    with_key.with_certificate(home, identity.credential()?)
}

#[cfg(test)]
mod tests {
    use super::TlsIdentity;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::PermissionsExt as _;
    use tapfer_payment_types::Timestamp;

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// From noon to noon.
    fn identity() -> TlsIdentity {
        let key = KeyPair::generate().unwrap();
        TlsIdentity {
            certificate: CertificateParams::default().self_signed(&key).unwrap().pem(),
            private_key: key.serialize_pem(),
            api_key: "k".to_owned(),
            created_at: noon(),
            expires_at: noon().plus_seconds(86_400),
        }
    }

    #[test]
    fn renewed_in_the_last_third() {
        let after = |hours: i64| identity().is_nearly_over(noon().plus_seconds(hours * 3_600));
        assert_eq!([0, 15, 16, 17, 23, 25].map(after), [false, false, false, true, true, true]);
    }

    #[test]
    fn kept_for_its_owner_alone_and_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("till").join("tls.json");
        assert!(TlsIdentity::stored(&file, "k", noon()).unwrap().is_none());
        identity().keep(&file).unwrap();
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let at = |seconds| TlsIdentity::stored(&file, "k", noon().plus_seconds(seconds)).unwrap();
        assert!(at(86_399).is_some() && at(86_400).is_none());
        assert!(TlsIdentity::stored(&file, "another", noon()).unwrap().is_none());
        std::fs::write(&file, b"{").unwrap();
        assert!(at(0).is_none(), "what is damaged is fetched anew");
    }

    #[test]
    fn a_certificate_over_another_key_is_none() {
        let mut mixed = identity();
        mixed.private_key = KeyPair::generate().unwrap().serialize_pem();
        assert!(mixed.credential().is_err() && identity().credential().is_ok());
    }
}
