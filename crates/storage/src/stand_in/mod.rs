//! A node that decides small payments alone while its PostgreSQL database is away, and books them when it is back (ADR 26).
//!
//! It is a store above [`PostgresStorage`](crate::postgres::PostgresStorage), of the same verbs. While the database is there it hands them on, and remembers what
//! payments rest on. While it is away it makes, arms and decides intents of its own and nothing else, within limits and on what it
//! has seen; all of it stands in a journal before it is answered. When the database is there again, everything is booked before it
//! is asked for anything else.

mod alone;
mod booking;
pub(crate) mod database;
mod elsewhere;
mod journal;
mod known;
mod limits;
pub(crate) mod record;
pub(crate) mod rounds;
#[cfg(test)]
mod tests;
mod verbs;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, MerchantId, Money, PaymentIntentId, TerminalId, Timestamp,
};
use tapfer_payments::access::ApiKey;
use tapfer_payments::audit::Caller;
use tapfer_payments::authorization::Authorization;

use self::alone::Answers;
use self::booking::{Refusals, read_journal};
pub use self::database::SharedDatabase;
use self::database::StoodInFor;
use self::journal::Journal;
use self::known::Known;
use self::limits::{Promised, is_past, is_within};
pub use self::limits::{StandInLimits, StandInLimitsError, StandInRefusal};
use self::record::Record;
use self::rounds::Rounds;
use crate::decided::Decided;
use crate::hot::Touched;
use crate::idempotency::RunningRequests;
use crate::relational::{Result, authorizations};
use crate::store::Storage;
use crate::{
    AnswerKey, Begun, CommitAuthorization, IdempotencyClaim, Load, Made, StorageError,
    StoredResponse, Undecided, Written,
};

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
    /// Since when it is back; `None` if it was not away.
    back_at: Option<Timestamp>,
    journal: Option<Journal>,
    /// What is wrong with the journal.
    fault: Option<String>,
    /// Whether the journal may hold more than is known here.
    is_torn_off: bool,
    /// What is not booked.
    records: Vec<Record>,
    refusals: Refusals,
    /// What the database does not take, and the node has gone on without: it stands in the journal, and is tried again.
    set_aside: Vec<Record>,
    answers: Answers,
    authorizations: HashMap<AuthorizationId, Authorization>,
    armed: HashMap<TerminalId, PaymentIntentId>,
    /// What merchants had done beyond what was paid for.
    wishes: HashMap<MerchantId, u32>,
    /// Whether something may have been changed elsewhere of which this node was not told.
    is_behind: bool,
}

impl Kept {
    /// What the database has decided is what this node knows.
    fn goes_by(&mut self, commit: &CommitAuthorization, caller: Caller, now: Timestamp) {
        let authorization = authorizations::decided(commit, now);
        if let Ok(decided) = Decided::new(commit, authorization, caller) {
            self.known.decided(&commit.facts, commit.uses_counter, &decided);
        }
    }

    /// At a start: what stands in a journal is booked before anything else, and why nothing may be added to it, if so.
    fn new(
        now: Timestamp,
        (journal, fault): (Option<Journal>, Option<String>),
        records: Vec<Record>,
    ) -> Self {
        Self {
            phase: if records.is_empty() { Phase::There } else { Phase::Booking },
            since: now,
            known: Known::new(),
            promised: Promised::default(),
            back_at: None,
            journal,
            fault,
            is_torn_off: false,
            records,
            refusals: Refusals::default(),
            set_aside: Vec::new(),
            answers: HashMap::new(),
            authorizations: HashMap::new(),
            armed: HashMap::new(),
            wishes: HashMap::new(),
            is_behind: false,
        }
    }

    /// Nothing more is decided before the journal was read again.
    fn break_off(&mut self, fault: String) {
        self.journal = None;
        (self.fault, self.is_torn_off) = (Some(fault), true);
        self.index();
    }

    /// What can be told again is what is kept.
    fn index(&mut self) {
        let kept = || self.records.iter().chain(&self.set_aside);
        let given = kept().filter_map(Record::answer);
        self.answers =
            given.map(|given| ((given.api_key, given.key.clone()), given.clone())).collect();
        self.authorizations = decided(kept()).map(|one| (one.id, one.clone())).collect();
    }

    fn answered(&self, claim: &IdempotencyClaim) -> Result<Option<StoredResponse>> {
        let given = self.answers.get(&(claim.api_key, claim.key.clone()));
        given.map(|given| claim.believe(given.kept())).transpose()
    }

    /// From here on they are the database's: nothing more becomes of them alone, also if it goes away while they are booked.
    fn hand_over_intents(&mut self) {
        for record in &self.records {
            self.known.hot.forget(Touched::Intent(record.intent()));
        }
        self.armed.clear();
    }

    fn unbooked(&self) -> usize {
        let intents = self.records.iter().chain(&self.set_aside).map(Record::intent);
        intents.collect::<HashSet<_>>().len()
    }

    fn fault(&self) -> Option<String> {
        let aside = self.set_aside.first().map(|record| {
            format!(
                "the database does not take {}, nor perhaps others; the log says why",
                record.intent()
            )
        });
        self.fault.clone().or(aside)
    }

    /// What was promised while it was away last counts, unless it was there for as long since as it may be away: whoever can make
    /// it go and come would have the limits anew each time.
    fn forget_promises(&mut self, limits: Option<StandInLimits>, now: Timestamp) {
        let counts = |minutes| self.back_at.is_some_and(|back| !is_past(minutes, back, now));
        if !limits.is_some_and(|limits| counts(limits.minutes)) {
            self.promised = Promised::default();
            self.wishes.clear();
        }
    }

