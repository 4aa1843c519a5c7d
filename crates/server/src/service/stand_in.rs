//! Whether this node stands in for its database while that is away (docs/adr/0026-stand-in.md).

use std::sync::Arc;

use tapfer_storage::{StandIn, Storage};

use crate::clock::SharedClock;
use crate::realm::RealmPaths;
use crate::realm::database::Alone;
use crate::service::ServiceError;
use crate::service::repetition::RepetitionSecret;

/// The store with its stand-in, if this node may stand in, or has something to book from a time when it did.
///
/// # Errors
/// [`ServiceError::Storage`]; [`ServiceError::Damaged`] if the cryptographic library fails.
pub(super) fn over(
    alone: Alone,
    paths: &RealmPaths,
    secret: &RepetitionSecret,
    clock: &SharedClock,
) -> Result<Option<Arc<dyn Storage>>, ServiceError> {
    let Alone { database, limits } = alone;
    let journal = paths.stand_in_journal();
    if limits.is_none() && !journal.exists() {
        return Ok(None);
    }
    let clock = Arc::clone(clock);
    let now = Box::new(move || clock.now());
    let node = StandIn::over(database, limits, &journal, secret.of_journal()?, now)?;
    Ok(Some(node))
}
