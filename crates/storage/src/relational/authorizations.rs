//! Authorizations.

use tapfer_payment_types::{AuthorizationId, Timestamp};
use tapfer_payments::authorization::{Authorization, Outcome};

use super::Result;
use super::rows::{Columns, Listing, execute, first, found};
use super::sql::{Connection, Row, params};
use crate::{AuthorizationFilter, CommitAuthorization, Page, Slice};

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

pub(crate) fn insert(connection: &Connection, authorization: &Authorization) -> Result<()> {
    insert_with(connection, authorization, ["", ""])
}

/// A decision that a node took alone.
pub(crate) fn insert_promised(
    connection: &Connection,
    authorization: &Authorization,
) -> Result<()> {
    insert_with(connection, authorization, [", stand_in", ", 1"])
}

/// With a column more and its value, or none.
fn insert_with(
    connection: &Connection,
    authorization: &Authorization,
    [column, value]: [&str; 2],
) -> Result<()> {
    let sql = format!(
        "INSERT INTO authorizations (id, payment_intent_id, merchant_id, terminal_id, token_id,
             card_id, outcome, amount, currency, application_transaction_counter, key_index,
             merchant_proven, created_at{column})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13{value})"
    );
    execute(
        connection,
        &sql,
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

/// What is kept of a decision.
pub(crate) fn decided(commit: &CommitAuthorization, now: Timestamp) -> Authorization {
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
