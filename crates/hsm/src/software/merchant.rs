//! The merchant CA's key: ECDSA over P-256 with SHA-256, from aws-lc-rs (FIPS 186-5, nonces from its
//! own generator). What is signed is verified before it is given out, by another library.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::curve::{PrivateKey, PublicPoint};
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate, MerchantSignature};
use tapfer_payment_types::Secret;

use super::certify::too_long;
use super::randomness;
use crate::{
    DocumentPurpose, DocumentSignature, HsmError, MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS,
    MerchantCertificateRequest,
};

const FAILED: HsmError = HsmError::Internal { operation: "signing with the merchant CA's key" };

/// The key of the authority that certifies terminals.
pub(super) struct MerchantAuthority {
    pair: EcdsaKeyPair,
    pub(super) private: Secret<[u8; 32]>,
    pub(super) public: MerchantCaKey,
}

impl MerchantAuthority {
    /// Draws a key.
    pub(super) fn generate() -> Result<Self, HsmError> {
        let drawn = randomness::with_generator(PrivateKey::generate)?;
        Self::new(&drawn).ok_or(FAILED)
    }

    /// Takes a stored key. `None` if it is no scalar.
    pub(super) fn from_bytes(private: &[u8; 32]) -> Option<Self> {
        Self::new(&PrivateKey::from_bytes(private).ok()?)
    }

    fn new(private: &PrivateKey) -> Option<Self> {
        let public = private.public_point();
        let private = private.to_bytes();
        let uncompressed = [[0x04].as_slice(), &public].concat();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            private.expose(),
            &uncompressed,
        );
        let public = MerchantCaKey::from_bytes(&public).ok()?;
        Some(Self { pair: pair.ok()?, private, public })
    }

    pub(super) fn public_point(&self) -> Result<PublicPoint, HsmError> {
        PublicPoint::from_bytes(&self.public.bytes()).map_err(|_| FAILED)
    }

    fn sign(&self, message: &[u8]) -> Option<MerchantSignature> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        signature.as_ref().try_into().ok()
    }
}

/// Signs a terminal's certificate.
pub(super) fn certificate(
    authority: &MerchantAuthority,
    request: &MerchantCertificateRequest,
) -> Result<MerchantCertificate, HsmError> {
    let end = request.now.plus_seconds(MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS);
    if request.expires_at <= request.now || request.expires_at > end {
        return Err(too_long(MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS));
    }
    let calendar = request.expires_at.calendar();
    let mut certificate = MerchantCertificate {
        acquirer: request.acquirer,
        merchant: request.merchant,
        terminal: request.terminal,
        expiry: CertificateDate::of(request.expires_at),
        hour: calendar.hour,
        minute: calendar.minute,
        serial: request.serial,
        name: request.name.clone(),
        public_key: request.public_key,
        signature: [0; 64],
    };
    certificate.signature = authority.sign(&certificate.message()).ok_or(FAILED)?;
    let certificate = MerchantCertificate::parse(&certificate.encode())?;
    certificate.verify(&authority.public, request.now)?;
    Ok(certificate)
}

/// Signs a document of the platform's.
pub(super) fn document(
    signer: &MerchantAuthority,
    purpose: DocumentPurpose,
    document: &[u8],
) -> Result<DocumentSignature, HsmError> {
    let signature = signer.sign(&purpose.message(document)).ok_or(FAILED)?;
    let verifies = purpose.is_signed_by(&signer.public_point()?, document, &signature);
    if verifies { Ok(signature) } else { Err(FAILED) }
}
