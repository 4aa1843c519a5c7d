//! Limited-use keys for a phone: derived, put into its payload, and sealed to it.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, TokenKey};
use tapfer_payment_types::messages::{
    HexBytes, HexSecret, LimitedUseKeyGrant, PROVISIONING_INFO, ProvisioningPayload, SealedPayload,
};

use super::wiped_json;
use crate::{HsmError, LimitedUseKeyTerms, MAXIMUM_LIMITED_USE_KEYS, ProvisioningRequest};

/// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180).
pub(super) const HPKE: &dyn Hpke = DH_KEM_P256_HKDF_SHA256_AES_256;

pub(super) fn seal(
    master_key: &IssuerMasterKey,
    request: ProvisioningRequest<'_>,
) -> Result<SealedPayload, HsmError> {
    check_terms(request.limited_use_keys)?;
    let recipient = recipient(request.recipient)?;
    let token_key = master_key.token_key(request.token_pan, request.sequence);
    let payload = ProvisioningPayload {
        token: request.token,
        profile: request.profile,
        icc_certificate: request.icc_certificate,
        derivation_key_index: request.derivation_key_index,
        limited_use_keys: request.limited_use_keys.iter().map(|t| grant(&token_key, t)).collect(),
        single_use_keys: Vec::new(),
        verified_keys: Vec::new(),
        person_key_recipient: None,
        pin: None,
        since_verified: None,
        last_verified: None,
        logged_in_at: None,
        policy: request.policy,
        merchant_trust: request.merchant_trust,
    };
    let plain = wiped_json::encode(&payload)?;
    let (encapsulated, ciphertext) = HPKE
        .seal(PROVISIONING_INFO, request.token.to_string().as_bytes(), &plain, &recipient)
        .map_err(|_| HsmError::Internal { operation: "sealing a provisioning payload" })?;
    Ok(SealedPayload {
        encapsulated_key: HexBytes(encapsulated.0),
        ciphertext: HexBytes(ciphertext),
    })
}

/// The same key twice would count its payments twice.
fn check_terms(terms: &[LimitedUseKeyTerms]) -> Result<(), HsmError> {
    let mut indices: Vec<_> = terms.iter().map(|term| term.key_index).collect();
    indices.sort_unstable();
    indices.dedup();
    let sane = (1..=MAXIMUM_LIMITED_USE_KEYS).contains(&terms.len())
        && indices.len() == terms.len()
        && terms.iter().all(|term| term.maximum_payments > 0 && term.maximum_total_minor >= 0);
    if sane { Ok(()) } else { Err(HsmError::LimitedUseKeys) }
}

fn recipient(point: &[u8; 65]) -> Result<HpkePublicKey, HsmError> {
    let [0x04, coordinates @ ..] = point else { return Err(HsmError::Recipient) };
    PublicPoint::from_bytes(coordinates).map_err(|_| HsmError::Recipient)?;
    Ok(HpkePublicKey(point.to_vec()))
}

fn grant(token_key: &TokenKey, terms: &LimitedUseKeyTerms) -> LimitedUseKeyGrant {
    let key = token_key.limited_use_key(KeyClass::Unverified, terms.key_index);
    LimitedUseKeyGrant {
        key_index: terms.key_index.to_string(),
        key: HexSecret::new(key.expose().to_vec()),
        expires_at: terms.expires_at,
        maximum_payments: terms.maximum_payments,
        maximum_total_minor: terms.maximum_total_minor,
    }
}
