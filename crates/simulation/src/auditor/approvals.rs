//! What was approved, for which tap, and what became of the money.

use std::collections::{BTreeMap, BTreeSet};

use tapfer_payment_types::{AuthorizationId, PaymentIntentId, TokenId};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::ledger::TransferKind;
use tapfer_server::in_process::Answer;
use tapfer_storage::{AuthorizationFilter, LedgerEntry, Page, Storage};

use super::door::{Door, Effect};
use super::{Objection, Sound, Step};
use crate::letter::{Letter, Order, text};
use crate::till::Signed;

/// A payment that a merchant has asked for, and the money it moved, minor units.
#[derive(Debug)]
struct Payment {
    /// Who wants to be paid.
    merchant: usize,
    amount: i64,
    /// When a terminal may last have begun to wait for it, by terminal.
    armed: BTreeMap<String, Step>,
    /// When taps were decided that used its arming up, by terminal.
    tapped: BTreeMap<String, Vec<Step>>,
    approved: Option<AuthorizationId>,
    card: usize,
    held: i64,
    captured: i64,
    refunded: i64,
    is_reversed: bool,
}

/// Payments and approvals.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    payments: BTreeMap<String, Payment>,
    /// What phones have signed.
    taps: Vec<(TokenId, Signed)>,
    approved: BTreeMap<AuthorizationId, Authorization>,
    highest: BTreeMap<TokenId, u16>,
    /// What tills were told.
    told: BTreeMap<AuthorizationId, Step>,
    /// Orders that a booking was explained by.
    booked: BTreeSet<String>,
}

impl Approvals {
    pub(super) fn signed(&mut self, token: TokenId, signed: Signed) {
        self.taps.push((token, signed));
    }

    pub(super) fn count(&self) -> usize {
        self.approved.len()
    }

    /// What approvals hold of a card's money.
    pub(super) fn held_on(&self, card: usize) -> i64 {
        let on_card = self.payments.values().filter(|payment| payment.card == card);
        on_card.map(|payment| payment.held).sum()
    }

    /// What a merchant is owed.
    pub(super) fn owed_to(&self, merchant: usize) -> i64 {
        let its = self.payments.values().filter(|payment| payment.merchant == merchant);
        its.map(|payment| payment.captured.saturating_sub(payment.refunded)).sum()
    }

    /// What letters and answers tell of payments.
    pub(super) fn at_the_door(
        &mut self,
        step: Step,
        letter: &Letter,
        answer: Option<&Answer>,
        effect: Effect,
    ) {
        match &letter.order {
            Order::Intent { merchant, amount, .. } => {
                if let Some(id) = answer.and_then(|answer| text(answer, "id")) {
                    self.payments.entry(id).or_insert_with(|| Payment::of(*merchant, *amount));
                }
            }
            Order::Arm { intent, terminal } => {
                if let (true, Some(payment)) =
                    (effect != Effect::None, self.payments.get_mut(intent))
                {
                    payment.armed.insert(terminal.to_string(), step);
                }
            }
            Order::Authorize { intent, terminal, .. } => {
                let said = |field| answer.and_then(|answer| text(answer, field));
                if said("outcome").as_deref() == Some("approved")
                    && let Some(id) = said("id").and_then(|id| id.parse().ok())
                {
                    self.told.entry(id).or_insert(step);
                }
                // These reasons come behind "the terminal does not wait", so it did.
                let is_decided = matches!(
                    said("reason").as_deref(),
                    Some("approved" | "insufficient_funds" | "amount_mismatch")
                );
                // What a till has forgotten may come again at any time.
                let is_news = effect == Effect::Done && !letter.is_forgotten;
                if let (true, Some(payment)) =
                    (is_decided && is_news, self.payments.get_mut(intent))
                {
                    payment.tapped.entry(terminal.to_string()).or_default().push(step);
                }
            }
            _ => {}
        }
    }