    fn may_stand_in(&self) -> bool {
        self.fault.is_none() && self.set_aside.is_empty()
    }
}

fn decided<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> impl Iterator<Item = &'a Authorization> {
    records.into_iter().filter_map(|record| match record {
        Record::Decided(promise) => Some(&promise.decided.authorization),
        Record::Changed(_) => None,
    })
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
    database: Arc<dyn StoodInFor>,
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
        SharedDatabase(database): SharedDatabase,
        limits: Option<StandInLimits>,
        path: &Path,
        key: AnswerKey,
        clock: TellTime,
    ) -> Result<Arc<Self>> {
        let (journal, found, fault) = read_journal(path, &key, database.faults());
        let (wake, woken) = channel();
        let mut kept = Kept::new(clock(), (journal, fault), found.records);
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
        let hearing = Arc::downgrade(&node);
        node.database.tell_of_rows(Box::new(move |told| {
            if let Some(node) = hearing.upgrade() {
                node.is_told(told);
            }
        }));
        node.database.starts(Rounds::of(&node, woken))?;
        Ok(node)
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, with whether the database is there as it is at this moment.
    fn look(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.state();
        match (kept.phase, self.database.is_away()) {
            (Phase::There, true) if self.limits.is_some() && kept.may_stand_in() => {
                let now = (self.clock)();
                kept.forget_promises(self.limits, now);
                kept.phase = Phase::Alone;
                kept.since = now;
                tracing::warn!(
                    target: "tapfer::stand_in",
                    "the database is away: this node decides small payments alone, within its limits"
                );
            }
            (Phase::Alone, false) if kept.records.is_empty() && !kept.is_torn_off => {
                kept.phase = Phase::There;
                kept.back_at = Some((self.clock)());
                tracing::info!(target: "tapfer::stand_in", "the database is back, and nothing waits to be booked");
            }
            (Phase::Alone, false) => {
                kept.phase = Phase::Booking;
                kept.hand_over_intents();
                let _is_awake = self.wake.send(());
            }
            _ => {}
        }
        kept
    }

    /// The database, unless this node stands in for it.
    fn there(&self) -> Result<&dyn StoodInFor> {
        match self.look().phase {
            Phase::There => Ok(&*self.database),
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
        find: impl FnOnce(&dyn StoodInFor) -> Result<Option<ApiKey>>,
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
        let found = find(&*self.database)?;
        let known = &mut self.state().known;
        if let Some(key) = found.as_ref().filter(|_| known.forgotten() == forgotten) {
            known.api_key(key, asked_at);
        }
        Ok(found)
    }

    /// API keys as the database has them; they are seen so.
    fn api_keys_in_database(&self, ids: &[ApiKeyId]) -> Vec<Result<Option<ApiKey>>> {
        let forgotten = self.state().known.forgotten();
        let asked_at = (self.clock)();
        let found = self.database.api_keys(ids);
        let known = &mut self.state().known;
        if known.forgotten() == forgotten {
            let there = found.iter().filter_map(|found| found.as_ref().ok()?.as_ref());
            there.for_each(|key| known.api_key(key, asked_at));
        }
        found
    }

    fn begin_in_database(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        let mut kept = self.state();
        claims.iter().for_each(|claim| kept.known.begins(claim));
        // What was promised and is not booked yet: the database does not know it.
        let promised: Vec<_> =
            claims.iter().map(|claim| kept.answered(claim).transpose()).collect();
        drop(kept);
        let open = claims.iter().zip(&promised).filter(|(_, promised)| promised.is_none());
        let open: Vec<_> = open.map(|(claim, _)| *claim).collect();
        let mut begun = self.database.begin_all(&open).into_iter();
        let promised = promised.into_iter().map(|promised| match promised {
            Some(answer) => answer.map(Begun::Replay),
            None => begun.next().unwrap_or(Err(StorageError::Abandoned)),
        });
        promised.collect()
    }

    /// What the database decides this node may go by, unless somebody has changed something meanwhile, or it is alone by now.
    fn decide_in_database(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        let mut kept = self.state();
        let forgotten = kept.known.forgotten();
        for one in &undecided {
            if let Some(token) = one.token() {
                kept.known.has_number(token.id, &one.query.token_number_hash);
            }
            if let Some((token, counter)) = one.may_spend() {
                kept.known.tries(token, counter);
            }
        }
        drop(kept);
        let asked: Vec<_> =
            undecided.iter().map(|one| (one.write.caller.clone(), one.write.now)).collect();
        let made = self.database.decide_authorizations(undecided);
        let mut kept = self.state();
        if kept.phase == Phase::There && kept.known.forgotten() == forgotten {
            for ((caller, now), made) in asked.into_iter().zip(&made) {
                if let Ok(Made { written: Written::Done { .. }, commit: Some(commit) }) = made {
                    kept.goes_by(commit, caller, now);
                }
            }
        }
        made
    }

    fn status(&self) -> StandInStatus {
        let kept = self.state();
        StandInStatus {
            since: (kept.phase != Phase::There).then_some(kept.since),
            is_booking: kept.phase == Phase::Booking,
            payments: kept.promised.payments,
            promised: self.limits.map(|limits| Money::new(kept.promised.minor, limits.currency)),
            unbooked: kept.unbooked(),
            fault: kept.fault(),
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
