//! Payment intents.

use tapfer_payment_types::{CardId, MerchantId, PaymentIntentId, TerminalId, Timestamp};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::intents::{Arming, PaymentIntent};
use tapfer_payments::ledger;

use super::ledger::book;
use super::rows::{Columns, Listing, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, authorizations, merchants, terminals};
use crate::{Inconsistency, IntentStore, Page, Refusal, Slice, Write, Written};

/// Those that were not handed over to another partition.
const HERE: &str = "SELECT * FROM (SELECT * FROM payment_intents WHERE handed_to IS NULL) AS here";

pub(crate) fn find(connection: &Connection, id: PaymentIntentId) -> Result<Option<PaymentIntent>> {
    let here = "SELECT * FROM payment_intents WHERE id = ?1 AND handed_to IS NULL";
    first(connection, here, [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: PaymentIntentId) -> Result<PaymentIntent> {
    found(find(connection, id)?, "payment intent", id)
}

/// An intent that nobody else changes meanwhile, nor the money that was paid for it.
pub(crate) fn get_to_change(connection: &Connection, id: PaymentIntentId) -> Result<PaymentIntent> {
    let intent = get(connection, id)?;
    if intent.authorization.is_some() {
        lock(connection, Guard::Card, paying_card(connection, &intent)?)?;
    }
    lock(connection, Guard::Intent, id)?;
    get(connection, id)
}

/// The intent that a terminal waits for, to free the terminal of it: nobody else changes it meanwhile.
pub(crate) fn armed_to_change(
    connection: &Connection,
    terminal: TerminalId,
) -> Result<Option<PaymentIntent>> {
    let Some(intent) = armed_at(connection, terminal)? else { return Ok(None) };
    lock(connection, Guard::Intent, intent.id)?;
    armed_at(connection, terminal)
}

/// The intent that a terminal was last armed for, if there was no tap since.
pub(crate) fn armed_at(
    connection: &Connection,
    terminal: TerminalId,
) -> Result<Option<PaymentIntent>> {
    first(
        connection,
        "SELECT * FROM payment_intents
         WHERE armed_terminal_id = ?1 AND arming_state = 'armed' AND handed_to IS NULL",
        [terminal.to_string()],
        read,
    )
}

fn read_arming(columns: &Columns<'_>) -> Result<Option<Arming>> {
    let Some(terminal) = columns.parse_optional("armed_terminal_id")? else {
        return Ok(None);
    };
    let state = columns.parse("arming_state")?;
    Ok(Some(Arming { terminal, state, expires_at: columns.time("arming_expires_at")? }))
}

pub(crate) fn read(row: &Row<'_>) -> Result<PaymentIntent> {
    let columns = Columns::new(row, "payment_intents");
    Ok(PaymentIntent {
        id: columns.parse("id")?,
        merchant: columns.parse("merchant_id")?,
        amount: columns.money("amount")?,
        reference: columns.get("reference")?,
        capture_method: columns.parse("capture_method")?,
        status: columns.parse("status")?,
        arming: read_arming(&columns)?,
        authorization: columns.parse_optional("authorization_id")?,
        captured_minor: columns.get("captured")?,
        refunded_minor: columns.get("refunded")?,
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn insert(connection: &Connection, intent: &PaymentIntent) -> Result<()> {
    execute(
        connection,
        "INSERT INTO payment_intents (id, merchant_id, amount, currency, reference,
             capture_method, status, captured, refunded, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            intent.id.to_string(),
            intent.merchant.to_string(),
            intent.amount.minor,
            intent.amount.currency.code(),
            intent.reference,
            intent.capture_method.as_str(),
            intent.status.as_str(),
            intent.captured_minor,
            intent.refunded_minor,
            intent.created_at.unix_millis(),
        ],
    )?;
    Ok(())
}

/// Writes down where an intent stands now.
pub(crate) fn update(connection: &Connection, intent: &PaymentIntent) -> Result<()> {
    execute(
        connection,
        "UPDATE payment_intents SET status = ?2, armed_terminal_id = ?3, arming_state = ?4,
             arming_expires_at = ?5, authorization_id = ?6, captured = ?7, refunded = ?8
         WHERE id = ?1",
        params![
            intent.id.to_string(),
            intent.status.as_str(),
            intent.arming.map(|arming| arming.terminal.to_string()),
            intent.arming.map(|arming| arming.state.as_str()),
            intent.arming.map(|arming| arming.expires_at.unix_millis()),
            intent.authorization.map(|id| id.to_string()),
            intent.captured_minor,
            intent.refunded_minor,
        ],
    )?;
    Ok(())
}

/// The card that paid an approved intent.
pub(crate) fn paying_card(connection: &Connection, intent: &PaymentIntent) -> Result<CardId> {
    let approval = match intent.authorization {
        Some(id) => authorizations::find(connection, id)?,
        None => None,
    };
    let card = approval.and_then(|authorization| authorization.card);
    card.ok_or_else(|| {
        let (table, id) = ("payment_intents", intent.id.to_string());
        Inconsistency { table, id, column: "authorization_id" }.into()
    })
}

/// A terminal waits for one payment at a time. One that waited too long is free again.
pub(crate) fn free_terminal(
    connection: &Connection,
    terminal: TerminalId,
    intent: PaymentIntentId,
    now: Timestamp,
) -> Result<()> {
    match armed_to_change(connection, terminal)? {
        Some(other) if other.id == intent => Ok(()),
        Some(other) if other.is_armed_at(terminal, now) => {
            Err(Refusal::TerminalBusy(other.id).into())
        }
        Some(other) => update(connection, &other.disarmed()),
        None => Ok(()),
    }
}

fn arm(
    connection: &Connection,
    id: PaymentIntentId,
    terminal: TerminalId,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<PaymentIntent> {
    let at = terminals::in_service(connection, terminal)?;
    let intent = get_to_change(connection, id)?;
    if at.merchant != intent.merchant {
        return Err(Refusal::OwnersDiffer("the terminal and the payment intent").into());
    }
    let intent = intent.arm(terminal, now, expires_at)?;
    free_terminal(connection, terminal, id, now)?;
    update(connection, &intent)?;
    Ok(intent)
}

fn cancel(connection: &Connection, id: PaymentIntentId, now: Timestamp) -> Result<PaymentIntent> {
    let (intent, released) = get_to_change(connection, id)?.cancel()?;
    if released.is_positive() {
        let card = paying_card(connection, &intent)?;
        book(connection, &ledger::release(card, released)?, &id.to_string(), now)?;
    }
    update(connection, &intent)?;
    Ok(intent)
}

fn capture(
    connection: &Connection,
    id: PaymentIntentId,
    amount_minor: Option<i64>,
    now: Timestamp,
) -> Result<PaymentIntent> {
    let (intent, capture) = get_to_change(connection, id)?.capture(amount_minor)?;
    let card = paying_card(connection, &intent)?;
    let cause = id.to_string();
    let transfer = ledger::capture(card, intent.merchant, capture.captured)?;
    book(connection, &transfer, &cause, now)?;
    if capture.released.is_positive() {
        book(connection, &ledger::release(card, capture.released)?, &cause, now)?;
    }
    update(connection, &intent)?;
    Ok(intent)
}

impl<E: Engine> IntentStore for E {
    fn create_intent(
        &self,
        intent: PaymentIntent,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.change(write, AuditAction::IntentCreated, move |connection, _| {
            merchants::get(connection, intent.merchant)?;
            insert(connection, &intent)?;
            let (id, amount) = (intent.id, intent.amount);
            Ok(Changed::new(intent, id).because(amount.to_string()))
        })
    }

    fn intent(&self, id: PaymentIntentId) -> Result<Option<PaymentIntent>> {
        match self.intent_ahead(id) {
            None => self.read_apart(|connection| find(connection, id)),
            ahead => Ok(ahead),
        }
    }

    fn list_intents(
        &self,
        merchant: Option<MerchantId>,
        page: Page<PaymentIntentId>,
    ) -> Result<Slice<PaymentIntent, PaymentIntentId>> {
        let filters = [("merchant_id", merchant.map(|id| id.to_string()))];
        let list = Listing { select: HERE, key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |intent| intent.id))
    }

    fn arm_intent(
        &self,
        id: PaymentIntentId,
        terminal: TerminalId,
        expires_at: Timestamp,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.change(write, AuditAction::IntentArmed, move |connection, now| {
            let intent = arm(connection, id, terminal, now, expires_at)?;
            Ok(Changed::new(intent, id).because(terminal.to_string()))
        })
    }

    fn cancel_intent(
        &self,
        id: PaymentIntentId,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.change(write, AuditAction::IntentCanceled, move |connection, now| {
            Ok(Changed::new(cancel(connection, id, now)?, id))
        })
    }

    fn capture_intent(
        &self,
        id: PaymentIntentId,
        amount_minor: Option<i64>,
        write: Write<PaymentIntent>,
    ) -> Result<Written<PaymentIntent>> {
        self.change(write, AuditAction::IntentCaptured, move |connection, now| {
            Ok(Changed::new(capture(connection, id, amount_minor, now)?, id))
        })
    }
}