    /// Finds the order behind a booking. Gives the token if it is an approval.
    ///
    /// # Errors
    /// There is none, or it may not have had this effect.
    pub(super) fn explain(
        &mut self,
        step: Step,
        entry: &LedgerEntry,
        card: usize,
        door: &Door,
        letters: &[Letter],
        store: &dyn Storage,
    ) -> Result<Option<TokenId>, Objection> {
        let came = || letters.iter().filter(|letter| door.has_come(letter));
        let amount = entry.change.minor;
        match entry.kind {
            TransferKind::TopUp => {
                let ordered = came().find_map(|letter| match &letter.order {
                    Order::TopUp { card: on, amount, reference, .. }
                        if *reference == entry.cause =>
                    {
                        Some((*on, *amount))
                    }
                    _ => None,
                });
                if ordered != Some((card, amount)) {
                    return Err(Objection(format!(
                        "{amount} were loaded onto card {card} that nobody ordered"
                    )));
                }
                self.once(&entry.cause, "a top-up")?;
                Ok(None)
            }
            TransferKind::Hold => self.approved(step, entry, card, letters, door, store).map(Some),
            TransferKind::Capture => {
                let taken = entry.held_change.minor.saturating_neg();
                let payment = self.of_cause(&entry.cause)?;
                payment.held = payment.held.saturating_sub(taken);
                payment.captured = payment.captured.saturating_add(taken);
                payment.is_sound(card, "was taken")?;
                Ok(None)
            }
            TransferKind::Release => {
                let payment = match entry.cause.starts_with("rev_") {
                    true => self.reversed(&entry.cause, store)?,
                    false => self.of_cause(&entry.cause)?,
                };
                payment.held = payment.held.saturating_sub(amount);
                payment.is_sound(card, "was released")?;
                Ok(None)
            }
            TransferKind::Refund => {
                let refund = entry.cause.parse().ok().map(|id| store.refund(id)).transpose()?;
                let refund = refund
                    .flatten()
                    .ok_or_else(|| Objection::new("a refund was booked that is not there"))?;
                let intent = refund.payment_intent.to_string();
                let ordered = came().filter(|letter| {
                    matches!(&letter.order, Order::Refund { intent: of, amount: minor } if *of == intent && *minor == amount)
                });
                self.at_most(ordered.count(), &format!("{intent} {amount}"), "a refund")?;
                let payment = self.payment(&intent)?;
                payment.refunded = payment.refunded.saturating_add(amount);
                payment.is_sound(card, "was refunded")?;
                Ok(None)
            }
            TransferKind::Reversal => {
                let payment = self.reversed(&entry.cause, store)?;
                payment.refunded = payment.refunded.saturating_add(amount);
                payment.is_sound(card, "was given back when it was undone")?;
                Ok(None)
            }
            TransferKind::Loss => {
                Err(Objection::new("an issuer lost money where nobody stands in"))
            }
            TransferKind::PayOut => {
                let said = format!("{amount} went off card {card}, and nobody closes cards here");
                Err(Objection(said))
            }
        }
    }

    fn approved(
        &mut self,
        step: Step,
        entry: &LedgerEntry,
        card: usize,
        letters: &[Letter],
        door: &Door,
        store: &dyn Storage,
    ) -> Result<TokenId, Objection> {
        let found = entry.cause.parse().ok().map(|id| store.authorization(id)).transpose()?;
        let approval = found.flatten().filter(|found| found.outcome.is_approved());
        let approval =
            approval.ok_or_else(|| Objection::new("money is held that no approval holds"))?;
        let (Some(token), intent) = (approval.token, approval.payment_intent.to_string()) else {
            return Err(Objection::new("a payment was approved without a token"));
        };
        let terminal = approval.terminal.to_string();
        let (amount, counter) = (approval.amount.minor, approval.application_transaction_counter);
        let is_asked = letters.iter().any(|letter| {
            door.has_come(letter)
                && matches!(&letter.order, Order::Authorize { intent: of, terminal: at, .. }
                    if *of == intent && at.to_string() == terminal)
        });
        let has_signed = self.taps.iter().any(|(of, signed)| {
            *of == token && (signed.counter, signed.amount) == (counter, amount)
        });
        let highest = self.highest.get(&token).copied();
        // If nobody was told, it is of this step: whoever starts a platform looks at once.
        let decided = self.told.get(&approval.id).copied().unwrap_or(step);
        let payment = self.payment(&intent)?;
        let is_waiting = payment.is_waiting(&terminal, decided);
        let held = entry.held_change.minor;
        let wrong = match () {
            () if payment.approved.is_some() => "a payment was approved twice",
            () if !is_asked => "a payment was approved that no till has asked about",
            () if amount != payment.amount
                || held != amount
                || entry.change.minor != amount.saturating_neg() =>
            {
                "a payment was approved with another amount than the merchant's"
            }
            () if !has_signed => "a payment was approved that no phone has signed so",
            () if highest.is_some_and(|highest| counter <= highest) => {
                "a payment was approved with a counter that is not above all before"
            }
            () if !is_waiting => {
                "a payment was approved at a till that did not wait for it any more"
            }
            () => {
                payment.approved = Some(approval.id);
                payment.card = card;
                payment.held = held;
                self.highest.insert(token, counter);
                self.approved.insert(approval.id, approval);
                return Ok(token);
            }
        };
        Err(Objection(format!("{wrong}: {amount} on card {card}, counter {counter}")))
    }

    fn payment(&mut self, intent: &str) -> Result<&mut Payment, Objection> {
        let payment = self.payments.get_mut(intent);
        payment.ok_or_else(|| {
            Objection::new("money moved for a payment that no merchant has asked for")
        })
    }

    /// The payment of a booking that names its approval or itself.
    fn of_cause(&mut self, cause: &str) -> Result<&mut Payment, Objection> {
        let intent = cause.parse().ok().and_then(|id: AuthorizationId| self.approved.get(&id));
        let intent = intent.map(|approval| approval.payment_intent);
        let intent = intent.or_else(|| cause.parse::<PaymentIntentId>().ok());
        self.payment(&intent.map(|id| id.to_string()).unwrap_or_default())
    }

