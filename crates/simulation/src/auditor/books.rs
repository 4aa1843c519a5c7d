//! The auditor's book of one card: the bookings as they were first seen, and their sums.

use tapfer_payment_types::CardId;
use tapfer_payments::ledger::TransferKind;
use tapfer_storage::{LedgerEntry, Page, Storage};

use super::{Objection, Sound};

/// So many are read at once.
const PAGE: u16 = 4;

/// A card's bookings, the oldest first.
#[derive(Debug)]
pub(super) struct CardBook {
    card: CardId,
    opening: (i64, String),
    entries: Vec<LedgerEntry>,
}

impl CardBook {
    /// The book of a card that had so much money when the story began, under this name.
    pub(super) fn opened(card: CardId, opening: &(i64, String)) -> Self {
        Self { card, opening: opening.clone(), entries: Vec::new() }
    }

    /// What was booked since the last look, the oldest first.
    ///
    /// # Errors
    /// What was seen last is not there any more, or is another.
    pub(super) fn new_entries(&self, store: &dyn Storage) -> Result<Vec<LedgerEntry>, Objection> {
        let mut new = Vec::new();
        let mut page = Page::first(PAGE);
        loop {
            let slice = store.card_entries(self.card, page)?;
            for entry in slice.items {
                match self.entries.last() {
                    Some(known) if entry == *known => {
                        new.reverse();
                        return Ok(new);
                    }
                    Some(known) if entry.sequence <= known.sequence => return Err(self.lost(known)),
                    _ => new.push(entry),
                }
            }
            match (slice.next, self.entries.last()) {
                (Some(cursor), _) => page = Page { cursor: Some(cursor), limit: PAGE },
                (None, Some(known)) => return Err(self.lost(known)),
                (None, None) => {
                    new.reverse();
                    return self.without_opening(new);
                }
            }
        }
    }

    /// At the first look, the first booking is what the card was opened with.
    fn without_opening(&self, mut new: Vec<LedgerEntry>) -> Result<Vec<LedgerEntry>, Objection> {
        let (amount, reference) = &self.opening;
        let is_opening = new.first().is_some_and(|first| {
            (first.kind, first.change.minor, &first.cause)
                == (TransferKind::TopUp, *amount, reference)
        });
        if !is_opening {
            return Err(Objection(format!("{reference} is not in the ledger")));
        }
        new.remove(0);
        Ok(new)
    }

    fn lost(&self, entry: &LedgerEntry) -> Objection {
        Objection(format!(
            "a booking is lost that was there: {} of {} on {}",
            entry.kind.as_str(),
            entry.change.minor,
            self.opening.1
        ))
    }

    pub(super) fn takes(&mut self, new: Vec<LedgerEntry>) {
        self.entries.extend(new);
    }

    /// Whether every booking is there as it was.
    ///
    /// # Errors
    /// One is not.
    pub(super) fn everything_is_there(&mut self, store: &dyn Storage) -> Sound {
        let (mut there, mut page) = (Vec::new(), Page::first(100));
        loop {
            let slice = store.card_entries(self.card, page)?;
            there.extend(slice.items);
            let Some(cursor) = slice.next else { break };
            page = Page { cursor: Some(cursor), limit: 100 };
        }
        there.reverse();
        let known = self.entries.iter().zip(there.iter().skip(1));
        match known.into_iter().find(|(known, there)| known != there) {
            Some((known, _)) => Err(self.lost(known)),
            None if there.len() <= self.entries.len() => {
                Err(Objection(format!("bookings are lost that were there, on {}", self.opening.1)))
            }
            None => Ok(()),
        }
    }

    /// Whether the balances are what the bookings make of them.
    ///
    /// # Errors
    /// They are not.
    pub(super) fn balances(&self, card: usize, held: i64, store: &dyn Storage) -> Sound {
        let Some(account) = store.card(self.card)? else {
            return Err(Objection(format!("card {card} is not there any more")));
        };
        let said = (account.balance.minor, account.available.minor);
        let own = (self.all_money(), self.spendable());
        if said != own || held != self.held() || own.1 < 0 || self.held() < 0 {
            return Err(Objection(format!(
                "card {card} should have {} and {} to spend, of which its approvals hold {held}; the store says {} \
                 and {} (minor units)",
                own.0, own.1, said.0, said.1
            )));
        }
        Ok(())
    }

    /// What can be spent.
    pub(super) fn spendable(&self) -> i64 {
        let changes = self.entries.iter().map(|entry| entry.change.minor);
        changes.sum::<i64>().saturating_add(self.opening.0)
    }

    fn held(&self) -> i64 {
        self.entries.iter().map(|entry| entry.held_change.minor).sum()
    }

    /// All its money, held or not.
    pub(super) fn all_money(&self) -> i64 {
        self.spendable().saturating_add(self.held())
    }

    /// What the issuer has loaded onto it.
    pub(super) fn loaded(&self) -> i64 {
        let loaded = self.entries.iter().filter(|entry| entry.kind == TransferKind::TopUp);
        loaded.map(|entry| entry.change.minor).sum::<i64>().saturating_add(self.opening.0)
    }
}
