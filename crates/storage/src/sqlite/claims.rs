//! Which idempotency keys perhaps have an answer in the tables: nearly none of those that come has one, and to know that
//! without asking the tables is most of what a payment needs of them.
//!
//! A Bloom filter of a fixed size. What it does not know has no answer; what it may know is looked up, so that nothing but
//! time rests on how often it is wrong. Marks cannot be taken out one by one, so there are two generations: when the
//! answers of the old one are forgotten, it is dropped, and the young one becomes the old.

use std::fmt::Display;
use std::sync::{PoisonError, RwLock};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tapfer_payment_types::{ApiKeyId, Timestamp};

use crate::relational::Result;
use crate::{IdempotencyClaim, IdempotencyKey};

/// Words of a generation: 16 MiB, taken when they are first needed. With ten million marks one in ten strangers is looked up.
const WORDS: usize = 1 << 21;
/// If there are more answers than this when the store is opened, they are not read: all that comes is looked up until
/// they are forgotten.
const MOST_READ: i64 = 1_000_000;

/// A word of a generation, and the bits of it.
#[derive(Debug, Clone, Copy)]
struct Mark {
    word: usize,
    bits: u64,
}

impl Mark {
    /// An id of fixed length is in front, so no two pairs are one text.
    fn new(api_key: impl Display, key: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(api_key.to_string());
        hash.update(key);
        let hash = hash.finalize();
        let place =
            hash.iter().take(4).fold(0_usize, |place, byte| place << 8 | usize::from(*byte));
        let bits = hash.iter().skip(4).take(4).fold(0, |bits, byte| bits | 1_u64 << (byte & 63));
        Self { word: place % WORDS, bits }
    }
}

#[derive(Debug, Default)]
enum Marks {
    #[default]
    None,
    These(Vec<u64>),
    /// Nobody knows which.
    All,
}

#[derive(Debug, Default)]
struct Generation {
    marks: Marks,
    /// When the newest of its answers was given, milliseconds since 1970.
    newest: i64,
}

impl Generation {
    fn add(&mut self, mark: Mark, given: i64) {
        if let Marks::None = self.marks {
            self.marks = Marks::These(vec![0; WORDS]);
        }
        if let Marks::These(words) = &mut self.marks
            && let Some(word) = words.get_mut(mark.word)
        {
            *word |= mark.bits;
        }
        self.newest = self.newest.max(given);
    }

    fn may_have(&self, mark: Mark) -> bool {
        match &self.marks {
            Marks::None => false,
            Marks::These(words) => {
                words.get(mark.word).is_some_and(|word| word & mark.bits == mark.bits)
            }
            Marks::All => true,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Claims(RwLock<Filter>);

#[derive(Debug, Default)]
struct Filter {
    young: Generation,
    old: Generation,
}

impl Claims {
    /// Those that are in the tables.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) fn load(&self, connection: &Connection) -> Result<()> {
        self.load_up_to(MOST_READ, connection)
    }

    fn load_up_to(&self, most: i64, connection: &Connection) -> Result<()> {
        let more = "SELECT count(*) > ?1 FROM (SELECT 1 FROM idempotency_answers LIMIT ?1 + 1)";
        if connection.query_row(more, [most], |row| row.get(0))? {
            return self.know_nothing(connection);
        }
        let mut filter = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let rows = "SELECT api_key_id, key, created_at FROM idempotency_answers";
        let mut rows = connection.prepare(rows)?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let mark = Mark::new(row.get::<_, String>(0)?, &row.get::<_, String>(1)?);
            filter.old.add(mark, row.get(2)?);
        }
        Ok(())
    }

    /// The tables have other answers than are known here: whatever comes is looked up until they are forgotten.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub(super) fn know_nothing(&self, connection: &Connection) -> Result<()> {
        let newest = "SELECT coalesce(max(created_at), 0) FROM idempotency_answers";
        let newest = connection.query_row(newest, [], |row| row.get(0))?;
        let mut filter = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let newest = filter.old.newest.max(newest);
        filter.old = Generation { marks: Marks::All, newest };
        Ok(())
    }

    /// Whether the tables may have an answer; if not, they have none.
    pub(super) fn may_have(&self, claim: &IdempotencyClaim) -> bool {
        let mark = Mark::new(claim.api_key, claim.key.as_str());
        let filter = self.0.read().unwrap_or_else(PoisonError::into_inner);
        filter.young.may_have(mark) || filter.old.may_have(mark)
    }

