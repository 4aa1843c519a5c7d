//! What a node does while it is alone. Each of it is in the journal before it is answered.

use std::collections::HashMap;
use std::sync::Arc;

use tapfer_emv::keys::{KeyClass, KeyIndex};
use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{
    ApiKeyId, AuthorizationId, CardId, DeviceId, IssuerId, MerchantId, PaymentIntentId, TerminalId,
    Timestamp, TokenId,
};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::authorization::{Authorization, Facts, SpentCounter};
use tapfer_payments::integrity::Verdict;
use tapfer_payments::intents::{IntentStatus, PaymentIntent};
use tapfer_payments::keys::GrantedKey;
use tapfer_payments::policies::IssuedPolicy;

use super::State;
use super::limits::{StandInRefusal, allows_amount, is_within};
use super::record::{Changed, Promise, Record};
use crate::hot::{HotCard, HotIssuer, HotTerminal, HotToken, Tables};
use crate::idempotency::GivenAnswer;
use crate::relational::{Result, authorizations};
use crate::{
    Begun, CommitAuthorization, FactsQuery, IdempotencyClaim, IdempotencyKey, PresentedToken,
    Refusal, StorageError, Write, Written,
};

/// So many things are kept, intents and decisions: the node of a shop makes three for each payment.
const MOST_RECORDS: usize = 50_000;
/// So many of them are one merchant's at most that no payment came of: whoever fills the journal stops all others.
const MOST_OF_ONE: u32 = 2_000;
/// What an approved payment is made of beside itself: an intent that was made and armed.
const OF_A_PAYMENT: u32 = 2;

type Commit = (CommitAuthorization, Write<Authorization>);

/// Answers that were given alone.
pub(super) type Answers = HashMap<(ApiKeyId, IdempotencyKey), GivenAnswer>;

