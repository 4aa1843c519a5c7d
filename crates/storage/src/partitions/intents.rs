//! Payment intents: made and armed in the home, and handed over to the partition of the card that is tapped.
//!
//! Nobody knows with which card an intent will be paid when it is made, and its approval has to be one transaction with the
//! card's money. So it moves, as long as nothing was paid for it: in one transaction where it is, which writes down where it
//! goes, and in another where it goes to. In between it is nowhere, and whoever asks for it finishes the second. Two that want it
//! in two partitions stand behind one lock, where it is. What stays behind is no intent any more, to nobody there.

use std::collections::{BTreeMap, HashMap};

use tapfer_payment_types::{MerchantId, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::intents::{IntentError, IntentStatus, PaymentIntent};

use super::PartitionedStorage;
use crate::postgres::PostgresStorage;
use crate::relational::rows::{Columns, all, execute, first, found, lock};
use crate::relational::sql::{Connection, Guard, Row, params};
use crate::relational::{Engine as _, Result, intents};
use crate::store::{IntentStore, TerminalStore as _};
use crate::{Page, Refusal, Slice, StorageError, Write, Written};

/// So often an intent is followed that others hand over meanwhile.
const ATTEMPTS: usize = 16;
const KIND: &str = "payment intent";

/// An intent, or what it left behind where it was.
#[derive(Clone)]
struct Placed {
    intent: PaymentIntent,
    handed_to: Option<usize>,
    hops: i64,
}

fn read(row: &Row<'_>) -> Result<Placed> {
    let columns = Columns::new(row, "payment_intents");
    let to: Option<i64> = columns.get("handed_to")?;
    let handed_to = to.map(|to| columns.checked("handed_to", usize::try_from(to))).transpose()?;
    Ok(Placed { intent: intents::read(row)?, handed_to, hops: columns.get("hops")? })
}

fn placed(connection: &Connection, id: PaymentIntentId) -> Result<Option<Placed>> {
    first(connection, "SELECT * FROM payment_intents WHERE id = ?1", [id.to_string()], read)
}

fn not_found(id: PaymentIntentId) -> StorageError {
    StorageError::NotFound { kind: KIND, id: id.to_string() }
}

/// Whether it is not there, at this partition or at all.
pub(super) fn is_gone(error: &StorageError) -> bool {
    matches!(error, StorageError::NotFound { kind: KIND, .. })
}

/// The time of the database: a move comes with a payment's facts, which have none.
fn now(connection: &Connection) -> Result<Timestamp> {
    let now = "SELECT CAST(extract(epoch FROM now()) * 1000 AS BIGINT) AS now";
    let now =
        first(connection, now, params![], |row| Columns::new(row, "payment_intents").time("now"))?;
    found(now, "time", "now")
}

fn record(connection: &Connection, id: PaymentIntentId, detail: String) -> Result<()> {
    let (action, at) = (AuditAction::IntentMoved, now(connection)?);
    connection.record(&AuditEvent::of_platform(action, id.to_string(), Some(detail), at))
}

/// Where it is: that it goes from here. Asked again, it says again what goes.
fn hand_over(connection: &Connection, id: PaymentIntentId, to: usize) -> Result<Placed> {
    lock(connection, Guard::Intent, id)?;
    let here = found(placed(connection, id)?, KIND, id)?;
    match here.handed_to {
        Some(before) if before == to => return Ok(here),
        Some(_) => return Err(StorageError::Conflict),
        None => {}
    }
    match here.intent.status {
        IntentStatus::RequiresPaymentMethod
        | IntentStatus::RequiresConfirmation
        | IntentStatus::RequiresAction => {}
        status @ (IntentStatus::Processing
        | IntentStatus::RequiresCapture
        | IntentStatus::Canceled
        | IntentStatus::Succeeded) => {
            return Err(IntentError::NotFrom { status, done: "paid with this card" }.into());
        }
    }
    let number = i64::try_from(to).unwrap_or(i64::MAX);
    let go = "UPDATE payment_intents SET handed_to = ?2 WHERE id = ?1";
    execute(connection, go, params![id.to_string(), number])?;
    record(connection, id, format!("to partition {to}"))?;
    Ok(here)
}

/// Where it goes to, unless it came already.
fn take_over(connection: &Connection, from: usize, gone: &Placed) -> Result<()> {
    let Placed { intent, hops, .. } = gone;
    let hops = hops.saturating_add(1);
    lock(connection, Guard::Intent, intent.id)?;
    if placed(connection, intent.id)?.is_some_and(|here| here.hops >= hops) {
        return Ok(());
    }
    // A terminal waits for one payment at a time, and the newer one is known where it was armed.
    if let Some(arming) = intent.arming
        && let Some(older) = intents::armed_to_change(connection, arming.terminal)?
        && older.id != intent.id
    {
        intents::update(connection, &older.disarmed())?;
    }
    let arming = intent.arming;
    let come = "INSERT INTO payment_intents (id, merchant_id, amount, currency, reference, capture_method, status,
            armed_terminal_id, arming_state, arming_expires_at, captured, refunded, created_at, hops)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, ?11, ?12)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, armed_terminal_id = excluded.armed_terminal_id,
            arming_state = excluded.arming_state, arming_expires_at = excluded.arming_expires_at,
            handed_to = NULL, hops = excluded.hops
        WHERE payment_intents.hops < excluded.hops";
    let came = execute(
        connection,
        come,
        params![
            intent.id.to_string(),
            intent.merchant.to_string(),
            intent.amount.minor,
            intent.amount.currency.code(),
            intent.reference,
            intent.capture_method.as_str(),
            intent.status.as_str(),
            arming.map(|arming| arming.terminal.to_string()),
            arming.map(|arming| arming.state.as_str()),
            arming.map(|arming| arming.expires_at.unix_millis()),
            intent.created_at.unix_millis(),
            hops,
        ],
    )?;
    // Somebody else may have finished it meanwhile.
    if came == 0 { Ok(()) } else { record(connection, intent.id, format!("from partition {from}")) }
}

