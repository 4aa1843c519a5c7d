//! Reversals.

use tapfer_payment_types::{ReversalId, Timestamp};
use tapfer_payments::access::Role;
use tapfer_payments::audit::AuditAction;
use tapfer_payments::ledger;
use tapfer_payments::reversals::{Reversal, Undone};

use super::ledger::book;
use super::rows::{Columns, execute, first};
use super::sql::{Connection, Row, params};
use super::{Changed, Engine, Result, authorizations, intents};
use crate::{NewReversal, ReversalStore, Write, Written};

fn read(row: &Row<'_>) -> Result<Reversal> {
    let columns = Columns::new(row, "reversals");
    Ok(Reversal {
        id: columns.parse("id")?,
        authorization: columns.parse("authorization_id")?,
        amount: columns.money("amount")?,
        reason: columns.get("reason")?,
        created_at: columns.time("created_at")?,
    })
}

fn insert(connection: &Connection, reversal: &Reversal) -> Result<()> {
    execute(
        connection,
        "INSERT INTO reversals (id, authorization_id, amount, currency, reason, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            reversal.id.to_string(),
            reversal.authorization.to_string(),
            reversal.amount.minor,
            reversal.amount.currency.code(),
            reversal.reason,
            reversal.created_at.unix_millis(),
        ],
    )?;
    Ok(())
}

fn reverse(
    connection: &Connection,
    wanted: NewReversal,
    role: Role,
    now: Timestamp,
) -> Result<Reversal> {
    let authorization = authorizations::get(connection, wanted.authorization)?;
    let intent = intents::get_to_change(connection, authorization.payment_intent)?;
    let (intent, undone) = intent.reverse(&authorization, role, now)?;
    let card = intents::paying_card(connection, &intent)?;
    let transfer = match undone {
        Undone::Released(amount) => ledger::release(card, amount)?,
        Undone::Returned(amount) => ledger::reversal(intent.merchant, card, amount)?,
    };
    book(connection, &transfer, &wanted.id.to_string(), now)?;
    intents::update(connection, &intent)?;
    let reversal = Reversal {
        id: wanted.id,
        authorization: authorization.id,
        amount: undone.amount(),
        reason: wanted.reason,
        created_at: now,
    };
    insert(connection, &reversal)?;
    Ok(reversal)
}

impl<E: Engine> ReversalStore for E {
    fn reverse(&self, wanted: NewReversal, write: Write<Reversal>) -> Result<Written<Reversal>> {
        let role = write.caller.role;
        self.change(write, AuditAction::AuthorizationReversed, move |connection, now| {
            let reversal = reverse(connection, wanted, role, now)?;
            let (object, reason) = (reversal.authorization, reversal.reason.clone());
            Ok(Changed::new(reversal, object).because(reason))
        })
    }

    fn reversal(&self, id: ReversalId) -> Result<Option<Reversal>> {
        let sql = "SELECT * FROM reversals WHERE id = ?1";
        self.read(|connection| first(connection, sql, [id.to_string()], read))
    }
}
