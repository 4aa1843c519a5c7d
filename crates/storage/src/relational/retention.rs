//! What has ended: found, erased when its limit is over, counted.

use tapfer_payment_types::Timestamp;
use tapfer_payments::audit::{AuditAction, AuditEvent};
use tapfer_payments::retention::{EndedKind, RetentionLimit};

use super::rows::{Columns, all, execute, first, found};
use super::sql::{Connection, params};
use super::{Changed, Engine, Result, audit};
use crate::{AuditRecord, Refusal, Write, Written};

/// So many are erased in one transaction: whatever comes meanwhile waits for them, and its line of the audit log names them.
pub(crate) const ERASED_AT_ONCE: u16 = 50;

/// So far a clock may stand ahead of what it said when something was erased last, an hour ago where a platform runs: as old as a backup
/// gets, and as long as a platform may be switched off.
const CLOCK_MAY_LEAD_SECONDS: i64 = 90 * 86_400;

pub(crate) fn limit(connection: &Connection) -> Result<RetentionLimit> {
    let limit = first(connection, "SELECT one, days FROM retention", params![], |row| {
        let columns = Columns::keyed(row, "retention", "one");
        columns.checked("days", RetentionLimit::new(columns.number("days")?))
    })?;
    found(limit, "retention limit", 1)
}

/// Sets the limit. Whoever does it has looked at the clock: it is believed from here on, `clock` says which one.
pub(crate) fn set_limit<E: Engine>(
    engine: &E,
    limit: RetentionLimit,
    reason: String,
    write: Write<RetentionLimit>,
    clock: fn(&Connection, Timestamp) -> Result<Timestamp>,
) -> Result<Written<RetentionLimit>> {
    engine.change(write, AuditAction::RetentionSet, move |connection, now| {
        let (days, now) = (limit.days(), clock(connection, now)?.unix_millis());
        let set = "UPDATE retention SET days = ?1, clock = ?2 WHERE one = 1";
        execute(connection, set, params![days, now])?;
        Ok(Changed::new(limit, "retention").because(format!("{days} days: {reason}")))
    })
}

/// What the clock said when it was believed last; `None` of a new realm.
fn believed(connection: &Connection) -> Result<Option<Timestamp>> {
    let clock = first(connection, "SELECT one, clock FROM retention", params![], |row| {
        Columns::keyed(row, "retention", "one").time_optional("clock")
    })?;
    Ok(clock.flatten())
}

/// Whether a clock that says this is to be doubted.
fn is_far_ahead(now: Timestamp, before: Option<Timestamp>) -> bool {
    before.is_some_and(|before| now > before.plus_seconds(CLOCK_MAY_LEAD_SECONDS))
}

/// Takes note of the time by which something is to be erased. It never goes back: a clock that was set back and then right would be
/// far ahead of it.
///
/// # Errors
/// [`Refusal::ClockAhead`]: it stays as it was, however often it is asked.
pub(crate) fn believe(connection: &Connection, now: Timestamp) -> Result<()> {
    let before = believed(connection)?;
    if let Some(before) = before.filter(|_| is_far_ahead(now, before)) {
        let days = limit(connection)?.days();
        return Err(Refusal::ClockAhead { now, before, days }.into());
    }
    let note = "UPDATE retention SET clock = ?1 WHERE clock IS NULL OR clock < ?1";
    execute(connection, note, [now.unix_millis()]).map(drop)
}

/// What time it is by a server's own clock.
pub(crate) fn clock(connection: &Connection) -> Result<Timestamp> {
    let sql = "SELECT CAST(date_part('epoch', clock_timestamp()) * 1000 AS BIGINT) AS now";
    let now =
        first(connection, sql, params![], |row| Columns::keyed(row, "clock", "now").time("now"))?;
    found(now, "clock", 1)
}

/// Some of what is past the limit, behind the one with this id; all of it by and by.
pub(crate) fn past_limit(
    connection: &Connection,
    kind: EndedKind,
    now: Timestamp,
    behind: &str,
) -> Result<Vec<String>> {
    let past = limit(connection)?.past(now).unix_millis();
    let sql = "SELECT id FROM ended_data WHERE kind = ?1 AND ended_at < ?2 AND id > ?3 ORDER BY id LIMIT ?4";
    all(connection, sql, params![kind.as_str(), past, behind, ERASED_AT_ONCE], |row| {
        Columns::new(row, "ended_data").get("id")
    })
}

