//! One request that may come twice: its idempotency claim, and the seal on answers that hold secrets.
//!
//! Fingerprint and seal are keyed by a secret that the security module derives and the platform does not
//! keep: a stolen database neither tells what was asked for (a plain hash over a request with a card
//! number in it could be searched through, PCI DSS 3.5.1.1), nor gives an API key that was shown once. Each
//! API key has keys of its own, the same however its owner proves who it is: a till that asked with its API key
//! is told the truth when it asks again with its certificate.
//!
//! A key derived from the same secret vouches for every answer that is stored ([`AnswerKey`]): whoever writes the database, also with
//! the platform's own login, gives no answer to anybody who asks again.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use tapfer_payment_types::{ApiKeyId, Secret};
use tapfer_storage::{AnswerKey, IdempotencyClaim, IdempotencyKey, StoredResponse};

use crate::service::ServiceError;

const SALT: &[u8] = b"tapfer-idempotency-2";
const FINGERPRINT: &[u8] = b"fingerprint";
const ANSWER: &[u8] = b"answer";
const NUMBERS: &[u8] = b"numbers";
/// Longer than an API key's id with either of the others.
const VOUCHING: &[u8] = b"what vouches for all stored answers";
const OF_JOURNAL: &[u8] = b"what vouches for what a node decided alone";

/// What keys of fingerprints and answers are derived from.
#[derive(Clone)]
pub(crate) struct RepetitionSecret {
    material: Arc<Prk>,
    /// What vouches for stored answers, of all callers.
    answers: AnswerKey,
}

impl RepetitionSecret {
    /// From the security module's.
    ///
    /// # Errors
    /// [`ServiceError::Damaged`] if the cryptographic library fails.
    pub(crate) fn new(secret: &Secret<[u8; 32]>) -> Result<Self, ServiceError> {
        let material = Salt::new(HKDF_SHA256, SALT).extract(secret.expose());
        let answers = AnswerKey::new(&expand(&material, &[VOUCHING])?);
        Ok(Self { material: Arc::new(material), answers })
    }

    /// What vouches for what this platform has written down beside its database.
    pub(crate) fn of_journal(&self) -> Result<AnswerKey, ServiceError> {
        Ok(AnswerKey::new(&expand(&self.material, &[OF_JOURNAL])?))
    }

    /// The length of an id is always the same, so that the parts do not run together.
    fn derive(&self, api_key: ApiKeyId, info: &[u8]) -> Result<Secret<[u8; 32]>, ServiceError> {
        expand(&self.material, &[&api_key.to_bits().to_be_bytes(), info])
    }
}

fn expand(material: &Prk, info: &[&[u8]]) -> Result<Secret<[u8; 32]>, ServiceError> {
    let mut key = Secret::new([0_u8; 32]);
    material
        .expand(info, KeyLength)
        .and_then(|material| material.fill(key.expose_mut()))
        .map_err(|_| ServiceError::Damaged("the key derivation"))?;
    Ok(key)
}

/// 32 bytes of key material.
struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

/// One request that may come twice.
pub(crate) struct Repetition {
    claim: IdempotencyClaim,
    secret: RepetitionSecret,
}

impl Repetition {
    /// From the API key that the caller has or its certificate stands for, its idempotency key, and what it asks for.
    ///
    /// # Errors
    /// [`ServiceError::Damaged`] if the cryptographic library fails.
    pub(crate) fn new(
        api_key: ApiKeyId,
        secret: &RepetitionSecret,
        key: IdempotencyKey,
        request: &RequestContent<'_>,
    ) -> Result<Self, ServiceError> {
        let fingerprint = request.fingerprint(&secret.derive(api_key, FINGERPRINT)?);
        let answers = secret.answers.clone();
        let claim = IdempotencyClaim { api_key, key, fingerprint, answers };
        Ok(Self { claim, secret: secret.clone() })
    }

    /// What the store needs to know.
    pub(crate) const fn claim(&self) -> &IdempotencyClaim {
        &self.claim
    }

    /// What nobody else can guess, and is the same whenever this request is made: of its draw with this number.
    ///
    /// # Errors
    /// [`ServiceError::Damaged`] if the cryptographic library fails.
    pub(crate) fn drawn(&self, draw: u32) -> Result<Secret<[u8; 32]>, ServiceError> {
        let key = self.secret.derive(self.claim.api_key, NUMBERS)?;
        let material = Prk::new_less_safe(HKDF_SHA256, key.expose());
        expand(&material, &[&draw.to_be_bytes(), self.claim.key.as_str().as_bytes()])
    }

