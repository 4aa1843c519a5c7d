//! What the thread that writes has on its desk: the connection, the journal's end, what the tables do not know yet, and
//! memory, which nobody else changes.
//!
//! Payments that wait are decided against memory and become one entry of the journal. Any other change works on the
//! tables, so whatever is ahead of them is written to them first: in parts, a transaction each, and the last part in the
//! transaction of the change. When nothing waits, the tables catch up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use rusqlite::Connection;
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{ApiKeyId, Timestamp};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::intents::PaymentIntent;

use super::ahead::PaymentsAhead;
use super::claims::Claims;
use super::journal::{self, Ahead, Journal};
use super::mark::{self, OpenMark};
use super::sql::Unexpected;
use super::touched::{self, Noted};
use crate::decided::Decided;
use crate::hot::{Hot, Touched};
use crate::idempotency::GivenAnswer;
use crate::journal::{JournalEnd, JournalFault};
use crate::relational::known_keys::KnownKeys;
use crate::relational::lookup::Seen;
use crate::relational::{Result, authorizations, decided, idempotency, intents};
use crate::{
    CommitAuthorization, IdempotencyClaim, IdempotencyKey, StorageError, StoredResponse, Write,
    Written,
};

/// So many payments may be ahead of the tables; from then on, each lot waits until the tables have caught up by more
/// than it adds. It bounds how long a change or a list waits for the tables.
const MOST_AHEAD: usize = 1_024;
/// So many are written to the tables in one transaction, rounded up to an entry: whatever comes meanwhile waits for them.
/// And an entry takes no further lot when it has so many.
pub(super) const AT_ONCE: usize = 128;

/// What the writer shares with those who only look.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) hot: Arc<RwLock<Hot>>,
    pub(super) ahead: Arc<PaymentsAhead>,
    pub(super) claims: Arc<Claims>,
    pub(super) known_keys: Arc<KnownKeys>,
    /// Why the tables do not take what the journal has, since it was tried last.
    trouble: Arc<Mutex<Option<StorageError>>>,
}

impl Shared {
    /// Nothing is known yet.
    pub(super) fn new(kept_of_each: usize) -> Self {
        Self {
            hot: Arc::new(RwLock::new(Hot::new(kept_of_each))),
            ahead: Arc::default(),
            claims: Arc::default(),
            known_keys: Arc::default(),
            trouble: Arc::default(),
        }
    }

    /// The answer given under a claim. Memory before the tables: what is not in memory any more is in its table by then,
    /// if they are looked at behind this.
    pub(super) fn answer_ahead(&self, claim: &IdempotencyClaim) -> Result<Given> {
        if is_skipped(Control::Idempotency) {
            return Ok(Given::None);
        }
        Ok(match self.ahead.answer(claim)? {
            Some(response) => Given::This(response),
            None if self.claims.may_have(claim) => Given::PerhapsInTables,
            None => Given::None,
        })
    }

    /// Whether the tables take what the journal has.
    ///
    /// # Errors
    /// Why they do not.
    pub(super) fn check(&self) -> Result<()> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().map_or(Ok(()), Err)
    }

    /// Takes note of how a transaction ended. That the tables do not take an entry is said once.
    pub(super) fn note_end(&self, ended: std::result::Result<(), &StorageError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(()) => *trouble = None,
            Err(error @ StorageError::TablesBehind { entry, why }) if trouble.is_none() => {
                tracing::error!(
                    target: "tapfer::storage",
                    event = "tables_behind",
                    entry,
                    %why,
                    "the tables do not take an entry of the journal; no payment is taken until they do. Nothing that was \
                     acknowledged is lost, and it is tried again each second"
                );
                *trouble = Some(error.clone());
            }
            Err(_) => {}
        }
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
    /// The connection: for what was decided before as it is, for everybody else what it holds.
    tables: Unexpected,
    shared: Shared,
    /// Whether payments are decided here. If not, the journal is somebody else's, and is left to him.
    has_journal: bool,
    /// What is in the journal and not in the tables.
    ahead: VecDeque<Ahead>,
    end: JournalEnd,
    /// Whether memory was lost while something was ahead of the tables, which then know too little to fill it.
    is_behind: bool,
    /// Changes when another program writes to the file.
    others: i64,
    /// That the file is open.
    mark: Option<OpenMark>,
    /// Whether the file itself has all that the log has.
    is_folded: bool,
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
    /// So many payments are in them.
    written: usize,
    noted: Noted,
    intents: Vec<PaymentIntent>,
}

