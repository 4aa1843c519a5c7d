//! TLS certificates of terminals and phones: short-lived, over a key that never leaves them, and good for as long as
//! the API key is that they stand for (docs/adr/0022-access.md).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use data_encoding::BASE64;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use tapfer_emv::curve::PublicPoint;
use tapfer_hsm::catalogue::{KeyOwner, KeyPurpose};
use tapfer_hsm::{Client, ClientCertificateRequest, HsmError, PaymentHsm};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::HexBytes;
use tapfer_payments::access::{ApiKey, ClientCertificate, Principal};
use tapfer_storage::{Storage, StoredResponse};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use crate::api;
use crate::api::client_certificates::CreateClientCertificate;
use crate::client_certificate::{ClientIdentity, TrustedClients};
use crate::service::answer::{Answered, created};
use crate::service::caller::Caller;
use crate::service::issuer_keys::note_new_keys;
use crate::service::repetition::{Repetition, RepetitionSecret};
use crate::service::{Service, ServiceError};

/// Characters of base64 in a line of PEM (RFC 7468, 2).
const PEM_LINE: usize = 64;

fn certified(certificate: &ClientCertificate) -> StoredResponse {
    created(&api::client_certificates::ClientCertificate {
        owner: certificate.owner,
        api_key: certificate.api_key,
        certificate: pem(&certificate.certificate),
        serial: HexBytes(certificate.serial.clone()),
        created_at: certificate.created_at,
        expires_at: certificate.expires_at,
    })
}

const UNREADABLE: ServiceError = ServiceError::Damaged("the authority of clients");

/// What the keys by which callers are known give: made if there are none.
///
/// # Errors
/// [`ServiceError`] of security module or store.
pub(super) fn access_keys(
    hsm: &dyn PaymentHsm,
    storage: &dyn Storage,
    now: Timestamp,
) -> Result<(RepetitionSecret, TrustedClients), ServiceError> {
    let secret = match hsm.repetition_secret() {
        Err(HsmError::UnknownAccessKeys) => {
            hsm.create_access_keys(now)?;
            note_new_keys(storage, KeyOwner::Platform, &KeyPurpose::OF_ACCESS, now)?;
            hsm.repetition_secret()?
        }
        found => found?,
    };
    let trusted = TrustedClients::new(hsm.client_authorities()?).map_err(|_| UNREADABLE)?;
    Ok((RepetitionSecret::new(&secret)?, trusted))
}

impl Service {
    /// Handshakes trust the authorities that the catalogue has now.
    ///
    /// # Errors
    /// [`ServiceError::Hsm`]; those of before are trusted then.
    pub(super) fn follow_client_authorities(&self) -> Result<(), ServiceError> {
        let authorities = self.ask_hsm("client_authorities", |hsm| hsm.client_authorities())?;
        self.trusted_clients.replace(authorities).map_err(|_| UNREADABLE)
    }

    /// Certifies the TLS key of the terminal or phone that asks.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub(crate) fn certify_client(
        &self,
        caller: &Caller,
        repetition: &Repetition,
        request: &CreateClientCertificate,
    ) -> Result<Answered, ServiceError> {
        let client = match caller.principal {
            Principal::Terminal(id) => Client::Terminal(id),
            Principal::Device(id) => Client::Device(id),
            _ => return Err(caller.refuse("only terminals and phones have TLS certificates")),
        };
        self.once(caller, repetition, certified, |write| {
            let request = ClientCertificateRequest {
                client,
                api_key: caller.key,
                public_key: proven_key(&request.certificate_request)?,
                expires_at: write.now.plus_seconds(self.client_certificates.life_seconds),
                now: write.now,
            };
            let certificate = self
                .ask_hsm("sign_client_certificate", |hsm| hsm.sign_client_certificate(&request))?;
            let certificate = read_back(certificate, caller, write.now)?;
            Ok(self.storage.certify_client(certificate, write)?)
        })
    }

    /// The API key that a client's certificate stands for, if both may be used now.
    ///
    /// # Errors
    /// [`ServiceError`] of the store; of the security module, if it has to say which keys sign now.
    pub(crate) fn find_api_key_of(
        &self,
        client: &ClientIdentity,
    ) -> Result<Option<ApiKey>, ServiceError> {
        // Handshakes look at it too; a connection may live longer than its certificate.
        if client.has_ended(self.now()) {
            return Ok(None);
        }
        let key = self.api_key_in_force(client.api_key)?;
        Ok(key.filter(|key| key.principal == client.principal))
    }

    /// The same without waiting for anything, if it was found before; `None` says nothing.
    pub(crate) fn known_api_key_of(&self, client: &ClientIdentity) -> Option<ApiKey> {
        if client.has_ended(self.now()) {
            return None;
        }
        let key = self.storage.known_api_key_of_id(client.api_key)?;
        let is_its_own = key.revoked_at.is_none() && key.principal == client.principal;
        (is_its_own && self.is_known_to_be_signed(&key)).then_some(key)
    }
}

