//! Authorizations: the facts of a decision, and its commit.

use std::sync::Arc;

use tapfer_emv::merchant::AcquirerId;
use tapfer_payment_types::{AuthorizationId, Money, TerminalId, Timestamp, TokenId};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult, Caller};
use tapfer_payments::authorization::{
    Authorization, Facts, Outcome, PresentedPayment, SpentCounter, TerminalFacts, TokenFacts,
};
use tapfer_payments::intents::{CaptureMethod, PaymentIntent};
use tapfer_payments::ledger;
use tapfer_payments::tokens::{Actor, Token, TokenAction, TokenChange, TokenState};

use super::ledger::book;
use super::rows::{Columns, Listing, execute, first, found};
use super::sql::{Connection, Row, params};
use super::{
    Changed, Result, cards, integrity, intents, issuers, merchants, pins, policies, terminals,
    tokens,
};
use crate::{
    AuthorizationFilter, CommitAuthorization, FactsQuery, Inconsistency, Page, Slice, StorageError,
};

/// A decision and what undid it.
const SELECT: &str = "SELECT * FROM (
    SELECT authorizations.*, reversals.id AS reversal_id FROM authorizations
    LEFT JOIN reversals ON reversals.authorization_id = authorizations.id) AS decisions";

pub(crate) fn find(connection: &Connection, id: AuthorizationId) -> Result<Option<Authorization>> {
    first(connection, &format!("{SELECT} WHERE id = ?1"), [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: AuthorizationId) -> Result<Authorization> {
    found(find(connection, id)?, "authorization", id)
}

fn read(row: &Row<'_>) -> Result<Authorization> {
    let columns = Columns::new(row, "authorizations");
    let outcome = Outcome::from_number(columns.number("outcome")?);
    let key_index: Option<Vec<u8>> = columns.get("key_index")?;
    Ok(Authorization {
        id: columns.parse("id")?,
        payment_intent: columns.parse("payment_intent_id")?,
        merchant: columns.parse("merchant_id")?,
        terminal: columns.parse("terminal_id")?,
        token: columns.parse_optional("token_id")?,
        card: columns.parse_optional("card_id")?,
        outcome: outcome.ok_or_else(|| columns.broken("outcome"))?,
        merchant_proven: columns.get("merchant_proven")?,
        amount: columns.money("amount")?,
        application_transaction_counter: columns.number("application_transaction_counter")?,
        key_index: key_index.map(|_| columns.key_index("key_index")).transpose()?,
        reversal: columns.parse_optional("reversal_id")?,
        created_at: columns.time("created_at")?,
    })
}

fn insert(connection: &Connection, authorization: &Authorization) -> Result<()> {
    execute(
        connection,
        "INSERT INTO authorizations (id, payment_intent_id, merchant_id, terminal_id, token_id,
             card_id, outcome, amount, currency, application_transaction_counter, key_index,
             merchant_proven, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            authorization.id.to_string(),
            authorization.payment_intent.to_string(),
            authorization.merchant.to_string(),
            authorization.terminal.to_string(),
            authorization.token.map(|id| id.to_string()),
            authorization.card.map(|id| id.to_string()),
            authorization.outcome.number(),
            authorization.amount.minor,
            authorization.amount.currency.code(),
            authorization.application_transaction_counter,
            authorization.key_index.map(|index| index.to_bytes().to_vec()),
            authorization.merchant_proven,
            authorization.created_at.unix_millis(),
        ],
    )?;
    Ok(())
}

fn load_facts(
    connection: &Connection,
    token: Option<Token>,
    intent: PaymentIntent,
    (terminal, acquirer): (TerminalId, AcquirerId),
    presented: Arc<PresentedPayment>,
) -> Result<Facts> {
    let terminal = Arc::new(terminals::get(connection, terminal)?);
    let merchant = Arc::new(merchants::get(connection, terminal.merchant)?);
    let terminal = TerminalFacts { terminal, merchant, acquirer };
    let token = token.map(|token| token_facts(connection, token, &presented)).transpose()?;
    Ok(Facts { presented, terminal, intent: Arc::new(intent), token })
}

fn token_facts(
    connection: &Connection,
    token: Token,
    presented: &PresentedPayment,
) -> Result<TokenFacts> {
    let lost = |column| Inconsistency { table: "tokens", id: token.id.to_string(), column };
    let account = cards::find(connection, token.card)?.ok_or_else(|| lost("card_id"))?;
    let issuer = issuers::find(connection, token.issuer)?.ok_or_else(|| lost("issuer_id"))?;
    let key = match presented.input.application_data() {
        Some(data) => {
            tokens::find_key(connection, token.id, data.results.key_class, data.key_index)?
        }
        None => None,
    };
    let version = presented.input.application_data().map(|data| data.policy_version);
    let policy = version.map(|version| policies::find(connection, issuer.id, version));
    let (history, logged_in_at) = pins::history(connection, token.id)?;
    let logged_in_at = match logged_in_at {
        Some(at) => at,
        None => tokens::first_granted_at(connection, token.id)?.unwrap_or(token.created_at),
    };
    Ok(TokenFacts {
        policy: policy.transpose()?.flatten().map(Arc::new),
        pin_rules: policies::current(connection, &issuer)?.policy.pin,
        history,
        logged_in_at,
        person_key: pins::person_key(connection, token.id)?.map(|key| key.state),
        card_pin: pins::card_pin(connection, token.card)?,
        card: Arc::new(account.card),
        issuer: Arc::new(issuer),
        counter_spent: spent_counter(connection, &token, presented)?,
        highest_counter: tokens::highest_counter(connection, token.id)?,
        key,
        available: account.available,
        integrity_policy: integrity::policy(connection, token.issuer)?.map(Arc::new),
        integrity_verdict: integrity::verdict(connection, token.device)?,
        token: Arc::new(token),
    })
}

fn spent_counter(
    connection: &Connection,
    token: &Token,
    presented: &PresentedPayment,
) -> Result<Option<SpentCounter>> {
    first(
        connection,
        "SELECT authorizations.id, payment_intent_id, terminal_id, cryptogram, verified
         FROM transaction_counters
         JOIN authorizations ON authorizations.id = transaction_counters.authorization_id
         WHERE transaction_counters.token_id = ?1
             AND transaction_counters.application_transaction_counter = ?2",
        params![token.id.to_string(), presented.application_transaction_counter()],
        read_spent_counter,
    )
}

fn read_spent_counter(row: &Row<'_>) -> Result<SpentCounter> {
    let columns = Columns::new(row, "transaction_counters");
    let cryptogram: Option<Vec<u8>> = columns.get("cryptogram")?;
    Ok(SpentCounter {
        authorization: columns.parse("id")?,
        payment_intent: columns.parse("payment_intent_id")?,
        terminal: columns.parse("terminal_id")?,
        cryptogram: cryptogram.map(|_| columns.bytes("cryptogram")).transpose()?,
        verified: columns.get("verified")?,
    })
}

/// A decision stands only on the facts it was taken on: all of them, compared whole, so that no fact
/// can be forgotten here.
fn check_facts(connection: &Connection, decided_on: &Facts) -> Result<()> {
    let token = match &decided_on.token {
        Some(facts) => tokens::find(connection, facts.token.id)?,
        None => None,
    };
    let intent = intents::get(connection, decided_on.intent.id)?;
    let presented = Arc::clone(&decided_on.presented);
    let terminal = (decided_on.terminal.id(), decided_on.terminal.acquirer);
    let now = load_facts(connection, token, intent, terminal, presented)?;
    if now == *decided_on { Ok(()) } else { Err(StorageError::Conflict) }
}

fn commit(
    connection: &Connection,
    commit: CommitAuthorization,
    caller: Caller,
    now: Timestamp,
) -> Result<Authorization> {
    check_facts(connection, &commit.facts)?;
    let authorization = authorization(&commit, now);
    insert(connection, &authorization)?;
    if let (Some(state), Some(token)) = (commit.suspended, &commit.facts.token) {
        suspend(connection, token.token.id, state, caller, now)?;
    }
    if let Some(token) = &commit.facts.token {
        write_use(connection, &commit, token, authorization.id)?;
    }
    let intent = Arc::unwrap_or_clone(commit.facts.intent);
    match (authorization.outcome, commit.facts.token) {
        (Outcome::Approved, Some(token)) => {
            approve(connection, intent, &token, authorization.id, now)?;
        }
        _ if commit.consumes_arming => intents::update(connection, &intent.disarmed())?,
        _ => {}
    }
    Ok(authorization)
}

fn authorization(commit: &CommitAuthorization, now: Timestamp) -> Authorization {
    let CommitAuthorization { id, facts, outcome, .. } = commit;
    Authorization {
        id: *id,
        payment_intent: facts.intent.id,
        merchant: facts.intent.merchant,
        terminal: facts.terminal.id(),
        token: facts.token.as_ref().map(|token| token.token.id),
        card: facts.token.as_ref().map(|token| token.card.id),
        outcome: *outcome,
        merchant_proven: commit.merchant_proven,
        amount: facts.intent.amount,
        application_transaction_counter: facts.presented.application_transaction_counter(),
        key_index: facts.presented.input.application_data().map(|data| data.key_index),
        reversal: None,
        created_at: now,
    }
}

/// Which key of the security module was asked about the cryptogram, for the audit log: issuer, generation of
/// its master key, index of the limited-use key below it.
fn used_key(facts: &Facts) -> String {
    let token = facts.token.as_ref();
    let data = facts.presented.input.application_data();
    token.zip(data).map_or_else(String::new, |(token, data)| {
        let (issuer, generation) = (token.issuer.id, data.derivation_key_index);
        format!("; issuer master key of {issuer} generation {generation} index {}", data.key_index)
    })
}

/// The platform suspends a token of which there are two copies, with a line in its history and one in
/// the audit log beside the authorization's own.
fn suspend(
    connection: &Connection,
    token: TokenId,
    state: TokenState,
    caller: Caller,
    now: Timestamp,
) -> Result<()> {
    let reason = "one counter under two cryptograms: there is a copy of the phone";
    let (action, actor) = (TokenAction::Suspend, Actor::Platform);
    let change = TokenChange { token, action, actor, reason: reason.to_owned(), state, at: now };
    tokens::write_change(connection, &change)?;
    let event = AuditEvent {
        at: now,
        caller,
        action: AuditAction::TokenSuspended,
        object: token.to_string(),
        result: AuditResult::Succeeded,
        detail: Some(format!("{actor}: {reason}")),
    };
    connection.record(&event)
}

/// What the tap used up: the counter, one use of the key, a PIN's tries.
fn write_use(
    connection: &Connection,
    commit: &CommitAuthorization,
    token: &TokenFacts,
    id: AuthorizationId,
) -> Result<()> {
    let subject = token.token.id;
    if commit.uses_counter || commit.remembers_cryptogram {
        let presented = &commit.facts.presented;
        spend_counter(connection, token, presented, commit.uses_counter, id)?;
    }
    if let (true, Some(key)) = (commit.uses_counter, &commit.used_key) {
        tokens::update_key(connection, subject, key)?;
    }
    if let Some(state) = commit.person_key {
        pins::update_person_key(connection, subject, state)?;
    }
    if let Some(pin) = &commit.card_pin {
        pins::put_card_pin(connection, token.card.id, pin)?;
    }
    if let Some(history) = &commit.history {
        pins::put_history(connection, subject, history)?;
    }
    Ok(())
}

/// A right cryptogram spends its counter, and one of a wrong PIN is remembered with it.
fn spend_counter(
    connection: &Connection,
    token: &TokenFacts,
    presented: &PresentedPayment,
    verified: bool,
    id: AuthorizationId,
) -> Result<()> {
    execute(
        connection,
        "INSERT INTO transaction_counters
             (token_id, application_transaction_counter, authorization_id, cryptogram, verified)
         VALUES (?1, ?2, ?3, ?4, ?5)
         -- Where a wrong PIN was, a right cryptogram may still spend the counter.
         ON CONFLICT (token_id, application_transaction_counter) DO UPDATE SET
             authorization_id = excluded.authorization_id, cryptogram = excluded.cryptogram,
             verified = excluded.verified
         WHERE transaction_counters.verified = 0 AND excluded.verified = 1",
        params![
            token.token.id.to_string(),
            presented.application_transaction_counter(),
            id.to_string(),
            presented.cryptogram.as_slice(),
            verified,
        ],
    )?;
    Ok(())
}

/// Holds the amount, and takes it for the merchant at once unless it wants to capture later.
fn approve(
    connection: &Connection,
    intent: PaymentIntent,
    token: &TokenFacts,
    id: AuthorizationId,
    now: Timestamp,
) -> Result<()> {
    let (card, amount): (_, Money) = (token.card.id, intent.amount);
    let cause = id.to_string();
    book(connection, &ledger::hold(card, amount)?, &cause, now)?;
    if intent.capture_method == CaptureMethod::Automatic {
        book(connection, &ledger::capture(card, intent.merchant, amount)?, &cause, now)?;
    }
    intents::update(connection, &intent.approved(id)?)
}

/// The facts of one decision.
pub(crate) fn facts(connection: &Connection, query: &FactsQuery) -> Result<Facts> {
    let token = tokens::find_by_number(connection, &query.token_number_hash)?;
    let intent = intents::get(connection, query.payment_intent)?;
    let terminal = (query.terminal, query.acquirer);
    load_facts(connection, token, intent, terminal, query.presented.clone())
}

/// Writes one decision down, if its facts still hold.
pub(crate) fn decided(
    connection: &Connection,
    authorization: CommitAuthorization,
    caller: Caller,
    now: Timestamp,
) -> Result<Changed<Authorization>> {
    let used_key = used_key(&authorization.facts);
    let authorization = commit(connection, authorization, caller, now)?;
    let (id, outcome) = (authorization.id, authorization.outcome);
    Ok(Changed::new(authorization, id).because(format!("{}{used_key}", outcome.slug())))
}

pub(crate) fn list(
    connection: &Connection,
    filter: AuthorizationFilter,
    page: Page<AuthorizationId>,
) -> Result<Slice<Authorization, AuthorizationId>> {
    let filters = [
        ("merchant_id", filter.merchant.map(|id| id.to_string())),
        ("terminal_id", filter.terminal.map(|id| id.to_string())),
        ("payment_intent_id", filter.payment_intent.map(|id| id.to_string())),
    ];
    let list = Listing { select: SELECT, key: "id", filters: &filters };
    list.slice(connection, page, read, |authorization| authorization.id)
}
