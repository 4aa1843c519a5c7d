//! What a node needs of the database that it stands in for, beside the verbs of every store. It is asked for by what is to be done,
//! not by connections: so a database is one value here, whichever it is.

use std::sync::Arc;

use tapfer_payment_types::{PaymentIntentId, Timestamp, TokenId};
use tapfer_payments::keys::GrantedKey;

use super::elsewhere::{OfTable, out_of_service};
use super::record::Record;
use super::rounds::Rounds;
use crate::StorageError;
use crate::faults::{NoFaults, SharedFaults};
use crate::postgres::{PostgresStorage, Told};
use crate::relational::stand_in::{Booked, book_intent};
use crate::relational::{Engine, Result, tokens};
use crate::sqlite::simulated::SimulatedNode;
use crate::store::Storage;

/// A database that may be away, and tells what others change in it.
pub(crate) trait MayBeAway {
    /// Whether nobody answers, as far as is known.
    fn is_away(&self) -> bool;
    /// Whom to tell which rows have lost trust that they had at another node.
    fn tell_of_rows(&self, tell: Box<dyn Fn(Told<'_>) + Send + Sync>);
    /// Whether it is there, and has trouble that somebody will mend.
    fn is_trouble(&self, error: &StorageError) -> bool;
    /// Books what a journal holds, before anything else, and lets the node do its rounds from then on.
    ///
    /// # Errors
    /// As [`StandIn::over`](super::StandIn::over).
    fn starts(&self, rounds: Rounds) -> Result<()> {
        rounds.on_a_thread()
    }
    /// What a simulation does to the node's journal.
    fn faults(&self) -> SharedFaults {
        Arc::new(NoFaults)
    }
}

/// A database that a node stands in for.
pub(crate) trait StoodInFor: Storage + MayBeAway {
    /// Books an intent that the node has made alone, with all that became of it ([`book_intent`]).
    fn book_intent(
        &self,
        intent: PaymentIntentId,
        records: Vec<Record>,
        now: Timestamp,
    ) -> Result<Booked>;
    /// Which of these are out of service.
    fn out_of_service(&self, asked: &[OfTable]) -> Result<Vec<(&'static str, String)>>;
    /// The keys of these tokens that have not expired.
    fn keys_of_all(&self, of: &[TokenId], now: Timestamp) -> Result<Vec<(TokenId, GrantedKey)>>;
}

impl<D: Engine + Storage + MayBeAway> StoodInFor for D {
    fn book_intent(
        &self,
        intent: PaymentIntentId,
        records: Vec<Record>,
        now: Timestamp,
    ) -> Result<Booked> {
        self.write(move |connection| book_intent(connection, intent, &records, now))
    }

    fn out_of_service(&self, asked: &[OfTable]) -> Result<Vec<(&'static str, String)>> {
        self.read(|connection| out_of_service(connection, asked))
    }

    fn keys_of_all(&self, of: &[TokenId], now: Timestamp) -> Result<Vec<(TokenId, GrantedKey)>> {
        self.read(|connection| tokens::keys_of_all(connection, of, now))
    }
}

/// A database of several nodes, each of which may stand in for it.
pub struct SharedDatabase(pub(super) Arc<dyn StoodInFor>);

impl From<Arc<PostgresStorage>> for SharedDatabase {
    fn from(database: Arc<PostgresStorage>) -> Self {
        Self(database)
    }
}

/// In a simulation.
impl From<Arc<SimulatedNode>> for SharedDatabase {
    fn from(database: Arc<SimulatedNode>) -> Self {
        Self(database)
    }
}
