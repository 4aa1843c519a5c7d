//! A node that decides small payments alone while its PostgreSQL database is away, and books them when it is back (ADR 26).
//!
//! It is a store above [`PostgresStorage`], of the same verbs. While the database is there it hands them on, and remembers what
//! payments rest on. While it is away it makes, arms and decides intents of its own and nothing else, within limits and on what it
//! has seen; all of it stands in a journal before it is answered. When the database is there again, everything is booked before it
//! is asked for anything else.

mod alone;
mod journal;
mod known;
mod limits;
pub(crate) mod record;
#[cfg(test)]
mod tests;
mod verbs;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

use tapfer_payment_types::{AuthorizationId, Money, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::access::ApiKey;
use tapfer_payments::authorization::{Authorization, Facts};

use self::alone::Answers;
use self::journal::{Found, Journal};
use self::known::Known;
use self::limits::{Promised, is_within};
pub use self::limits::{StandInLimits, StandInLimitsError, StandInRefusal};
use self::record::Record;
use crate::decided::Decided;
use crate::hot::Touched;
use crate::idempotency::RunningRequests;
use crate::postgres::PostgresStorage;
use crate::relational::stand_in::{Booked, book_intent};
use crate::relational::{Engine as _, Result, authorizations};
use crate::store::{AuthorizationStore as _, IdempotencyStore as _, Sharing as _, Storage};
use crate::{
    AnswerKey, Begun, CommitAuthorization, FactsQuery, IdempotencyClaim, Load, StorageError, Write,
    Written,
};

/// How often it is tried to book what waits.
const BEAT: Duration = Duration::from_secs(1);
/// What the database refuses, and would not refuse for being busy or away, is tried so often before the node goes on without it.
const ATTEMPTS: u32 = 5;

/// Tells the time.
pub type TellTime = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// How a node stands that may stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandInStatus {
    /// Since when it is alone; `None` while the database is there.
    pub since: Option<Timestamp>,
    /// Whether the database is back, and what was promised is being booked.
    pub is_booking: bool,
    /// How many payments it has approved since then.
    pub payments: u32,
    /// How much that is; `None` where it is not allowed to stand in.
    pub promised: Option<Money>,
    /// How many intents wait to be booked, paid or not.
    pub unbooked: usize,
    /// Why it would not stand in, although it is allowed to.
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The database is asked.
    There,
    /// It is away.
    Alone,
    /// It is back, and not asked before all is booked.
    Booking,
}

/// What is kept between requests.
struct Kept {
    phase: Phase,
    since: Timestamp,
    known: Known,
    promised: Promised,
    journal: Option<Journal>,
    /// What is wrong with the journal.
    fault: Option<String>,
    /// Whether the journal may hold more than is known here.
    is_torn_off: bool,
    /// How often the database has refused to take something.
    refused: u32,
    /// What is not booked.
    records: Vec<Record>,
    answers: Answers,
    authorizations: HashMap<AuthorizationId, Authorization>,
    armed: HashMap<TerminalId, PaymentIntentId>,
}

impl Kept {
    /// Nothing more is decided before the journal was read again.
    fn break_off(&mut self, fault: String) {
        self.journal = None;
        (self.fault, self.is_torn_off) = (Some(fault), true);
        self.index();
    }

    /// What can be told again is what is kept.
    fn index(&mut self) {
        let given = self.records.iter().filter_map(Record::answer);
        self.answers =
            given.map(|given| ((given.api_key, given.key.clone()), given.clone())).collect();
        self.authorizations = decided(&self.records).map(|one| (one.id, one.clone())).collect();
    }

    fn unbooked(&self) -> usize {
        grouped(&self.records).len()
    }
}

fn decided(records: &[Record]) -> impl Iterator<Item = &Authorization> {
    records.iter().filter_map(|record| match record {
        Record::Decided(promise) => Some(&promise.decided.authorization),
        Record::Changed(_) => None,
    })
}

/// What became of each intent, in the order of what became of it last.
fn grouped(records: &[Record]) -> Vec<(PaymentIntentId, Vec<Record>)> {
    let mut groups: HashMap<PaymentIntentId, (usize, Vec<Record>)> = HashMap::new();
    for (place, record) in records.iter().enumerate() {
        let (last, group) = groups.entry(record.intent()).or_default();
        *last = place;
        group.push(record.clone());
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (last, _))| *last);
    groups.into_iter().map(|(intent, (_, group))| (intent, group)).collect()
}

/// A node's state, while nobody else changes it.
struct State<'a> {
    node: &'a StandIn,
    kept: MutexGuard<'a, Kept>,
}

