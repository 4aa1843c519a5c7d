//! What is asked and changed for many payments at once.

use tapfer_payment_types::{AuthorizationId, Timestamp};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::authorization::{Authorization, Facts};

use super::{Result, SqliteStorage};
use crate::relational::{Engine, authorizations, idempotency};
use crate::{
    AuthorizationFilter, AuthorizationStore, Begun, CommitAuthorization, FactsQuery,
    IdempotencyClaim, IdempotencyStore, Page, Slice, Write, Written,
};

impl AuthorizationStore for SqliteStorage {
    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        self.read_all(queries.iter().collect(), authorizations::facts)
    }

    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        self.change_all(commits, AuditAction::AuthorizationDecided, authorizations::decided)
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

impl IdempotencyStore for SqliteStorage {
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        // Marked first and looked up then: the other way round, a request that ends in between would
        // be run a second time.
        let marked: Vec<_> = claims.iter().map(|claim| self.running.start(claim)).collect();
        self.read_all(claims.iter().zip(marked).collect(), |connection, (claim, running)| {
            idempotency::begun(connection, claim, running?)
        })
    }

    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        self.write(move |connection| idempotency::forget(connection, before))
    }
}
