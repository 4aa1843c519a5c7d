//! The journal: what was decided, before it stands in the tables.
//!
//! Payments that are decided together are one entry: their records behind one another, and a SHA-256 over them, the
//! entry's number and the hash of the entry before. So an entry that was altered, taken away or put in is found when
//! it is read, and named. The hash is no signature: it stops a failing disk, and the audit chain, which follows, stops
//! people.

pub(crate) mod bytes;
pub(crate) mod record;
#[cfg(test)]
pub(crate) mod tests;

use sha2::{Digest as _, Sha256};

use self::bytes::{Put, Take};
use crate::decided::Decided;

/// The layout of an entry, its first byte.
const FORMAT: u8 = 1;
/// What the hash begins with, so that it is no hash of anything else.
const DOMAIN: &[u8] = b"tapfer-journal-1";
/// Bytes that a record seldom exceeds.
const RECORD: usize = 640;

/// Why the journal is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalFault {
    /// An entry is gone.
    #[error("entry {expected} is missing; the next one there is {found}")]
    Missing {
        /// The number of the first that is gone.
        expected: u64,
        /// The number of the first that is there behind it.
        found: u64,
    },
    /// An entry is not the one that was written.
    #[error("entry {0} was altered")]
    Altered(u64),
    /// An entry is as it was written, and cannot be read: a newer program wrote it, or there is a defect.
    #[error(
        "entry {entry} cannot be read ({what}); a newer version of this program may have written it"
    )]
    Unreadable {
        /// Its number.
        entry: u64,
        /// The part.
        what: &'static str,
    },
}

/// Where the journal ends: the number of the last entry, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalEnd {
    /// Number of the last entry; 0 if there never was one.
    pub(crate) entry: u64,
    /// Its hash; zeros before the first.
    pub(crate) hash: [u8; 32],
}

/// An entry as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place and hash: the end of the journal up to it.
    pub(crate) end: JournalEnd,
    /// The records.
    pub(crate) records: Vec<u8>,
}

impl JournalEnd {
    fn behind(self, records: &[u8]) -> Self {
        let entry = self.entry.saturating_add(1);
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.hash);
        hash.update(entry.to_be_bytes());
        hash.update(records);
        Self { entry, hash: hash.finalize().into() }
    }

    /// The entry that keeps these payments, behind this end.
    pub(crate) fn entry_of(self, payments: &[Decided]) -> Entry {
        let mut records = Put(Vec::with_capacity(payments.len().saturating_mul(RECORD)));
        records.0.push(FORMAT);
        payments.iter().for_each(|decided| record::put(&mut records, decided));
        Entry { end: self.behind(&records.0), records: records.0 }
    }

    /// The payments of the entry that is said to stand behind this end.
    ///
    /// # Errors
    /// [`JournalFault`]
    pub(crate) fn read(self, entry: &Entry) -> Result<Vec<Decided>, JournalFault> {
        let expected = self.behind(&entry.records);
        let number = entry.end.entry;
        if number != expected.entry {
            return Err(JournalFault::Missing { expected: expected.entry, found: number });
        }
        if entry.end != expected {
            return Err(JournalFault::Altered(number));
        }
        payments(&entry.records)
            .map_err(|bytes::NoRecord(what)| JournalFault::Unreadable { entry: number, what })
    }
}

/// Reads records, one behind the other, to the last byte.
fn payments(records: &[u8]) -> Result<Vec<Decided>, bytes::NoRecord> {
    let mut from = Take(records);
    if from.u8("format")? != FORMAT {
        return Err(bytes::NoRecord("format"));
    }
    let mut payments = Vec::new();
    while !from.0.is_empty() {
        payments.push(record::take(&mut from)?);
    }
    Ok(payments)
}

/// Reads any bytes as the records of an entry, for tests of what a damaged disk may hold: whether they are, and that
/// written again they are the same bytes.
#[doc(hidden)]
#[must_use]
pub fn reads_back(records: &[u8]) -> Option<bool> {
    let payments = payments(records).ok()?;
    let start = JournalEnd { entry: 0, hash: [0; 32] };
    Some(start.entry_of(&payments).records == records)
}
