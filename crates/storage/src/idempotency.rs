//! Idempotency keys: the same request twice has one effect and one answer.
//!
//! The answer is written in the transaction of its effect, so a record in the database always means
//! "done". That a request is still running is known only inside the process that runs it: if the
//! process dies, its transaction dies with it, and nothing is left to be unstuck. Requests that were
//! refused had no effect and are not remembered; repeated, they are judged anew.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use tapfer_payment_types::{ApiKeyId, Secret};

use crate::{Inconsistency, StorageError, StoredResponse};

/// The text is not an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters")]
pub struct IdempotencyKeyError;

/// The caller's own name for one request: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=255).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdempotencyKeyError)
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What vouches for answers that are kept, and is in no database: whoever writes there can forge none.
#[derive(Clone)]
pub struct AnswerKey(Arc<hmac::Key>);

impl AnswerKey {
    /// A key of HMAC-SHA-256.
    #[must_use]
    pub fn new(secret: &Secret<[u8; 32]>) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.expose())))
    }

    /// Over all parts, each of which has one length or is the last.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut tag = [0; 32];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        tag
    }
}

impl fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerKey(redacted)")
    }
}

/// One caller's claim that a request is the one it named.
#[derive(Debug, Clone)]
pub struct IdempotencyClaim {
    /// Whose key: keys of different callers never meet.
    pub api_key: ApiKeyId,
    /// The key.
    pub key: IdempotencyKey,
    /// Half a hash over method and path of the request, and half a hash over its body, 16 bytes each, such as of SHA-256.
    /// Keyed if the content is secret, for it is kept.
    pub fingerprint: [u8; 32],
    /// What vouches for its answer.
    pub answers: AnswerKey,
}

impl IdempotencyClaim {
    /// What vouches for this answer to this request, and to no other.
    pub(crate) fn vouch(&self, response: &StoredResponse) -> [u8; 32] {
        let api_key = self.api_key.to_bits().to_be_bytes();
        let key = self.key.as_str().as_bytes();
        let key_length = u64::try_from(key.len()).unwrap_or(u64::MAX).to_be_bytes();
        let status = response.status.to_be_bytes();
        self.answers.tag(&[
            b"answer",
            &api_key,
            &self.fingerprint,
            &status,
            &key_length,
            key,
            &response.body,
        ])
    }

    /// Names the request for ever, and tells nobody its key.
    pub(crate) fn request(&self) -> [u8; 32] {
        let api_key = self.api_key.to_bits().to_be_bytes();
        self.answers.tag(&[b"booked", &api_key, self.key.as_str().as_bytes()])
    }

    /// An answer that was kept under this claim, if it is what was given then.
    ///
    /// # Errors
    /// [`StorageError::DifferentContent`]; [`StorageError::Inconsistent`] if somebody else has written it.
    pub(crate) fn believe(&self, kept: KeptAnswer) -> Result<StoredResponse, StorageError> {
        self.require_same(&kept.fingerprint)?;
        let is_given = match kept.mac {
            Some(mac) => verify_slices_are_equal(&mac, &self.vouch(&kept.response)).is_ok(),
            None => kept.is_from_before,
        };
        if is_given {
            return Ok(kept.response);
        }
        tracing::error!(
            target: "tapfer::security",
            event = "answer_forged",
            api_key = %self.api_key,
            "an answer kept for an idempotency key is not one that this platform gave: somebody wrote it into the database. It is not \
             told; tapfer db check compares answers with decisions, and find out who had access"
        );
        let id = self.api_key.to_string();
        Err(Inconsistency { table: "idempotency_answers", id, column: "mac" }.into())
    }

    /// Compares with the fingerprint of the request that was answered under this key.
    ///
    /// # Errors
    /// [`StorageError::DifferentContent`] says what is another in this one.
    pub(crate) fn require_same(&self, answered: &[u8; 32]) -> Result<(), StorageError> {
        let (request, _) = self.fingerprint.split_at(REQUEST);
        let (answered_request, _) = answered.split_at(REQUEST);
        match self.fingerprint == *answered {
            true => Ok(()),
            false if request == answered_request => {
                Err(StorageError::DifferentContent(Difference::Body))
            }
            false => Err(StorageError::DifferentContent(Difference::Request)),
        }
    }
}

