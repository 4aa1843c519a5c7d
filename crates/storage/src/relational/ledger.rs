//! Accounts and transfers.

use tapfer_payment_types::{CardId, Currency, LedgerEntryId, Money, Timestamp};
use tapfer_payments::ledger::{Account, AccountKind, Transfer, TransferKind};

use super::rows::{Columns, Listing, all, execute, first};
use super::sql::{Connection, Row, params};
use super::{Engine, Result};
use crate::{Inconsistency, LedgerEntry, LedgerStore, Page, Slice};

impl<E: Engine> LedgerStore for E {
    fn account_balance(&self, account: Account, currency: Currency) -> Result<Money> {
        let minor = self.read(|connection| balance(connection, account, currency))?;
        Ok(Money::new(minor, currency))
    }
}

/// Whose an account is, as its column names it.
pub(crate) fn owner(account: Account) -> String {
    match account {
        Account::IssuerFunding(id) | Account::IssuerLoss(id) => id.to_string(),
        Account::Cardholder(id) | Account::Held(id) => id.to_string(),
        Account::MerchantPayable(id) => id.to_string(),
    }
}

/// Books a transfer; returns its place in the ledger.
pub(crate) fn book(
    connection: &Connection,
    transfer: &Transfer,
    cause: &str,
    now: Timestamp,
) -> Result<i64> {
    let currency = transfer.amount().currency;
    for (account, change) in transfer.changes() {
        move_balance(connection, account, currency, change)?;
    }
    let places = all(
        connection,
        "INSERT INTO ledger_transfers
             (kind, from_kind, from_owner, to_kind, to_owner, amount, currency, cause, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         RETURNING sequence",
        params![
            transfer.kind().as_str(),
            transfer.from().kind().as_str(),
            owner(transfer.from()),
            transfer.to().kind().as_str(),
            owner(transfer.to()),
            transfer.amount().minor,
            currency.code(),
            cause,
            now.unix_millis(),
        ],
        |row| Columns::keyed(row, "ledger_transfers", "sequence").get("sequence"),
    )?;
    let lost =
        || Inconsistency { table: "ledger_transfers", id: cause.to_owned(), column: "sequence" };
    Ok(places.first().copied().ok_or_else(lost)?)
}

/// What an account holds; nothing if nothing was ever booked on it.
fn balance(connection: &Connection, account: Account, currency: Currency) -> Result<i64> {
    let balance = first(
        connection,
        "SELECT owner, balance FROM accounts WHERE kind = ?1 AND owner = ?2 AND currency = ?3",
        params![account.kind().as_str(), owner(account), currency.code()],
        |row| Columns::keyed(row, "accounts", "owner").get("balance"),
    )?;
    Ok(balance.unwrap_or(0))
}

fn move_balance(
    connection: &Connection,
    account: Account,
    currency: Currency,
    change: i64,
) -> Result<()> {
    let after = account.balance_after(balance(connection, account, currency)?, change)?;
    // What a card has is guarded by the card. What a merchant is owed and an issuer has given out changes beside this: so
    // the change is added to what is there by then, and what may not be below zero is not.
    execute(
        connection,
        "INSERT INTO accounts (kind, owner, currency, balance) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (kind, owner, currency) DO UPDATE SET balance = accounts.balance + ?5",
        params![account.kind().as_str(), owner(account), currency.code(), after, change],
    )?;
    Ok(())
}

/// A transfer just booked, seen from the card that money came to.
pub(crate) fn entry(
    transfer: &Transfer,
    sequence: i64,
    cause: &str,
    now: Timestamp,
) -> LedgerEntry {
    LedgerEntry {
        id: entry_id(sequence, now),
        sequence,
        kind: transfer.kind(),
        change: transfer.amount(),
        held_change: Money::zero(transfer.amount().currency),
        cause: cause.to_owned(),
        created_at: now,
    }
}

/// The id of a booking follows from its time and its place, which no other booking has.
fn entry_id(sequence: i64, at: Timestamp) -> LedgerEntryId {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    LedgerEntryId::new(at, [0, 0, a, b, c, d, e, f, g, h])
}

fn read(row: &Row<'_>) -> Result<LedgerEntry> {
    let columns = Columns::keyed(row, "ledger_transfers", "sequence");
    let sequence = columns.get("sequence")?;
    let created_at = columns.time("created_at")?;
    let kind: TransferKind = columns.parse("kind")?;
    let amount = columns.money("amount")?;
    let (from, to): (AccountKind, AccountKind) =
        (columns.parse("from_kind")?, columns.parse("to_kind")?);
    let change_of = |account: AccountKind| {
        let minor = match account {
            _ if account == from => amount.minor.saturating_neg(),
            _ if account == to => amount.minor,
            _ => 0,
        };
        Money::new(minor, amount.currency)
    };
    Ok(LedgerEntry {
        id: entry_id(sequence, created_at),
        sequence,
        kind,
        change: change_of(AccountKind::Cardholder),
        held_change: change_of(AccountKind::Held),
        cause: columns.get("cause")?,
        created_at,
    })
}

/// What was booked on what a card can spend and on what is held of it.
pub(crate) fn card_entries(
    connection: &Connection,
    card: CardId,
    page: Page<i64>,
) -> Result<Slice<LedgerEntry, i64>> {
    // A transfer from one account of a card to its other is found once, by its source.
    let list = Listing {
        select: "SELECT * FROM (
            SELECT *, from_owner AS card FROM ledger_transfers
                WHERE from_kind IN ('cardholder', 'held')
            UNION ALL
            SELECT *, to_owner AS card FROM ledger_transfers
                WHERE to_kind IN ('cardholder', 'held') AND from_kind NOT IN ('cardholder', 'held')) AS entries",
        key: "sequence",
        filters: &[("card", Some(card.to_string()))],
    };
    list.slice(connection, page, read, |entry| entry.sequence)
}
