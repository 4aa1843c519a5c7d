//! Keys for a phone: derived, put into its payload, and sealed to it.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256;
use rustls::crypto::hpke::{Hpke, HpkePublicKey};
use tapfer_emv::curve::PublicPoint;
use tapfer_emv::keys::{KeyClass, LimitedUseKey, SessionKey};
use tapfer_emv::person_key::PersonKey;
use tapfer_payment_types::messages::{
    HexBytes, HexSecret, LimitedUseKeyGrant, PROVISIONING_INFO, ProvisioningPayload, SealedPayload,
    SingleUseKeys,
};

use super::shelf::HeldKey;
use super::{VaultedHsm, hpke};
use crate::catalogue::{KeyOwner, KeyPurpose};
use crate::vault::Vault;
use crate::{
    HsmError, LimitedUseKeyTerms, MAXIMUM_LIMITED_USE_KEYS, MAXIMUM_SINGLE_USE_KEYS,
    PersonKeySubject, ProvisioningRequest, SingleUseKeyTerms, wiped_json,
};

/// DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180).
pub(crate) const HPKE: &dyn Hpke = DH_KEM_P256_HKDF_SHA256_AES_256;

impl<V: Vault> VaultedHsm<V> {
    /// Completes a payload with keys.
    pub(super) fn provision(
        &self,
        master: &HeldKey<V::Key>,
        request: ProvisioningRequest<'_>,
    ) -> Result<SealedPayload, HsmError> {
        check_terms(&request)?;
        let recipient = recipient(request.recipient)?;
        let person_key = self.person_key(&request)?;
        let own = self.active(KeyOwner::Issuer(request.issuer), KeyPurpose::PersonKeys)?;
        let person_key_recipient = hpke::uncompressed(&self.public_point(&own)?);
        let mut keys = self.derived_keys(master, &request)?.into_iter();
        // In the order in which they were asked for: each list takes its own from the front. The terms
        // stand on the left, because an iterator that has ended must not take a key along.
        let limited = request.limited_use_keys.iter().zip(keys.by_ref());
        let limited_use_keys = limited.map(|(terms, key)| grant(terms, &key)).collect();
        let single_use = request.single_use_keys.iter().zip(keys.by_ref());
        let single_use_keys =
            single_use.map(|(terms, key)| row(&key, terms, |key| *key.expose())).collect();
        let verified_keys = person_key.map_or_else(Vec::new, |person_key| {
            let sealed = |key: &SessionKey| person_key.seal_session_key(key);
            let verified = request.verified_keys.iter().zip(keys);
            verified.map(|(terms, key)| row(&key, terms, sealed)).collect()
        });
        let payload = ProvisioningPayload {
            token: request.token,
            profile: request.profile,
            icc_certificate: request.icc_certificate,
            derivation_key_index: request.derivation_key_index,
            limited_use_keys,
            single_use_keys,
            verified_keys,
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

    /// The limited-use keys of a request: those that the phone gets, then those that its rows of session
    /// keys are derived from.
    fn derived_keys(
        &self,
        master: &HeldKey<V::Key>,
        request: &ProvisioningRequest<'_>,
    ) -> Result<Vec<LimitedUseKey>, HsmError> {
        let limited = request.limited_use_keys.iter().map(|terms| terms.key_index);
        let single_use = request.single_use_keys.iter().map(|terms| terms.key_index);
        let unverified = limited.chain(single_use).map(|index| (KeyClass::Unverified, index));
        let verified = request.verified_keys.iter();
        let verified = verified.map(|terms| (KeyClass::Verified, terms.key_index));
        let wanted: Vec<_> = unverified.chain(verified).collect();
        let (pan, sequence) = (request.token_pan, request.sequence);
        let master = self.ready(master)?;
        let keys = self.vault().limited_use_keys(master, pan, sequence, &wanted)?;
        let faulty = HsmError::Internal { operation: "deriving limited-use keys" };
        if keys.len() == wanted.len() { Ok(keys) } else { Err(faulty) }
    }

    /// The person's key, opened for as long as the payload is made.
    fn person_key(&self, request: &ProvisioningRequest<'_>) -> Result<Option<PersonKey>, HsmError> {
        let Some(in_use) = request.person_key else { return Ok(None) };
        let (issuer, token) = (request.issuer, request.token);
        let subject = PersonKeySubject { issuer, token, generation: in_use.generation };
        self.unseal_person_key(subject, in_use.key).map(Some)
    }
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

/// One session key for each counter of a row, as `sealed` lets it out.
fn row(
    key: &LimitedUseKey,
    terms: &SingleUseKeyTerms,
    sealed: impl Fn(&SessionKey) -> [u8; 16],
) -> SingleUseKeys {
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

fn grant(terms: &LimitedUseKeyTerms, key: &LimitedUseKey) -> LimitedUseKeyGrant {
    LimitedUseKeyGrant {
        key_index: terms.key_index.to_string(),
        key: HexSecret::new(key.expose().to_vec()),
        expires_at: terms.expires_at,
        maximum_payments: terms.maximum_payments,
        maximum_total_minor: terms.maximum_total_minor,
    }
}
