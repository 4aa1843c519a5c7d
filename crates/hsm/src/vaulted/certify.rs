//! Signing of certificates. Whatever is signed is verified before it is given out: a terminal would
//! refuse what does not verify, and a fault while signing must not leave the module.

use tapfer_emv::certificate::{CaPublicKey, CertificateDate, IccCertificate, IssuerCertificate};
use tapfer_emv::curve::PublicX;
use tapfer_emv::ecsdsa;

use super::VaultedHsm;
use super::shelf::HeldKey;
use crate::vault::Vault;
use crate::{
    HsmError, IccCertificateRequest, IssuerCertificateRequest,
    MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS, MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS, randomness,
};

const SECONDS_A_DAY: i64 = 86_400;
/// Stands where the signature comes.
const UNSIGNED: [u8; 64] = [0; 64];

impl<V: Vault> VaultedHsm<V> {
    pub(super) fn certify_issuer(
        &self,
        authority: &HeldKey<V::Key>,
        public_key: PublicX,
        request: &IssuerCertificateRequest,
    ) -> Result<IssuerCertificate, HsmError> {
        let first = CertificateDate::of(request.now);
        let last =
            CertificateDate::of(request.now.plus_seconds(MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS));
        if !(first..=last).contains(&request.expiry) {
            return Err(too_long(MAXIMUM_ISSUER_CERTIFICATE_LIFE_SECONDS));
        }
        let mut certificate = IssuerCertificate {
            issuer_identifier: request.issuer_identifier,
            expiry: request.expiry,
            serial: request.serial,
            rid: request.rid,
            ca_index: request.ca_index,
            public_key,
            signature: UNSIGNED,
        };
        certificate.signature = self.sign_schnorr(authority, &certificate.message())?;
        let ca = CaPublicKey {
            rid: request.rid,
            index: request.ca_index,
            key: self.public_x(authority)?,
        };
        let certificate = IssuerCertificate::parse(&certificate.encode())?;
        certificate.verify(&ca, request.now)?;
        Ok(certificate)
    }

    pub(super) fn certify_icc(
        &self,
        issuer: &HeldKey<V::Key>,
        request: &IccCertificateRequest,
    ) -> Result<IccCertificate, HsmError> {
        let end = request.now.plus_seconds(MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS);
        if request.expires_at <= request.now || request.expires_at > end {
            return Err(too_long(MAXIMUM_ICC_CERTIFICATE_LIFE_SECONDS));
        }
        let calendar = request.expires_at.calendar();
        let mut certificate = IccCertificate {
            expiry: CertificateDate::of(request.expires_at),
            hour: calendar.hour,
            minute: calendar.minute,
            serial: request.serial,
            sda_hash: request.sda_hash,
            public_key: request.public_key,
            signature: UNSIGNED,
        };
        certificate.signature = self.sign_schnorr(issuer, &certificate.message())?;
        let certificate = IccCertificate::parse(&certificate.encode())?;
        certificate.verify(&self.public_x(issuer)?, &request.sda_hash, request.now)?;
        Ok(certificate)
    }

    fn sign_schnorr(
        &self,
        key: &HeldKey<V::Key>,
        message: &[u8],
    ) -> Result<ecsdsa::Signature, HsmError> {
        let private = self.signing_scalar(key)?;
        randomness::with_generator(|rng| ecsdsa::sign(&private, message, rng))
    }
}

pub(super) fn too_long(maximum_seconds: i64) -> HsmError {
    HsmError::CertificateLife { maximum_days: maximum_seconds.saturating_div(SECONDS_A_DAY) }
}