/// What the security module has signed, with what stands in it.
fn read_back(
    certificate: Vec<u8>,
    caller: &Caller,
    now: Timestamp,
) -> Result<ClientCertificate, ServiceError> {
    const DAMAGED: ServiceError = ServiceError::Damaged("a client's new certificate");
    let identity = ClientIdentity::of(&certificate).ok_or(DAMAGED)?;
    if (identity.principal, identity.api_key) != (caller.principal, caller.key) {
        return Err(DAMAGED);
    }
    let (_, read) = X509Certificate::from_der(&certificate).map_err(|_| DAMAGED)?;
    Ok(ClientCertificate {
        owner: identity.principal,
        api_key: identity.api_key,
        serial: read.raw_serial().to_vec(),
        created_at: now,
        expires_at: identity.expires_at,
        certificate,
    })
}

/// The key that is to be certified. Whoever asks must hold its private half: else a certificate over somebody else's key
/// would bind that one's connections to this client.
fn proven_key(pem: &str) -> Result<PublicPoint, ServiceError> {
    let invalid = || {
        let detail = "certificate_request is not a PKCS#10 request in PEM over a key on P-256, signed by that key with ECDSA \
                      and SHA-256; make one with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        ServiceError::Invalid(detail.to_owned())
    };
    let der =
        CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| invalid())?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| invalid())?;
    let info = &request.certification_request_info;
    let key: &[u8] = &info.subject_pki.subject_public_key.data;
    let [0x04, coordinates @ ..] = key else { return Err(invalid()) };
    let point = coordinates.try_into().ok().and_then(|point| PublicPoint::from_bytes(point).ok());
    let signed = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
        .verify(info.raw, &request.signature_value.data);
    match (point, signed) {
        (Some(point), Ok(())) if rest.is_empty() => Ok(point),
        _ => Err(invalid()),
    }
}

/// Textual encoding of a certificate (RFC 7468, 5).
fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(PEM_LINE).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::{pem, proven_key};
    use data_encoding::BASE64;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    fn request(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn only_the_holder_of_the_key_is_certified() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let good = request(&key);
        assert_eq!(proven_key(&good).unwrap().bytes(), key.public_key_raw()[1..]);

        let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(proven_key(&request(&other)).is_err(), "another curve");
        let der = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        for place in 0..der.len() {
            let mut changed = der.clone();
            changed[place] ^= 1;
            let text = pem(&changed).replace(" CERTIFICATE-", " CERTIFICATE REQUEST-");
            // The algorithm's name is not looked at: there is one that is taken.
            let taken = proven_key(&text);
            assert!(taken.is_err() || taken.unwrap().bytes() == key.public_key_raw()[1..]);
        }
    }

    #[test]
    fn attack_key_of_somebody_else_certified() {
        let [own, others] = [0, 1].map(|_| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let der = CertificateParams::default().serialize_request(&own).unwrap().der().to_vec();
        let place = der.windows(65).position(|part| part == own.public_key_raw()).unwrap();
        let mut stolen = der;
        stolen[place..place + 65].copy_from_slice(others.public_key_raw());
        let text = pem(&stolen).replace(" CERTIFICATE-", " CERTIFICATE REQUEST-");
        assert!(proven_key(&text).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(proven_key(&text).is_err());
            let base64 = BASE64.encode(&bytes);
            let framed =
                format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n");
            prop_assert!(proven_key(&framed).is_err());
        }

        #[test]
        fn what_is_written_as_pem_is_read_back(der in proptest::collection::vec(any::<u8>(), 1..700)) {
            let read = CertificateDer::from_pem_slice(pem(&der).as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der.as_slice());
        }
    }
}
