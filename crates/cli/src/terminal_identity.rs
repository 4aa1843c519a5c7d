//! Who a till's terminal says it is: its key, made once on this machine and never given away, and the
//! certificate that the platform gave for it.
//!
//! Both lie under `terminals/<id>` in the home directory: `key` (32 bytes, mode 0600) and
//! `certificate.json`, the platform's answer.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tapfer_emv::merchant::{MerchantCertificate, MerchantPrivateKey, MerchantSigner as _};
use tapfer_payment_types::messages::{HexBytes, terminal_key_possession};
use tapfer_payment_types::{TerminalId, Timestamp};
use tapfer_terminal::{MerchantCredential, WithoutProof};
use zeroize::Zeroizing;

use crate::client::{Client, text_of};
use crate::clock;
use crate::home::{Home, write_private};

/// A terminal of this machine.
pub(crate) struct TerminalIdentity {
    terminal: TerminalId,
    directory: PathBuf,
    key: MerchantPrivateKey,
}

/// A certificate of this terminal's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certified {
    /// What phones are shown.
    pub(crate) certificate: MerchantCertificate,
    /// When the platform gave it.
    pub(crate) created_at: Timestamp,
}

impl Certified {
    fn of(answer: &Value) -> anyhow::Result<Self> {
        let HexBytes(bytes) = text_of(answer, "certificate")?.try_into()?;
        let created_at = text_of(answer, "created_at")?.parse()?;
        Ok(Self { certificate: MerchantCertificate::parse(&bytes)?, created_at })
    }

    /// Whether less than a quarter of its life is left: time for the next one.
    pub(crate) fn is_nearly_over(&self, now: Timestamp) -> bool {
        let life = self.certificate.expires_at().millis_since(self.created_at);
        let left = self.certificate.expires_at().millis_since(now);
        left.saturating_mul(4) < life
    }

    fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.certificate.expires_at()
    }

    /// What stands in it, for people and programs.
    pub(crate) fn to_json(&self) -> Value {
        let certificate = &self.certificate;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        json!({
            "name": certificate.name.as_str(),
            "merchant_identifier": text(&certificate.merchant),
            "terminal_identification": text(&certificate.terminal),
            "acquirer": HEXLOWER.encode(&certificate.acquirer),
            "serial": HEXLOWER.encode(&certificate.serial),
            "public_key": HEXLOWER.encode(&certificate.public_key.bytes()),
            "created_at": self.created_at,
            "expires_at": certificate.expires_at(),
        })
    }
}

