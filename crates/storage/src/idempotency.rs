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

use tapfer_payment_types::ApiKeyId;

use crate::{StorageError, StoredResponse};

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

/// One caller's claim that a request is the one it named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// Whose key: keys of different callers never meet.
    pub api_key: ApiKeyId,
    /// The key.
    pub key: IdempotencyKey,
    /// Half a hash over method and path of the request, and half a hash over its body, 16 bytes each, such as of SHA-256.
    /// Keyed if the content is secret, for it is kept.
    pub fingerprint: [u8; 32],
}

impl IdempotencyClaim {
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
