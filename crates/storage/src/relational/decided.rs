//! What a decision changes, written to the tables.

use tapfer_payment_types::TokenId;
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_payments::authorization::{Authorization, SpentCounter};
use tapfer_payments::ledger::{self, Transfer};
use tapfer_payments::tokens::{Actor, TokenAction, TokenChange};

use super::ledger::book;
use super::lookup::Seen;
use super::rows::execute;
use super::sql::{Connection, params};
use super::{Result, authorizations, idempotency, intents, pins, tokens};
use crate::decided::Decided;
use crate::hot::Hot;
use crate::idempotency::GivenAnswer;
use crate::undecided::{Made, Settled, Step, Undecided};
use crate::{CommitAuthorization, Write, Written};

/// Writes one decision down, if what it rests on is still so; what was answered before is told again. Others write to the database as
/// well, so nothing is known but what it says.
pub(crate) fn commit(
    connection: &Connection,
    (commit, write): (CommitAuthorization, Write<Authorization>),
) -> Result<Written<Authorization>> {
    if let Some(claim) = &write.claim
        && let Some(stored) = idempotency::stored_answer(connection, claim)?
    {
        return Ok(Written::Replayed(stored));
    }
    Hot::new(0).check(&Seen(connection), &commit.facts)?;
    keep(connection, &commit, write)
}

/// Decides one payment on what the tables say, and writes it down; what was answered before is told again. Nobody else changes
/// meanwhile what it rests on.
pub(crate) fn decide(connection: &Connection, undecided: &Undecided) -> Result<Settled> {
    if let Some(claim) = &undecided.write.claim
        && let Some(stored) = idempotency::stored_answer(connection, claim)?
    {
        let written = Written::Replayed(stored);
        return Ok(Settled::Made(Made { written, commit: None }));
    }
    let facts = Hot::new(0).facts(&Seen(connection), &undecided.query)?;
    match undecided.decide(facts)? {
        Step::Again(id) => Ok(Settled::Again(id)),
        Step::Commit(commit) => {
            let written = keep(connection, &commit, undecided.write.clone())?;
            Ok(Settled::Made(Made { written, commit: Some(commit) }))
        }
    }
}

/// Writes a decision down whose facts hold.
fn keep(
    connection: &Connection,
    commit: &CommitAuthorization,
    write: Write<Authorization>,
) -> Result<Written<Authorization>> {
    let Write { caller, claim, answer, now } = write;
    let mut decided = Decided::new(commit, authorizations::decided(commit, now), caller)?;
    let response = answer.to(&decided.authorization);
    decided.answer = claim.map(|claim| GivenAnswer::new(claim, response.clone()));
    self::write(connection, &decided)?;
    Ok(Written::Done { value: decided.authorization, response })
}

/// Writes everything down: the authorization, what the tap used up, the booking, the intent, the line in the audit log,
/// the answer.
pub(crate) fn write(connection: &Connection, decided: &Decided) -> Result<()> {
    let authorization = &decided.authorization;
    authorizations::insert(connection, authorization)?;
    if let Some(token) = authorization.token {
        write_use(connection, token, decided)?;
    }
    write_booking(connection, decided)?;
    if let Some(intent) = &decided.intent {
        intents::update(connection, intent)?;
    }
    for event in events(decided) {
        connection.record(&event)?;
    }
    match &decided.answer {
        Some(given) => idempotency::insert(connection, given, authorization.created_at),
        None => Ok(()),
    }
}

/// What the audit log says: that the token was suspended, if it was, and what was decided.
pub(crate) fn events(decided: &Decided) -> Vec<AuditEvent> {
    let (at, caller) = (decided.authorization.created_at, decided.caller.clone());
    let (action, result) = (AuditAction::AuthorizationDecided, AuditResult::Succeeded);
    let (object, detail) = (decided.authorization.id.to_string(), Some(told(decided)));
    let decision = AuditEvent { at, caller, action, object, result, detail };
    let suspension = suspension(decided).map(|change| AuditEvent {
        action: AuditAction::TokenSuspended,
        object: change.token.to_string(),
        detail: Some(format!("{}: {}", change.actor, change.reason)),
        ..decision.clone()
    });
    suspension.into_iter().chain([decision]).collect()
}

/// The outcome, and which key of the security module was asked about the cryptogram: issuer, generation of its master
/// key, index of the limited-use key below it.
fn told(decided: &Decided) -> String {
    let outcome = decided.authorization.outcome.slug();
    match decided.asked_key.zip(decided.authorization.key_index) {
        Some(((issuer, generation), index)) => {
            format!(
                "{outcome}; issuer master key of {issuer} generation {generation} index {index}"
            )
        }
        None => outcome.to_owned(),
    }
}

/// What the tap used up: the counter, one use of the key, a PIN's tries.
fn write_use(connection: &Connection, token: TokenId, decided: &Decided) -> Result<()> {
    if let Some(change) = suspension(decided) {
        tokens::write_change(connection, &change)?;
    }
    if let Some(spent) = &decided.spent {
        let counter = decided.authorization.application_transaction_counter;
        spend_counter(connection, token, counter, spent)?;
    }
    if let Some(key) = &decided.used_key {
        tokens::update_key(connection, token, key)?;
    }
    if let Some(state) = decided.person_key {
        pins::update_person_key(connection, token, state)?;
    }
    if let (Some(pin), Some(card)) = (&decided.card_pin, decided.authorization.card) {
        pins::put_card_pin(connection, card, pin)?;
    }
    if let Some(history) = &decided.history {
        pins::put_history(connection, token, history)?;
    }
    Ok(())
}

/// The platform suspends a token of which there are two copies.
pub(crate) fn suspension(decided: &Decided) -> Option<TokenChange> {
    let (token, state) = decided.authorization.token.zip(decided.suspended)?;
    let reason = "one counter under two cryptograms: there is a copy of the phone".to_owned();
    let (action, actor) = (TokenAction::Suspend, Actor::Platform);
    let at = decided.authorization.created_at;
    Some(TokenChange { token, action, actor, reason, state, at })
}

/// A right cryptogram spends its counter, and one of a wrong PIN is remembered with it.
pub(crate) fn spend_counter(
    connection: &Connection,
    token: TokenId,
    counter: u16,
    spent: &SpentCounter,
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
            token.to_string(),
            counter,
            spent.authorization.to_string(),
            spent.cryptogram.as_ref().map(<[u8; 8]>::as_slice),
            spent.verified,
        ],
    )?;
    Ok(())
}

/// What is booked: the amount is held, and taken for the merchant at once unless it wants to capture later.
pub(crate) fn transfers(decided: &Decided) -> Result<Vec<Transfer>> {
    let authorization = &decided.authorization;
    let (Some(amount), Some(card)) = (decided.held(), authorization.card) else {
        return Ok(Vec::new());
    };
    let hold = ledger::hold(card, amount)?;
    if !decided.is_captured() {
        return Ok(vec![hold]);
    }
    Ok(vec![hold, ledger::capture(card, authorization.merchant, amount)?])
}

/// Books it.
pub(crate) fn write_booking(connection: &Connection, decided: &Decided) -> Result<()> {
    let authorization = &decided.authorization;
    let (cause, at) = (authorization.id.to_string(), authorization.created_at);
    for transfer in transfers(decided)? {
        book(connection, &transfer, &cause, at)?;
    }
    Ok(())
}
