//! What the thread that writes has on its desk: the connection, the journal's end, what the tables do not know yet, and
//! memory, which nobody else changes.
//!
//! Payments that wait are decided against memory and become one entry of the journal. Any other change works on the
//! tables, so whatever is ahead of them is written to them first, in the same transaction. When nothing waits, the
//! tables catch up.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use rusqlite::Connection;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::intents::PaymentIntent;

use super::ahead::AnswersAhead;
use super::claims::Claims;
use super::journal::{self, Ahead};
use super::touched::{self, Noted};
use crate::decided::Decided;
use crate::hot::{Hot, Touched};
use crate::journal::JournalEnd;
use crate::relational::known_keys::KnownKeys;
use crate::relational::lookup::Seen;
use crate::relational::{Result, authorizations, decided, idempotency, intents};
use crate::{CommitAuthorization, IdempotencyClaim, StoredResponse, Write, Written};

/// So many payments may be ahead of the tables; from then on, each lot waits until the tables have caught up by more
/// than it adds. It bounds how long a change or a list waits for the tables.
const MOST_AHEAD: usize = 16_384;
/// So many are written to the tables at once while nothing waits: whatever comes meanwhile waits for them.
const AT_ONCE: usize = 256;

/// What the writer shares with those who only look.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) hot: Arc<RwLock<Hot>>,
    pub(super) answers: Arc<AnswersAhead>,
    pub(super) claims: Arc<Claims>,
    pub(super) known_keys: Arc<KnownKeys>,
}

impl Shared {
    /// Nothing is known yet.
    pub(super) fn new(kept_of_each: usize) -> Self {
        Self {
            hot: Arc::new(RwLock::new(Hot::new(kept_of_each))),
            answers: Arc::default(),
            claims: Arc::default(),
            known_keys: Arc::default(),
        }
    }

    /// The answer given under a claim. Memory before the tables: what is not in memory any more is in its table by then,
    /// if they are looked at behind this.
    pub(super) fn answer_ahead(&self, claim: &IdempotencyClaim) -> Result<Given> {
        if is_skipped(Control::Idempotency) {
            return Ok(Given::None);
        }
        Ok(match self.answers.get(claim)? {
            Some(response) => Given::This(response),
            None if self.claims.may_have(claim) => Given::PerhapsInTables,
            None => Given::None,
        })
    }

    fn hot(&self) -> RwLockWriteGuard<'_, Hot> {
        self.hot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What memory knows of an answer.
pub(super) enum Given {
    This(StoredResponse),
    PerhapsInTables,
    None,
}

#[derive(Debug)]
pub(super) struct Desk {
    connection: Connection,
    shared: Shared,
    /// What is in the journal and not in the tables.
    ahead: VecDeque<Ahead>,
    end: JournalEnd,
    /// Whether memory was lost while something was ahead of the tables, which then know too little to fill it.
    is_behind: bool,
    /// Whether a commit is on the disk when SQLite says so.
    is_synced: bool,
    /// Changes when another program writes to the file.
    others: i64,
}

/// What a transaction changes besides the file, once it is on the disk.
#[derive(Default)]
pub(super) struct Turn {
    /// Decided now.
    fresh: Vec<Decided>,
    /// Their entry, if they are not in the tables at once.
    entry: Option<JournalEnd>,
    /// So many of the entries ahead are in the tables now.
    caught_up: usize,
    noted: Noted,
    intents: Vec<PaymentIntent>,
}

impl Desk {
    /// Takes the connection over, and brings the tables to where the journal is.
    ///
    /// # Errors
    /// [`StorageError::Journal`] if the journal is not as it was written.
    pub(super) fn new(connection: Connection, shared: Shared) -> Result<Self> {
        touched::note(&connection)?;
        shared.claims.load(&connection)?;
        let ahead: VecDeque<_> = journal::ahead(&connection)?.into();
        // The journal goes on behind what is in it, and not behind what the tables know.
        let end = match ahead.back() {
            Some(newest) => newest.end,
            None => journal::written(&connection)?,
        };
        for entry in &ahead {
            shared.claims.add(claims(&entry.payments));
            shared.answers.add(&entry.payments);
        }
        let mut desk = Self { end, ahead, ..Self::bare(connection, shared)? };
        while desk.catch_up()? {}
        Ok(desk)
    }

