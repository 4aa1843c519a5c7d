//! Requests that are running, on whichever node.
//!
//! A request is marked by an advisory lock of the database, which one connection of each node holds: if the node dies, or
//! loses its connection, the lock is gone with it, and nothing is left to be unstuck. The lock keeps a second node from
//! beginning; that a second one could not finish either does not depend on it, but on the answer, which is unique and
//! written in the transaction of its effect.

use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use tapfer_payment_types::ApiKeyId;
use tokio_postgres::Row;

use super::pool::Pool;
use super::session::{Asked, CHANGE};
use crate::idempotency::{Begun, IdempotencyKey, Running, RunningRequests};
use crate::relational::rows::Columns;
use crate::relational::sql::Sql as _;
use crate::relational::{Result, idempotency, of_each};
use crate::{IdempotencyClaim, StorageError};

/// Different callers' keys never meet: the lock is over both.
const LOCK: &str = "SELECT CASE WHEN pg_try_advisory_lock(hashtextextended(api_key || ' ' || key, 1))
                           THEN 1 ELSE 0 END AS locked
                    FROM unnest(?1::text[], ?2::text[]) WITH ORDINALITY AS claim (api_key, key, place)
                    ORDER BY place";
const UNLOCK: &str = "SELECT pg_advisory_unlock(hashtextextended(api_key || ' ' || key, 1))
                      FROM unnest(?1::text[], ?2::text[]) AS claim (api_key, key)";
pub(super) const ANSWERED: &str = "SELECT claim.place, answer.api_key_id, answer.key, answer.fingerprint,
                            answer.status, answer.body, answer.mac, answer.from_before
                        FROM unnest(?1::text[], ?2::text[]) WITH ORDINALITY AS claim (api_key, key, place)
                        JOIN kept_answers AS answer
                            ON answer.api_key_id = claim.api_key AND answer.key = claim.key";

type Name = (ApiKeyId, IdempotencyKey);

pub(super) struct Claims {
    pool: Arc<Pool>,
    /// The connection that holds the locks of this node, one at a time.
    holder: Arc<Pool>,
    running: RunningRequests,
    open: Mutex<Option<(Sender<Name>, JoinHandle<()>)>>,
}

impl Claims {
    /// `holder` is of one connection.
    pub(super) fn start(pool: Arc<Pool>, holder: Arc<Pool>) -> Result<Self> {
        let (over, ended) = channel();
        let of_thread = Arc::clone(&holder);
        let thread = Builder::new()
            .name("tapfer-claims".to_owned())
            .spawn(move || unlock(&of_thread, &ended))
            .map_err(|_| StorageError::Closed)?;
        let open = Mutex::new(Some((over, thread)));
        Ok(Self { pool, holder, running: RunningRequests::default(), open })
    }

    /// Marks requests as running, and looks up then which of them were answered: the other way round, one that ends in
    /// between would be run a second time. Two statements in one round trip.
    pub(super) fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        let Some(over) = self.over() else { return of_each(claims.len(), &StorageError::Closed) };
        let mut begun = Vec::new();
        let mut marked = Vec::new();
        for (place, claim) in claims.iter().enumerate() {
            let running = self.running.start(claim);
            begun.push(Err(StorageError::StillRunning));
            marked.extend(running.ok().map(|running| (place, *claim, running)));
        }
        if marked.is_empty() {
            return begun;
        }
        let asked: Vec<_> = marked.iter().map(|(_, claim, _)| *claim).collect();
        match self.lock_and_look_up(&asked) {
            Ok(found) => {
                let is_answered = found.iter().any(|found| found.answer.is_some());
                let vouched = if is_answered { self.vouch() } else { Ok(()) };
                for ((place, claim, running), found) in marked.into_iter().zip(found) {
                    if let Some(one) = begun.get_mut(place) {
                        *one = found.begun(claim, running, &over, &vouched);
                    }
                }
                begun
            }
            Err(error) => of_each(claims.len(), &error),
        }
    }

    /// How often the connection with the locks was asked and waited for.
    pub(super) fn round_trips(&self) -> &AtomicU64 {
        self.holder.round_trips()
    }

    /// An answer can be read before it is where it cannot be lost any more: a commit that gave up waiting for its standby is
    /// seen by everybody. Whoever has committed something behind it has read nothing that can be lost.
    fn vouch(&self) -> Result<()> {
        self.pool.begin(CHANGE, |session| {
            session.vouch()?;
            session.commit()
        })
    }

    fn over(&self) -> Option<Sender<Name>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|(over, _)| over.clone())
    }

    fn lock_and_look_up(&self, claims: &[&IdempotencyClaim]) -> Result<Vec<Found>> {
        let (api_keys, keys): (Vec<_>, Vec<_>) =
            claims.iter().map(|claim| (claim.api_key.to_string(), claim.key.as_str())).unzip();
        let asked: [Asked<'_>; 2] =
            [(LOCK, vec![&api_keys, &keys]), (ANSWERED, vec![&api_keys, &keys])];
        // If it fails the connection ends: whatever it had locked is free again, and answers are unique without it.
        let answers = self.holder.lend(|session| session.ask_all(&asked), |_, found| Ok(found))?;
        let mut answers = answers.into_iter();
        let (locked, answered) = (answers.next(), answers.next());
        let mut found: Vec<Found> = Vec::new();
        for row in locked.into_iter().flatten() {
            let is_locked = Columns::keyed(&row, "idempotency_answers", "key").get("locked")?;
            found.push(Found { is_locked, answer: None });
        }
        for row in answered.into_iter().flatten() {
            let place: usize =
                Columns::keyed(&row, "idempotency_answers", "key").number("place")?;
            if let Some(found) = found.get_mut(place.saturating_sub(1)) {
                found.answer = Some(row);
            }
        }
        Ok(found)
    }

    pub(super) fn close(&self) {
        let taken = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((over, thread)) = taken {
            drop(over);
            // Not waited for: whoever still holds a request may do so for long.
            drop(thread);
        }
    }
}

/// What the database says of one claim.
struct Found {
    is_locked: bool,
    answer: Option<Row>,
}

impl Found {
    fn begun(
        self,
        claim: &IdempotencyClaim,
        running: Running,
        over: &Sender<Name>,
        vouched: &Result<()>,
    ) -> Result<Begun> {
        // From here on whatever happens to the request ends in its unlocking.
        let running = if self.is_locked { running.tells(over.clone()) } else { running };
        match self.answer {
            Some(row) => {
                let answer = idempotency::answer(&row, claim)?;
                vouched.clone().map(|()| Begun::Replay(answer))
            }
            None if self.is_locked => Ok(Begun::Run(running)),
            None => Err(StorageError::StillRunning),
        }
    }
}

/// Unlocks what is over, as it comes.
fn unlock(holder: &Pool, over: &Receiver<Name>) {
    while let Ok(first) = over.recv() {
        let (api_keys, keys): (Vec<_>, Vec<_>) = std::iter::once(first)
            .chain(over.try_iter())
            .map(|(api_key, key)| (api_key.to_string(), key.to_string()))
            .unzip();
        let asked: [Asked<'_>; 1] = [(UNLOCK, vec![&api_keys, &keys])];
        if holder.lend(|session| session.ask_all(&asked), |_, _| Ok(())).is_err() {
            // Locks end with the connection at the latest.
            holder.renew();
        }
    }
}
