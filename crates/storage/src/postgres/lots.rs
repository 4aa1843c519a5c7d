//! What is asked and changed for many payments at once.

use std::collections::HashMap;

use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{ApiKeyId, AuthorizationId, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::authorization::{Authorization, Facts, PresentedPayment};
use tapfer_payments::tokens::Token;
use tokio_postgres::Row;

use super::claims::ANSWERED;
use super::fetched::{Fetched, Wanted};
use super::locks;
use super::session::{Asked, Session};
use super::{Ended, PostgresStorage, Result, attempt, fetched, one_change, snapshot, together};
use crate::decided::Decided;
use crate::hot::Hot;
use crate::idempotency::GivenAnswer;
use crate::relational::lookup::Seen;
use crate::relational::rows::{Columns, first};
use crate::relational::sql::params;
use crate::relational::{Engine, authorizations, decided, idempotency, of_each};
use crate::undecided::{Settled, Step, tell_again};
use crate::{
    AuthorizationFilter, AuthorizationStore, Begun, CommitAuthorization, FactsQuery,
    IdempotencyClaim, IdempotencyStore, Made, Page, PresentedToken, Slice, StorageError,
    StoredResponse, Undecided, Write, Written,
};

/// All that a lot of decisions rests on, locked in the order of [`crate::relational::sql::Guard`], and each kind in the order
/// of its ids: two lots never wait for one another. What many payments share and none of them changes is shared; what a
/// payment changes it has alone. An issuer is shared by payments at every moment: it is no row but a lock of its own, where
/// who wants to change it is passed by nobody. A terminal or a phone pays once at a time.
const LOCKS: &str = "
    WITH issuers AS MATERIALIZED (
        SELECT pg_advisory_xact_lock_shared(hashtextextended('Issuer ' || id, 0)) FROM unnest(?1::text[]) AS id),
    terminals AS MATERIALIZED (
        SELECT 1 FROM terminals WHERE id = ANY (?2::text[]) ORDER BY id FOR SHARE),
    devices AS MATERIALIZED (
        SELECT 1 FROM devices WHERE id = ANY (?3::text[]) ORDER BY id FOR SHARE),
    cards AS MATERIALIZED (
        SELECT 1 FROM cards WHERE id = ANY (?4::text[]) ORDER BY id FOR NO KEY UPDATE),
    intents AS MATERIALIZED (
        SELECT 1 FROM payment_intents WHERE id = ANY (?5::text[]) ORDER BY id FOR NO KEY UPDATE)
    -- Each is counted before the next begins.
    SELECT CASE WHEN (SELECT count(*) FROM issuers) >= 0 THEN
           CASE WHEN (SELECT count(*) FROM terminals) >= 0 THEN
           CASE WHEN (SELECT count(*) FROM devices) >= 0 THEN
           CASE WHEN (SELECT count(*) FROM cards) >= 0 THEN (SELECT count(*) FROM intents)
           END END END END";

type Commit = (CommitAuthorization, Write<Authorization>);

/// Behind the locks: what is written together can be undone and written one by one.
const LOCKED: &str = "SAVEPOINT locked";
const BACK_TO_LOCKED: &str = "ROLLBACK TO locked";

/// One node at a time forgets old answers, so many in a transaction: nobody waits for long, and no statement takes long enough
/// to be ended. "forg".
const FORGET: &str =
    "SELECT CASE WHEN pg_try_advisory_xact_lock(1718579815) THEN 1 ELSE 0 END AS id";
const FORGOTTEN_TOGETHER: u16 = 1_000;

/// A payment of a lot.
#[expect(clippy::large_enum_variant, reason = "all of a lot are of the same kind")]
enum InLot {
    /// It was decided on facts that are compared with those behind the locks.
    Decided(Commit),
    /// It is decided on those behind the locks.
    Undecided(Undecided),
}

impl InLot {
    const fn write(&self) -> &Write<Authorization> {
        match self {
            Self::Decided((_, write)) | Self::Undecided(Undecided { write, .. }) => write,
        }
    }

    /// What it is about: terminal, intent, what was presented, and whose token it is.
    fn about(&self) -> (TerminalId, PaymentIntentId, &PresentedPayment, Option<&Token>) {
        match self {
            Self::Decided((CommitAuthorization { facts, .. }, _)) => {
                let token = facts.token.as_ref().map(|token| &*token.token);
                (facts.terminal.id(), facts.intent.id, &facts.presented, token)
            }
            Self::Undecided(one) => {
                let query = &one.query;
                (query.terminal, query.payment_intent, &query.presented, one.token())
            }
        }
    }

    /// Alone, whatever becomes of the others.
    fn settle(&self, session: &Session) -> Result<Settled> {
        match self {
            Self::Decided(commit) => {
                let written = decided::commit(session, commit.clone())?;
                Ok(Settled::Made(Made { written, commit: None }))
            }
            Self::Undecided(one) => decided::decide(session, one),
        }
    }
}

impl PostgresStorage {
    fn settle_lot(&self, lot: &[InLot]) -> Vec<Result<Settled>> {
        let wanted = Wanted::by(lot.iter().map(InLot::about));
        let made = self.transact_whole(&self.lots, |session| {
            let together = attempt(session, |session| settle_together(session, lot, &wanted));
            match together {
                // Who did not get a lock has not got as far as the savepoint behind it, and would wait again; of what may be
                // committed nothing is made again.
                Err(error)
                    if !session.is_overtaken()
                        && session.is_in_transaction()
                        && !matches!(error, StorageError::Busy | StorageError::NotSynced(_)) =>
                {
                    // One row that makes no sense, or cannot be written because another platform was faster with the same
                    // key, must not fail its neighbours.
                    tracing::warn!(%error, "a lot of payments is decided one by one");
                    session.execute_batch(BACK_TO_LOCKED)?;
                    together::lock_merchants(session, &wanted.intents)?;
                    let one = |one: &InLot| one_change(session, |session| one.settle(session));
                    lot.iter().map(one).collect::<Result<_>>().map(Ended::Open)
                }
                made => made.map(Ended::Committed),
            }
        });
        if let Err(StorageError::Busy) = &made {
            locks::say_who_holds(&self.lots);
        }
        made.unwrap_or_else(|error| of_each(lot.len(), &error))
    }
}

/// Locks what a lot rests on, reads it, decides each payment on it and on what those before it have changed, and writes what
/// was decided, and commits: as many round trips for many payments as for one.
fn settle_together(
    session: &Session,
    payments: &[InLot],
    wanted: &Wanted,
) -> Result<Vec<Result<Settled>>> {
    let Wanted { issuers, terminals, devices, cards, intents, .. } = wanted;
    let claims = payments.iter().filter_map(|one| one.write().claim.as_ref());
    let (api_keys, keys): (Vec<_>, Vec<_>) =
        claims.map(|claim| (claim.api_key.to_string(), claim.key.as_str())).unzip();
    let mut asked: Vec<Asked<'_>> = vec![
        (LOCKS, vec![issuers, terminals, devices, cards, intents]),
        (LOCKED, vec![]),
        (ANSWERED, vec![&api_keys, &keys]),
    ];
    asked.extend(wanted.asked());
    let mut answers = session.ask_all(&asked)?.into_iter().skip(2);
    let answered = answers.next().unwrap_or_default();
    let fetched = Fetched::read(&mut answers)?;
    let mut lot = Lot { fetched, answered: by_claim(answered)?, hot: Hot::new(0), decided: vec![] };
    let made = payments.iter().map(|one| lot.settle(one)).collect();
    together::write_and_commit(session, &lot.decided)?;
    Ok(made)
}