    /// A desk without a journal, for changes alone.
    pub(super) fn bare(connection: Connection, shared: Shared) -> Result<Self> {
        let end = JournalEnd { entry: 0, hash: [0; 32] };
        let others = others(&connection)?;
        let (ahead, is_behind, is_synced) = (VecDeque::new(), false, true);
        Ok(Self { connection, shared, ahead, end, is_behind, is_synced, others })
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction that is on the disk when it ends.
    pub(super) fn begin(&mut self) -> Result<Turn> {
        self.set_synced(true)?;
        self.begin_any()
    }

    fn set_synced(&mut self, is_synced: bool) -> Result<()> {
        if self.is_synced != is_synced {
            let level = if is_synced { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.is_synced = is_synced;
        }
        Ok(())
    }

    fn begin_any(&mut self) -> Result<Turn> {
        self.say("BEGIN IMMEDIATE")?;
        let mut turn = Turn::default();
        let others = others(&self.connection)?;
        if others != self.others {
            tracing::error!(
                target: "tapfer::security",
                event = "database_written_by_others",
                "another program writes to the database; while the platform runs, only the platform may"
            );
            self.others = others;
            self.forget();
            self.shared.claims.load(&self.connection)?;
        }
        if self.is_behind || self.shared.hot().is_full() {
            self.write_ahead(&mut turn, usize::MAX)?;
            self.shared.hot().let_go();
        }
        Ok(turn)
    }

    /// Takes one decision in, if what it rests on still holds, perhaps behind others of this transaction.
    pub(super) fn decide(
        &self,
        turn: &mut Turn,
        commit: CommitAuthorization,
        write: Write<Authorization>,
    ) -> Result<Written<Authorization>> {
        let Write { caller, claim, answer, now } = write;
        if let Some(claim) = &claim
            && let Some(stored) = self.stored_answer(turn, claim)?
        {
            return Ok(Written::Replayed(stored));
        }
        let authorization = authorizations::decided(&commit, now);
        let response = answer.to(&authorization);
        let answer = claim.map(|claim| (claim, response.clone()));
        let (tables, mut hot) = (Seen(&self.connection), self.shared.hot());
        let decided = hot.decide(&tables, &commit, authorization.clone(), caller, answer)?;
        turn.fresh.push(decided);
        Ok(Written::Done { value: authorization, response })
    }

    fn stored_answer(
        &self,
        turn: &Turn,
        claim: &IdempotencyClaim,
    ) -> Result<Option<StoredResponse>> {
        match Decided::answer_among(&turn.fresh, claim) {
            Some(answer) => answer.map(Some),
            None => match self.shared.answer_ahead(claim)? {
                Given::This(response) => Ok(Some(response)),
                Given::PerhapsInTables => idempotency::stored_answer(&self.connection, claim),
                Given::None => Ok(None),
            },
        }
    }

    /// Brings the tables up to everything that was decided, before a change of another kind.
    pub(super) fn write_all(&self, turn: &mut Turn) -> Result<()> {
        self.write_ahead(turn, usize::MAX)?;
        self.unnoted(|connection| {
            turn.fresh.iter().try_for_each(|decided| decided::write(connection, decided))
        })
    }

    /// Puts what was decided into the journal. Beyond so much, the tables catch up by more than that.
    pub(super) fn append(&self, turn: &mut Turn) -> Result<()> {
        if turn.fresh.is_empty() {
            return Ok(());
        }
        let fresh = turn.fresh.len();
        if self.shared.answers.payments().saturating_add(fresh) > MOST_AHEAD {
            self.write_ahead(turn, fresh.saturating_mul(2))?;
        }
        let entry = self.end.entry_of(&turn.fresh);
        turn.entry = Some(entry.end);
        journal::append(&self.connection, &entry)
    }

    /// Writes entries to the tables until there are so many payments, or no more.
    fn write_ahead(&self, turn: &mut Turn, payments: usize) -> Result<()> {
        let mut written = 0_usize;
        let mut last = None;
        self.unnoted(|connection| {
            for entry in self.ahead.iter().skip(turn.caught_up) {
                if written >= payments {
                    break;
                }
                entry
                    .payments
                    .iter()
                    .try_for_each(|decided| decided::write(connection, decided))?;
                written = written.saturating_add(entry.payments.len());
                turn.caught_up = turn.caught_up.saturating_add(1);
                last = Some(entry.end);
            }
            last.map_or(Ok(()), |end| journal::set_written(connection, end))
        })
    }

    /// Writes what memory knows already.
    fn unnoted(&self, write: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        touched::set_noting(&self.connection, false)?;
        write(&self.connection)?;
        touched::set_noting(&self.connection, true)
    }

    /// Takes note of what a change has touched.
    pub(super) fn look_at_changes(&self, turn: &mut Turn) -> Result<()> {
        turn.noted = touched::take(&self.connection)?;
        for touched in &turn.noted.facts {
            if let Touched::Intent(id) = touched {
                turn.intents.extend(intents::find(&self.connection, *id)?);
            }
        }
        Ok(())
    }

    /// Ends a transaction: it is on the disk, and memory follows.
    pub(super) fn commit(&mut self, turn: Turn) -> Result<()> {
        self.say("COMMIT")?;
        let Turn { fresh, entry, caught_up, noted, intents } = turn;
        self.shared.claims.follow(&noted.answers);
        self.shared.claims.add(claims(&fresh));
        let behind: Vec<_> = self.ahead.drain(..caught_up.min(self.ahead.len())).collect();
        let mut hot = self.shared.hot();
        for touched in noted.facts {
            hot.forget(touched);
        }
        intents.into_iter().for_each(|intent| hot.put_intent(intent));
        behind.iter().flat_map(|entry| &entry.payments).for_each(|decided| trim(&mut hot, decided));
        match entry {
            Some(end) => {
                self.shared.answers.add(&fresh);
                self.ahead.push_back(Ahead { end, payments: fresh });
                self.end = end;
            }
            None => fresh.iter().for_each(|decided| trim(&mut hot, decided)),
        }
        drop(hot);
        self.is_behind &= self.is_ahead();
        if noted.api_keys {
            self.shared.known_keys.forget();
        }
        behind.iter().for_each(|entry| self.shared.answers.remove(&entry.payments));
        Ok(())
    }

    /// Gives a transaction up: nothing of it is there, and memory knows nothing any more.
    pub(super) fn roll_back(&mut self) {
        // SQLite may have done it by itself, as it may when a disk is full or does not answer.
        let _none_open = self.say("ROLLBACK");
        self.forget();
    }

    fn forget(&mut self) {
        self.shared.hot().clear();
        self.shared.known_keys.forget();
        self.is_behind = !self.ahead.is_empty();
    }

    /// Whether the tables know less than the journal.
    pub(super) fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Writes a part of what is ahead to the tables; whether something is left. Needs no sync: what a crash undoes of it
    /// stands in the journal still.
    ///
    /// # Errors
    /// The database failed; nothing is lost.
    pub(super) fn catch_up(&mut self) -> Result<bool> {
        if !self.is_ahead() {
            return Ok(false);
        }
        self.set_synced(false)?;
        let written = self.begin_any().and_then(|mut turn| {
            self.write_ahead(&mut turn, AT_ONCE)?;
            self.commit(turn)
        });
        if written.is_err() {
            self.roll_back();
        }
        written.map(|()| self.is_ahead())
    }

    fn say(&self, words: &str) -> Result<()> {
        Ok(self.connection.prepare_cached(words)?.execute([]).map(drop)?)
    }

    /// Closes the connection. The last that closes folds the write-ahead log into the database.
    pub(super) fn close(mut self) -> Result<()> {
        while self.catch_up()? {}
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

fn claims(payments: &[Decided]) -> impl Iterator<Item = &IdempotencyClaim> {
    payments.iter().filter_map(|decided| decided.answer.as_ref().map(|(claim, _)| claim))
}

fn trim(hot: &mut Hot, decided: &Decided) {
    if let Some(token) = decided.authorization.token {
        hot.trim(token);
    }
}

/// A number that changes whenever another connection than this one has written to the file.
fn others(connection: &Connection) -> Result<i64> {
    let mut pragma = connection.prepare_cached("PRAGMA data_version")?;
    Ok(pragma.query_row([], |row| row.get(0))?)
}
