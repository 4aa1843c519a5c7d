//! Clients that prove by a TLS certificate who they are: terminals and phones (docs/adr/0022-access.md).
//!
//! The authority's key lies in the security module. A handshake proves that whoever connects holds the key that was
//! certified; which client that is, and until when, stands in the certificate and is read once for each connection.
//! Whether its API key is still in force is asked with every request, so that revoking it ends open connections too.

mod introduction;
mod trusted;

use tapfer_payment_types::{ApiKeyId, Timestamp};
use tapfer_payments::access::Principal;
use x509_parser::oid_registry::OID_X509_SERIALNUMBER;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

pub(crate) use self::introduction::{Introduced, Introduction};
pub(crate) use self::trusted::{RealmTime, TrustedClients};

const DAY: i64 = 86_400;

/// How terminals and phones have to prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Their API keys serve for nothing but to get a certificate.
    pub are_required: bool,
    /// A certificate lives so long, in seconds: ten minutes to seven days.
    pub life_seconds: i64,
}

impl Default for ClientCertificates {
    /// A day, and API keys serve too.
    fn default() -> Self {
        Self { are_required: false, life_seconds: DAY }
    }
}

/// What a client's certificate says, once the handshake has shown that it is genuine and the client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    /// A terminal or a phone.
    pub(crate) principal: Principal,
    /// The API key that it stands for.
    pub(crate) api_key: ApiKeyId,
    /// The end of the certificate.
    pub(crate) expires_at: Timestamp,
}

impl ClientIdentity {
    /// Whether its certificate is over.
    pub(crate) fn has_ended(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Reads a certificate (X.509 in DER). `None` if it names no terminal and no phone.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let principal = only_text(subject.iter_common_name())?.parse().ok()?;
        let api_key = only_text(subject.iter_by_oid(&OID_X509_SERIALNUMBER))?.parse().ok()?;
        let end = certificate.validity().not_after.timestamp().checked_mul(1_000)?;
        let is_machine = matches!(principal, Principal::Terminal(_) | Principal::Device(_));
        is_machine.then(|| Self {
            principal,
            api_key,
            expires_at: Timestamp::from_unix_millis(end),
        })
    }
}

/// The text of an attribute that occurs once: which of two counts must not depend on who reads them.
fn only_text<'a>(
    mut found: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    let first = found.next()?.as_str().ok()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::ClientIdentity;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use tapfer_payment_types::{ApiKeyId, IssuerId, TerminalId, Timestamp};
    use tapfer_payments::access::Principal;

    const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);

    fn certificate(names: &[(DnType, String)]) -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        names.iter().for_each(|(kind, text)| subject.push(kind.clone(), text.clone()));
        parameters.distinguished_name = subject;
        let key = KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    fn api_key() -> (DnType, String) {
        let serial_number = DnType::CustomDnType(vec![2, 5, 4, 5]);
        (serial_number, ApiKeyId::new(NOW, [3; 10]).to_string())
    }

    fn named(name: String) -> (DnType, String) {
        (DnType::CommonName, name)
    }

    #[test]
    fn a_terminals_certificate_names_it_and_its_api_key() {
        let terminal = TerminalId::new(NOW, [1; 10]);
        let read = ClientIdentity::of(&certificate(&[named(terminal.to_string()), api_key()]));
        let read = read.unwrap();
        assert_eq!(read.principal, Principal::Terminal(terminal));
        assert_eq!(read.api_key.to_string(), api_key().1);
        assert_eq!(read.expires_at.to_string(), "4096-01-01T00:00:00.000Z");
    }

    #[test]
    fn nobody_else_is_read_out_of_one() {
        let terminal = TerminalId::new(NOW, [1; 10]).to_string();
        let others = ["operator".to_owned(), IssuerId::new(NOW, [2; 10]).to_string()];
        for name in others.into_iter().chain([String::new(), format!("{terminal} ")]) {
            assert_eq!(ClientIdentity::of(&certificate(&[named(name), api_key()])), None);
        }
        assert_eq!(ClientIdentity::of(&certificate(&[named(terminal)])), None);
        assert_eq!(ClientIdentity::of(&certificate(&[api_key()])), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(ClientIdentity::of(&bytes), None);
        }
    }
}
