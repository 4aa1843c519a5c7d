//! Payment intents: made and armed in the home, and handed over to the partition of the card that is tapped.
//!
//! Nobody knows with which card an intent will be paid when it is made, and its approval has to be one transaction with the
//! card's money. So it moves, as long as nothing was paid for it: in one transaction where it is, which writes down where it
//! goes, and in another where it goes to. In between it is nowhere, and whoever asks for it finishes the second. Two that want it
//! in two partitions stand behind one lock, where it is. What stays behind is no intent any more, to nobody there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tapfer_payment_types::{MerchantId, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::intents::{Arming, ArmingState, IntentError, IntentStatus, PaymentIntent};

use super::PartitionedStorage;
use crate::postgres::PostgresStorage;
use crate::relational::rows::{Columns, all, execute, first, found, lock};
use crate::relational::sql::{Connection, Guard, Row, params};
use crate::relational::{Engine as _, Result, intents, of_each};
use crate::store::{IntentStore, TerminalStore as _};
use crate::{Page, Refusal, Slice, StorageError, Write, Written};

/// So often an intent is followed that others hand over meanwhile.
pub(super) const ATTEMPTS: usize = 16;
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

/// Where it is: that it goes from here, for a terminal. Asked again, it says again what goes.
fn hand_over(
    connection: &Connection,
    id: PaymentIntentId,
    to: usize,
    terminal: TerminalId,
) -> Result<Placed> {
    lock(connection, Guard::Intent, id)?;
    let here = found(placed(connection, id)?, KIND, id)?;
    match here.handed_to {
        Some(before) if before == to => {
            connection.vouch()?;
            return Ok(here);
        }
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
    record(connection, id, format!("to partition {to}, for {terminal}"))?;
    Ok(here)
}

/// The arming with which an intent comes. A terminal waits for one payment at a time: of two the one that was armed later, which
/// ends later, since the first had to be over before. The other one waits no more.
fn arming_here(connection: &Connection, come: &PaymentIntent) -> Result<Option<Arming>> {
    let Some(arming) = come.arming.filter(|arming| arming.state == ArmingState::Armed) else {
        return Ok(come.arming);
    };
    let other = intents::armed_to_change(connection, arming.terminal)?;
    let Some(other) = other.filter(|other| other.id != come.id) else { return Ok(Some(arming)) };
    let is_newer = other.arming.is_some_and(|other| other.expires_at > arming.expires_at);
    if is_newer {
        return Ok(Some(Arming { state: ArmingState::Consumed, ..arming }));
    }
    let other = other.disarmed();
    intents::update(connection, &other)?;
    let detail = format!("{} waits no more for it: {} came, armed later", arming.terminal, come.id);
    record(connection, other.id, detail)?;
    Ok(Some(arming))
}

/// Where it goes to, unless it came already.
fn take_over(connection: &Connection, from: usize, gone: &Placed) -> Result<()> {
    let Placed { intent, hops, .. } = gone;
    let hops = hops.saturating_add(1);
    lock(connection, Guard::Intent, intent.id)?;
    if placed(connection, intent.id)?.is_some_and(|here| here.hops >= hops) {
        return Ok(());
    }
    let arming = arming_here(connection, intent)?;
    let intent = match arming {
        Some(Arming { state: ArmingState::Consumed, .. }) => intent.clone().disarmed(),
        _ => intent.clone(),
    };
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

/// An intent that is to be somewhere, or to stay where it is, for a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) id: PaymentIntentId,
    pub(super) to: Option<usize>,
    pub(super) terminal: TerminalId,
}

/// Intents as the home knows them, and whose terminals are.
struct AtHome {
    intents: HashMap<PaymentIntentId, Placed>,
    merchants: HashMap<TerminalId, MerchantId>,
}

impl AtHome {
    /// What is to be done: for another merchant's terminal an intent goes nowhere. Of whom they are never changes.
    fn allowed(&self, wanted: &Wanted) -> Wanted {
        let of = self.intents.get(&wanted.id).map(|here| here.intent.merchant);
        let is_own = of.is_some() && of == self.merchants.get(&wanted.terminal).copied();
        Wanted { to: wanted.to.filter(|_| is_own), ..*wanted }
    }

    fn is_here(&self, id: PaymentIntentId) -> bool {
        self.intents.get(&id).is_some_and(|here| here.handed_to.is_none())
    }
}

impl PartitionedStorage {
    /// Brings intents to where they are to be, each for itself; where no place is said it stays. Where each is then.
    pub(super) fn bring(&self, wanted: &[Wanted]) -> Vec<Result<usize>> {
        let at_home = match self.at_home(wanted) {
            Ok(at_home) => at_home,
            Err(error) => return of_each(wanted.len(), &error),
        };
        let wanted: Vec<_> = wanted.iter().map(|wanted| at_home.allowed(wanted)).collect();
        // From the home, where nearly all of them are, with two commits for all that go to one partition.
        let mut leaving: BTreeMap<usize, BTreeMap<PaymentIntentId, TerminalId>> = BTreeMap::new();
        for Wanted { id, to, terminal } in &wanted {
            if let Some(to) = to.filter(|to| *to != 0 && at_home.is_here(*id)) {
                leaving.entry(to).or_default().entry(*id).or_insert(*terminal);
            }
        }
        let refused = self.leave_home(leaving);
        let brought = wanted.into_iter().map(|wanted| match refused.get(&wanted.id) {
            Some(error) => Err(error.clone()),
            None => self.bring_one(wanted),
        });
        brought.collect()
    }

    fn at_home(&self, wanted: &[Wanted]) -> Result<AtHome> {
        let ids: Vec<_> = wanted.iter().map(|wanted| wanted.id.to_string()).collect();
        let terminals: BTreeSet<_> =
            wanted.iter().map(|wanted| wanted.terminal.to_string()).collect();
        let terminals: Vec<_> = terminals.into_iter().collect();
        let (ids, terminals) = (ids.join(" "), terminals.join(" "));
        self.home.read(|home| {
            let all_of = "SELECT * FROM payment_intents WHERE id = ANY (string_to_array(?1, ' '))";
            let intents = all(home, all_of, [ids.as_str()], read)?;
            let all_of =
                "SELECT id, merchant_id FROM terminals WHERE id = ANY (string_to_array(?1, ' '))";
            let merchants = all(home, all_of, [terminals.as_str()], |row| {
                let columns = Columns::new(row, "terminals");
                Ok((columns.parse("id")?, columns.parse("merchant_id")?))
            })?;
            let intents = intents.into_iter().map(|placed| (placed.intent.id, placed)).collect();
            Ok(AtHome { intents, merchants: merchants.into_iter().collect() })
        })
    }

    /// Hands intents over from the home, each to its partition; those that did not come there, and why.
    fn leave_home(
        &self,
        leaving: BTreeMap<usize, BTreeMap<PaymentIntentId, TerminalId>>,
    ) -> HashMap<PaymentIntentId, StorageError> {
        let mut refused = HashMap::new();
        let mut coming = Vec::new();
        for (to, leaving) in leaving {
            // Not from where they are, if nobody is where they are to go.
            if let Err(error) = self.at(to) {
                refused.extend(leaving.into_keys().map(|id| (id, error.clone())));
                continue;
            }
            let jobs = leaving
                .iter()
                .map(|(&id, &terminal)| move |home: &Connection| hand_over(home, id, to, terminal));
            let left = self.home.write_all(jobs.collect());
            let mut gone = Vec::new();
            for (id, left) in leaving.into_keys().zip(left) {
                match left {
                    Ok(placed) => gone.push(placed),
                    // Somebody else was faster: it is followed.
                    Err(StorageError::Conflict) => {}
                    Err(error) => drop(refused.insert(id, error)),
                }
            }
            coming.push((to, gone));
        }
        let ids: Vec<Vec<_>> = coming
            .iter()
            .map(|(_, gone)| gone.iter().map(|placed| placed.intent.id).collect())
            .collect();
        let places: Vec<_> = coming.iter().map(|(to, _)| *to).collect();
        let taken = self.side_by_side(coming, |there, gone| {
            let jobs = gone
                .into_iter()
                .map(|gone| move |connection: &Connection| take_over(connection, 0, &gone));
            there.write_all(jobs.collect())
        });
        for ((to, ids), taken) in places.into_iter().zip(ids).zip(taken) {
            let taken = taken.unwrap_or_else(|error| of_each(ids.len(), &error));
            for (id, taken) in ids.into_iter().zip(taken) {
                match taken {
                    Ok(()) => self.intents.note(id, to),
                    Err(error) => drop(refused.insert(id, error)),
                }
            }
        }
        refused
    }

    /// Brings one, from wherever it is.
    fn bring_one(&self, Wanted { id, to, terminal }: Wanted) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let at = self.follow(id)?;
            let Some(to) = to.filter(|to| *to != at) else { return Ok(at) };
            // Not from where it is, if nobody is where it is to go.
            self.at(to)?;
            let gone = self.within(at, move |here| {
                here.write(move |connection| hand_over(connection, id, to, terminal))
            });
            match gone {
                Ok(gone) => self.arrive(to, at, gone)?,
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

    fn arrive(&self, to: usize, from: usize, gone: Placed) -> Result<()> {
        let id = gone.intent.id;
        self.within(to, move |there| {
            there.write(move |connection| take_over(connection, from, &gone))
        })?;
        self.intents.note(id, to);
        Ok(())
    }

    /// Where an intent is: from the home, the way it was handed. What was between two is brought to its end.
    fn follow(&self, id: PaymentIntentId) -> Result<usize> {
        let (mut at, mut hops) = (0, 0);
        for _ in 0..ATTEMPTS.saturating_mul(self.count()) {
            let here = self.ask(at, |store| store.read(|connection| placed(connection, id)))?;
            let Some(here) = here.filter(|here| here.hops >= hops) else {
                if hops == 0 {
                    return Err(not_found(id));
                }
                // It was here, and is not: from the beginning, for only where it comes from knows what it is.
                (at, hops) = (0, 0);
                continue;
            };
            let Some(to) = here.handed_to else {
                self.intents.note(id, at);
                return Ok(at);
            };
            let from = std::mem::replace(&mut at, to);
            hops = here.hops.saturating_add(1);
            let come = self.ask(to, |there| there.read(|connection| placed(connection, id)))?;
            if come.is_none_or(|come| come.hops < hops) {
                // That it was handed over was only read: a commit that gave up waiting for its standby is seen by everybody.
                self.within(from, |from| from.write(|connection| connection.vouch()))?;
                self.arrive(to, from, here)?;
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
            let armed = self.ask(partition, |store| store.armed_intent(terminal, now));
            match armed {
                Ok(Some(other)) if other.id != id => {
                    return Err(Refusal::TerminalBusy(other.id).into());
                }
                // One that is away decides nothing.
                Ok(_) | Err(StorageError::Unreachable(_) | StorageError::Moved(_)) => {}
                Err(error) => return Err(error),
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
        let arm =
            |store: &PostgresStorage| store.arm_intent(id, terminal, expires_at, write.clone());
        for _ in 0..ATTEMPTS {
            let brought = self.bring(&[Wanted { id, to: Some(0), terminal }]);
            let at = match brought.into_iter().next().unwrap_or(Err(StorageError::Abandoned)) {
                // Paid, or given up: where it is says so.
                Err(StorageError::Refused(_)) => return self.of_intent(id, arm),
                brought => brought?,
            };
            match self.ask(at, arm) {
                // A card was tapped for it meanwhile.
                Err(error) if is_gone(&error) => {}
                armed => return armed,
            }
        }
        Err(StorageError::Busy)
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