impl State<'_> {
    /// What to do with a request.
    pub(super) fn begin(&self, claim: &IdempotencyClaim) -> Result<Begun> {
        if let Some(answer) = self.kept.answered(claim)? {
            return Ok(Begun::Replay(answer));
        }
        if self.kept.known.has_begun(claim) {
            return Err(StandInRefusal::DatabaseRequest.into());
        }
        self.node.running.start(claim).map(Begun::Run)
    }

    pub(super) fn intent(&self, id: PaymentIntentId) -> Result<PaymentIntent> {
        let known = self.kept.known.hot.intent(id);
        known.map(|intent| (**intent).clone()).ok_or(StandInRefusal::DatabaseIntent.into())
    }

    pub(super) fn terminal(&self, id: TerminalId) -> Result<&HotTerminal> {
        self.kept.known.terminal(id).ok_or(StandInRefusal::UnknownTerminal.into())
    }

    pub(super) fn authorization(&self, id: AuthorizationId) -> Result<Authorization> {
        let known = self.kept.authorizations.get(&id).cloned();
        known.ok_or(StandInRefusal::NotOffered.into())
    }

    pub(super) fn armed_intent(
        &self,
        terminal: TerminalId,
        now: Timestamp,
    ) -> Option<PaymentIntent> {
        let intent = self.kept.known.hot.intent(*self.kept.armed.get(&terminal)?)?;
        intent.is_armed_at(terminal, now).then(|| (**intent).clone())
    }

    pub(super) fn create_intent(
        &mut self,
        intent: PaymentIntent,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        if let Some(limits) = self.node.limits {
            allows_amount(&limits, intent.amount)?;
        }
        self.change(intent, AuditAction::IntentCreated, write, |_, intent, _| Ok(intent))
    }

    pub(super) fn arm_intent(
        &mut self,
        id: PaymentIntentId,
        terminal: TerminalId,
        expires_at: Timestamp,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        let intent = self.intent(id)?;
        self.change(intent, AuditAction::IntentArmed, write, |state, intent, now| {
            let at = &state.terminal(terminal)?.terminal;
            at.require_in_service()?;
            if at.merchant != intent.merchant {
                return Err(Refusal::OwnersDiffer("the terminal and the payment intent").into());
            }
            match state.armed_intent(terminal, now) {
                Some(other) if other.id != id => Err(Refusal::TerminalBusy(other.id).into()),
                _ => Ok(intent.arm(terminal, now, expires_at)?),
            }
        })
    }

    /// Gives an intent up that is not paid; what is held is released in the database.
    pub(super) fn cancel_intent(
        &mut self,
        id: PaymentIntentId,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        let intent = self.intent(id)?;
        self.change(intent, AuditAction::IntentCanceled, write, |_, intent, _| {
            match intent.status {
                IntentStatus::RequiresCapture => Err(StandInRefusal::NotOffered.into()),
                _ => Ok(intent.cancel()?.0),
            }
        })
    }

    fn change(
        &mut self,
        intent: PaymentIntent,
        action: AuditAction,
        write: Write<PaymentIntent>,
        job: impl FnOnce(&Self, PaymentIntent, Timestamp) -> Result<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        let Write { caller, claim, answer, now } = write;
        if let Some(claim) = &claim
            && let Some(stored) = self.kept.answered(claim)?
        {
            return Ok(Written::Replayed(stored));
        }
        self.demand_time(now)?;
        self.demand_share(intent.merchant)?;
        let intent = job(self, intent, now)?;
        let response = answer.to(&intent);
        let answer = claim.map(|claim| GivenAnswer::new(claim, response.clone()));
        let changed = Changed { action, intent: intent.clone(), caller, at: now, answer };
        self.write(vec![Record::Changed(Box::new(changed))])?;
        self.count(intent.merchant, false);
        if let Some(arming) = intent.arming {
            self.kept.armed.insert(arming.terminal, intent.id);
        }
        self.kept.known.hot.put_intent(intent.clone());
        Ok(Written::Done { value: intent, response })
    }

    /// Whether the database is not away for too long, and what is decided can be kept.
    pub(super) fn demand_time(&self, now: Timestamp) -> Result<()> {
        let limits = self.node.limits.ok_or(StandInRefusal::NotOffered)?;
        if !is_within(limits.minutes, self.kept.since, now) {
            return Err(StandInRefusal::Minutes.into());
        }
        if self.kept.journal.is_none() {
            return Err(StandInRefusal::Journal.into());
        }
        let is_full = self.kept.records.len() >= MOST_RECORDS;
        if is_full { Err(StandInRefusal::Full.into()) } else { Ok(()) }
    }

    fn demand_share(&self, merchant: MerchantId) -> Result<()> {
        let wishes = self.kept.wishes.get(&merchant).copied().unwrap_or(0);
        if wishes < MOST_OF_ONE { Ok(()) } else { Err(StandInRefusal::Full.into()) }
    }

    /// What a decision rests on, of what was seen lately.
    pub(super) fn facts(&self, query: &FactsQuery) -> Result<Facts> {
        let now = (self.node.clock)();
        self.demand_time(now)?;
        self.demand_seen(&query.token_number_hash, now)?;
        let claims = query.presented.input.application_data();
        if claims.is_some_and(|data| data.results.key_class == KeyClass::Verified) {
            return Err(StandInRefusal::Pin.into());
        }
        self.kept.known.hot.facts(&Nothing, query)
    }

    /// The token of a payment that this node may decide alone.
    pub(super) fn presented(&self, query: &FactsQuery) -> Result<Option<PresentedToken>> {
        let facts = self.facts(query)?;
        if facts.intent.merchant != facts.terminal.merchant.id {
            return Err(StorageError::OfAnotherMerchant);
        }
        Ok(facts.token.map(|found| PresentedToken { token: found.token, card_pin: found.card_pin }))
    }

    fn demand_seen(&self, number_hash: &[u8], now: Timestamp) -> Result<()> {
        let limits = self.node.limits.ok_or(StandInRefusal::NotOffered)?;
        let seen = self.kept.known.seen(number_hash).ok_or(StandInRefusal::UnknownToken)?;
        let is_recent = is_within(limits.known_minutes, seen, now);
        if is_recent || is_skipped(Control::StandInKnown) {
            Ok(())
        } else {
            Err(StandInRefusal::UnknownToken.into())
        }
    }

    /// Decides payments, each within the limits, and keeps all of them with one sync.
    pub(super) fn decide(&mut self, commits: Vec<Commit>) -> Vec<Result<Written<Authorization>>> {
        let mut records = Vec::new();
        let mut made: Vec<_> =
            commits.into_iter().map(|commit| self.decide_one(commit, &mut records)).collect();
        if let Err(error) = self.write(records) {
            // Also who is told again: it may be an answer of this lot.
            let is_told = made.iter_mut().filter(|written| written.is_ok());
            is_told.for_each(|written| *written = Err(error.clone()));
        }
        made
    }

    fn decide_one(
        &mut self,
        (commit, write): Commit,
        records: &mut Vec<Record>,
    ) -> Result<Written<Authorization>> {
        let Write { caller, claim, answer, now } = write;
        if let Some(claim) = &claim
            && let Some(stored) = self.kept.answered(claim)?
        {
            return Ok(Written::Replayed(stored));
        }
        self.demand_time(now)?;
        self.demand_share(commit.facts.intent.merchant)?;
        let limits = self.node.limits.ok_or(StandInRefusal::NotOffered)?;
        let authorization = authorizations::decided(&commit, now);
        let paid = authorization.token.filter(|_| authorization.outcome.is_approved());
        if let Some(token) = paid.filter(|_| !is_skipped(Control::StandInLimits)) {
            self.kept.promised.allows(&limits, token, authorization.amount)?;
        }
        let response = answer.to(&authorization);
        let answer = claim.map(|claim| GivenAnswer::new(claim, response.clone()));
        let hot = &mut self.kept.known.hot;
        let decided = hot.decide(&Nothing, &commit, authorization, caller, answer)?;
        let value = decided.authorization.clone();
        if let Some(token) = paid {
            self.kept.promised.add(token, value.amount);
        }
        let before = commit.facts.token.as_ref().and_then(|known| known.key);
        let of_key = before.zip(decided.used_key).map_or((0, 0), |(before, after)| {
            let payments = after.used_payments.saturating_sub(before.used_payments);
            (payments, after.used_total_minor.saturating_sub(before.used_total_minor))
        });
        self.count(commit.facts.intent.merchant, paid.is_some());
        self.kept.authorizations.insert(value.id, value.clone());
        // One that comes in the same lot under the same key is told the same.
        if let Some(given) = &decided.answer {
            self.kept.answers.insert((given.api_key, given.key.clone()), given.clone());
        }
        records.push(Record::Decided(Box::new(Promise { decided, of_key })));
        Ok(Written::Done { value, response })
    }

    /// Tells authorizations again. Nothing is kept: asked once more, the same is found.
    pub(super) fn repeat(
        &self,
        repeated: Vec<(AuthorizationId, Write<Authorization>)>,
    ) -> Vec<Result<Written<Authorization>>> {
        let again = repeated
            .into_iter()
            .map(|(id, write)| Ok(Written::Replayed(write.answer.to(&self.authorization(id)?))));
        again.collect()
    }

    /// Keeps what was done, before anybody hears of it. If nobody knows whether it is kept, nothing more is done: what the journal
    /// holds is booked.
    fn write(&mut self, records: Vec<Record>) -> Result<()> {
        let Some(journal) = self.kept.journal.as_mut().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        if let Err(error) = journal.append(&records) {
            tracing::error!(
                target: "tapfer::stand_in", %error,
                "the journal of this node cannot be written: it decides nothing any more until the database is back"
            );
            self.kept.break_off(format!("it cannot be written: {error}"));
            return Err(StorageError::NotSynced(Arc::new(error)));
        }
        for given in records.iter().filter_map(Record::answer) {
            self.kept.answers.insert((given.api_key, given.key.clone()), given.clone());
        }
        self.kept.records.extend(records);
        Ok(())
    }

    fn count(&mut self, merchant: MerchantId, is_approved: bool) {
        let wishes = self.kept.wishes.entry(merchant).or_default();
        *wishes = match is_approved {
            true => wishes.saturating_sub(OF_A_PAYMENT),
            false => wishes.saturating_add(1),
        };
    }
}

