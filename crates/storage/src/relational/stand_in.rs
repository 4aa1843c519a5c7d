//! Books what a node has decided alone while the database was away.
//!
//! What was promised is booked whatever the facts are by now. What a card lacks its issuer loses; what else has changed stands in
//! the audit log, at the payment.

use tapfer_payment_types::planted::{Control, is_skipped};
use tapfer_payment_types::{AuthorizationId, CardId, Money, PaymentIntentId, Timestamp, TokenId};
use tapfer_payments::audit::{AuditEvent, AuditResult};
use tapfer_payments::authorization::{Authorization, SpentCounter};
use tapfer_payments::cards::CardStatus;
use tapfer_payments::intents::PaymentIntent;
use tapfer_payments::ledger::{self, Transfer};
use tapfer_payments::tokens::{Actor, TokenAction, TokenChange, TokenStatus};

use super::ledger::book;
use super::rows::{first, lock};
use super::sql::{Connection, Guard, params};
use super::{
    Result, access, authorizations, cards, decided, idempotency, intents, lookup, pins, terminals,
    tokens,
};
use crate::decided::Decided;
use crate::stand_in::record::{Changed, Promise, Record};
use crate::{Refusal, StorageError};

/// What came of booking an intent.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Booked {
    /// It was booked before.
    pub(crate) before: bool,
    /// Payments, with what has come between promise and booking.
    pub(crate) remarks: Vec<(AuthorizationId, String)>,
    /// What the issuer lost.
    pub(crate) lost: Option<Money>,
}

/// Books an intent that a node has made alone, with all that became of it. One that is there was booked with it.
///
/// # Errors
/// [`StorageError::NotFound`]: an intent that is there was booked without what was promised for it, from another journal than this.
pub(crate) fn book_intent(
    connection: &Connection,
    intent: PaymentIntentId,
    records: &[Record],
    now: Timestamp,
) -> Result<Booked> {
    if is_there(connection, intent)? {
        demand_promises(connection, records)?;
        if is_skipped(Control::StandInBookedOnce) {
            book_again(connection, records)?;
        }
        connection.vouch()?;
        return Ok(Booked { before: true, ..Booked::default() });
    }
    lock_all(connection, records)?;
    let mut booked = Booked::default();
    let mut known = None;
    for record in records {
        match record {
            Record::Changed(changed) => {
                write_change(connection, changed, known.is_none())?;
                known = Some(changed.intent.clone());
            }
            Record::Decided(promise) => {
                write_promise(connection, promise, now, &mut booked)?;
                known = promise.decided.intent.clone().or(known);
            }
        }
    }
    if let Some(intent) = known {
        intents::update(connection, &settled(connection, intent, now)?)?;
    }
    Ok(booked)
}

fn is_there(connection: &Connection, intent: PaymentIntentId) -> Result<bool> {
    let sql = "SELECT id FROM payment_intents WHERE id = ?1";
    Ok(first(connection, sql, [intent.to_string()], |_| Ok(()))?.is_some())
}

fn demand_promises(connection: &Connection, records: &[Record]) -> Result<()> {
    records.iter().try_for_each(|record| match record {
        Record::Changed(_) => Ok(()),
        Record::Decided(promise) => {
            authorizations::get(connection, promise.decided.authorization.id).map(drop)
        }
    })
}

/// As if nobody had looked whether it was booked.
fn book_again(connection: &Connection, records: &[Record]) -> Result<()> {
    records.iter().try_for_each(|record| match record {
        Record::Changed(_) => Ok(()),
        Record::Decided(promise) => decided::write_booking(connection, &promise.decided),
    })
}