/// An answer as it is kept, with what it takes to believe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) response: StoredResponse,
    pub(crate) mac: Option<[u8; 32]>,
    /// Whether it may be without a MAC.
    pub(crate) is_from_before: bool,
}

/// An answer that was given, as it is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenAnswer {
    pub(crate) api_key: ApiKeyId,
    pub(crate) key: IdempotencyKey,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) response: StoredResponse,
    /// `None` of one that a version before has left in the journal.
    pub(crate) mac: Option<[u8; 32]>,
}

impl GivenAnswer {
    /// Under a claim, which vouches for it.
    pub(crate) fn new(claim: IdempotencyClaim, response: StoredResponse) -> Self {
        let mac = Some(claim.vouch(&response));
        let IdempotencyClaim { api_key, key, fingerprint, .. } = claim;
        Self { api_key, key, fingerprint, response, mac }
    }

    /// As it is kept in memory, in front of the tables.
    pub(crate) fn kept(&self) -> KeptAnswer {
        let Self { fingerprint, response, mac, .. } = self;
        let (response, is_from_before) = (response.clone(), mac.is_none());
        KeptAnswer { fingerprint: *fingerprint, response, mac: *mac, is_from_before }
    }
}

/// So many bytes of a fingerprint are of method and path.
const REQUEST: usize = 16;

/// What is another in a request than in the one that was answered under its idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Method or path: it asks for something else.
    Request,
    /// Only the body.
    Body,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "method or path",
            Self::Body => "body",
        })
    }
}

/// What to do with a request.
#[derive(Debug)]
pub enum Begun {
    /// Answer again what was answered before.
    Replay(StoredResponse),
    /// Do it, and keep the guard until it is done.
    Run(Running),
}

type Claims = HashSet<(ApiKeyId, IdempotencyKey)>;

/// A request that is running. While the guard lives, the same key is refused as still running.
#[derive(Debug)]
pub struct Running {
    claims: Arc<Mutex<Claims>>,
    claim: (ApiKeyId, IdempotencyKey),
    /// Who else wants to know when it is over.
    over: Option<Sender<(ApiKeyId, IdempotencyKey)>>,
    /// The marks of the same request elsewhere.
    elsewhere: Vec<Running>,
}

impl Running {
    /// Says so there as well when it is over.
    pub(crate) fn tells(self, over: Sender<(ApiKeyId, IdempotencyKey)>) -> Self {
        let mut running = self;
        running.over = Some(over);
        running
    }

    /// The same request, which another store has marked as well.
    pub(crate) fn and(self, other: Self) -> Self {
        let mut running = self;
        running.elsewhere.push(other);
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.remove(&self.claim);
        if let Some(over) = self.over.take() {
            let _nobody_listens = over.send(self.claim.clone());
        }
    }
}

/// The requests that this process is running.
#[derive(Debug, Default)]
pub(crate) struct RunningRequests {
    claims: Arc<Mutex<Claims>>,
}

impl RunningRequests {
    /// Marks a request as running.
    pub(crate) fn start(&self, claim: &IdempotencyClaim) -> Result<Running, StorageError> {
        let claim = (claim.api_key, claim.key.clone());
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if !claims.insert(claim.clone()) {
            return Err(StorageError::StillRunning);
        }
        Ok(Running { claims: Arc::clone(&self.claims), claim, over: None, elsewhere: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::{IdempotencyKey, IdempotencyKeyError};

    #[test]
    fn visible_ascii_only() {
        assert_eq!("order-17".parse::<IdempotencyKey>().unwrap().as_str(), "order-17");
        for text in ["", "with blank", "umlaut-ä", "line\n", &"x".repeat(256)] {
            assert_eq!(text.parse::<IdempotencyKey>(), Err(IdempotencyKeyError), "{text}");
        }
    }
}