impl Turn {
    /// Whether the entry of this transaction has payments enough.
    pub(super) fn is_full(&self) -> bool {
        self.fresh.len() >= AT_ONCE
    }
}

impl Desk {
    /// Takes the connection over. The tables may be behind the journal.
    ///
    /// # Errors
    /// [`StorageError::Journal`] if the journal is not as it was written.
    pub(super) fn new(connection: Connection, shared: Shared) -> Result<Self> {
        touched::note(&connection)?;
        let mut desk = Self { has_journal: true, ..Self::bare(connection, shared)? };
        let snapshot = desk.tables.0.unchecked_transaction()?;
        desk.shared.claims.load(&snapshot)?;
        let found = Journal::read(&*snapshot)?;
        snapshot.commit()?;
        desk.take_over(found)?;
        Ok(desk)
    }

    /// A desk for whoever makes changes beside the program whose journal it is.
    pub(super) fn beside(connection: Connection, shared: Shared) -> Result<Self> {
        touched::begin(&connection)?;
        Self::bare(connection, shared)
    }

    /// With the mark that says that the file is open.
    pub(super) fn marked(self, mark: OpenMark) -> Self {
        Self { mark: Some(mark), ..self }
    }

    /// A desk without a journal, for changes alone.
    pub(super) fn bare(connection: Connection, shared: Shared) -> Result<Self> {
        let end = JournalEnd { entry: 0, hash: [0; 32] };
        let others = others(&connection)?;
        let (has_journal, ahead, is_behind) = (false, VecDeque::new(), false);
        let tables = Unexpected(connection);
        let (mark, is_folded) = (None, false);
        Ok(Self { tables, shared, has_journal, ahead, end, is_behind, others, mark, is_folded })
    }

    /// Goes on from the journal as it is. Others may have written a part of it to the tables, or have gone on with it.
    ///
    /// # Errors
    /// [`StorageError::Journal`] if something is not in it any more that the tables do not know.
    fn take_over(&mut self, found: Journal) -> Result<()> {
        let is_there = |known: &Ahead| found.ahead.iter().any(|entry| entry.end == known.end);
        let is_written = |known: &Ahead| known.end.entry <= found.written.entry;
        if let Some(lost) = self.ahead.iter().find(|known| !is_written(known) && !is_there(known)) {
            return Err(StorageError::Journal(JournalFault::Altered(lost.end.entry)));
        }
        let newest = self.ahead.back().map_or(0, |newest| newest.end.entry);
        for entry in found.ahead.iter().filter(|entry| entry.end.entry > newest) {
            self.shared.claims.add(claims(&entry.payments));
            self.shared.ahead.add(&entry.payments);
        }
        for entry in self.ahead.iter().filter(|known| is_written(known)) {
            self.shared.ahead.remove(&entry.payments);
        }
        self.end = found.end();
        self.ahead = found.ahead.into();
        self.is_behind = self.is_ahead();
        Ok(())
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.tables.0
    }