/// Terminals and cards, each in the order of their ids; the intent is nobody else's yet.
fn lock_all(connection: &Connection, records: &[Record]) -> Result<()> {
    let (mut of_terminals, mut of_cards) = (Vec::new(), Vec::<CardId>::new());
    for record in records {
        match record {
            Record::Changed(changed) => {
                of_terminals.extend(changed.intent.arming.map(|arming| arming.terminal));
            }
            Record::Decided(promise) => {
                of_terminals.push(promise.decided.authorization.terminal);
                of_cards.extend(promise.decided.authorization.card);
            }
        }
    }
    of_terminals.sort_unstable();
    of_terminals.dedup();
    of_cards.sort_unstable();
    of_cards.dedup();
    of_terminals.iter().try_for_each(|id| lock(connection, Guard::Terminal, id))?;
    of_cards.iter().try_for_each(|id| lock(connection, Guard::Card, id))
}

/// An intent as others find it: one that still waits for a tap waits on, unless its terminal is wanted for something else.
fn settled(
    connection: &Connection,
    intent: PaymentIntent,
    now: Timestamp,
) -> Result<PaymentIntent> {
    let Some(arming) = intent.arming else { return Ok(intent) };
    if !intent.is_armed_at(arming.terminal, now) {
        return Ok(intent.disarmed());
    }
    match intents::free_terminal(connection, arming.terminal, intent.id, now) {
        Err(StorageError::Refused(Refusal::TerminalBusy(_))) => Ok(intent.disarmed()),
        freed => freed.map(|()| intent),
    }
}

/// The intent is inserted before anything names it, and brought to where it stands when all is written: nobody sees it in between.
fn write_change(connection: &Connection, changed: &Changed, is_first: bool) -> Result<()> {
    let Changed { action, intent, caller, at, answer } = changed;
    if is_first {
        intents::insert(connection, &PaymentIntent { arming: None, ..intent.clone().disarmed() })?;
    }
    let mut detail = match intent.arming {
        Some(arming) if !is_first => format!("{}; {BY_STAND_IN}", arming.terminal),
        _ => format!("{}; {BY_STAND_IN}", intent.amount),
    };
    if let Some(given) = answer
        && !idempotency::insert_late(connection, given, *at)?
    {
        detail = format!("{detail}; {ANSWERED_ELSEWHERE}");
    }
    let (object, result) = (intent.id.to_string(), AuditResult::Succeeded);
    connection.record(&AuditEvent {
        at: *at,
        caller: caller.clone(),
        action: *action,
        object,
        result,
        detail: Some(detail),
    })
}

const BY_STAND_IN: &str = "by a node alone, its database was away";
const ANSWERED_ELSEWHERE: &str = "another node has answered the same request";

fn write_promise(
    connection: &Connection,
    promise: &Promise,
    now: Timestamp,
    booked: &mut Booked,
) -> Result<()> {
    let Promise { decided, of_key } = promise;
    let authorization = &decided.authorization;
    let mut remarks = Vec::new();
    remark_callers(connection, decided, &mut remarks)?;
    authorizations::insert_promised(connection, authorization)?;
    if let Some((token, card)) = authorization.token.zip(authorization.card) {
        remark_card(connection, token, card, &mut remarks)?;
        if let Some(lost) = cover(connection, decided, card)? {
            remarks.push(format!("{lost} of it lost by the issuer, the card had no more"));
            booked.lost = Some(lost);
        }
        write_use(connection, token, decided, *of_key, &mut remarks)?;
    }
    decided::write_booking(connection, decided)?;
    if let Some(given) = &decided.answer
        && !idempotency::insert_late(connection, given, authorization.created_at)?
    {
        remarks.push(ANSWERED_ELSEWHERE.to_owned());
    }
    let told = format!("{BY_STAND_IN}, and booked at {now}");
    for event in decided::events(decided) {
        let parts = event.detail.iter().map(String::as_str).chain([told.as_str()]);
        let parts = parts.chain(remarks.iter().map(String::as_str));
        let detail = Some(parts.collect::<Vec<_>>().join("; "));
        connection.record(&AuditEvent { detail, ..event })?;
    }
    booked.remarks.push((authorization.id, remarks.join("; ")));
    Ok(())
}

