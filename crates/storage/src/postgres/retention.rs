//! Erasing on a server. The platform's login may delete nothing: a function with the owner's rights does it, by the database's own
//! clock, one caller at a time, and writes the line of the audit log itself (migration V12).

use std::ops::ControlFlow;

use tapfer_payment_types::Timestamp;
use tapfer_payments::retention::{EndedKind, RetentionLimit};

use super::PostgresStorage;
use crate::relational::rows::{each, first, lock};
use crate::relational::sql::{Connection, Guard, params};
use crate::relational::{Engine, Result, retention};
use crate::{RetentionStore, Write, Written};

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
        self.read(|connection| {
            let sql = "SELECT id FROM tokens WHERE device_id = ?1 AND erased_at IS NULL LIMIT 1";
            let mut without = Vec::with_capacity(devices.len());
            for device in devices.clone() {
                if first(connection, sql, [&device], |_| Ok(()))?.is_none() {
                    without.push(device);
                }
            }
            Ok(without)
        })
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
