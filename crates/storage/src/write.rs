//! What comes with every change: who makes it, when, under which idempotency key, and what will be
//! answered.

use tapfer_payment_types::Timestamp;
use tapfer_payments::audit::Caller;

use crate::IdempotencyClaim;

/// An answer as it is kept for its idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// Body, byte by byte. Never holds in clear what may be shown only once (secrets of API keys) or
    /// never be kept (card numbers).
    pub body: Vec<u8>,
}

/// How the answer to a change of type `T` is found.
///
/// It is needed inside the transaction. A plain function of the result captures nothing, so it can
/// neither reach an HSM nor a network from there.
#[derive(Debug)]
pub enum Answer<T> {
    /// It is known before the change is made.
    Known(StoredResponse),
    /// It follows from what comes of the change.
    Of(fn(&T) -> StoredResponse),
}

/// What comes with a change that results in a `T`.
#[derive(Debug)]
pub struct Write<T> {
    /// Who, from where: goes into the audit log.
    pub caller: Caller,
    /// Under which idempotency key, if the caller gave one.
    pub claim: Option<IdempotencyClaim>,
    /// What will be answered.
    pub answer: Answer<T>,
    /// When.
    pub now: Timestamp,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written<T> {
    /// It was made now, and is on the disk.
    Done {
        /// What it resulted in.
        value: T,
        /// What to answer.
        response: StoredResponse,
    },
    /// It was made before, under the same idempotency key or by the same tap; nothing was changed now.
    Replayed(StoredResponse),
}

impl<T> Written<T> {
    /// What to answer, and whether it was answered before.
    #[must_use]
    pub const fn response(&self) -> (&StoredResponse, bool) {
        match self {
            Self::Done { response, .. } => (response, false),
            Self::Replayed(response) => (response, true),
        }
    }

    /// What it resulted in, if it was made now.
    #[must_use]
    pub fn value(self) -> Option<T> {
        match self {
            Self::Done { value, .. } => Some(value),
            Self::Replayed(_) => None,
        }
    }
}

impl<T> Answer<T> {
    pub(crate) fn to(self, value: &T) -> StoredResponse {
        match self {
            Self::Known(response) => response,
            Self::Of(respond) => respond(value),
        }
    }
}

// Whether or not what it results in can be copied.
impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Known(response) => Self::Known(response.clone()),
            Self::Of(respond) => Self::Of(*respond),
        }
    }
}

impl<T> Clone for Write<T> {
    fn clone(&self) -> Self {
        let Self { caller, claim, answer, now } = self;
        let (caller, claim) = (caller.clone(), claim.clone());
        Self { caller, claim, answer: answer.clone(), now: *now }
    }
}
