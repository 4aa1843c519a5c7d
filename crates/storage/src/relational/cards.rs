//! Cards.

use tapfer_payment_types::{CardId, IssuerId, Money, Timestamp};
use tapfer_payments::audit::{AuditAction, AuditEvent, AuditResult, Caller};
use tapfer_payments::cards::{Card, CardStatus};
use tapfer_payments::ledger;
use tapfer_payments::tokens::{TokenAction, TokenChange};

use super::ledger as bookings;
use super::rows::{Columns, Listing, execute, first, found, lock};
use super::sql::{Connection, Guard, Row, params};
use super::{Changed, Engine, Result, idempotency, issuers, tokens};
use crate::{
    CardAccount, CardChange, CardStore, Closing, IdempotencyClaim, LedgerEntry, Page, SealedNumber,
    Slice, TopUp, Write, Written,
};

/// A card with its issuer's currency and its two balances, each of which the database can look up by its whole key alone.
pub(crate) const SELECT: &str = "SELECT * FROM (
    SELECT cards.*, issuers.currency AS currency,
           coalesce((SELECT balance FROM accounts WHERE kind = 'cardholder'
               AND owner = cards.id AND currency = issuers.currency), 0) AS available,
           coalesce((SELECT balance FROM accounts WHERE kind = 'held'
               AND owner = cards.id AND currency = issuers.currency), 0) AS held
    FROM cards JOIN issuers ON issuers.id = cards.issuer_id) AS accounts_of_cards";

pub(crate) fn find(connection: &Connection, id: CardId) -> Result<Option<CardAccount>> {
    first(connection, &format!("{SELECT} WHERE id = ?1"), [id.to_string()], read)
}

pub(crate) fn get(connection: &Connection, id: CardId) -> Result<CardAccount> {
    found(find(connection, id)?, "card", id)
}

/// A card that nobody else changes meanwhile, nor its money, nor its tokens.
pub(crate) fn get_to_change(connection: &Connection, id: CardId) -> Result<CardAccount> {
    lock(connection, Guard::Card, id)?;
    get(connection, id)
}

pub(crate) fn read(row: &Row<'_>) -> Result<CardAccount> {
    let columns = Columns::new(row, "cards");
    let available = columns.money("available")?;
    let held = columns.money("held")?;
    let balance = columns.checked("balance", available.checked_add(held))?;
    Ok(CardAccount { card: read_card(row)?, balance, available })
}

/// A card without its money.
pub(crate) fn read_card(row: &Row<'_>) -> Result<Card> {
    let columns = Columns::new(row, "cards");
    Ok(Card {
        id: columns.parse("id")?,
        issuer: columns.parse("issuer_id")?,
        last_four: columns.get("last_four")?,
        sequence_number: columns.sequence_number("sequence_number")?,
        expiry: columns.parse("expiry")?,
        status: match columns.time_optional("closed_at")? {
            Some(_) => CardStatus::Closed,
            None => columns.parse("status")?,
        },
        status_reason: columns.get("status_reason")?,
        holder_reference: columns.get("holder_reference")?,
        created_at: columns.time("created_at")?,
    })
}

fn insert(connection: &Connection, card: &Card, number: &SealedNumber) -> Result<()> {
    execute(
        connection,
        "INSERT INTO cards (id, issuer_id, last_four, sequence_number, expiry, status,
             status_reason, holder_reference, number_sealed, number_hash, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            card.id.to_string(),
            card.issuer.to_string(),
            card.last_four,
            card.sequence_number.value(),
            card.expiry.to_string(),
            card.status.as_str(),
            card.status_reason,
            card.holder_reference,
            number.sealed,
            number.keyed_hash,
            card.created_at.unix_millis(),
        ],
    )?;
    Ok(())
}

fn change_status(
    connection: &Connection,
    id: CardId,
    change: CardChange,
    reason: &str,
) -> Result<CardAccount> {
    let mut account = get_to_change(connection, id)?;
    account.card.status = match change {
        CardChange::Block => account.card.status.block()?,
        CardChange::Unblock => account.card.status.unblock()?,
    };
    account.card.status_reason = Some(reason.to_owned());
    let sql = "UPDATE cards SET status = ?2, status_reason = ?3 WHERE id = ?1";
    execute(connection, sql, params![id.to_string(), account.card.status.as_str(), reason])?;
    Ok(account)
}