/// Whom to tell of news, of which the database tells one alone.
#[derive(Default)]
struct News(Mutex<Option<Box<dyn Fn() + Send + Sync>>>);

impl News {
    fn tell(&self, tell: Box<dyn Fn() + Send + Sync>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
    }

    fn came(&self) {
        if let Some(tell) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tell();
        }
    }
}

/// The store in a PostgreSQL database, for which its node may stand in.
pub struct StandIn {
    database: Arc<PostgresStorage>,
    limits: Option<StandInLimits>,
    clock: TellTime,
    path: PathBuf,
    key: AnswerKey,
    running: RunningRequests,
    kept: Mutex<Kept>,
    news: Arc<News>,
    wake: Sender<()>,
}

impl fmt::Debug for StandIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandIn").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a journal holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unbooked {
    /// Everything that was done: intents that were made, armed, given up, and decisions.
    pub records: usize,
    /// Payments that were approved.
    pub payments: usize,
    /// When the first of it was done.
    pub since: Option<Timestamp>,
}

/// What the journal of a node holds, nothing of it vouched for: for whoever looks beside the node.
///
/// # Errors
/// It cannot be read.
pub fn unbooked_in_journal(path: &Path) -> io::Result<Unbooked> {
    let records = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Unbooked::default()),
        read => journal::records_of_anybody(&read?),
    };
    let approved = decided(&records).filter(|decided| decided.outcome.is_approved());
    let (payments, since) = (approved.count(), records.first().map(Record::at));
    Ok(Unbooked { records: records.len(), payments, since })
}

/// Reads any bytes as a journal, and as the records of an entry, for tests of what a damaged disk may hold: whether records that
/// are read are written again as the same bytes.
#[doc(hidden)]
#[must_use]
pub fn stand_in_reads_back(bytes: &[u8]) -> Option<bool> {
    let _read = journal::records_of_anybody(bytes);
    journal::reads_back(bytes)
}

impl StandIn {
    /// Over a database that is there, with the journal that this node has left, if it has: what stands in it is booked first. Without
    /// limits nothing else is done. `key` vouches for the entries of the journal.
    ///
    /// # Errors
    /// [`StorageError::StandIn`]: the database went before all was booked. [`StorageError::Closed`]: there are no more threads.
    pub fn over(
        database: Arc<PostgresStorage>,
        limits: Option<StandInLimits>,
        path: &Path,
        key: AnswerKey,
        clock: TellTime,
    ) -> Result<Arc<Self>> {
        let (journal, found, fault) = read_journal(path, &key);
        let (wake, woken) = channel();
        let phase = if found.records.is_empty() { Phase::There } else { Phase::Booking };
        let mut kept = Kept {
            phase,
            since: clock(),
            known: Known::new(),
            promised: Promised::default(),
            journal,
            fault,
            is_torn_off: false,
            refused: 0,
            records: found.records,
            answers: HashMap::new(),
            authorizations: HashMap::new(),
            armed: HashMap::new(),
        };
        kept.index();
        let (news, waker) = (Arc::<News>::default(), wake.clone());
        let told = Arc::clone(&news);
        let node = Arc::new(Self {
            database,
            limits,
            clock,
            path: path.to_owned(),
            key,
            running: RunningRequests::default(),
            kept: Mutex::new(kept),
            news,
            wake,
        });
        node.database.tell_of_news(Box::new(move || {
            let _nobody_waits = waker.send(());
            told.came();
        }));
        while node.book() {
            if node.database.is_away() {
                return Err(StandInRefusal::Booking.into());
            }
            let _time_or_news = woken.recv_timeout(BEAT);
        }
        let of_thread = Arc::downgrade(&node);
        let thread = Builder::new().name("tapfer-stand-in".to_owned());
        let started = thread.spawn(move || book_whenever(&of_thread, &woken));
        started.map_err(|_| StorageError::Closed)?;
        Ok(node)
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with whether the database is there as it is at this moment.
    fn look(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.state();
        match (kept.phase, self.database.is_away()) {
            (Phase::There, true) if self.limits.is_some() && kept.fault.is_none() => {
                kept.phase = Phase::Alone;
                kept.since = (self.clock)();
                tracing::warn!(
                    target: "tapfer::stand_in",
                    "the database is away: this node decides small payments alone, within its limits"
                );
            }
            (Phase::Alone, false) if kept.records.is_empty() && !kept.is_torn_off => {
                kept.phase = Phase::There;
                tracing::info!(target: "tapfer::stand_in", "the database is back, and nothing waits to be booked");
            }
            (Phase::Alone, false) => {
                kept.phase = Phase::Booking;
                let _is_awake = self.wake.send(());
            }
            _ => {}
        }
        kept
    }

    /// The database, unless this node stands in for it.
    fn there(&self) -> Result<&PostgresStorage> {
        match self.look().phase {
            Phase::There => Ok(&self.database),
            Phase::Alone => Err(StandInRefusal::NotOffered.into()),
            Phase::Booking => Err(StandInRefusal::Booking.into()),
        }
    }

    /// This node, if it stands in.
    fn alone(&self) -> Result<Option<State<'_>>> {
        let kept = self.look();
        match kept.phase {
            Phase::There => Ok(None),
            Phase::Alone => Ok(Some(State { node: self, kept })),
            Phase::Booking => Err(StandInRefusal::Booking.into()),
        }
    }

