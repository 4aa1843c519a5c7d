//! Answers as bytes, so that what is stored for an idempotency key is what was sent.

use serde::Serialize;
use tapfer_storage::{StoredResponse, Written};

/// An answer, and whether it was given before.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) response: StoredResponse,
    pub(crate) replayed: bool,
}

impl Answered {
    pub(crate) const fn first(response: StoredResponse) -> Self {
        Self { response, replayed: false }
    }

    pub(crate) const fn again(response: StoredResponse) -> Self {
        Self { response, replayed: true }
    }
}

impl<T> From<Written<T>> for Answered {
    fn from(written: Written<T>) -> Self {
        match written {
            Written::Done { response, .. } => Self::first(response),
            Written::Replayed(response) => Self::again(response),
        }
    }
}

/// Something new was made: 201.
pub(crate) fn created(body: &impl Serialize) -> StoredResponse {
    json(201, body)
}

/// Something was done: 200.
pub(crate) fn done(body: &impl Serialize) -> StoredResponse {
    json(200, body)
}

fn json(status: u16, body: &impl Serialize) -> StoredResponse {
    // Answers are structs of texts and numbers; writing them to memory cannot fail.
    StoredResponse { status, body: serde_json::to_vec(body).unwrap_or_default() }
}
