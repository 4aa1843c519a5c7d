//! The chain of hashes over the audit log, and the heads of it that were signed.

use std::ops::ControlFlow;

use tapfer_emv::audit_chain::{AuditHash, KnownHead, genesis};
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::configuration::{Restoration, SignedDocument};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payments::audit_chain::{ChainFault, Link, Walk};

use super::realm::realm;
use super::rows::{Columns, all, each, execute, first};
use super::sql::{Connection, Row, params};
use super::{Result, audit, devices};
use crate::{AuditRecord, ChainReport, Inconsistency, StorageError};

/// A place in the chain as a database counts.
pub(crate) fn place(sequence: u64) -> Result<i64> {
    i64::try_from(sequence).map_err(|_| no_link().into())
}

/// The beginning is written when the database is opened first.
fn no_link() -> Inconsistency {
    Inconsistency { table: "audit_links", id: "0".to_owned(), column: "hash" }
}

fn read_link(row: &Row<'_>) -> Result<Link> {
    let columns = Columns::keyed(row, "audit_links", "sequence");
    Ok(Link {
        sequence: columns.number("sequence")?,
        event: columns.get("event_hash")?,
        hash: columns.get("hash")?,
    })
}

pub(crate) fn read_document(row: &Row<'_>) -> Result<SignedDocument> {
    let columns = Columns::keyed(row, "audit_heads", "document");
    Ok(SignedDocument {
        document: columns.get("document")?,
        key: HexBytes(columns.get("key")?),
        signature: HexBytes(columns.get("signature")?),
    })
}

/// The last link.
pub(crate) fn last(connection: &Connection) -> Result<Link> {
    let newest = "SELECT * FROM audit_links ORDER BY sequence DESC LIMIT 1";
    Ok(first(connection, newest, params![], read_link)?.ok_or_else(no_link)?)
}

pub(crate) fn insert(connection: &Connection, link: &Link) -> Result<()> {
    let insert = "INSERT INTO audit_links (sequence, event_hash, hash) VALUES (?1, ?2, ?3)";
    execute(
        connection,
        insert,
        params![place(link.sequence)?, link.event.as_slice(), link.hash.as_slice()],
    )
    .map(|_| ())
}