/// An intent, and where it is to be.
pub(super) type Wanted = (PaymentIntentId, Option<usize>);

impl PartitionedStorage {
    /// Brings intents to where they are to be, each for itself; where no place is said it stays. Where each is then.
    pub(super) fn bring(&self, wanted: &[Wanted]) -> Vec<Result<usize>> {
        let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
        let at_home = match self.at_home(&ids) {
            Ok(at_home) => at_home,
            Err(error) => return wanted.iter().map(|_| Err(error.clone())).collect(),
        };
        // From the home, where nearly all of them are, with two commits for all that go to one partition.
        let mut leaving: BTreeMap<usize, Vec<PaymentIntentId>> = BTreeMap::new();
        for (id, to) in wanted {
            let is_here = at_home.get(id).is_some_and(|here| here.handed_to.is_none());
            if let Some(to) = to.filter(|to| *to != 0 && is_here) {
                let leaving = leaving.entry(to).or_default();
                if !leaving.contains(id) {
                    leaving.push(*id);
                }
            }
        }
        let mut refused = HashMap::new();
        for (to, leaving) in leaving {
            for (id, left) in self.leave_home(&leaving, to) {
                if let Err(error) = left {
                    refused.insert(id, error);
                }
            }
        }
        let brought = wanted.iter().map(|(id, to)| match refused.get(id) {
            Some(error) => Err(error.clone()),
            None => self.bring_one(*id, *to),
        });
        brought.collect()
    }

    fn at_home(&self, ids: &[PaymentIntentId]) -> Result<HashMap<PaymentIntentId, Placed>> {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let ids = ids.join(" ");
        let found = self.home.read(|home| {
            let all_of = "SELECT * FROM payment_intents WHERE id = ANY (string_to_array(?1, ' '))";
            all(home, all_of, [ids.as_str()], read)
        })?;
        Ok(found.into_iter().map(|placed| (placed.intent.id, placed)).collect())
    }

    fn leave_home(
        &self,
        leaving: &[PaymentIntentId],
        to: usize,
    ) -> Vec<(PaymentIntentId, Result<()>)> {
        // Not from where they are, if nobody is where they are to go.
        let there = match self.at(to) {
            Ok(there) => there,
            Err(error) => return leaving.iter().map(|id| (*id, Err(error.clone()))).collect(),
        };
        let jobs = leaving.iter().map(|&id| move |home: &Connection| hand_over(home, id, to));
        let left = self.home.write_all(jobs.collect());
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        for (id, left) in leaving.iter().zip(left) {
            match left {
                Ok(placed) => gone.push(placed),
                // Somebody else was faster: it is followed.
                Err(StorageError::Conflict) => {}
                Err(error) => came.push((*id, Err(error))),
            }
        }
        let ids: Vec<_> = gone.iter().map(|placed| placed.intent.id).collect();
        let jobs = gone
            .into_iter()
            .map(|gone| move |connection: &Connection| take_over(connection, 0, &gone));
        let taken = there.write_all(jobs.collect());
        for (id, taken) in ids.into_iter().zip(taken) {
            if taken.is_ok() {
                self.intents.note(id, to);
            } else if let Err(StorageError::Moved(_)) = &taken {
                self.leave(to, &there);
            }
            came.push((id, taken));
        }
        came
    }