impl TerminalIdentity {
    /// The terminal's key on this machine, made if there is none.
    pub(crate) fn open(home: &Home, terminal: &str) -> anyhow::Result<Self> {
        let terminal: TerminalId = terminal.parse()?;
        // Two tills that start together would each make a key, and one of them lose the other's.
        let _lock = home.lock()?;
        let directory = home.path().join("terminals").join(terminal.to_string());
        let file = directory.join("key");
        let key = match fs::read(&file).map(Zeroizing::new) {
            Ok(bytes) => {
                let bytes: Option<&[u8; 32]> = bytes.as_slice().try_into().ok();
                let key = bytes.and_then(|bytes| MerchantPrivateKey::from_bytes(bytes).ok());
                key.with_context(|| {
                    format!("{} is damaged: remove it, and a new key is made", file.display())
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = MerchantPrivateKey::generate(&mut clock::random());
                write_private(&file, key.to_bytes().expose())?;
                key
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", file.display()));
            }
        };
        Ok(Self { terminal, directory, key })
    }

    /// The certificate of this key that lies here, good or not.
    pub(crate) fn stored(&self) -> Option<Certified> {
        let bytes = fs::read(self.directory.join("certificate.json")).ok()?;
        // One that cannot be read, or is over another key, is as good as none: a new one is asked for.
        let found = Certified::of(&serde_json::from_slice(&bytes).ok()?).ok()?;
        (found.certificate.public_key == self.key.public_key()).then_some(found)
    }

    /// Asks the platform for a certificate, with the terminal's own API key.
    pub(crate) fn renew(&self, client: &Client) -> anyhow::Result<Certified> {
        let public_key = self.key.public_key().bytes();
        let possession = self.key.sign(&terminal_key_possession(self.terminal, &public_key))?;
        let body = json!({
            "public_key": HEXLOWER.encode(&public_key),
            "possession": HEXLOWER.encode(&possession),
        });
        let answer = client.post(&format!("/v1/terminals/{}/certificate", self.terminal), &body)?;
        let certified = Certified::of(&answer)?;
        let file = self.directory.join("certificate.json");
        write_private(&file, &serde_json::to_vec_pretty(&answer)?)?;
        Ok(certified)
    }

    /// What the terminal proves itself with: a certificate that is good now, and the key.
    ///
    /// # Errors
    /// There is no certificate that is good, and the platform gives none.
    pub(crate) fn into_credential(
        self,
        client: &Client,
        without_proof: WithoutProof,
    ) -> anyhow::Result<MerchantCredential> {
        let certificate = self.current(client)?.certificate;
        Ok(MerchantCredential { certificate, signer: Arc::new(self.key), without_proof })
    }

    /// A certificate to show to phones now: the one here, or a new one when less than a quarter of its
    /// life is left. If the platform gives none, the one here is used to its end.
    ///
    /// # Errors
    /// There is none here that is good, and the platform gives none.
    pub(crate) fn current(&self, client: &Client) -> anyhow::Result<Certified> {
        let now = clock::now();
        match self.stored() {
            Some(stored) if !stored.is_nearly_over(now) => Ok(stored),
            stored => self
                .renew(client)
                .or_else(|error| stored.filter(|old| !old.has_ended(now)).ok_or(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Certified, TerminalIdentity};
    use crate::home::Home;
    use std::os::unix::fs::PermissionsExt as _;
    use tapfer_emv::certificate::CertificateDate;
    use tapfer_emv::merchant::{MerchantCertificate, MerchantPrivateKey};
    use tapfer_payment_types::{TerminalId, Timestamp};

    fn noon() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    /// A certificate from noon to noon.
    fn certified() -> Certified {
        let key = MerchantPrivateKey::from_bytes(&[7; 32]).unwrap();
        let certificate = MerchantCertificate {
            acquirer: [0; 6],
            merchant: [b'M'; 15],
            terminal: [b'T'; 8],
            expiry: CertificateDate { year: 2026, month: 11, day: 22 },
            hour: 11,
            minute: 59,
            serial: [1; 6],
            name: "Canteen".parse().unwrap(),
            public_key: key.public_key(),
            signature: [0; 64],
        };
        Certified { certificate, created_at: noon() }
    }

    #[test]
    fn renewed_in_the_last_quarter() {
        let after = |hours: i64| certified().is_nearly_over(noon().plus_seconds(hours * 3_600));
        assert_eq!([0, 17, 18].map(after), [false; 3]);
        assert!(certified().is_nearly_over(noon().plus_seconds(18 * 3_600 + 1)));
        assert_eq!([19, 23, 24, 48].map(after), [true; 4]);
        assert!(!certified().has_ended(noon().plus_seconds(86_399)));
        assert!(certified().has_ended(noon().plus_seconds(86_400)));
    }

    #[test]
    fn a_terminal_keeps_its_key_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(Some(directory.path().join("home")));
        let terminal = TerminalId::new(noon(), [1; 10]).to_string();
        let first = TerminalIdentity::open(&home, &terminal).unwrap();
        let again = TerminalIdentity::open(&home, &terminal).unwrap();
        assert_eq!(first.key.public_key(), again.key.public_key());
        let other = TerminalId::new(noon(), [2; 10]).to_string();
        let other = TerminalIdentity::open(&home, &other).unwrap();
        assert_ne!(first.key.public_key(), other.key.public_key());
        let file = first.directory.join("key");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(first.stored().is_none());
        std::fs::write(&file, b"short").unwrap();
        let damaged = TerminalIdentity::open(&home, &terminal).err().unwrap();
        assert!(damaged.to_string().contains("damaged"), "{damaged}");
    }
}
