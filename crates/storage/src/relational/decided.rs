//! What a decision changes, written to the tables.

use tapfer_payment_types::TokenId;
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult};
use tapfer_payments::authorization::SpentCounter;
use tapfer_payments::ledger;
use tapfer_payments::tokens::{Actor, TokenAction, TokenChange, TokenState};

use super::ledger::book;
use super::rows::execute;
use super::sql::{Connection, params};
use super::{Result, authorizations, idempotency, intents, pins, tokens};
use crate::decided::Decided;

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
    let (at, caller) = (authorization.created_at, decided.caller.clone());
    let (action, result) = (AuditAction::AuthorizationDecided, AuditResult::Succeeded);
    let (object, detail) = (authorization.id.to_string(), Some(told(decided)));
    connection.record(&AuditEvent { at, caller, action, object, result, detail })?;
    match &decided.answer {
        Some((claim, response)) => idempotency::insert(connection, claim, response, at),
        None => Ok(()),
    }
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
    if let Some(state) = decided.suspended {
        suspend(connection, token, state, decided)?;
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

/// The platform suspends a token of which there are two copies, with a line in its history and one in
/// the audit log beside the authorization's own.
fn suspend(
    connection: &Connection,
    token: TokenId,
    state: TokenState,
    decided: &Decided,
) -> Result<()> {
    let reason = "one counter under two cryptograms: there is a copy of the phone";
    let (action, actor, at) =
        (TokenAction::Suspend, Actor::Platform, decided.authorization.created_at);
    let change = TokenChange { token, action, actor, reason: reason.to_owned(), state, at };
    tokens::write_change(connection, &change)?;
    let event = AuditEvent {
        at,
        caller: decided.caller.clone(),
        action: AuditAction::TokenSuspended,
        object: token.to_string(),
        result: AuditResult::Succeeded,
        detail: Some(format!("{actor}: {reason}")),
    };
    connection.record(&event)
}

/// A right cryptogram spends its counter, and one of a wrong PIN is remembered with it.
fn spend_counter(
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

/// Holds the amount, and takes it for the merchant at once unless it wants to capture later.
fn write_booking(connection: &Connection, decided: &Decided) -> Result<()> {
    let authorization = &decided.authorization;
    let (Some(amount), Some(card)) = (decided.held(), authorization.card) else { return Ok(()) };
    let (cause, at) = (authorization.id.to_string(), authorization.created_at);
    book(connection, &ledger::hold(card, amount)?, &cause, at)?;
    if decided.is_captured() {
        book(connection, &ledger::capture(card, authorization.merchant, amount)?, &cause, at)?;
    }
    Ok(())
}
