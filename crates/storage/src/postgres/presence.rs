//! Whether a server is there, as the node's ear has heard it last: known to all its connections.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::StorageError;
use crate::relational::Result;

/// Whether anybody is there to ask.
#[derive(Default)]
pub(super) struct Presence {
    is_away: AtomicBool,
    gone: Notify,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("is_away", &self.is_away).finish_non_exhaustive()
    }
}

impl Presence {
    /// Somebody is there. Whether nobody was before.
    pub(super) fn came(&self) -> bool {
        self.is_away.swap(false, Ordering::SeqCst)
    }

    /// Nobody is there any more. Whether somebody was before.
    pub(super) fn went(&self) -> bool {
        let is_news = !self.is_away.swap(true, Ordering::SeqCst);
        self.gone.notify_waiters();
        is_news
    }

    /// Whether nobody is there.
    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::SeqCst)
    }

    /// Nothing is begun while nobody is there.
    ///
    /// # Errors
    /// [`StorageError::Unreachable`]
    pub(super) fn demand(&self) -> Result<()> {
        if self.is_away() { Err(away()) } else { Ok(()) }
    }

    /// Comes as soon as nobody is there.
    pub(super) async fn gone(&self) {
        let mut gone = pin!(self.gone.notified());
        gone.as_mut().enable();
        if !self.is_away() {
            gone.await;
        }
    }
}

/// What is said instead of waiting.
pub(super) fn away() -> StorageError {
    StorageError::Unreachable(Arc::new(Away))
}

/// Nobody is there, as far as is known.
#[derive(Debug, thiserror::Error)]
#[error("it has not answered for some seconds")]
pub(super) struct Away;