/// Who asked may be nobody by now.
fn remark_callers(
    connection: &Connection,
    decided: &Decided,
    remarks: &mut Vec<String>,
) -> Result<()> {
    let terminal = terminals::get(connection, decided.authorization.terminal)?;
    if terminal.revocation.is_some() {
        remarks.push("the terminal is revoked since".to_owned());
    }
    if let Some(id) = decided.caller.api_key {
        let sql = "SELECT * FROM api_keys WHERE id = ?1";
        let key = first(connection, sql, [id.to_string()], access::read)?;
        if key.is_none_or(|key| key.revoked_at.is_some()) {
            remarks.push("the API key is revoked since".to_owned());
        }
    }
    Ok(())
}

fn remark_card(
    connection: &Connection,
    token: TokenId,
    card: CardId,
    remarks: &mut Vec<String>,
) -> Result<()> {
    match cards::get(connection, card)?.card.status {
        CardStatus::Active => {}
        CardStatus::Blocked => remarks.push("the card is blocked since".to_owned()),
        CardStatus::Closed => remarks.push("the card is closed since".to_owned()),
    }
    let status = tokens::get(connection, token)?.state.status();
    if status != TokenStatus::Active {
        remarks.push(format!("the token is {} since", status.as_str().to_lowercase()));
    }
    Ok(())
}

/// What the card lacks for what was promised comes from its issuer.
fn cover(connection: &Connection, decided: &Decided, card: CardId) -> Result<Option<Money>> {
    let Some(promised) = decided.held() else { return Ok(None) };
    let account = cards::get(connection, card)?;
    let missing = promised.minor.saturating_sub(account.available.minor.max(0));
    if missing <= 0 {
        return Ok(None);
    }
    let missing = Money::new(missing, promised.currency);
    let loss: Transfer = ledger::loss(account.card.issuer, card, missing)?;
    let Authorization { id, created_at, .. } = &decided.authorization;
    book(connection, &loss, &id.to_string(), *created_at)?;
    Ok(Some(missing))
}

/// What the tap used up, beside what others have used meanwhile.
fn write_use(
    connection: &Connection,
    token: TokenId,
    decided: &Decided,
    (payments, minor): (u16, i64),
    remarks: &mut Vec<String>,
) -> Result<()> {
    let counter = decided.authorization.application_transaction_counter;
    let highest = tokens::highest_counter(connection, token)?;
    if let Some(spent) = &decided.spent {
        if let Some(other) = spent_before(connection, token, counter)?.filter(|by| by.verified) {
            remarks.push(format!("its counter was spent by {}", other.authorization));
        }
        decided::spend_counter(connection, token, counter, spent)?;
    }
    if let Some(used) = &decided.used_key
        && let Some(mut key) = tokens::find_key(connection, token, used.class, used.index)?
    {
        key.used_payments = key.used_payments.saturating_add(payments);
        key.used_total_minor = key.used_total_minor.saturating_add(minor);
        tokens::update_key(connection, token, &key)?;
    }
    // The newest tap says how the person was verified.
    if let Some(history) =
        decided.history.filter(|_| highest.is_none_or(|highest| highest < counter))
    {
        pins::put_history(connection, token, &history)?;
    }
    if decided.suspended.is_some() {
        suspend(connection, token, decided)?;
    }
    Ok(())
}

fn spent_before(
    connection: &Connection,
    token: TokenId,
    counter: u16,
) -> Result<Option<SpentCounter>> {
    let sql = format!(
        "{} WHERE counters.token_id = ?1 AND counters.application_transaction_counter = ?2",
        lookup::SPENT
    );
    first(connection, &sql, params![token.to_string(), counter], lookup::read_spent)
}

/// As things stand by now: one that was deleted stays so.
fn suspend(connection: &Connection, token: TokenId, decided: &Decided) -> Result<()> {
    let now = tokens::get(connection, token)?.state;
    let Ok(state) = now.after(TokenAction::Suspend, Actor::Platform) else { return Ok(()) };
    match decided::suspension(decided) {
        Some(change) => tokens::write_change(connection, &TokenChange { state, ..change }),
        None => Ok(()),
    }
}
