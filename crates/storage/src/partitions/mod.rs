//! One realm in several PostgreSQL databases, each an ordinary cluster (docs/adr/0025-partitions.md).
//!
//! A card with its tokens, its money and all that is decided about it is in one partition, which the keyed hash of its number
//! says, and the hashes of its tokens' numbers as well. A payment is one transaction of that partition. What everybody needs is
//! written in the home, partition 0, and comes to the others by PostgreSQL's logical replication ([`everywhere`]). Intents are
//! made in the home and handed over with the tap ([`intents`]).

mod asking;
mod everywhere;
mod intents;
mod lists;
mod map;
mod payments;
mod verbs;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

use tapfer_payment_types::{CardId, PaymentIntentId, TokenId};

pub use map::PartitionMap;

use crate::postgres::{Joint, PostgresStorage};
use crate::relational::Result;
use crate::store::{CardStore as _, TokenStore as _};
use crate::{Storage, StorageError};
use asking::stalled;

/// So many places of things are remembered; then all are looked for again.
const REMEMBERED: usize = 100_000;

/// Opens a partition, or says why it does not open; asked again while it does not.
pub type OpenPartition = Arc<dyn Fn(usize) -> Result<PostgresStorage> + Send + Sync>;

/// The store of a realm with partitions.
pub struct PartitionedStorage {
    home: Arc<PostgresStorage>,
    /// Partitions from 1 on, as far as they were reached.
    others: Vec<Arc<Mutex<Opened>>>,
    open: OpenPartition,
    /// Who tells all partitions what is new tells it for everybody.
    told: Joint,
    cards: Places<CardId>,
    tokens: Places<TokenId>,
    intents: Places<PaymentIntentId>,
}

impl fmt::Debug for PartitionedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionedStorage")
            .field("partitions", &self.count())
            .finish_non_exhaustive()
    }
}

/// A partition, as it was when it was asked last.
#[derive(Default)]
enum Opened {
    /// Nobody has needed it yet.
    #[default]
    Not,
    Store(Arc<PostgresStorage>),
    /// It is there, and what it is asked does not end: nobody else asks until it commits again.
    Stalled(Arc<PostgresStorage>),
    /// Somebody looks for it. Until then all hear why, and nobody waits.
    Away(StorageError),
    Closed,
}

/// From one attempt to open a partition to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// In which partition things were found. A hint: whoever goes by it finds out where it is wrong.
struct Places<K>(Mutex<HashMap<K, usize>>);

impl<K> Default for Places<K> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash> Places<K> {
    fn known(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, of: &K) -> Option<usize> {
        self.known().get(of).copied()
    }

    fn note(&self, of: K, partition: usize) {
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(of, partition);
    }
}

impl PartitionedStorage {
    /// The home is open; the others are opened when they are needed, and a partition that is away keeps no other from paying.
    /// `partitions` counts the home.
    #[must_use]
    pub fn new(home: Arc<PostgresStorage>, partitions: usize, open: OpenPartition) -> Self {
        let others = (1..partitions.max(1)).map(|_| Arc::default()).collect();
        let (cards, tokens, intents) = (Places::default(), Places::default(), Places::default());
        Self { home, others, open, told: Joint::default(), cards, tokens, intents }
    }

    /// How many there are, the home among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// The partition of a number with this keyed hash: its first four bytes, big endian, modulo the number of partitions.
    #[must_use]
    pub fn of_hash(&self, keyed_hash: &[u8]) -> usize {
        let first = keyed_hash.first_chunk().copied().map_or(0, u32::from_be_bytes);
        let partitions = u32::try_from(self.count()).unwrap_or(u32::MAX);
        usize::try_from(first.checked_rem(partitions).unwrap_or(0)).unwrap_or(0)
    }

    /// A partition, if it is there.
    ///
    /// # Errors
    /// Why it is not.
    fn at(&self, partition: usize) -> Result<Arc<PostgresStorage>> {
        let Some(place) = partition.checked_sub(1) else { return Ok(Arc::clone(&self.home)) };
        let place = self.others.get(place).ok_or(StorageError::Abandoned)?;
        let mut opened = state(place);
        match &*opened {
            Opened::Store(store) => return Ok(Arc::clone(store)),
            Opened::Stalled(_) => return Err(stalled(partition)),
            Opened::Away(why) => return Err(why.clone()),
            Opened::Closed => return Err(StorageError::Closed),
            Opened::Not => {}
        }
        match (self.open)(partition) {
            Ok(store) => {
                let store = Arc::new(store);
                *opened = Opened::Store(Arc::clone(&store));
                Ok(store)
            }
            Err(why) => {
                *opened = Opened::Away(why.clone());
                drop(opened);
                self.look_for(partition, place);
                Err(why)
            }
        }
    }

    /// Has a partition opened by somebody for whom nobody waits.
    fn look_for(&self, partition: usize, place: &Arc<Mutex<Opened>>) {
        tracing::error!(
            partition,
            "a partition is away: its cards are refused until it is there again"
        );
        let (open, place) = (Arc::clone(&self.open), Arc::downgrade(place));
        let look = move || look_for(partition, &open, &place);
        if Builder::new().name("tapfer-partition".to_owned()).spawn(look).is_err() {
            tracing::error!(partition, "no thread: whoever needs the partition next looks for it");
            if let Some(place) = partition.checked_sub(1).and_then(|place| self.others.get(place)) {
                *state(place) = Opened::Not;
            }
        }
    }

