//! Refunds.

use tapfer_payment_types::{RefundId, Timestamp};
use tapfer_payments::audit::AuditAction;
use tapfer_payments::ledger;
use tapfer_payments::refunds::Refund;

use super::ledger::book;
use super::rows::{Columns, Listing, execute, first};
use super::sql::{Connection, Row, params};
use super::{Changed, Engine, Result, idempotency, intents};
use crate::{IdempotencyClaim, NewRefund, Page, RefundFilter, RefundStore, Slice, Write, Written};

fn read(row: &Row<'_>) -> Result<Refund> {
    let columns = Columns::new(row, "refunds");
    Ok(Refund {
        id: columns.parse("id")?,
        payment_intent: columns.parse("payment_intent_id")?,
        amount: columns.money("amount")?,
        created_at: columns.time("created_at")?,
    })
}

fn refund(
    connection: &Connection,
    wanted: &NewRefund,
    claim: Option<&IdempotencyClaim>,
    now: Timestamp,
) -> Result<Refund> {
    let intent = intents::get_to_change(connection, wanted.payment_intent)?;
    idempotency::book_once(connection, claim, now)?;
    let (intent, amount) = intent.refund(wanted.amount_minor)?;
    let card = intents::paying_card(connection, &intent)?;
    let transfer = ledger::refund(intent.merchant, card, amount)?;
    book(connection, &transfer, &wanted.id.to_string(), now)?;
    intents::update(connection, &intent)?;
    execute(
        connection,
        "INSERT INTO refunds (id, payment_intent_id, merchant_id, amount, currency, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            wanted.id.to_string(),
            intent.id.to_string(),
            intent.merchant.to_string(),
            amount.minor,
            amount.currency.code(),
            now.unix_millis(),
        ],
    )?;
    Ok(Refund { id: wanted.id, payment_intent: intent.id, amount, created_at: now })
}

impl<E: Engine> RefundStore for E {
    fn create_refund(&self, wanted: NewRefund, write: Write<Refund>) -> Result<Written<Refund>> {
        let claim = write.claim.clone();
        self.change(write, AuditAction::RefundCreated, move |connection, now| {
            let refund = refund(connection, &wanted, claim.as_ref(), now)?;
            let detail = format!("{} of {}", refund.amount, refund.payment_intent);
            Ok(Changed::new(refund, refund.id).because(detail))
        })
    }

    fn refund(&self, id: RefundId) -> Result<Option<Refund>> {
        let sql = "SELECT * FROM refunds WHERE id = ?1";
        self.read(|connection| first(connection, sql, [id.to_string()], read))
    }

    fn list_refunds(
        &self,
        filter: RefundFilter,
        page: Page<RefundId>,
    ) -> Result<Slice<Refund, RefundId>> {
        let filters = [
            ("merchant_id", filter.merchant.map(|id| id.to_string())),
            ("payment_intent_id", filter.payment_intent.map(|id| id.to_string())),
        ];
        let list = Listing { select: "SELECT * FROM refunds", key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |refund| refund.id))
    }
}