    /// The payment that a reversal undoes, once.
    fn reversed(&mut self, cause: &str, store: &dyn Storage) -> Result<&mut Payment, Objection> {
        let reversal = cause.parse().ok().map(|id| store.reversal(id)).transpose()?.flatten();
        let approval = reversal.and_then(|reversal| self.approved.get(&reversal.authorization));
        let intent = approval.map(|approval| approval.payment_intent.to_string());
        let payment = self.payment(&intent.unwrap_or_default())?;
        if core::mem::replace(&mut payment.is_reversed, true) {
            return Err(Objection::new("an approval was undone twice"));
        }
        Ok(payment)
    }

    fn once(&mut self, name: &str, what: &str) -> Sound {
        self.at_most(1, name, what)
    }

    /// So many orders explain so many bookings.
    fn at_most(&mut self, orders: usize, name: &str, what: &str) -> Sound {
        let booked = (0..orders).any(|number| self.booked.insert(format!("{name} {number}")));
        if booked {
            Ok(())
        } else {
            Err(Objection(format!("{what} was booked more often than it was ordered")))
        }
    }

    /// Whether every approval that was told is one.
    ///
    /// # Errors
    /// One is lost.
    pub(super) fn compare_answers(&self, store: &dyn Storage) -> Sound {
        let Some(id) = self.told.keys().find(|id| !self.approved.contains_key(*id)) else {
            return Ok(());
        };
        Err(Objection::new(match store.authorization(*id)? {
            None => "an approval was told that is not there",
            Some(_) => "an approval was told that moved no money",
        }))
    }

    /// Whether every approval is there as it was, and no other.
    ///
    /// # Errors
    /// One is lost, changed, or there without money.
    pub(super) fn everything_is_there(&self, store: &dyn Storage) -> Sound {
        let (mut there, mut page) = (BTreeMap::new(), Page::first(100));
        loop {
            let slice = store.list_authorizations(AuthorizationFilter::default(), page)?;
            there.extend(slice.items.into_iter().map(|found| (found.id, found)));
            let Some(cursor) = slice.next else { break };
            page = Page { cursor: Some(cursor), limit: 100 };
        }
        for (id, known) in &self.approved {
            let found =
                there.get(id).map(|found| Authorization { reversal: None, ..found.clone() });
            if found.as_ref() != Some(&Authorization { reversal: None, ..known.clone() }) {
                return Err(Objection::new("an approval is lost, or is another than it was"));
            }
        }
        let approved = there.values().filter(|found| found.outcome.is_approved()).count();
        if approved != self.approved.len() {
            return Err(Objection::new("there are approvals that moved no money"));
        }
        self.intents_agree(store)
    }

    /// Whether the payments say of themselves what the bookings say.
    fn intents_agree(&self, store: &dyn Storage) -> Sound {
        for (id, payment) in &self.payments {
            let found = id.parse().ok().map(|id| store.intent(id)).transpose()?.flatten();
            let Some(found) = found else {
                return Err(Objection::new("a payment that a merchant was told of is lost"));
            };
            let back = found.refunded_minor.saturating_add(found.reversed_minor());
            let said = (found.amount.minor, found.captured_minor, back);
            let own = (payment.amount, payment.captured, payment.refunded);
            if said != own {
                return Err(Objection(format!(
                    "a payment says amount, taken and given back are {said:?}; its bookings say {own:?}"
                )));
            }
        }
        Ok(())
    }
}

impl Payment {
    const fn of(merchant: usize, amount: i64) -> Self {
        Self {
            merchant,
            amount,
            armed: BTreeMap::new(),
            tapped: BTreeMap::new(),
            approved: None,
            card: usize::MAX,
            held: 0,
            captured: 0,
            refunded: 0,
            is_reversed: false,
        }
    }

    /// Whether a terminal may wait for it: since it last began to, no tap was decided there before this step.
    fn is_waiting(&self, terminal: &str, step: Step) -> bool {
        let tapped = self.tapped.get(terminal).map_or(&[][..], Vec::as_slice);
        let armed = self.armed.get(terminal);
        armed.is_some_and(|armed| !tapped.iter().any(|tapped| (armed..&step).contains(&tapped)))
    }

    /// Whether a booking behind its approval left sound sums.
    fn is_sound(&self, card: usize, what: &str) -> Sound {
        let is_sound = self.card == card
            && self.held >= 0
            && self.captured.saturating_add(self.held) <= self.amount
            && (0..=self.captured).contains(&self.refunded);
        if is_sound {
            return Ok(());
        }
        Err(Objection(format!(
            "more {what} than there was: of {}, {} are held, {} taken, {} given back (minor units)",
            self.amount, self.held, self.captured, self.refunded
        )))
    }
}
