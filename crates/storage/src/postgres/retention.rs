//! Erasing on a server. The platform's login may delete nothing: a function with the owner's rights does it, by the database's own
//! clock, one caller at a time, and writes the line of the audit log itself (migration V12).

use std::collections::HashSet;
use std::ops::ControlFlow;

use tapfer_payment_types::Timestamp;
use tapfer_payments::retention::{EndedKind, RetentionLimit};

use super::PostgresStorage;
use crate::relational::rows::{Columns, all, each, execute, lock};
use crate::relational::sql::{Connection, Guard, params};
use crate::relational::{Engine, Result, retention};
use crate::{RetentionStore, Write, Written};

/// A phone that was in use is asked about again behind this, and the home takes it for ended behind twice as long (migration V14).
const ASKED_AGAIN_SECONDS: i64 = 60 * 86_400;
/// Partitions are asked about so many phones at once.
const ASKED_TOGETHER: u16 = 500;

impl PostgresStorage {
    /// Takes note of the server's time, by which something is to be erased.
    ///
    /// # Errors
    /// [`crate::Refusal::ClockAhead`].
    fn believe_clock(&self) -> Result<()> {
        self.write(|connection| retention::believe(connection, retention::clock(connection)?))
    }

    /// Erases what is past the limit of all that is in one partition.
    pub(crate) fn erase_cards_and_tokens(&self, now: Timestamp) -> Result<usize> {
        self.believe_clock()?;
        let tokens = self.erase_ended_of(EndedKind::Token, now, Ok)?;
        Ok(tokens.saturating_add(self.erase_ended_of(EndedKind::Card, now, Ok)?))
    }

    /// Erases what is past the limit of a kind and, of each part, `chosen`, which is asked while phones are locked.
    pub(crate) fn erase_ended_of(
        &self,
        kind: EndedKind,
        now: Timestamp,
        chosen: impl Fn(Vec<String>) -> Result<Vec<String>>,
    ) -> Result<usize> {
        let find = |kind, behind: &str| {
            self.read(|connection| {
                retention::past_limit(connection, kind, retention::clock(connection)?, behind)
            })
        };
        let erase = |kind: EndedKind, part: Vec<String>| {
            self.transact(&self.pool, |session| {
                if kind == EndedKind::Device {
                    // Whoever makes a token for one of them waits from here on, and finds it erased.
                    part.iter().try_for_each(|device| lock(session, Guard::Device, device))?;
                }
                let named = chosen(part.clone())?.join(" ");
                let sql =
                    "SELECT id FROM erase_ended(?1, string_to_array(?2, ' '), ?3) AS erased (id)";
                let mut erased = 0_usize;
                each(session, sql, params![kind.as_str(), named, now.unix_millis()], |_| {
                    erased = erased.saturating_add(1);
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(erased)
            })
        };
        retention::in_parts(kind, find, erase)
    }

    /// Those phones that have no token here which is not erased.
    pub(crate) fn without_tokens(&self, devices: Vec<String>) -> Result<Vec<String>> {
        let named = devices.join(" ");
        let sql = "SELECT named.id AS id FROM unnest(string_to_array(?1, ' ')) AS named (id)
            WHERE NOT EXISTS (SELECT 1 FROM tokens WHERE device_id = named.id AND erased_at IS NULL)";
        self.read(|connection| {
            all(connection, sql, [named], |row| Columns::new(row, "tokens").get("id"))
        })
    }

    /// Takes note, in the home, of phones that have tokens elsewhere, which `without_tokens` says of all others. All that may be erased
    /// within the least limit were asked about long before, so that nobody there can take one for ended.
    pub(crate) fn note_phones_in_use(
        &self,
        without_tokens: impl Fn(Vec<String>) -> Result<Vec<String>>,
    ) -> Result<()> {
        let mut behind = String::new();
        loop {
            let sql = "SELECT d.id AS id FROM devices AS d LEFT JOIN phones_in_use AS p ON p.device_id = d.id
                WHERE greatest(d.created_at, p.seen_at) < ?1 AND d.id > ?2
                    AND substr(d.public_key, 2) <> decode(repeat('00', 64), 'hex')
                    AND NOT EXISTS (SELECT 1 FROM tokens AS t WHERE t.device_id = d.id AND t.erased_at IS NULL)
                ORDER BY d.id LIMIT ?3";
            let asked = self.read(|home| {
                let before = retention::clock(home)?.plus_seconds(-ASKED_AGAIN_SECONDS);
                let before = before.unix_millis();
                all(home, sql, params![before, behind, ASKED_TOGETHER], |row| {
                    Columns::new(row, "ended_data").get::<String>("id")
                })
            })?;
            let Some(last) = asked.last().cloned() else { return Ok(()) };
            behind = last;
            let without: HashSet<_> = without_tokens(asked.clone())?.into_iter().collect();
            let in_use = asked.into_iter().filter(|device| !without.contains(device));
            let in_use = in_use.collect::<Vec<_>>().join(" ");
            if in_use.is_empty() {
                continue;
            }
            self.write(move |home| {
                let note = "INSERT INTO phones_in_use (device_id, seen_at)
                    SELECT id, 0 FROM unnest(string_to_array(?1, ' ')) AS noted (id) ORDER BY id
                    ON CONFLICT (device_id) DO UPDATE SET seen_at = excluded.seen_at";
                execute(home, note, [in_use]).map(drop)
            })?;
        }
    }
}

impl RetentionStore for PostgresStorage {
    fn retention_limit(&self) -> Result<RetentionLimit> {
        self.read(retention::limit)
    }

    fn set_retention_limit(
        &self,
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>> {
        let clock = |connection: &Connection, _| retention::clock(connection);
        retention::set_limit(self, limit, reason, write, clock)
    }

    fn erase_ended(&self, now: Timestamp) -> Result<usize> {
        let erased = self.erase_cards_and_tokens(now)?;
        Ok(erased.saturating_add(self.erase_ended_of(EndedKind::Device, now, Ok)?))
    }
}