    /// Does something at a partition. One that was closed there is opened anew, wherever it is now, by whoever comes next.
    fn ask<T>(
        &self,
        partition: usize,
        job: impl FnOnce(&PostgresStorage) -> Result<T>,
    ) -> Result<T> {
        let store = self.at(partition)?;
        let said = job(&store);
        if let Err(StorageError::Moved(_)) = said {
            self.leave(partition, &store);
        }
        said
    }

    /// Forgets a connection to a partition that is not there any more.
    fn leave(&self, partition: usize, found: &Arc<PostgresStorage>) {
        let place = partition.checked_sub(1).and_then(|place| self.others.get(place));
        let Some(place) = place else { return };
        let mut opened = state(place);
        if matches!(&*opened, Opened::Store(store) if Arc::ptr_eq(store, found)) {
            *opened = Opened::Away(StorageError::Moved("it is looked for".to_owned()));
            drop(opened);
            self.look_for(partition, place);
        }
    }

    /// Looks for something in one partition after the other.
    ///
    /// # Errors
    /// It was not found, and one that may have it cannot be asked.
    fn find<T>(
        &self,
        look: impl Fn(&PostgresStorage) -> Result<Option<T>>,
    ) -> Result<Option<(usize, T)>> {
        let mut not_asked = None;
        for partition in 0..self.count() {
            match self.ask(partition, &look) {
                Ok(Some(found)) => return Ok(Some((partition, found))),
                Ok(None) => {}
                Err(error) => not_asked = not_asked.or(Some(error)),
            }
        }
        not_asked.map_or(Ok(None), Err)
    }

    /// Where something is that never moves.
    fn place_of<K: Copy + Eq + Hash + ToString, T>(
        &self,
        places: &Places<K>,
        kind: &'static str,
        id: K,
        look: impl Fn(&PostgresStorage) -> Result<Option<T>>,
    ) -> Result<usize> {
        if let Some(partition) = places.get(&id) {
            return Ok(partition);
        }
        let found = self.find(look)?;
        let (partition, _) =
            found.ok_or_else(|| StorageError::NotFound { kind, id: id.to_string() })?;
        places.note(id, partition);
        Ok(partition)
    }

    fn place_of_card(&self, id: CardId) -> Result<usize> {
        self.place_of(&self.cards, "card", id, |store| store.card(id))
    }

    fn place_of_token(&self, id: TokenId) -> Result<usize> {
        self.place_of(&self.tokens, "token", id, |store| store.token(id))
    }

    /// Does something in the partition of a card.
    fn of_card<T>(&self, id: CardId, job: impl FnOnce(&PostgresStorage) -> Result<T>) -> Result<T> {
        self.ask(self.place_of_card(id)?, job)
    }

    /// Does something in the partition of a token.
    fn of_token<T>(
        &self,
        id: TokenId,
        job: impl FnOnce(&PostgresStorage) -> Result<T>,
    ) -> Result<T> {
        self.ask(self.place_of_token(id)?, job)
    }

    /// Those that are open at this moment. One that is just being opened is not waited for.
    fn opened(&self) -> Vec<Arc<PostgresStorage>> {
        let others = self.others.iter().filter_map(|place| match &*place.try_lock().ok()? {
            Opened::Store(store) | Opened::Stalled(store) => Some(Arc::clone(store)),
            Opened::Not | Opened::Away(_) | Opened::Closed => None,
        });
        [Arc::clone(&self.home)].into_iter().chain(others).collect()
    }
}

fn state(place: &Mutex<Opened>) -> MutexGuard<'_, Opened> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tries to open a partition until it opens, or nobody wants it any more.
fn look_for(partition: usize, open: &OpenPartition, place: &Weak<Mutex<Opened>>) {
    // Nobody says anything there: it ends with the pause.
    let (_silent, said) = channel::<()>();
    loop {
        let found = open(partition);
        let Some(place) = place.upgrade() else { return };
        let mut opened = state(&place);
        if matches!(*opened, Opened::Closed) {
            return;
        }
        match found {
            Ok(store) => {
                tracing::info!(partition, "a partition is there again");
                *opened = Opened::Store(Arc::new(store));
                return;
            }
            Err(why) => *opened = Opened::Away(why),
        }
        drop(opened);
        let _nothing = said.recv_timeout(PAUSE);
    }
}

impl Storage for PartitionedStorage {
    /// Whether the home answers, without which nobody is let in. What the others say only those hear who need them.
    fn check(&self) -> Result<()> {
        self.home.check()
    }

    fn load(&self) -> crate::Load {
        let loads = self.opened().into_iter().map(|store| store.load());
        let none =
            crate::Load { waiting_changes: 0, commits: 0, payments_ahead: 0, audit_waits: 0 };
        loads.fold(none, |sum, one| crate::Load {
            waiting_changes: sum.waiting_changes.saturating_add(one.waiting_changes),
            commits: sum.commits.saturating_add(one.commits),
            payments_ahead: sum.payments_ahead.saturating_add(one.payments_ahead),
            audit_waits: sum.audit_waits.max(one.audit_waits),
        })
    }

    fn close(&self) {
        self.opened().into_iter().for_each(|store| store.close());
        self.others.iter().for_each(|place| *state(place) = Opened::Closed);
    }
}
