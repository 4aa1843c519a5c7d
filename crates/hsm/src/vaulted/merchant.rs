//! Terminals' certificates: ECDSA over P-256 with SHA-256, made by the vault. What is signed is verified
//! before it is given out, by another library.

use tapfer_emv::certificate::CertificateDate;
use tapfer_emv::merchant::{MerchantCaKey, MerchantCertificate};

use super::VaultedHsm;
use super::certify::too_long;
use super::shelf::HeldKey;
use crate::vault::Vault;
use crate::{HsmError, MAXIMUM_MERCHANT_CERTIFICATE_LIFE_SECONDS, MerchantCertificateRequest};

impl<V: Vault> VaultedHsm<V> {
    /// Signs a terminal's certificate.
    pub(super) fn certify_terminal(
        &self,
        authority: &HeldKey<V::Key>,
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
        certificate.signature =
            self.vault().sign(self.ready(authority)?, &certificate.message())?;
        let certificate = MerchantCertificate::parse(&certificate.encode())?;
        let ca = MerchantCaKey::from(self.public_point(authority)?);
        certificate.verify(&ca, request.now)?;
        Ok(certificate)
    }
}
