//! Payments: each is facts, a decision and one commit of one partition, the one of the card.

use std::collections::BTreeMap;

use tapfer_payment_types::{AuthorizationId, RefundId, ReversalId, Timestamp};
use tapfer_payments::authorization::{Authorization, Facts};
use tapfer_payments::refunds::Refund;
use tapfer_payments::retention::{EndedKind, RetentionLimit};
use tapfer_payments::reversals::Reversal;

use super::PartitionedStorage;
use super::intents::{ATTEMPTS, Wanted, is_gone};
use crate::postgres::PostgresStorage;
use crate::relational::{Result, of_each};
use crate::store::{
    AuthorizationStore, IdempotencyStore, RefundStore, RetentionStore, ReversalStore,
};
use crate::{
    AuthorizationFilter, Begun, CommitAuthorization, FactsQuery, IdempotencyClaim, Made, NewRefund,
    NewReversal, Page, PresentedToken, RefundFilter, Slice, StorageError, Undecided, Write,
    Written,
};

impl PartitionedStorage {
    /// Asks each partition together for what is its own; the answers in the order of the questions.
    fn each_at<Q: Send + 'static, A: Send + 'static>(
        &self,
        asked: Vec<Result<(usize, Q)>>,
        ask: impl Fn(&PostgresStorage, Vec<Q>) -> Vec<Result<A>> + Clone + Send + 'static,
    ) -> Vec<Result<A>> {
        let mut answers: Vec<Option<Result<A>>> = Vec::with_capacity(asked.len());
        let mut of: BTreeMap<usize, (Vec<usize>, Vec<Q>)> = BTreeMap::new();
        for (place, asked) in asked.into_iter().enumerate() {
            answers.push(match asked {
                Ok((partition, question)) => {
                    let (places, questions) = of.entry(partition).or_default();
                    places.push(place);
                    questions.push(question);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        let (places, asked): (Vec<_>, Vec<_>) = of
            .into_iter()
            .map(|(partition, (places, questions))| (places, (partition, questions)))
            .unzip();
        for (places, said) in places.into_iter().zip(self.side_by_side(asked, ask)) {
            let said = said.unwrap_or_else(|error| of_each(places.len(), &error));
            for (place, said) in places.into_iter().zip(said) {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = Some(said);
                }
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(StorageError::Abandoned))).collect()
    }

    /// As [`Self::each_at`], of payments at their cards: behind this their intents are there.
    fn each_at_its_card<Q: Clone + Send + 'static, A: Send + 'static>(
        &self,
        asked: &[Q],
        about: fn(&Q) -> &FactsQuery,
        ask: impl Fn(&PostgresStorage, Vec<Q>) -> Vec<Result<A>> + Clone + Send + 'static,
    ) -> Vec<Result<A>> {
        // Of one that is handed over all the time: nobody is to try that once more at once.
        let mut answers = of_each(asked.len(), &StorageError::Busy);
        let mut open: Vec<(usize, &Q)> = asked.iter().enumerate().collect();
        for _ in 0..ATTEMPTS {
            if open.is_empty() {
                break;
            }
            let wanted: Vec<Wanted> = open
                .iter()
                .map(|(_, asked)| {
                    let query = about(asked);
                    let hash = query.token_number_hash.as_slice();
                    // A number of no range is no token's: it is decided where the intent is.
                    let to = (!hash.is_empty()).then(|| self.of_hash(hash));
                    Wanted { id: query.payment_intent, to, terminal: query.terminal }
                })
                .collect();
            let brought = self.bring(&wanted);
            let is_brought: Vec<_> = brought.iter().map(Result::is_ok).collect();
            let there = brought.into_iter().zip(&open);
            let there = there.map(|(at, (_, asked))| at.map(|at| (at, (*asked).clone())));
            let said = self.each_at(there.collect(), ask.clone());
            let mut again = Vec::new();
            for (((place, asked), is_brought), said) in open.into_iter().zip(is_brought).zip(said) {
                match said {
                    // It went on before it was read.
                    Err(error) if is_brought && is_gone(&error) => again.push((place, asked)),
                    said => {
                        if let Some(answer) = answers.get_mut(place) {
                            *answer = said;
                        }
                    }
                }
            }
            open = again;
        }
        answers
    }

    /// Answers of the home that not all partitions have heard of are told when they have.
    fn tell_before(&self, begun: &mut [Result<Begun>], claims: &[&IdempotencyClaim]) {
        for (begun, claim) in begun.iter_mut().zip(claims) {
            if matches!(begun, Ok(Begun::Replay(_)))
                && let Err(not_everywhere) = self.settle_answer(claim)
            {
                *begun = Err(not_everywhere);
            }
        }
    }
}

impl AuthorizationStore for PartitionedStorage {
    fn presented_tokens(
        &self,
        queries: &[FactsQuery],
        with_pins: bool,
    ) -> Vec<Result<Option<PresentedToken>>> {
        self.each_at_its_card(
            queries,
            |query| query,
            move |store, queries| store.presented_tokens(&queries, with_pins),
        )
    }

    fn decide_authorizations(&self, undecided: Vec<Undecided>) -> Vec<Result<Made>> {
        self.each_at_its_card(
            &undecided,
            |one| &one.query,
            |store, undecided| store.decide_authorizations(undecided),
        )
    }

    fn facts_of_authorizations(&self, queries: &[FactsQuery]) -> Vec<Result<Facts>> {
        self.each_at_its_card(
            queries,
            |query| query,
            |store, queries| store.facts_of_authorizations(&queries),
        )
    }

    fn commit_authorizations(
        &self,
        commits: Vec<(CommitAuthorization, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        let placed = commits.into_iter().map(|commit| {
            let id = commit.0.facts.intent.id;
            let at = self.intents.get(&id).map_or_else(|| self.bring_here(id), Ok);
            at.map(|at| (at, commit))
        });
        let written =
            self.each_at(placed.collect(), |store, commits| store.commit_authorizations(commits));
        let written = written.into_iter().map(|written| match written {
            // Another card was tapped for it meanwhile, and it is there now.
            Err(error) if is_gone(&error) => Err(StorageError::Conflict),
            written => written,
        });
        written.collect()
    }

    fn repeat_authorizations(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        let placed = repeated.into_iter().map(|(id, write)| {
            let found = self.find(|store| store.authorization(id))?;
            let (at, _) = found.ok_or_else(|| StorageError::NotFound {
                kind: "authorization",
                id: id.to_string(),
            })?;
            Ok((at, (id, write)))
        });
        self.each_at(placed.collect(), |store, repeated| store.repeat_authorizations(repeated))
    }

    fn authorization(&self, id: AuthorizationId) -> Result<Option<Authorization>> {
        Ok(self.find(|store| store.authorization(id))?.map(|(_, found)| found))
    }

    fn list_authorizations(
        &self,
        filter: AuthorizationFilter,
        page: Page<AuthorizationId>,
    ) -> Result<Slice<Authorization, AuthorizationId>> {
        self.listed(page, |found| found.id, |store, page| store.list_authorizations(filter, page))
    }
}

impl RefundStore for PartitionedStorage {
    fn create_refund(&self, refund: NewRefund, write: Write<Refund>) -> Result<Written<Refund>> {
        self.of_intent(refund.payment_intent, |store| {
            store.create_refund(refund.clone(), write.clone())
        })
    }

    fn refund(&self, id: RefundId) -> Result<Option<Refund>> {
        Ok(self.find(|store| store.refund(id))?.map(|(_, found)| found))
    }

    fn list_refunds(
        &self,
        filter: RefundFilter,
        page: Page<RefundId>,
    ) -> Result<Slice<Refund, RefundId>> {
        self.listed(page, |refund| refund.id, |store, page| store.list_refunds(filter, page))
    }
}

impl ReversalStore for PartitionedStorage {
    fn reverse(&self, reversal: NewReversal, write: Write<Reversal>) -> Result<Written<Reversal>> {
        let id = reversal.authorization;
        let at = self.find(|store| store.authorization(id))?.map_or(0, |(at, _)| at);
        self.ask(at, |store| store.reverse(reversal, write))
    }

    fn reversal(&self, id: ReversalId) -> Result<Option<Reversal>> {
        Ok(self.find(|store| store.reversal(id))?.map(|(_, found)| found))
    }
}

impl RetentionStore for PartitionedStorage {
    fn retention_limit(&self) -> Result<RetentionLimit> {
        self.home.retention_limit()
    }

    /// In the home last, which keeps the answer: what some do not have is set when it is asked again.
    fn set_retention_limit(
        &self,
        limit: RetentionLimit,
        reason: String,
        write: Write<RetentionLimit>,
    ) -> Result<Written<RetentionLimit>> {
        for partition in 1..self.count() {
            let write = Write { claim: None, ..write.clone() };
            self.ask(partition, |store| store.set_retention_limit(limit, reason.clone(), write))?;
        }
        self.home.set_retention_limit(limit, reason, write)
    }

    /// Cards and tokens each in their partition, and one that is away erases later; phones in the home, if they have a token in none,
    /// which only all together know.
    fn erase_ended(&self, now: Timestamp) -> Result<usize> {
        let mut erased: usize = 0;
        let mut failed = None;
        for partition in 0..self.count() {
            match self.ask(partition, |store| store.erase_cards_and_tokens(now)) {
                Ok(some) => erased = erased.saturating_add(some),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let without_tokens = |devices: Vec<String>| {
            (1..self.count()).try_fold(devices, |left, partition| {
                self.ask(partition, |store| store.without_tokens(left))
            })
        };
        self.home.note_phones_in_use(without_tokens)?;
        let devices = self.home.erase_ended_of(EndedKind::Device, now, without_tokens)?;
        Ok(erased.saturating_add(devices))
    }
}

impl IdempotencyStore for PartitionedStorage {
    /// An answer is in the partition where its effect is, which the claim does not say: all are asked, and marked. One that is away
    /// is not: what it has answered it would have to decide as well, since all that a request names, or has drawn for it, stays the same.
    fn begin_all(&self, claims: &[&IdempotencyClaim]) -> Vec<Result<Begun>> {
        let mut begun = self.home.begin_all(claims);
        self.tell_before(&mut begun, claims);
        let open = begun.iter().zip(claims).enumerate();
        let open = open.filter(|(_, (begun, _))| matches!(begun, Ok(Begun::Run(_))));
        let (places, open): (Vec<_>, Vec<_>) =
            open.map(|(place, (_, claim))| (place, (*claim).clone())).unzip();
        if open.is_empty() {
            return begun;
        }
        let asked = (1..self.count()).map(|partition| (partition, open.clone())).collect();
        let said = self.side_by_side(asked, |store, claims: Vec<IdempotencyClaim>| {
            store.begin_all(&claims.iter().collect::<Vec<_>>())
        });
        for said in said.into_iter().flatten() {
            for (place, said) in places.iter().zip(said) {
                let Some(before) = begun.get_mut(*place) else { continue };
                let earlier = std::mem::replace(before, Err(StorageError::StillRunning));
                *before = match (earlier, said) {
                    (Ok(Begun::Run(running)), Ok(Begun::Run(there))) => {
                        Ok(Begun::Run(running.and(there)))
                    }
                    (earlier, Err(StorageError::Unreachable(_) | StorageError::Moved(_))) => {
                        earlier
                    }
                    (Ok(Begun::Run(_)), said) => said,
                    // Another partition has said what it is.
                    (earlier, _) => earlier,
                };
            }
        }
        begun
    }

    /// In each for itself: one that is away forgets later.
    fn forget_answers(&self, before: Timestamp) -> Result<usize> {
        let mut forgotten: usize = 0;
        let mut failed = None;
        for partition in 0..self.count() {
            match self.ask(partition, |store| store.forget_answers(before)) {
                Ok(some) => forgotten = forgotten.saturating_add(some),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(forgotten), Err)
    }
}
