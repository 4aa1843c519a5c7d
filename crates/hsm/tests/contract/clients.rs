use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use tapfer_emv::merchant::MerchantPrivateKey;
use tapfer_hsm::{
    Client, ClientCertificateRequest, HsmError, MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS, PaymentHsm,
};
use tapfer_payment_types::{ApiKeyId, DeviceId, TerminalId, Timestamp};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::now;

fn request(client: Client, expires_at: Timestamp) -> ClientCertificateRequest {
    ClientCertificateRequest {
        client,
        api_key: ApiKeyId::new(now(), [9; 10]),
        public_key: MerchantPrivateKey::from_bytes(&[0x37; 32]).unwrap().public_key(),
        expires_at,
        now: now(),
    }
}

pub fn in_a_day() -> ClientCertificateRequest {
    let terminal = Client::Terminal(TerminalId::new(now(), [1; 10]));
    request(terminal, now().plus_seconds(86_400))
}

/// Whether a TLS server that trusts these authorities lets the certificate in, so many seconds from now.
pub fn is_let_in(authorities: &[Vec<u8>], certificate: &[u8], seconds: i64) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.clone())).unwrap();
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let moment = u64::try_from(now().plus_seconds(seconds).unix_millis()).unwrap();
    let moment = UnixTime::since_unix_epoch(core::time::Duration::from_millis(moment));
    let certificate = CertificateDer::from(certificate.to_vec());
    verifier.build().unwrap().verify_client_cert(&certificate, &[], moment).is_ok()
}

pub fn access_keys_are_made_once(hsm: &impl PaymentHsm) {
    assert!(matches!(hsm.client_authorities(), Err(HsmError::UnknownAccessKeys)));
    assert!(matches!(hsm.repetition_secret(), Err(HsmError::UnknownAccessKeys)));
    let signed = hsm.sign_client_certificate(&in_a_day());
    assert!(matches!(signed, Err(HsmError::UnknownAccessKeys)));
    hsm.create_access_keys(now()).unwrap();
    let secret = *hsm.repetition_secret().unwrap().expose();
    assert!(matches!(hsm.create_access_keys(now()), Err(HsmError::AccessKeysExist)));
    assert_eq!(*hsm.repetition_secret().unwrap().expose(), secret);
}

/// A TLS server lets in whom the authority has certified, for as long as the certificate says, and nobody else.
pub fn certified_client_is_known(hsm: &impl PaymentHsm) {
    hsm.create_access_keys(now()).unwrap();
    let authorities = hsm.client_authorities().unwrap();
    let device = Client::Device(DeviceId::new(now(), [2; 10]));
    let device = request(device, now().plus_seconds(86_400));
    for (request, name) in [(in_a_day(), "term_"), (device, "dev_")] {
        let certificate = hsm.sign_client_certificate(&request).unwrap();
        assert!(is_let_in(&authorities, &certificate, 0));
        assert!(is_let_in(&authorities, &certificate, 86_399));
        assert!(!is_let_in(&authorities, &certificate, 86_401), "it ends");
        assert!(!is_let_in(&authorities, &certificate, -301), "it has begun");
        let (_, read) = X509Certificate::from_der(&certificate).unwrap();
        let subject = read.subject();
        let text = |found: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            found.as_str().unwrap().to_owned()
        };
        let common_name = subject.iter_common_name().next().map(text).unwrap();
        assert!(common_name.starts_with(name), "{common_name}");
        let serial_number = x509_parser::oid_registry::OID_X509_SERIALNUMBER;
        let api_key = subject.iter_by_oid(&serial_number).next().map(text).unwrap();
        assert_eq!(api_key, request.api_key.to_string());
        let realm = subject.iter_organization().next().map(text).unwrap();
        assert_eq!(realm, hsm.describe().realm_id.to_string());
        assert!(!read.is_ca());
    }
    let stranger = rcgen::KeyPair::generate().unwrap();
    let forged = rcgen::CertificateParams::default().self_signed(&stranger).unwrap();
    assert!(!is_let_in(&authorities, forged.der(), 0));
}

pub fn client_certificate_ends_in_bounds(hsm: &impl PaymentHsm) {
    hsm.create_access_keys(now()).unwrap();
    let last = now().plus_seconds(MAXIMUM_CLIENT_CERTIFICATE_LIFE_SECONDS);
    let until = |end| ClientCertificateRequest { expires_at: end, ..in_a_day() };
    for good in [now().plus_millis(1), last] {
        hsm.sign_client_certificate(&until(good)).unwrap();
    }
    for bad in [now(), now().plus_millis(-1), last.plus_millis(1)] {
        let refused = hsm.sign_client_certificate(&until(bad));
        assert!(matches!(refused, Err(HsmError::CertificateLife { maximum_days: 7 })));
    }
}