/// Erases, a part at a time, all that is past the limit and that `erase` takes; says how many.
pub(crate) fn in_parts(
    kind: EndedKind,
    find: impl Fn(EndedKind, &str) -> Result<Vec<String>>,
    erase: impl Fn(EndedKind, Vec<String>) -> Result<usize>,
) -> Result<usize> {
    let (mut erased, mut behind) = (0_usize, String::new());
    loop {
        let part = find(kind, &behind)?;
        let Some(last) = part.last() else { return Ok(erased) };
        behind.clone_from(last);
        erased = erased.saturating_add(erase(kind, part)?);
    }
}

/// Erases all that is past the limit at this time, where the store erases by itself; says how many.
pub(crate) fn erase_ended(engine: &impl Engine, now: Timestamp) -> Result<usize> {
    engine.write(move |connection| believe(connection, now))?;
    let mut erased = 0_usize;
    for kind in EndedKind::ALL {
        let find = |kind, behind: &str| {
            engine.read(|connection| past_limit(connection, kind, now, behind))
        };
        let erase = |kind, part: Vec<String>| {
            engine.write(move |connection| erase(connection, kind, &part, now))
        };
        erased = erased.saturating_add(in_parts(*kind, find, erase)?);
    }
    Ok(erased)
}

/// What of a row is erased, and what stands with it. A hash that is none is as long as no hash is, and of each row another.
const fn statements(kind: EndedKind) -> &'static [&'static str] {
    match kind {
        EndedKind::Token => &[
            "UPDATE tokens SET number_sealed = x'', number_hash = CAST(id AS BLOB), erased_at = ?2 WHERE id = ?1",
            "DELETE FROM person_keys WHERE token_id = ?1",
        ],
        EndedKind::Card => &[
            "UPDATE cards SET number_sealed = x'', number_hash = CAST(id AS BLOB), holder_reference = NULL,
                 erased_at = ?2 WHERE id = ?1",
            "DELETE FROM card_pins WHERE card_id = ?1",
        ],
        EndedKind::Device => &[
            "UPDATE devices SET label = 'erased', 
                 public_key = x'0400000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000' WHERE id = ?1",
            "DELETE FROM device_integrity WHERE device_id = ?1",
            "UPDATE api_keys SET revoked_at = ?2, signature = NULL WHERE device_id = ?1 AND revoked_at IS NULL",
        ],
    }
}

/// Erases what is past the limit of these rows of the embedded store, with its line in the audit log; says how many. In PostgreSQL
/// `erase_ended` does it, with rights that the platform does not have.
pub(crate) fn erase(
    connection: &Connection,
    kind: EndedKind,
    named: &[String],
    now: Timestamp,
) -> Result<usize> {
    let limit = limit(connection)?;
    let past = limit.past(now).unix_millis();
    let is_due = "SELECT id FROM ended_data WHERE kind = ?1 AND id = ?2 AND ended_at < ?3";
    let mut due: Vec<&str> = Vec::with_capacity(named.len());
    for id in named {
        if first(connection, is_due, params![kind.as_str(), id, past], |_| Ok(()))?.is_none() {
            continue;
        }
        for statement in statements(kind) {
            match statement.contains("?2") {
                true => execute(connection, statement, params![id, now.unix_millis()])?,
                false => execute(connection, statement, [id])?,
            };
        }
        due.push(id);
    }
    if due.is_empty() {
        return Ok(0);
    }
    execute(connection, "UPDATE retention SET is_rewritten = 0 WHERE is_rewritten = 1", params![])?;
    let detail = format!("{} past {} days: {}", due.len(), limit.days(), due.join(" "));
    let object = kind.as_str().to_owned();
    let event = AuditEvent::of_platform(AuditAction::DataErased, object, Some(detail), now);
    connection.record(&event)?;
    Ok(due.len())
}