    /// Begins a transaction that is on the disk when it ends.
    pub(super) fn begin(&mut self) -> Result<Turn> {
        self.say("BEGIN IMMEDIATE")?;
        let mut turn = Turn::default();
        let others = others(self.connection())?;
        if self.has_journal && others != self.others {
            tracing::error!(
                target: "tapfer::security",
                event = "database_written_by_others",
                "another program has written to the database; while the platform runs, only `tapfer keys` may, and says so \
                 in the audit log"
            );
            self.forget();
            self.shared.claims.know_nothing(self.connection())?;
            self.take_over(Journal::read(self.connection())?)?;
            self.others = others;
        }
        if self.is_behind {
            self.write_ahead(&mut turn, usize::MAX)?;
        }
        if self.shared.hot().is_full() {
            self.write_ahead(&mut turn, AT_ONCE)?;
            if turn.caught_up == self.ahead.len() {
                self.shared.hot().let_go();
            }
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
        if !self.has_journal {
            return Err(StorageError::Closed);
        }
        let Write { caller, claim, answer, now } = write;
        if let Some(claim) = &claim
            && let Some(stored) = self.stored_answer(turn, claim)?
        {
            return Ok(Written::Replayed(stored));
        }
        let authorization = authorizations::decided(&commit, now);
        let response = answer.to(&authorization);
        let answer = claim.map(|claim| GivenAnswer::new(claim, response.clone()));
        let (tables, mut hot) = (Seen(self.connection()), self.shared.hot());
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
                Given::PerhapsInTables => idempotency::stored_answer(self.connection(), claim),
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

    /// Whether the tables are further behind than one transaction brings them on.
    pub(super) fn is_far_ahead(&self, turn: &Turn) -> bool {
        self.left(turn) > AT_ONCE
    }

    /// How many payments the tables will not know behind this transaction, without those that are decided in it.
    fn left(&self, turn: &Turn) -> usize {
        self.shared.ahead.payments().saturating_sub(turn.written)
    }

    /// Puts what was decided into the journal. The tables catch up by a part if somebody waits for them, and beyond so
    /// much that is ahead; by more than is added in any case.
    pub(super) fn append(&self, turn: &mut Turn, is_waited_for: bool) -> Result<()> {
        let fresh = turn.fresh.len();
        if is_waited_for || self.left(turn).saturating_add(fresh) > MOST_AHEAD {
            let part = if is_waited_for { AT_ONCE } else { 0 };
            self.write_ahead(turn, part.max(fresh.saturating_mul(2)))?;
        }
        if turn.fresh.is_empty() {
            return Ok(());
        }
        let entry = self.end.entry_of(&turn.fresh);
        turn.entry = Some(entry.end);
        journal::append(self.connection(), &entry)
    }

    /// Writes entries to the tables until there are so many payments, or no more.
    fn write_ahead(&self, turn: &mut Turn, payments: usize) -> Result<()> {
        let most = turn.written.saturating_add(payments);
        let mut last = None;
        self.unnoted(|connection| {
            for entry in self.ahead.iter().skip(turn.caught_up) {
                if turn.written >= most {
                    break;
                }
                self.write_entry(entry)?;
                turn.written = turn.written.saturating_add(entry.payments.len());
                turn.caught_up = turn.caught_up.saturating_add(1);
                last = Some(entry.end);
            }
            last.map_or(Ok(()), |end| journal::set_written(connection, end))
        })
    }

    /// Writes an entry to the tables.
    ///
    /// # Errors
    /// [`StorageError::TablesBehind`]
    fn write_entry(&self, entry: &Ahead) -> Result<()> {
        let mut payments = entry.payments.iter();
        let written = payments.try_for_each(|decided| decided::write(&self.tables, decided));
        let entry = entry.end.entry;
        written.map_err(|why| StorageError::TablesBehind { entry, why: Box::new(why) })
    }

    /// Writes what memory knows already.
    fn unnoted(&self, write: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        touched::set_noting(self.connection(), false)?;
        write(self.connection())?;
        touched::set_noting(self.connection(), true)
    }

    /// Takes note of what a change has touched.
    pub(super) fn look_at_changes(&self, turn: &mut Turn) -> Result<()> {
        turn.noted = touched::take(self.connection())?;
        for touched in &turn.noted.facts {
            if let Touched::Intent(id) = touched {
                turn.intents.extend(intents::find(self.connection(), *id)?);
            }
        }
        Ok(())
    }

    /// Ends a transaction: it is on the disk, and memory follows.
    pub(super) fn commit(&mut self, turn: Turn) -> Result<()> {
        self.say("COMMIT")?;
        self.is_folded = false;
        let Turn { fresh, entry, caught_up, noted, intents, .. } = turn;
        self.shared.claims.follow(&noted.answers);
        self.shared.claims.add(claims(&fresh));
        let mut written: Vec<_> = self.ahead.drain(..caught_up.min(self.ahead.len())).collect();
        written.iter().for_each(|entry| self.shared.ahead.remove(&entry.payments));
        match entry {
            Some(end) => {
                self.shared.ahead.add(&fresh);
                self.ahead.push_back(Ahead { end, payments: fresh });
                self.end = end;
            }
            None => written.push(Ahead { end: self.end, payments: fresh }),
        }
        let mut hot = self.shared.hot();
        for touched in noted.facts {
            hot.forget(touched);
        }
        intents.into_iter().for_each(|intent| hot.put_intent(intent));
        written
            .iter()
            .flat_map(|entry| &entry.payments)
            .for_each(|decided| self.trim(&mut hot, decided));
        drop(hot);
        self.is_behind &= self.is_ahead();
        if noted.api_keys {
            self.shared.known_keys.forget();
        }
        Ok(())
    }

    /// Lets what the tables know of a token's past go, unless the journal knows more of it.
    fn trim(&self, hot: &mut Hot, decided: &Decided) {
        let Decided { authorization, .. } = decided;
        if let Some(token) = authorization.token
            && !self.shared.ahead.has_token(token)
        {
            hot.trim(token, authorization.created_at);
        }
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

    /// Writes so many payments of what is ahead to the tables. `made` comes before the commit. It is synced as any other
    /// transaction, though the journal has it all: whoever reads the log at the start can then tell damage from a torn end.
    ///
    /// # Errors
    /// The database failed; nothing is lost.
    pub(super) fn catch_up(
        &mut self,
        payments: usize,
        made: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let written = self.begin().and_then(|mut turn| {
            self.write_ahead(&mut turn, payments)?;
            made()?;
            self.commit(turn)
        });
        self.note_end(written.as_ref().copied());
        if written.is_err() {
            self.roll_back();
        }
        written
    }

    /// Takes note of how a transaction ended.
    pub(super) fn note_end(&self, ended: std::result::Result<(), &StorageError>) {
        self.shared.note_end(ended);
    }

    fn say(&self, words: &str) -> Result<()> {
        Ok(self.tables.0.prepare_cached(words)?.execute([]).map(drop)?)
    }

    /// Whether the log may have what the file itself does not have, and this is whose matter that is.
    pub(super) const fn is_to_fold(&self) -> bool {
        self.has_journal && !self.is_folded
    }

    /// Folds the log into the file, so that little is lost with a log that is lost.
    pub(super) fn fold(&mut self) {
        // Who reads an older moment keeps some of it back: it is not tried again before something is written.
        self.is_folded = true;
        if let Err(error) = mark::fold(self.connection()) {
            tracing::warn!(%error, "the write-ahead log is not folded into the database");
        }
    }

    /// Leaves nothing in the log of what stood there; whether that could be done.
    ///
    /// # Errors
    /// The database failed.
    pub(super) fn wipe_log(&self) -> Result<bool> {
        if self.has_journal { mark::wipe(self.connection()) } else { Ok(false) }
    }

    /// Closes the connection. The log is folded into the database first; `folded` comes behind that, and `unmarked` when nothing
    /// says any more that the database is open.
    pub(super) fn close(self, folded: impl FnOnce(), unmarked: impl FnOnce()) -> Result<()> {
        let connection = self.tables.0;
        let taken_away = self.mark.map_or(Ok(()), |mark| mark.take_away(&connection, folded));
        unmarked();
        let closed = connection.close().map_err(|(_, error)| error.into());
        taken_away.and(closed)
    }
}

fn claims(payments: &[Decided]) -> impl Iterator<Item = (ApiKeyId, &IdempotencyKey, Timestamp)> {
    payments.iter().filter_map(|decided| {
        let given = decided.authorization.created_at;
        decided.answer.as_ref().map(|answer| (answer.api_key, &answer.key, given))
    })
}

/// A number that changes whenever another connection than this one has written to the file.
fn others(connection: &Connection) -> Result<i64> {
    let mut pragma = connection.prepare_cached("PRAGMA data_version")?;
    Ok(pragma.query_row([], |row| row.get(0))?)
}
