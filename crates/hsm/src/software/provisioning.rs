//! Keys for a phone: derived, put into its payload, and sealed to it.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::{IssuerMasterKey, KeyClass, SessionKey, TokenKey};
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{
    HexBytes, HexSecret, LimitedUseKeyGrant, PROVISIONING_INFO, ProvisioningPayload, SealedPayload,
    SingleUseKeys,
};

use super::key_ring::IssuerKeySet;
use super::{person, wiped_json};
use crate::{
    HsmError, LimitedUseKeyTerms, MAXIMUM_LIMITED_USE_KEYS, MAXIMUM_SINGLE_USE_KEYS,
    PersonKeySubject, ProvisioningRequest, SingleUseKeyTerms,
};

/// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180).
pub(super) const HPKE: &dyn Hpke = DH_KEM_P256_HKDF_SHA256_AES_256;

/// Completes a payload with keys. `person_key_recipient` is the issuer's public key for PINs.
pub(super) fn seal(
    issuer_keys: &IssuerKeySet,
    master_key: &IssuerMasterKey,
    person_key_recipient: &[u8; 65],
    request: ProvisioningRequest<'_>,
) -> Result<SealedPayload, HsmError> {
    check_terms(&request)?;
    let recipient = recipient(request.recipient)?;
    let person_key = person_key(issuer_keys, &request)?;
    let token_key = master_key.token_key(request.token_pan, request.sequence);
    let payload = ProvisioningPayload {
        token: request.token,
        profile: request.profile,
        icc_certificate: request.icc_certificate,
        derivation_key_index: request.derivation_key_index,
        limited_use_keys: request.limited_use_keys.iter().map(|t| grant(&token_key, t)).collect(),
        single_use_keys: request
            .single_use_keys
            .iter()
            .map(|terms| row(&token_key, KeyClass::Unverified, terms, |key| *key.expose()))
            .collect(),
        verified_keys: person_key.map_or_else(Vec::new, |person_key| {
            let sealed = |key: &SessionKey| person_key.seal_session_key(key);
            let rows = request.verified_keys.iter();
            rows.map(|terms| row(&token_key, KeyClass::Verified, terms, sealed)).collect()
        }),
        person_key_recipient: Some(HexBytes(person_key_recipient.to_vec())),
        pin: request.pin,
        since_verified: request.since_verified,
        last_verified: request.last_verified,
        counter_heard: request.counter_heard,
        logged_in_at: request.logged_in_at,
        payments_since_login: request.payments_since_login,
        configuration: request.configuration,
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

/// The same key twice would count its payments twice, and two classes under one index could be taken for
/// each other.
fn check_terms(request: &ProvisioningRequest<'_>) -> Result<(), HsmError> {
    let limited = request.limited_use_keys;
    let rows = || request.single_use_keys.iter().chain(request.verified_keys);
    let all = limited.iter().map(|term| term.key_index).chain(rows().map(|row| row.key_index));
    let mut indices: Vec<_> = all.collect();
    let count = indices.len();
    indices.sort_unstable();
    indices.dedup();
    let sane = (1..=MAXIMUM_LIMITED_USE_KEYS).contains(&count)
        && indices.len() == count
        && limited.iter().all(|term| term.maximum_payments > 0 && term.maximum_total_minor >= 0);
    if !sane {
        return Err(HsmError::LimitedUseKeys);
    }
    let rows_are_sane = rows().all(|row| {
        let last = row.first_counter.checked_add(row.count.saturating_sub(1));
        (1..=MAXIMUM_SINGLE_USE_KEYS).contains(&row.count) && last.is_some()
    });
    let has_person_key = request.verified_keys.is_empty() || request.person_key.is_some();
    if rows_are_sane && has_person_key { Ok(()) } else { Err(HsmError::SingleUseKeys) }
}

/// The person's key, opened for as long as the payload is made.
fn person_key(
    issuer_keys: &IssuerKeySet,
    request: &ProvisioningRequest<'_>,
) -> Result<Option<PersonKey>, HsmError> {
    let Some(in_use) = request.person_key else { return Ok(None) };
    let (issuer, token) = (request.issuer, request.token);
    let subject = PersonKeySubject { issuer, token, generation: in_use.generation };
    person::unseal(issuer_keys, subject, in_use.key).map(Some)
}

/// One session key for each counter of a row, as `sealed` lets it out.
fn row(
    token_key: &TokenKey,
    class: KeyClass,
    terms: &SingleUseKeyTerms,
    sealed: impl Fn(&SessionKey) -> [u8; 16],
) -> SingleUseKeys {
    let key = token_key.limited_use_key(class, terms.key_index);
    let last = terms.first_counter.saturating_add(terms.count.saturating_sub(1));
    let block = |counter| HexSecret::new(sealed(&key.session_key(counter)).to_vec());
    SingleUseKeys {
        key_index: terms.key_index.to_string(),
        expires_at: terms.expires_at,
        first_counter: terms.first_counter,
        blocks: (terms.first_counter..=last).map(block).collect(),
    }
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