    /// An API key as the database has it, or, without it, as it was seen lately.
    fn seen_api_key(
        &self,
        seen: impl FnOnce(&Known) -> Option<&(ApiKey, Timestamp)>,
        find: impl FnOnce(&PostgresStorage) -> Result<Option<ApiKey>>,
    ) -> Result<Option<ApiKey>> {
        let forgotten = match self.alone()? {
            None => self.state().known.forgotten(),
            Some(state) => {
                let limits = self.limits.ok_or(StandInRefusal::NotOffered)?;
                let now = (self.clock)();
                let seen = seen(&state.kept.known);
                let seen = seen.filter(|(_, at)| is_within(limits.known_minutes, *at, now));
                return match seen {
                    Some((key, _)) => Ok(Some(key.clone())),
                    None => Err(StandInRefusal::UnknownCaller.into()),
                };
            }
        };
        let asked_at = (self.clock)();
        let found = find(&self.database)?;
        let known = &mut self.state().known;
        if let Some(key) = found.as_ref().filter(|_| known.forgotten() == forgotten) {
            known.api_key(key, asked_at);
        }
        Ok(found)
    }

    fn begin_in_database(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        let mut kept = self.state();
        claims.iter().for_each(|claim| kept.known.begins(claim));
        drop(kept);
        self.database.begin_all(claims)
    }

    fn facts_in_database(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        let found = self.database.facts_of_authorizations(queries);
        let mut kept = self.state();
        for (query, facts) in queries.iter().zip(&found) {
            if let Ok(Facts { token: Some(token), .. }) = facts {
                kept.known.has_number(token.token.id, &query.token_number_hash);
            }
        }
        found
    }

    /// What the database decides this node may go by, unless somebody has changed something meanwhile, or it is alone by now.
    fn commit_in_database(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        let mut kept = self.state();
        let forgotten = kept.known.forgotten();
        for (commit, _) in &commits {
            if let Some(token) = &commit.facts.token {
                let counter = commit.facts.presented.application_transaction_counter();
                kept.known.tries(token.token.id, counter);
            }
        }
        drop(kept);
        let tried: Vec<_> = commits
            .iter()
            .map(|(commit, write)| (commit.clone(), write.caller.clone(), write.now))
            .collect();
        let made = self.database.commit_authorizations(commits);
        let mut kept = self.state();
        if kept.phase == Phase::There && kept.known.forgotten() == forgotten {
            for ((commit, caller, now), written) in tried.into_iter().zip(&made) {
                let authorization = authorizations::decided(&commit, now);
                if let Ok(Written::Done { .. }) = written
                    && let Ok(decided) = Decided::new(&commit, authorization, caller)
                {
                    kept.known.decided(&commit.facts, &decided);
                }
            }
        }
        made
    }

    /// Books what waits, if the database is back. Whether something waits still.
    fn book(&self) -> bool {
        let mut kept = self.look();
        if kept.phase != Phase::Booking {
            return kept.phase == Phase::Alone;
        }
        if kept.is_torn_off {
            let (journal, found, fault) = read_journal(&self.path, &self.key);
            (kept.journal, kept.fault, kept.is_torn_off) = (journal, fault, false);
            // It has all that is known here, unless it cannot be read to its end. What is booked in it is found booked.
            if kept.fault.is_none() {
                kept.records = found.records;
            }
        }
        let groups = grouped(&kept.records);
        drop(kept);
        for (intent, records) in groups {
            match self.book_one(intent, records) {
                Ok(()) => {}
                Err(error) if is_passing(&error) || self.tries_again() => {
                    tracing::warn!(target: "tapfer::stand_in", %error, "what this node promised is not booked yet");
                    if self.database.is_away() {
                        self.state().phase = Phase::Alone;
                    }
                    return true;
                }
                Err(error) => {
                    tracing::error!(
                        target: "tapfer::stand_in", %intent, %error,
                        "a payment that this node promised cannot be booked: it stays in the journal, which is kept, and is tried \
                         again at the next start. Keep a copy of the journal and report it"
                    );
                    let mut kept = self.state();
                    kept.records.retain(|record| record.intent() != intent);
                    kept.journal = None;
                    kept.fault = Some(format!("{intent} cannot be booked: {error}"));
                }
            }
        }
        self.end();
        false
    }