/// The answers that were given before, by API key and idempotency key.
fn by_claim(rows: Vec<Row>) -> Result<HashMap<(ApiKeyId, String), Row>> {
    let rows = rows.into_iter().map(|row| {
        let columns = Columns::keyed(&row, "idempotency_answers", "key");
        Ok(((columns.parse("api_key_id")?, columns.get("key")?), row))
    });
    rows.collect()
}

/// A lot of payments that is being decided.
struct Lot {
    fetched: Fetched,
    answered: HashMap<(ApiKeyId, String), Row>,
    /// What was fetched, and what those that are decided have changed of it.
    hot: Hot,
    decided: Vec<Decided>,
}

impl Lot {
    /// As [`InLot::settle`], but behind those that were settled before in this lot.
    fn settle(&mut self, one: &InLot) -> Result<Settled> {
        let write = one.write();
        if let Some(claim) = &write.claim
            && let Some(stored) = self.stored_answer(claim)?
        {
            let written = Written::Replayed(stored);
            return Ok(Settled::Made(Made { written, commit: None }));
        }
        match one {
            InLot::Decided((commit, write)) => {
                self.hot.check(&self.fetched, &commit.facts)?;
                let written = self.take(commit, write.clone())?;
                Ok(Settled::Made(Made { written, commit: None }))
            }
            InLot::Undecided(one) => {
                match one.decide(self.hot.facts(&self.fetched, &one.query)?)? {
                    Step::Again(id) => Ok(Settled::Again(id)),
                    Step::Commit(commit) => {
                        let written = self.take(&commit, write.clone())?;
                        Ok(Settled::Made(Made { written, commit: Some(commit) }))
                    }
                }
            }
        }
    }