    /// Brings one, from wherever it is.
    fn bring_one(&self, id: PaymentIntentId, to: Option<usize>) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let at = self.follow(id)?;
            let Some(to) = to.filter(|to| *to != at) else { return Ok(at) };
            let there = self.at(to)?;
            let gone =
                self.ask(at, |here| here.write(move |connection| hand_over(connection, id, to)));
            match gone {
                Ok(gone) => self.arrive(&there, to, at, gone)?,
                Err(StorageError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StorageError::Busy)
    }

    /// Where an intent is, which stays there.
    pub(super) fn bring_here(&self, id: PaymentIntentId) -> Result<usize> {
        self.follow(id)
    }

    fn arrive(&self, there: &PostgresStorage, to: usize, from: usize, gone: Placed) -> Result<()> {
        let id = gone.intent.id;
        there.write(move |connection| take_over(connection, from, &gone))?;
        self.intents.note(id, to);
        Ok(())
    }

    /// Where an intent is: from the home, the way it was handed. What was between two is brought to its end.
    fn follow(&self, id: PaymentIntentId) -> Result<usize> {
        let (mut at, mut hops) = (0, 0);
        for _ in 0..ATTEMPTS.saturating_mul(self.count()) {
            let here = self.ask(at, |store| store.read(|connection| placed(connection, id)))?;
            let Some(here) = here.filter(|here| here.hops >= hops) else {
                // It was on its way here: only where it comes from knows what it is.
                return Err(if hops == 0 { not_found(id) } else { StorageError::Conflict });
            };
            let Some(to) = here.handed_to else {
                self.intents.note(id, at);
                return Ok(at);
            };
            let from = std::mem::replace(&mut at, to);
            hops = here.hops.saturating_add(1);
            let there = self.at(to)?;
            let has_come = there
                .read(|connection| placed(connection, id))?
                .is_some_and(|come| come.hops >= hops);
            if !has_come {
                self.arrive(&there, to, from, here)?;
            }
        }
        Err(StorageError::Busy)
    }

    /// Does something where an intent is; again, if it is handed over meanwhile.
    pub(super) fn of_intent<T>(
        &self,
        id: PaymentIntentId,
        job: impl Fn(&PostgresStorage) -> Result<T>,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            match self.ask(self.follow(id)?, &job) {
                Err(error) if is_gone(&error) => {}
                said => return said,
            }
        }
        Err(StorageError::Busy)
    }

    /// Whether the terminal waits for another payment, which was handed over.
    fn refuse_busy(&self, terminal: TerminalId, id: PaymentIntentId, now: Timestamp) -> Result<()> {
        for partition in 1..self.count() {
            // One that is away decides nothing.
            let armed = self.ask(partition, |store| store.armed_intent(terminal, now));
            match armed {
                Ok(Some(other)) if other.id != id => {
                    return Err(Refusal::TerminalBusy(other.id).into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl IntentStore for PartitionedStorage {
    fn create_intent(
        &self,
        intent: PaymentIntent,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.home.create_intent(intent, write)
    }

    fn intent(&self, id: PaymentIntentId) -> Result<Option<PaymentIntent>> {
        match self.of_intent(id, |store| found(store.intent(id)?, KIND, id)) {
            Err(error) if is_gone(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    fn list_intents(
        &self,
        merchant: Option<MerchantId>,
        page: Page<PaymentIntentId>,
    ) -> Result<Slice<PaymentIntent, PaymentIntentId>> {
        self.listed(page, |intent| intent.id, |store, page| store.list_intents(merchant, page))
    }

    /// In the home, to which the intent comes back for it: a terminal waits for one payment at a time.
    fn arm_intent(
        &self,
        id: PaymentIntentId,
        terminal: TerminalId,
        expires_at: Timestamp,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.refuse_busy(terminal, id, write.now)?;
        match self.bring_one(id, Some(0)) {
            // Paid, or given up: where it is says so.
            Err(StorageError::Refused(_)) => {
                let arm = |store: &PostgresStorage| {
                    store.arm_intent(id, terminal, expires_at, write.clone())
                };
                return self.of_intent(id, arm);
            }
            brought => brought?,
        };
        self.home.arm_intent(id, terminal, expires_at, write)
    }

    fn cancel_intent(
        &self,
        id: PaymentIntentId,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.of_intent(id, |store| store.cancel_intent(id, write.clone()))
    }

    fn capture_intent(
        &self,
        id: PaymentIntentId,
        amount_minor: Option<i64>,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.of_intent(id, |store| store.capture_intent(id, amount_minor, write.clone()))
    }
}