    /// Seals an answer that is to be stored. The nonce is fresh: keys live as long as the API key.
    pub(crate) fn seal(
        &self,
        clear: &StoredResponse,
        nonce: [u8; NONCE_LEN],
    ) -> Result<StoredResponse, ServiceError> {
        let mut sealed = clear.body.clone();
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                self.associated_data(),
                &mut sealed,
            )
            .map_err(|_| DAMAGED)?;
        let body = [nonce.as_slice(), &sealed].concat();
        Ok(StoredResponse { status: clear.status, body })
    }

    /// Opens a stored answer.
    pub(crate) fn open(&self, stored: &StoredResponse) -> Result<StoredResponse, ServiceError> {
        let (nonce, sealed) = stored.body.split_first_chunk::<NONCE_LEN>().ok_or(DAMAGED)?;
        let mut buffer = sealed.to_vec();
        let clear = self
            .cipher()?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                self.associated_data(),
                &mut buffer,
            )
            .map_err(|_| DAMAGED)?;
        Ok(StoredResponse { status: stored.status, body: clear.to_vec() })
    }

    fn cipher(&self) -> Result<LessSafeKey, ServiceError> {
        let key = self.secret.derive(self.claim.api_key, ANSWER)?;
        let key = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| DAMAGED)?;
        Ok(LessSafeKey::new(key))
    }

    fn associated_data(&self) -> Aad<&[u8]> {
        Aad::from(self.claim.key.as_str().as_bytes())
    }
}

const DAMAGED: ServiceError = ServiceError::Damaged("the stored answer to this idempotency key");

/// What makes two requests the same.
pub(crate) struct RequestContent<'a> {
    /// HTTP method.
    pub(crate) method: &'a str,
    /// Path with its ids, without a query.
    pub(crate) path: &'a str,
    /// Body, byte by byte.
    pub(crate) body: &'a [u8],
}

impl RequestContent<'_> {
    /// Half an HMAC-SHA-256 over method and path, and half of one over the body: who sends another request under the
    /// same key is told which of them is another.
    fn fingerprint(&self, key: &Secret<[u8; 32]>) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let request = hash(&key, b"request", &[self.method.as_bytes(), self.path.as_bytes()]);
        let body = hash(&key, b"body", &[self.body]);
        let mut fingerprint = [0; 32];
        let halves = request.as_ref().iter().take(16).chain(body.as_ref().iter().take(16));
        fingerprint.iter_mut().zip(halves).for_each(|(to, from)| *to = *from);
        fingerprint
    }
}

/// Each part is behind its length, so that no two contents run together.
fn hash(key: &hmac::Key, domain: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in [&[domain], parts].concat() {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        context.update(&length.to_be_bytes());
        context.update(part);
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::{Repetition, RepetitionSecret, RequestContent};
    use tapfer_payment_types::{ApiKeyId, Secret, Timestamp};
    use tapfer_storage::StoredResponse;

    fn repetition(caller: u8, key: &str, body: &str) -> Repetition {
        let id = ApiKeyId::new(Timestamp::from_unix_millis(1), [caller; 10]);
        let content = RequestContent { method: "POST", path: "/v1/cards", body: body.as_bytes() };
        let secret = RepetitionSecret::new(&Secret::new([7; 32])).unwrap();
        Repetition::new(id, &secret, key.parse().unwrap(), &content).unwrap()
    }

    #[test]
    fn the_fingerprint_tells_contents_and_callers_apart() {
        let of = |caller, body| repetition(caller, "k", body).claim().fingerprint;
        assert_eq!(of(1, "{}"), of(1, "{}"));
        assert_ne!(of(1, "{}"), of(1, "{ }"));
        assert_eq!(of(1, "{}")[..16], of(1, "{ }")[..16], "method and path are the same");
        assert_ne!(of(1, "{}")[16..], of(1, "{ }")[16..]);
        assert_ne!(of(1, "{}"), of(2, "{}"), "each API key has keys of its own");
    }

    #[test]
    fn what_is_drawn_is_drawn_again_for_the_same_request_alone() {
        let of =
            |caller, key: &str, draw| *repetition(caller, key, "{}").drawn(draw).unwrap().expose();
        let longest = "k".repeat(255);
        for key in ["k", &longest] {
            assert_eq!(of(1, key, 0), of(1, key, 0));
        }
        for (caller, key, draw) in [(1, "k", 1), (1, "l", 0), (2, "k", 0), (1, &longest, 0)] {
            assert_ne!(of(1, "k", 0), of(caller, key, draw));
        }
    }

    #[test]
    fn only_the_caller_opens_its_answer() {
        let clear = StoredResponse { status: 201, body: b"tapfer_device_secret".to_vec() };
        let owner = repetition(1, "k", "{}");
        let sealed = owner.seal(&clear, [7; 12]).unwrap();
        assert!(!sealed.body.windows(6).any(|window| window == b"secret"));
        assert_eq!(owner.open(&sealed).unwrap(), clear);
        assert!(repetition(2, "k", "{}").open(&sealed).is_err());
        assert!(repetition(1, "l", "{}").open(&sealed).is_err());
        let torn = StoredResponse { status: 201, body: vec![0; 5] };
        assert!(owner.open(&torn).is_err());
    }
}