    fn take(
        &mut self,
        commit: &CommitAuthorization,
        Write { caller, claim, answer, now }: Write<Authorization>,
    ) -> Result<Written<Authorization>> {
        let authorization = authorizations::decided(commit, now);
        let response = answer.to(&authorization);
        let answer = claim.map(|claim| GivenAnswer::new(claim, response.clone()));
        let decided = self.hot.take(&self.fetched, commit, authorization, caller, answer)?;
        let value = decided.authorization.clone();
        self.decided.push(decided);
        Ok(Written::Done { value, response })
    }

    fn stored_answer(&self, claim: &IdempotencyClaim) -> Result<Option<StoredResponse>> {
        if let Some(answer) = Decided::answer_among(&self.decided, claim) {
            return answer.map(Some);
        }
        let before = self.answered.get(&(claim.api_key, claim.key.to_string()));
        let before = before.filter(|_| !is_skipped(Control::Idempotency));
        before.map(|row| idempotency::answer(row, claim)).transpose()
    }
}

/// Forgets some that were given before this time, if they were written that long ago by the database's clock too; says how many.
fn forget_some(session: &Session, before: Timestamp) -> Result<usize> {
    let forgotten = "SELECT forget_answers(?1, ?2) AS number";
    let (before, at_most) = (before.unix_millis(), i64::from(FORGOTTEN_TOGETHER));
    let forgotten = first(session, forgotten, [before, at_most], |row| {
        Columns::keyed(row, "idempotency_answers", "number").number("number")
    })?;
    Ok(forgotten.unwrap_or(0))
}

/// Others write to the database as well, so nothing is known but what it says.
fn nothing_known() -> Hot {
    Hot::new(0)
}

impl AuthorizationStore for PostgresStorage {
    /// Nothing is decided on it, so one statement after another sees what is there, without a transaction around them.
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        with_pins: bool,
    ) -> Vec<Result<Option<PresentedToken>>> {
        let look = |session: &Session| {
            attempt(session, |session| fetched::presented(session, queries, with_pins))
        };
        self.lots.ask(look).unwrap_or_else(|error| of_each(queries.len(), &error))
    }

    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        let lot: Vec<_> = undecided.iter().cloned().map(InLot::Undecided).collect();
        if lot.is_empty() {
            return Vec::new();
        }
        let settled = self.settle_lot(&lot);
        tell_again(self, undecided, settled)
    }

    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        let known = nothing_known();
        let together = snapshot(&self.lots, |session| {
            let fetched = Fetched::for_queries(session, queries)?;
            Ok(queries.iter().map(|query| known.facts(&fetched, query)).collect())
        });
        let found = together.or_else(|error| {
            // A row that makes no sense is the matter of those that ask for it.
            if !matches!(error, StorageError::Inconsistent(_) | StorageError::NotFound { .. }) {
                return Err(error);
            }
            snapshot(&self.lots, |session| {
                Ok(queries.iter().map(|query| known.facts(&Seen(session), query)).collect())
            })
        });
        found.unwrap_or_else(|error| of_each(queries.len(), &error))
    }

    fn commit_authorizations(&self, commits: Vec<Commit>) -> Vec<Result<Written<Authorization>>> {
        let lot: Vec<_> = commits.into_iter().map(InLot::Decided).collect();
        if lot.is_empty() {
            return Vec::new();
        }
        let settled = self.settle_lot(&lot).into_iter().map(|settled| match settled? {
            Settled::Made(made) => Ok(made.written),
            Settled::Again(_) => Err(StorageError::Abandoned),
        });
        settled.collect()
    }

    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        self.answer_again(repeated, authorizations::get)
    }

    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>> {
        self.read(|connection| authorizations::find(connection, id))
    }

    fn list_authorizations(
        &self,
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>> {
        self.read(|connection| authorizations::list(connection, filter, page))
    }
}

impl IdempotencyStore for PostgresStorage {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        self.claims.begin_all(claims)
    }

    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        let before = self.read(|session| idempotency::forgotten_before(session, before))?;
        let mut forgotten: usize = 0;
        loop {
            let some = self.transact(&self.pool, |session| {
                let is_mine = first(session, FORGET, params![], |row| {
                    Columns::new(row, "idempotency_answers").get("id")
                })?;
                match is_mine {
                    Some(true) => forget_some(session, before),
                    _ => Ok(0),
                }
            })?;
            forgotten = forgotten.saturating_add(some);
            if some < usize::from(FORGOTTEN_TOGETHER) {
                return Ok(forgotten);
            }
        }
    }
}