    /// These are about to have one.
    pub(super) fn add<'c>(
        &self,
        claims: impl Iterator<Item = (ApiKeyId, &'c IdempotencyKey, Timestamp)>,
    ) {
        let mark = |(api_key, key, given): (ApiKeyId, &IdempotencyKey, _)| {
            (Mark::new(api_key, key.as_str()), given)
        };
        let marks: Vec<_> = claims.map(mark).collect();
        let mut filter = self.0.write().unwrap_or_else(PoisonError::into_inner);
        marks.into_iter().for_each(|(mark, given)| filter.young.add(mark, given.unix_millis()));
    }

    /// Answers that came with a change: API key, time and key, with blanks between.
    pub(super) fn follow(&self, noted: &[String]) {
        if noted.is_empty() {
            return;
        }
        let mut filter = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for text in noted {
            let mut parts = text.splitn(3, ' ');
            if let (Some(api_key), Some(given), Some(key)) =
                (parts.next(), parts.next(), parts.next())
            {
                filter.young.add(Mark::new(api_key, key), given.parse().unwrap_or(i64::MAX));
            }
        }
    }

    /// There is no answer any more that was given before this. Said by the thread that writes, when it sees that, so that none
    /// comes in between.
    pub(super) fn forgotten(&self, before: Timestamp) {
        let mut filter = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if before.unix_millis() > filter.old.newest {
            filter.old = std::mem::take(&mut filter.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tapfer_payment_types::{ApiKeyId, Secret, Timestamp};

    use super::Claims;
    use crate::{AnswerKey, IdempotencyClaim};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn claim(number: i64) -> IdempotencyClaim {
        let key = format!("key-{number}").parse().unwrap();
        let answers = AnswerKey::new(&Secret::new([9; 32]));
        let api_key = ApiKeyId::new(at(1), [7; 10]);
        IdempotencyClaim { api_key, key, fingerprint: [0; 32], answers }
    }

    /// Answers that were given at these times, under keys of the same numbers.
    fn tables(given: &[i64]) -> Connection {
        let tables = Connection::open_in_memory().unwrap();
        let make =
            "CREATE TABLE idempotency_answers (api_key_id TEXT, key TEXT, created_at INTEGER)";
        tables.execute_batch(make).unwrap();
        for number in given {
            let IdempotencyClaim { api_key, key, .. } = claim(*number);
            let row = (api_key.to_string(), key.as_str(), number);
            tables.execute("INSERT INTO idempotency_answers VALUES (?1, ?2, ?3)", row).unwrap();
        }
        tables
    }

    fn known(claims: &Claims, numbers: impl Iterator<Item = i64>) -> usize {
        numbers.filter(|number| claims.may_have(&claim(*number))).count()
    }

    #[test]
    fn what_has_an_answer_is_known_until_it_is_forgotten() {
        let claims = Claims::default();
        let given: Vec<_> = (1..=300).collect();
        claims.load(&tables(&given)).unwrap();
        let of_changes: Vec<_> = (301..=600)
            .map(|number| format!("{} {number} key-{number}", claim(1).api_key))
            .collect();
        claims.follow(&of_changes);
        let payments: Vec<_> = (601..=900).map(|number| (claim(number), at(number))).collect();
        claims.add(payments.iter().map(|(claim, given)| (claim.api_key, &claim.key, *given)));
        assert_eq!(known(&claims, 1..=900), 900);
        assert!(known(&claims, 1_000..=2_000) < 20, "strangers are seldom looked up");
        // Some of the old ones are there still.
        claims.forgotten(at(300));
        assert_eq!(known(&claims, 1..=900), 900);
        claims.forgotten(at(301));
        assert_eq!(known(&claims, 301..=900), 600);
        assert!(known(&claims, 1..=300) < 20);
        let last = claim(901);
        claims.add(std::iter::once((last.api_key, &last.key, at(901))));
        claims.forgotten(at(900));
        assert_eq!(known(&claims, 301..=901), 601, "the newest of the old ones is of that time");
        claims.forgotten(at(901));
        assert_eq!(known(&claims, 901..=901), 1);
        assert!(known(&claims, 1..=900) < 20);
    }

    #[test]
    fn more_than_can_be_read_are_looked_up_one_by_one() {
        let claims = Claims::default();
        claims.load_up_to(3, &tables(&[5, 6, 7])).unwrap();
        assert_eq!((known(&claims, 5..=7), known(&claims, 100..=199) < 5), (3, true));
        let claims = Claims::default();
        claims.load_up_to(2, &tables(&[5, 6, 7])).unwrap();
        assert_eq!(known(&claims, 100..=199), 100);
        claims.forgotten(at(7));
        assert_eq!(known(&claims, 100..=199), 100);
        claims.forgotten(at(8));
        assert_eq!(known(&claims, 100..=199), 0);
    }
}