    /// Whether something that was refused is tried again: the database's disk may be full for a moment.
    fn tries_again(&self) -> bool {
        let mut kept = self.state();
        kept.refused = kept.refused.saturating_add(1);
        kept.refused < ATTEMPTS
    }

    fn book_one(&self, intent: PaymentIntentId, records: Vec<Record>) -> Result<()> {
        let now = (self.clock)();
        let booked: Booked = self.database.write({
            let records = records.clone();
            move |connection| book_intent(connection, intent, &records, now)
        })?;
        for (authorization, remarks) in &booked.remarks {
            if remarks.is_empty() {
                tracing::info!(target: "tapfer::stand_in", %authorization, "what this node decided alone is booked");
            } else {
                tracing::warn!(target: "tapfer::stand_in", %authorization, remarks, "what this node decided alone is booked");
            }
        }
        if let Some(lost) = booked.lost {
            tracing::warn!(target: "tapfer::security", event = "stand_in_loss", %intent, %lost, "a card lacked what was promised: its issuer pays");
        }
        let mut kept = self.state();
        kept.records.retain(|record| record.intent() != intent);
        // From here on it is an intent of the database.
        kept.known.hot.forget(Touched::Intent(intent));
        Ok(())
    }

    /// Everything is booked that can be: the journal is taken away, unless something in it is not.
    fn end(&self) {
        let mut kept = self.state();
        if kept.fault.is_none()
            && let Some(Err(error)) = kept.journal.as_mut().map(Journal::clear)
        {
            tracing::warn!(target: "tapfer::stand_in", %error, "the journal cannot be taken away; what stands in it is booked, and once");
        }
        (kept.promised, kept.refused) = (Promised::default(), 0);
        kept.armed.clear();
        kept.index();
        kept.phase = Phase::There;
        tracing::info!(target: "tapfer::stand_in", "all that this node promised is booked: the database is asked again");
    }

    fn status(&self) -> StandInStatus {
        let kept = self.state();
        StandInStatus {
            since: (kept.phase != Phase::There).then_some(kept.since),
            is_booking: kept.phase == Phase::Booking,
            payments: kept.promised.payments,
            promised: self.limits.map(|limits| Money::new(kept.promised.minor, limits.currency)),
            unbooked: kept.unbooked(),
            fault: kept.fault.clone(),
        }
    }
}

/// The journal, what it holds, and why nothing may be added to it.
fn read_journal(path: &Path, key: &AnswerKey) -> (Option<Journal>, Found, Option<String>) {
    let (journal, found) = match Journal::open(path, key.clone()) {
        Ok(opened) => opened,
        Err(error) => return (None, Found::default(), Some(format!("it cannot be read: {error}"))),
    };
    if found.torn > 0 {
        tracing::warn!(
            target: "tapfer::stand_in", bytes = found.torn,
            "the journal of what this node decided alone ends in a torn entry, of which nobody was told: it is left out"
        );
    }
    let Some(fault) = &found.fault else { return (Some(journal), found, None) };
    tracing::error!(
        target: "tapfer::stand_in", path = %path.display(), %fault,
        "the journal of what this node decided alone is damaged: what stands in front of the damage is booked, what stands behind it \
         is not, and the node does not stand in. Keep a copy, compare what tills were told with the books, then take the file away"
    );
    let fault = Some(fault.to_string());
    (None, found, fault)
}

/// Whether it may go well the next time.
fn is_passing(error: &StorageError) -> bool {
    matches!(
        error,
        StorageError::Unreachable(_)
            | StorageError::NotSynced(_)
            | StorageError::Busy
            | StorageError::Closed
            | StorageError::StillRunning
            | StorageError::Conflict
            | StorageError::Moved(_)
    )
}

fn book_whenever(node: &Weak<StandIn>, woken: &Receiver<()>) {
    loop {
        let Some(is_waiting) = node.upgrade().map(|node| node.book()) else { return };
        let wakes = match is_waiting {
            true => woken.recv_timeout(BEAT),
            false => woken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if wakes == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

impl Storage for StandIn {
    fn check(&self) -> Result<()> {
        match self.alone()? {
            None => self.database.check(),
            Some(state) => state.demand_time((self.clock)()),
        }
    }

    fn load(&self) -> Load {
        self.database.load()
    }

    fn close(&self) {
        self.database.close();
    }

    fn stand_in(&self) -> Option<StandInStatus> {
        Some(self.status())
    }
}