/// What was kept too long, what is kept, and what was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionReport {
    /// For how long what has ended is kept.
    pub limit: RetentionLimit,
    /// Each kind.
    pub kinds: Vec<EndedRows>,
    /// Whether a clock that says what the reader's says, or the server's own, erases: see [`Refusal::ClockAhead`].
    pub is_clock_believed: bool,
    /// What the audit log tells of what was erased, the newest first, so many at most.
    pub erasures: Vec<AuditRecord>,
    /// Whether a file was written anew behind the newest erasure; until then its unused bytes may hold some of it. Nobody knows it of
    /// a server.
    pub is_rewritten: Option<bool>,
}

/// How many rows of a kind have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRows {
    /// Which.
    pub kind: EndedKind,
    /// Past the limit and not erased.
    pub past: u64,
    /// Since when the oldest of those has ended.
    pub oldest: Option<Timestamp>,
    /// Within the limit.
    pub kept: u64,
    /// Ended, and not erased as long as there is money.
    pub with_money: u64,
    /// Erased.
    pub erased: u64,
}

/// So many erasures are told.
const TOLD: u16 = 20;

/// What a database says at this moment.
pub(crate) fn report(
    connection: &Connection,
    now: Timestamp,
    is_file: bool,
) -> Result<RetentionReport> {
    let limit = limit(connection)?;
    let is_partition = !is_file
        && first(connection, "SELECT one FROM own_partition", params![], |_| Ok(()))?.is_some();
    // Of several databases none has all tokens of a phone.
    let kinds = EndedKind::ALL.iter().filter(|kind| !(is_partition && **kind == EndedKind::Device));
    let kinds =
        kinds.map(|kind| rows_of(connection, *kind, limit.past(now))).collect::<Result<_>>()?;
    let sql = "SELECT * FROM audit_events WHERE action = ?1 ORDER BY sequence DESC LIMIT ?2";
    let erasures =
        all(connection, sql, params![AuditAction::DataErased.as_str(), TOLD], audit::read)?;
    let is_rewritten = match is_file {
        true => first(connection, "SELECT one, is_rewritten FROM retention", params![], |row| {
            Columns::keyed(row, "retention", "one").get("is_rewritten")
        })?,
        false => None,
    };
    let is_clock_believed = !is_far_ahead(now, believed(connection)?);
    Ok(RetentionReport { limit, kinds, is_clock_believed, erasures, is_rewritten })
}

fn rows_of(connection: &Connection, kind: EndedKind, past: Timestamp) -> Result<EndedRows> {
    let (ended, erased) = match kind {
        EndedKind::Token => (
            "tokens WHERE ended_at IS NOT NULL AND erased_at IS NULL",
            "tokens WHERE erased_at IS NOT NULL",
        ),
        EndedKind::Card => (
            "cards WHERE closed_at IS NOT NULL AND erased_at IS NULL",
            "cards WHERE erased_at IS NOT NULL",
        ),
        EndedKind::Device => ("ended_data WHERE kind = 'device'", "devices WHERE label = 'erased'"),
    };
    let count = |from: &str| {
        let sql = format!("SELECT count(*) AS number FROM {from}");
        let counted = first(connection, &sql, params![], |row| {
            Columns::keyed(row, "ended_data", "number").number::<u64>("number")
        })?;
        Ok::<_, crate::StorageError>(counted.unwrap_or(0))
    };
    let sql = "SELECT count(*) AS number, min(ended_at) AS oldest FROM ended_data WHERE kind = ?1 AND ended_at < ?2";
    let counted = first(connection, sql, params![kind.as_str(), past.unix_millis()], |row| {
        let columns = Columns::keyed(row, "ended_data", "number");
        Ok((columns.number("number")?, columns.time_optional("oldest")?))
    })?;
    let (past, oldest) = counted.unwrap_or((0, None));
    let waiting = count(&format!("ended_data WHERE kind = '{kind}'"))?;
    Ok(EndedRows {
        kind,
        past,
        oldest,
        kept: waiting.saturating_sub(past),
        with_money: count(ended)?.saturating_sub(waiting),
        erased: count(erased)?,
    })
}
