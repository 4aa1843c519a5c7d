//! What is asked and changed for many payments at once.

use std::sync::{Arc, PoisonError};

use tapfer_payment_types::{AuthorizationId, Timestamp};
use tapfer_payments::authorization::{Authorization, Facts};

use super::desk::Given;
use super::{Result, SqliteStorage};
use crate::hot::{Hot, MemoryOnly, NotInMemory};
use crate::relational::lookup::Seen;
use crate::relational::{Engine, authorizations, idempotency, of_each};
use crate::undecided::decide_and_compare;
use crate::{
    AuthorizationFilter, AuthorizationStore, Begun, CommitAuthorization, FactsQuery,
    IdempotencyClaim, IdempotencyStore, Made, Page, PresentedToken, Slice, Undecided, Write,
    Written,
};

/// So many old answers are forgotten in one transaction: whatever comes meanwhile waits for them.
const FORGOTTEN_AT_ONCE: u16 = 1_000;

impl SqliteStorage {
    /// What memory knows of each, and the tables beside it of what is not there.
    fn known<T: Clone>(
        &self,
        queries: &[FactsQuery],
        in_memory: impl Fn(&Hot, &FactsQuery) -> std::result::Result<T, NotInMemory>,
        in_both: impl Fn(&Hot, &Seen<'_>, &FactsQuery) -> Result<T>,
    ) -> Vec<Result<T>> {
        let found: Vec<_> = {
            let hot = self.shared.hot.read().unwrap_or_else(PoisonError::into_inner);
            queries.iter().map(|query| in_memory(&hot, query)).collect()
        };
        if found.iter().all(std::result::Result::is_ok) {
            return found.into_iter().flatten().map(Ok).collect();
        }
        // Memory and tables together know it, at any moment; a mix of two moments is found out when it is committed.
        let in_both = &in_both;
        let looked_up = self.read_apart(|connection| {
            let all = queries.iter().zip(found).map(|(query, found)| {
                found.or_else(|NotInMemory| {
                    let hot = self.shared.hot.read().unwrap_or_else(PoisonError::into_inner);
                    in_both(&hot, &Seen(connection), query)
                })
            });
            Ok(all.collect())
        });
        looked_up.unwrap_or_else(|error| of_each(queries.len(), &error))
    }
}

impl AuthorizationStore for SqliteStorage {
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        _: bool,
    ) -> Vec<Result<Option<PresentedToken>>> {
        self.known(
            queries,
            |hot, query| hot.presented(&MemoryOnly, query),
            |hot, tables, query| hot.presented(tables, query),
        )
    }

    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        decide_and_compare(self, undecided)
    }

    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        self.known(
            queries,
            |hot, query| hot.facts(&MemoryOnly, query),
            |hot, tables, query| hot.facts(tables, query),
        )
    }

    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        self.writer.decide(commits)
    }

    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        self.answer_again(repeated, authorizations::get)
    }

    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>> {
        if let Some(ahead) = self.shared.ahead.authorization(id) {
            return Ok(Some(ahead));
        }
        self.read_apart(|connection| authorizations::find(connection, id))
    }

    fn list_authorizations(
        &self,
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>> {
        self.read(|connection| authorizations::list(connection, filter, page))
    }
}

impl IdempotencyStore for SqliteStorage {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        // Marked first and looked up then: the other way round, a request that ends in between would
        // be run a second time.
        let marked: Vec<_> = claims.iter().map(|claim| self.running.start(claim)).collect();
        // All of them before any look at the tables.
        let ahead: Vec<_> = claims.iter().map(|claim| self.shared.answer_ahead(claim)).collect();
        let each = claims.iter().zip(marked).zip(ahead);
        let begun = each.map(|((claim, running), ahead)| {
            let running = running?;
            let answer = match ahead? {
                Given::This(response) => Some(response),
                Given::PerhapsInTables => {
                    self.read_apart(|connection| idempotency::stored_answer(connection, claim))?
                }
                Given::None => None,
            };
            Ok(answer.map_or(Begun::Run(running), Begun::Replay))
        });
        begun.collect()
    }

    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        // One after the other: what one has not yet taken away, another must not take for gone.
        let _alone = self.forgetting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.read(|connection| idempotency::forgotten_before(connection, before))?;
        let mut forgotten = 0_usize;
        loop {
            let claims = Arc::clone(&self.shared.claims);
            let part = self.write(move |connection| {
                let part = idempotency::forget_some(connection, before, FORGOTTEN_AT_ONCE)?;
                if part == 0 {
                    claims.forgotten(before);
                }
                Ok(part)
            })?;
            if part == 0 {
                return Ok(forgotten);
            }
            forgotten = forgotten.saturating_add(part);
        }
    }
}
