//! The verbs of the store in SQL, once for both engines.
//!
//! A verb is a function over one connection ([`sql::Connection`]) that is inside a transaction or a snapshot. How there
//! comes to be one is the engine's own ([`Engine`]); that every change has its audit line and the answer for its
//! idempotency key beside it is decided here. What is asked or changed for many payments at once each engine does in
//! its own way, over the same functions.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod audit_chain;
pub(crate) mod authorizations;
pub(crate) mod cards;
mod configurations;
pub(crate) mod decided;
pub(crate) mod devices;
pub(crate) mod idempotency;
pub(crate) mod integrity;
pub(crate) mod intents;
pub(crate) mod issuers;
pub(crate) mod key_catalogue;
pub(crate) mod key_uses;
pub(crate) mod known_keys;
pub(crate) mod ledger;
pub(crate) mod lookup;
pub(crate) mod merchants;
pub(crate) mod pins;
pub(crate) mod policies;
pub(crate) mod realm;
mod refunds;
pub(crate) mod retention;
mod reversals;
mod revocations;
pub(crate) mod rows;
pub(crate) mod soundness;
pub(crate) mod sql;
pub(crate) mod stand_in;
mod terminal_certificates;
pub(crate) mod terminals;
pub(crate) mod tokens;

use tapfer_payment_types::{ApiKeyId, PaymentIntentId, Timestamp};
use tapfer_payments::access::ApiKey;
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_payments::intents::PaymentIntent;

use crate::idempotency::GivenAnswer;
use crate::{StorageError, Write, Written};
use known_keys::{KnownKeys, WhichKey};
use sql::Connection;

pub(crate) type Result<T> = std::result::Result<T, StorageError>;

/// Where verbs get their connections from.
pub(crate) trait Engine {
    /// Reads; all statements see the same snapshot.
    /// A copy of `job` may run again on another one, where the first was of no use.
    fn read<T>(&self, job: impl FnOnce(&Connection) -> Result<T> + Clone) -> Result<T>;
    /// Makes a change and waits until it is on the disk. `job` runs in a transaction, and is undone if it fails; a copy of it
    /// may run again in another one, when nothing is left of the first.
    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T>;
    /// Makes changes in one transaction, each for itself: one that fails is undone, and the others stand. What came
    /// of each, in their order.
    fn write_all<T: Send + 'static>(
        &self,
        jobs: Vec<impl FnOnce(&Connection) -> Result<T> + Clone + Send + 'static>,
    ) -> Vec<Result<T>>;

    /// Reads with one statement what no payment changes, and so waits for none.
    fn look_up<T>(&self, job: impl Fn(&Connection) -> Result<T>) -> Result<T>;
    /// Reads what no payment changes, and so waits for none.
    fn read_apart<T>(&self, job: impl FnOnce(&Connection) -> Result<T> + Clone) -> Result<T> {
        self.read(job)
    }
    /// An intent as the newest payment has left it, where that is known before the tables know it. Whoever asks this looks
    /// into the tables behind it.
    fn intent_ahead(&self, _: PaymentIntentId) -> Option<PaymentIntent> {
        None
    }
    /// An API key as it stands now.
    fn look_up_api_key(&self, which: WhichKey) -> Result<Option<ApiKey>> {
        self.look_up(|connection| access::look_up(connection, which))
    }
    /// Several by their ids, each for itself and in this order.
    fn look_up_api_keys(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        ids.iter().map(|id| self.look_up_api_key(WhichKey::Id(*id))).collect()
    }
    /// API keys that were looked up before, where nobody else changes them. Whoever changes one makes all forgotten before
    /// he hears that it is done.
    fn known_keys(&self) -> Option<&KnownKeys>;
    /// Sees that what is read of the audit log from here on has the lines of all changes that were made before.
    fn settle_audit(&self) -> Result<()>;

    /// One change: the replay of an earlier answer, or the change with its audit line and answer.
    fn change<T: Send + 'static>(
        &self,
        write: Write<T>,
        action: AuditAction,
        job: impl FnOnce(&Connection, Timestamp) -> Result<Changed<T>> + Clone + Send + 'static,
    ) -> Result<Written<T>> {
        self.write(move |connection| change(connection, write, action, job))
    }

    /// No changes, but things that are answered once more: the answers are kept for these claims too.
    fn answer_again<I: Clone + Send + 'static, T: Send + 'static>(
        &self,
        wanted: Vec<(I, Write<T>)>,
        load: fn(&Connection, I) -> Result<T>,
    ) -> Vec<Result<Written<T>>> {
        let jobs = wanted.into_iter().map(|(id, write)| {
            move |connection: &Connection| {
                let Write { claim, answer, now, .. } = write;
                let Some(claim) = claim else {
                    return Ok(Written::Replayed(answer.to(&load(connection, id)?)));
                };
                if let Some(stored) = idempotency::stored_answer(connection, &claim)? {
                    return Ok(Written::Replayed(stored));
                }
                let response = answer.to(&load(connection, id)?);
                let given = GivenAnswer::new(claim, response.clone());
                idempotency::insert(connection, &given, now)?;
                Ok(Written::Replayed(response))
            }
        });
        self.write_all(jobs.collect())
    }
}

/// What a change resulted in, and what the audit log says about it.
pub(crate) struct Changed<T> {
    value: T,
    object: String,
    detail: Option<String>,
}

impl<T> Changed<T> {
    pub(crate) fn new(value: T, object: impl ToString) -> Self {
        Self { value, object: object.to_string(), detail: None }
    }

    pub(crate) fn because(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// One error for all that were asked together.
pub(crate) fn of_each<T>(count: usize, error: &StorageError) -> Vec<Result<T>> {
    (0..count).map(|_| Err(error.clone())).collect()
}

/// The replay of an earlier answer, or a change with its audit line and answer.
pub(crate) fn change<T>(
    connection: &Connection,
    write: Write<T>,
    action: AuditAction,
    job: impl FnOnce(&Connection, Timestamp) -> Result<Changed<T>>,
) -> Result<Written<T>> {
    let Write { caller, claim, answer, now } = write;
    if let Some(claim) = &claim
        && let Some(stored) = idempotency::stored_answer(connection, claim)?
    {
        return Ok(Written::Replayed(stored));
    }
    let Changed { value, object, detail } = job(connection, now)?;
    let result = AuditResult::Succeeded;
    connection.record(&AuditEvent { at: now, caller, action, object, result, detail })?;
    let response = answer.to(&value);
    if let Some(claim) = claim {
        idempotency::insert(connection, &GivenAnswer::new(claim, response.clone()), now)?;
    }
    Ok(Written::Done { value, response })
}