/// The card behind its closing, and what the audit log says.
fn close(
    connection: &Connection,
    closing: &Closing,
    (caller, claim): (&Caller, Option<&IdempotencyClaim>),
    now: Timestamp,
) -> Result<Changed<CardAccount>> {
    let Closing { card: id, pays_out, actor, reason } = closing;
    let mut account = get_to_change(connection, *id)?;
    let held = account.balance.checked_sub(account.available)?;
    let paid_out = account.card.status.close(account.available, held, *pays_out)?;
    let mut detail = format!("{actor}: {reason}");
    if let Some(amount) = paid_out {
        idempotency::book_once(connection, claim, now)?;
        let transfer = ledger::pay_out(*id, account.card.issuer, amount)?;
        bookings::book(connection, &transfer, reason, now)?;
        detail = format!("{detail}; {amount} paid out");
        account.available = account.available.checked_sub(amount)?;
        account.balance = account.balance.checked_sub(amount)?;
    }
    if account.card.status != CardStatus::Closed {
        end_tokens(connection, closing, caller, now)?;
        let sql =
            "UPDATE cards SET status = 'blocked', status_reason = ?2, closed_at = ?3 WHERE id = ?1";
        execute(connection, sql, params![id.to_string(), reason, now.unix_millis()])?;
        account.card.status = CardStatus::Closed;
        account.card.status_reason = Some(reason.clone());
    }
    Ok(Changed::new(account, id).because(detail))
}

/// Ends all tokens of a card, each with its lines in history and audit log.
fn end_tokens(
    connection: &Connection,
    Closing { card, actor, reason, .. }: &Closing,
    caller: &Caller,
    now: Timestamp,
) -> Result<()> {
    let reason = format!("its card was closed: {reason}");
    let action = TokenAction::Delete;
    for token in tokens::living_of_card(connection, *card)? {
        let (token, state) = (token.id, token.state.after(action, *actor)?);
        let change =
            TokenChange { token, action, actor: *actor, reason: reason.clone(), state, at: now };
        tokens::write_change(connection, &change)?;
        connection.record(&AuditEvent {
            at: now,
            caller: caller.clone(),
            action: AuditAction::TokenDeleted,
            object: token.to_string(),
            result: AuditResult::Succeeded,
            detail: Some(format!("{actor}: {reason}")),
        })?;
    }
    Ok(())
}

impl<E: Engine> CardStore for E {
    fn create_card(
        &self,
        card: Card,
        number: SealedNumber,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        self.change(write, AuditAction::CardCreated, move |connection, _| {
            let nothing = Money::zero(issuers::get(connection, card.issuer)?.currency);
            insert(connection, &card, &number)?;
            let id = card.id;
            Ok(Changed::new(CardAccount { card, balance: nothing, available: nothing }, id))
        })
    }

    fn card(&self, id: CardId) -> Result<Option<CardAccount>> {
        self.read(|connection| find(connection, id))
    }

    fn card_by_number_hash(&self, keyed_hash: &[u8]) -> Result<Option<CardAccount>> {
        let sql = format!("{SELECT} WHERE number_hash = ?1");
        self.read(|connection| first(connection, &sql, [keyed_hash], read))
    }

    fn sealed_card_number(&self, id: CardId) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT id, number_sealed FROM cards WHERE id = ?1 AND erased_at IS NULL";
        self.read(|connection| {
            first(connection, sql, [id.to_string()], |row| {
                Columns::new(row, "cards").get("number_sealed")
            })
        })
    }

    fn list_cards(
        &self,
        issuer: Option<IssuerId>,
        page: Page<CardId>,
    ) -> Result<Slice<CardAccount, CardId>> {
        let filters = [("issuer_id", issuer.map(|id| id.to_string()))];
        let list = Listing { select: SELECT, key: "id", filters: &filters };
        self.read(|connection| list.slice(connection, page, read, |account| account.card.id))
    }

    fn change_card(
        &self,
        id: CardId,
        change: CardChange,
        reason: String,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        let action = match change {
            CardChange::Block => AuditAction::CardBlocked,
            CardChange::Unblock => AuditAction::CardUnblocked,
        };
        self.change(write, action, move |connection, _| {
            let account = change_status(connection, id, change, &reason)?;
            Ok(Changed::new(account, id).because(reason))
        })
    }

    fn close_card(
        &self,
        closing: Closing,
        write: Write<CardAccount>,
    ) -> Result<Written<CardAccount>> {
        let (caller, claim) = (write.caller.clone(), write.claim.clone());
        self.change(write, AuditAction::CardClosed, move |connection, now| {
            close(connection, &closing, (&caller, claim.as_ref()), now)
        })
    }

    fn top_up(&self, top_up: TopUp, write: Write<LedgerEntry>) -> Result<Written<LedgerEntry>> {
        let claim = write.claim.clone();
        self.change(write, AuditAction::CardToppedUp, move |connection, now| {
            let TopUp { card, amount, reference } = top_up;
            let account = get_to_change(connection, card)?;
            account.card.status.is_kept()?;
            idempotency::book_once(connection, claim.as_ref(), now)?;
            // Adding to what is there refuses another currency and a sum that does not fit.
            account.balance.checked_add(amount)?;
            let transfer = ledger::top_up(account.card.issuer, card, amount)?;
            let sequence = bookings::book(connection, &transfer, &reference, now)?;
            let entry = bookings::entry(&transfer, sequence, &reference, now);
            Ok(Changed::new(entry, card).because(format!("{amount}, {reference}")))
        })
    }

    fn card_entries(&self, card: CardId, page: Page<i64>) -> Result<Slice<LedgerEntry, i64>> {
        self.read(|connection| bookings::card_entries(connection, card, page))
    }
}