/// Where nothing more can be looked up.
struct Nothing;

impl From<StandInRefusal> for StorageError {
    fn from(refusal: StandInRefusal) -> Self {
        Self::StandIn(refusal)
    }
}

const UNKNOWN: StorageError = StorageError::StandIn(StandInRefusal::UnknownToken);

impl Tables for Nothing {
    type Error = StorageError;

    fn token_with_number(&self, _: &[u8]) -> Result<Option<TokenId>> {
        Err(UNKNOWN)
    }
    fn token(&self, _: TokenId) -> Result<Option<HotToken>> {
        Err(UNKNOWN)
    }
    fn key(&self, _: TokenId, _: KeyClass, _: KeyIndex) -> Result<Option<GrantedKey>> {
        Err(StandInRefusal::UnknownKey.into())
    }
    fn spent(&self, _: TokenId, _: u16) -> Result<Option<SpentCounter>> {
        Err(StandInRefusal::Counter.into())
    }
    fn card(&self, _: CardId) -> Result<Option<HotCard>> {
        Err(UNKNOWN)
    }
    fn issuer(&self, _: IssuerId) -> Result<Option<HotIssuer>> {
        Err(UNKNOWN)
    }
    fn policy(&self, _: IssuerId, _: u32) -> Result<Option<IssuedPolicy>> {
        Err(UNKNOWN)
    }
    fn verdict(&self, _: DeviceId) -> Result<Option<Verdict>> {
        Err(UNKNOWN)
    }
    fn terminal(&self, _: TerminalId) -> Result<HotTerminal> {
        Err(StandInRefusal::UnknownTerminal.into())
    }
    fn intent(&self, _: PaymentIntentId) -> Result<PaymentIntent> {
        Err(StandInRefusal::DatabaseIntent.into())
    }
}
