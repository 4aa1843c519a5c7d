//! What is asked and changed for many payments at once.

use tapfer_payment_types::{AuthorizationId, Timestamp};
use tapfer_payments::authorization::{Authorization, Facts};

use super::session::Session;
use super::{PostgresStorage, Result};
use crate::decided::Decided;
use crate::hot::Hot;
use crate::relational::lookup::Seen;
use crate::relational::{Engine, authorizations, decided, idempotency, of_each};
use crate::{
    AuthorizationFilter, AuthorizationStore, Begun, CommitAuthorization, FactsQuery,
    IdempotencyClaim, IdempotencyStore, Page, Slice, Write, Written,
};

/// All that a lot of decisions rests on, locked in the order of [`crate::relational::sql::Guard`], and each kind in the order
/// of its ids: two lots never wait for one another. What many payments share and none of them changes is shared; what a
/// payment changes it has alone.
const LOCKS: &str = "
    WITH issuers AS MATERIALIZED (
        SELECT 1 FROM issuers WHERE id = ANY (?1::text[]) ORDER BY id FOR SHARE),
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

/// What commits rest on, by kind.
#[derive(Default)]
struct Ids {
    issuers: Vec<String>,
    terminals: Vec<String>,
    devices: Vec<String>,
    cards: Vec<String>,
    intents: Vec<String>,
}

impl Ids {
    fn of(commits: &[Commit]) -> Self {
        let mut ids = Self::default();
        for (commit, _) in commits {
            let facts = &commit.facts;
            ids.terminals.push(facts.terminal.id().to_string());
            ids.intents.push(facts.intent.id.to_string());
            if let Some(token) = &facts.token {
                ids.issuers.push(token.issuer.id.to_string());
                ids.devices.push(token.token.device.to_string());
                ids.cards.push(token.card.id.to_string());
            }
        }
        ids
    }

    fn lock(&self, session: &Session) -> Result<()> {
        let Self { issuers, terminals, devices, cards, intents } = self;
        session.ask_all(&[(LOCKS, &[issuers, terminals, devices, cards, intents])]).map(drop)
    }
}

impl PostgresStorage {
    fn commit_lot(&self, commits: Vec<Commit>) -> Vec<Result<Written<Authorization>>> {
        let count = commits.len();
        let ids = Ids::of(&commits);
        let jobs = commits.into_iter().map(|commit| |session: &Session| write(session, commit));
        self.each_for_itself(|session| ids.lock(session), jobs.collect())
            .unwrap_or_else(|error| of_each(count, &error))
    }
}

/// Writes one decision down, if what it rests on is still so; what was answered before is told again.
fn write(session: &Session, (commit, write): Commit) -> Result<Written<Authorization>> {
    let Write { caller, claim, answer, now } = write;
    if let Some(claim) = &claim
        && let Some(stored) = idempotency::stored_answer(session, claim)?
    {
        return Ok(Written::Replayed(stored));
    }
    nothing_known().check(&Seen(session), &commit.facts)?;
    let mut decided = Decided::new(&commit, authorizations::decided(&commit, now), caller)?;
    let response = answer.to(&decided.authorization);
    decided.answer = claim.map(|claim| (claim, response.clone()));
    decided::write(session, &decided)?;
    Ok(Written::Done { value: decided.authorization, response })
}

/// Others write to the database as well, so nothing is known but what it says.
fn nothing_known() -> Hot {
    Hot::new(0)
}

impl AuthorizationStore for PostgresStorage {
    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        let found = self.read(|connection| {
            let (seen, known) = (Seen(connection), nothing_known());
            Ok(queries.iter().map(|query| known.facts(&seen, query)).collect())
        });
        found.unwrap_or_else(|error| of_each(queries.len(), &error))
    }

    fn commit_authorizations(&self, commits: Vec<Commit>) -> Vec<Result<Written<Authorization>>> {
        if commits.is_empty() { Vec::new() } else { self.commit_lot(commits) }
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
        self.write(move |connection| idempotency::forget(connection, before))
    }
}