/// Writes the beginning, and the links of the events that are older than the chain; in one transaction,
/// so that no event which comes by another way is ever taken for an old one.
pub(crate) fn begin(connection: &Connection) -> Result<()> {
    let any = "SELECT * FROM audit_links LIMIT 1";
    if first(connection, any, params![], read_link)?.is_some() {
        return Ok(());
    }
    let hash = genesis(realm(connection)?);
    let mut link = Link { sequence: 0, event: [0; 32], hash };
    insert(connection, &link)?;
    let older = "SELECT * FROM audit_events ORDER BY sequence";
    each(connection, older, params![], |row| {
        let AuditRecord { sequence, event } = audit::read(row)?;
        link = link.behind(&event);
        if place(link.sequence)? != sequence {
            let (table, id, column) = ("audit_events", sequence.to_string(), "sequence");
            return Err(Inconsistency { table, id, column }.into());
        }
        insert(connection, &link)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// The last restoration that the chain tells of, up to a place. A line that is no link of the chain, or another
/// than the one that was linked, is nobody's word: who reads it is told so, and signs nothing.
fn restored(connection: &Connection, up_to: u64) -> Result<Option<(Restoration, AuditRecord)>> {
    let newest = "SELECT * FROM audit_events WHERE action = 'platform.restored'
         AND result = 'succeeded' AND sequence <= ?1 ORDER BY sequence DESC LIMIT 1";
    let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
    let Some(record) = first(connection, newest, [up_to], audit::read)? else {
        return Ok(None);
    };
    let made_up =
        |column| Inconsistency { table: "audit_events", id: record.sequence.to_string(), column };
    let link = "SELECT * FROM audit_links WHERE sequence = ?1";
    let link = first(connection, link, [record.sequence], read_link)?;
    if link.is_none_or(|link| link.event != record.event.hash()) {
        return Err(made_up("sequence").into());
    }
    let number = Restoration::from_digits(&record.event.object).ok_or_else(|| made_up("object"))?;
    Ok(Some((number, record)))
}

/// Where the chain ends.
pub(crate) fn end(connection: &Connection) -> Result<KnownHead> {
    let link = last(connection)?;
    let restored = restored(connection, u64::MAX)?;
    let restoration = restored.map_or(Restoration::NEVER, |(number, _)| number);
    Ok(KnownHead { restoration, sequence: link.sequence, hash: link.hash })
}

pub(crate) fn event_hashes(
    connection: &Connection,
    after: u64,
    limit: u16,
) -> Result<Vec<AuditHash>> {
    let behind = "SELECT * FROM audit_links WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    let links = all(connection, behind, params![place(after)?, limit], read_link)?;
    Ok(links.iter().map(|link| link.event).collect())
}

pub(crate) fn newest_head(connection: &Connection) -> Result<Option<SignedDocument>> {
    let newest = "SELECT * FROM audit_heads ORDER BY rowid DESC LIMIT 1";
    first(connection, newest, params![], read_document)
}

pub(crate) fn put_head(
    connection: &Connection,
    head: &KnownHead,
    signed: &SignedDocument,
) -> Result<()> {
    if end_at(connection, head.sequence)? != Some(*head) {
        return Err(StorageError::Conflict);
    }
    let restoration = head.restoration.time().map_or(0, Timestamp::unix_millis);
    execute(
        connection,
        "INSERT INTO audit_heads (restoration, sequence, document, key, signature)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        params![
            restoration,
            place(head.sequence)?,
            signed.document,
            signed.key.0,
            signed.signature.0
        ],
    )?;
    Ok(())
}

/// The end that the chain had when it had so many events.
pub(crate) fn end_at(connection: &Connection, sequence: u64) -> Result<Option<KnownHead>> {
    let here = "SELECT * FROM audit_links WHERE sequence = ?1";
    let Some(link) = first(connection, here, params![place(sequence)?], read_link)? else {
        return Ok(None);
    };
    let restored = restored(connection, sequence)?;
    let restoration = restored.map_or(Restoration::NEVER, |(number, _)| number);
    Ok(Some(KnownHead { restoration, sequence, hash: link.hash }))
}

/// The restoration that is said at this moment. Later than the one before, unless that one is of a time so far to
/// come that nobody believes it: whatever stands in the log, there is a way on.
pub(crate) fn restore(connection: &Connection, now: Timestamp) -> Result<Restoration> {
    let before = match restored(connection, u64::MAX) {
        Ok(found) => found.map(|(number, _)| number),
        Err(StorageError::Inconsistent(_)) => None,
        Err(other) => return Err(other),
    };
    let number = match before {
        Some(before) if before >= Restoration::at(now) && before.may_have_been(now) => {
            before.next()
        }
        _ => Restoration::at(now),
    };
    devices::may_be_ahead(connection)?;
    Ok(number)
}

/// When the platform last went on from a backup.
pub(crate) fn last_restoration(connection: &Connection) -> Result<Option<Timestamp>> {
    Ok(restored(connection, u64::MAX)?.map(|(_, record)| record.event.at))
}

/// Whether each link from one place of the chain to another follows from the one before. Without a place to begin at that is the
/// last restoration, before which may be whatever it was said for, or the beginning.
pub(crate) fn leads(
    connection: &Connection,
    from: Option<KnownHead>,
    to: &KnownHead,
) -> Result<bool> {
    let mut reached = match from {
        Some(from) => from,
        None => before_restoration(connection, to.sequence)?,
    };
    let behind = "SELECT * FROM audit_links WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    while reached.sequence < to.sequence {
        let left = i64::try_from(to.sequence.saturating_sub(reached.sequence)).unwrap_or(i64::MAX);
        let asked = [place(reached.sequence)?, left.min(TOGETHER)];
        let links = all(connection, behind, asked, read_link)?;
        let follows = |link: &Link| {
            reached.follow(&link.event);
            (link.sequence, link.hash) == (reached.sequence, reached.hash)
        };
        if links.is_empty() || !links.iter().all(follows) {
            return Ok(false);
        }
    }
    Ok(reached.is_at(to).is_ok())
}

/// The place in front of the last restoration; the beginning, if there was none.
fn before_restoration(connection: &Connection, up_to: u64) -> Result<KnownHead> {
    let Some((_, record)) = restored(connection, up_to)? else {
        return Ok(KnownHead::beginning(realm(connection)?));
    };
    let before = u64::try_from(record.sequence).unwrap_or(0).saturating_sub(1);
    Ok(end_at(connection, before)?.ok_or_else(no_link)?)
}

/// Walks the chain, event by event, and compares the signed heads with what it found.
pub(crate) fn verify(connection: &Connection) -> Result<ChainReport> {
    let mut walk = Walk::new(realm(connection)?);
    let mut unread = 0;
    let fault = fault(connection, &mut walk, &mut unread)?;
    let sound = *walk.reached();
    let heads = "SELECT * FROM audit_heads ORDER BY rowid";
    let heads = all(connection, heads, params![], |row| {
        let sequence: u64 = Columns::keyed(row, "audit_heads", "sequence").number("sequence")?;
        Ok((sequence, read_document(row)?))
    })?;
    let heads = heads.into_iter().map(|(sequence, signed)| {
        let is_sound = sequence <= sound.sequence;
        let end = if is_sound { end_at(connection, sequence)? } else { None };
        Ok((signed, end))
    });
    let heads = heads.collect::<Result<_>>()?;
    let told = "SELECT * FROM audit_events WHERE action = 'platform.restored' ORDER BY sequence";
    let told = all(connection, told, params![], |row| Ok(audit::read(row).ok()))?;
    let restorations = told.into_iter().flatten().collect();
    Ok(ChainReport { sound, fault, heads, restorations, unread })
}

/// So many links are read together.
const TOGETHER: i64 = 1_024;

fn fault(connection: &Connection, walk: &mut Walk, unread: &mut u64) -> Result<Option<ChainFault>> {
    let chain = "SELECT l.sequence AS place, l.event_hash, l.hash, e.*
         FROM audit_links AS l LEFT JOIN audit_events AS e ON e.sequence = l.sequence
         WHERE l.sequence > ?1 ORDER BY l.sequence LIMIT ?2";
    loop {
        let reached = place(walk.reached().sequence)?;
        let steps = all(connection, chain, params![reached, TOGETHER], read_step)?;
        if steps.is_empty() {
            break;
        }
        for step in steps {
            *unread = unread.saturating_add(u64::from(step.is_unread));
            if let Some(fault) = step.take(connection, walk) {
                return Ok(Some(fault));
            }
        }
    }
    let beside = "SELECT sequence FROM audit_events AS e
         WHERE NOT EXISTS (SELECT 1 FROM audit_links AS l WHERE l.sequence = e.sequence)
         ORDER BY sequence LIMIT 1";
    let read = |row: &Row<'_>| Columns::keyed(row, "audit_events", "sequence").number("sequence");
    let added = first(connection, beside, params![], read)?;
    Ok(added.map(|sequence| ChainFault::Added { sequence }))
}

/// One link and the hash of the event beside it, if there is one.
struct Step {
    link: Link,
    event: Option<Result<AuditHash>>,
    /// The event makes no sense here.
    is_unread: bool,
}

fn read_step(row: &Row<'_>) -> Result<Step> {
    let columns = Columns::keyed(row, "audit_links", "place");
    let link = Link {
        sequence: columns.number("place")?,
        event: columns.get("event_hash")?,
        hash: columns.get("hash")?,
    };
    let is_there = columns.get::<Option<i64>>("sequence")?.is_some();
    let event = is_there.then(|| audit::hash(row));
    Ok(Step { link, event, is_unread: is_there && audit::read(row).is_err() })
}

impl Step {
    fn take(self, connection: &Connection, walk: &mut Walk) -> Option<ChainFault> {
        let event = match self.event {
            // Values of other kinds than any platform writes.
            Some(Err(_)) => return Some(ChainFault::Altered { sequence: self.link.sequence }),
            Some(Ok(hash)) => Some(hash),
            None => None,
        };
        let place_of = |hash: &AuditHash| place_of(connection, hash).ok().flatten();
        walk.step(&self.link, event, place_of).err()
    }
}

fn place_of(connection: &Connection, event: &AuditHash) -> Result<Option<u64>> {
    let written = "SELECT * FROM audit_links WHERE event_hash = ?1 ORDER BY sequence LIMIT 1";
    Ok(first(connection, written, params![event.as_slice()], read_link)?.map(|link| link.sequence))
}
