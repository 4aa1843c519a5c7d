//! Which certificates of clients a handshake lets in.

use core::time::Duration;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::clock::SharedClock;

/// Lets in whom an authority of clients has certified, and who shows no certificate. The authorities change with the
/// catalogue of keys.
#[derive(Debug)]
pub(crate) struct TrustedClients(RwLock<Arc<dyn ClientCertVerifier>>);

impl TrustedClients {
    /// Trusts these authorities, X.509 in DER.
    ///
    /// # Errors
    /// There is none, or one is no certificate.
    pub(crate) fn new(authorities: Vec<Vec<u8>>) -> Result<Self, VerifierBuilderError> {
        Ok(Self(RwLock::new(verifier(authorities)?)))
    }

    /// Trusts these from now on, and no others.
    ///
    /// # Errors
    /// As [`TrustedClients::new`]; then those of before are trusted.
    pub(crate) fn replace(&self, authorities: Vec<Vec<u8>>) -> Result<(), VerifierBuilderError> {
        let newer = verifier(authorities)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = newer;
        Ok(())
    }

    fn now(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn verifier(
    authorities: Vec<Vec<u8>>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    // What is no certificate is left out; without any the builder refuses.
    roots.add_parsable_certificates(authorities.into_iter().map(CertificateDer::from));
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
}

impl ClientCertVerifier for TrustedClients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client has one certificate for this server, and strangers need not hear the realm's name.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.now().verify_client_cert(end_entity, intermediates, now);
        verified.inspect_err(|error| {
            tracing::warn!(
                target: "tapfer::security", event = "client_certificate_refused", cause = %error,
                "a client's certificate was refused"
            );
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.now().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.now().supported_verify_schemes()
    }
}

/// The realm's clock, for certificates in a handshake.
pub(crate) struct RealmTime(pub(crate) SharedClock);

impl fmt::Debug for RealmTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RealmTime")
    }
}

impl TimeProvider for RealmTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.now().unix_millis()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}
