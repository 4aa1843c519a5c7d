//! What was approved, for which tap, and what became of the money.

use std::collections::{BTreeMap, BTreeSet};

use tapfer_payment_types::{AuthorizationId, PaymentIntentId, TokenId};
use tapfer_payments::authorization::Authorization;
use tapfer_payments::ledger::TransferKind;
use tapfer_server::in_process::Answer;
use tapfer_storage::{AuthorizationFilter, LedgerEntry, Page, Storage};

use super::door::{Door, Effect};
use super::{Objection, Sound, Standings, Step};
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
    /// The node that has made it alone, as long as nobody else knows of it.
    alone_at: Option<usize>,
    /// A node alone may have approved it at this step, by what it was told of cards and phones.
    maybe_promised: Option<(Step, Standings)>,
    approved: Option<AuthorizationId>,
    card: usize,
    held: i64,
    captured: i64,
    refunded: i64,
    is_reversed: bool,
}

/// What a node has approved alone.
#[derive(Debug)]
struct Promise {
    node: usize,
    step: Step,
    approval: Authorization,
    told: Standings,
    is_booked: bool,
}

/// An approval that is booked.
pub(super) struct Approved {
    pub(super) token: TokenId,
    /// What a node was told that approved it alone.
    pub(super) alone: Option<Standings>,
}

/// Payments and approvals.
#[derive(Debug, Default)]
pub(super) struct Approvals {
    payments: BTreeMap<String, Payment>,
    /// What phones have signed.
    taps: Vec<(TokenId, Signed)>,
    approved: BTreeMap<AuthorizationId, Authorization>,
    highest: BTreeMap<TokenId, u16>,
    /// The same of those that a node has told.
    highest_at: BTreeMap<(usize, TokenId), u16>,
    /// What tills were told, and by which node.
    told: BTreeMap<AuthorizationId, (Step, usize)>,
    /// What they were told by a node alone.
    promised: BTreeMap<AuthorizationId, Promise>,
    /// What issuers paid because cards did not have it.
    losses: i64,
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

    pub(super) fn count_alone(&self) -> usize {
        self.promised.len()
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
        (effect, node): (Effect, usize),
        alone: Option<&Standings>,
    ) {
        match &letter.order {
            Order::Intent { merchant, amount, .. } => {
                if let Some(id) = answer.and_then(|answer| text(answer, "id")) {
                    let payment = || Payment {
                        alone_at: alone.map(|_| node),
                        ..Payment::of(*merchant, *amount)
                    };
                    self.payments.entry(id).or_insert_with(payment);
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
                if alone.is_none()
                    && said("outcome").as_deref() == Some("approved")
                    && let Some(id) = said("id").and_then(|id| id.parse().ok())
                {
                    self.told.entry(id).or_insert((step, node));
                }
                if let (Some(told), true, Some(payment)) =
                    (alone, effect != Effect::None, self.payments.get_mut(intent))
                    && payment.alone_at == Some(node)
                {
                    payment.maybe_promised = Some((step, told.clone()));
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
    ) -> Result<Option<Approved>, Objection> {
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
            TransferKind::Loss => Err(Objection::new("a loss is no booking of an order")),
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
    ) -> Result<Approved, Objection> {
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
        let told = self.told.get(&approval.id).copied();
        let promise = self.promised.get(&approval.id);
        let booked = Authorization { reversal: None, ..approval.clone() };
        let is_as_promised = promise.is_none_or(|promise| promise.approval == booked);
        let promise = promise.map(|promise| (promise.step, promise.told.clone()));
        let payment = self.payment(&intent)?;
        let promise = promise.or(payment.maybe_promised.clone().filter(|_| told.is_none()));
        // If nobody was told, it is of this step: whoever starts a platform looks at once.
        let told_at = told.map(|(step, _)| step);
        let decided = promise.as_ref().map(|(step, _)| *step).or(told_at).unwrap_or(step);
        let is_waiting = payment.is_waiting(&terminal, decided);
        let held = entry.held_change.minor;
        let wrong = match () {
            () if !is_as_promised => "a payment was booked as another than a node alone has told",
            () if payment.approved.is_some() => "a payment was approved twice",
            () if !is_asked => "a payment was approved that no till has asked about",
            () if amount != payment.amount
                || held != amount
                || entry.change.minor != amount.saturating_neg() =>
            {
                "a payment was approved with another amount than the merchant's"
            }
            () if !has_signed => "a payment was approved that no phone has signed so",
            // What others have decided a node alone does not know.
            () if promise.is_none() && highest.is_some_and(|highest| counter <= highest) => {
                "a payment was approved with a counter that is not above all before"
            }
            () if !is_waiting => {
                "a payment was approved at a till that did not wait for it any more"
            }
            () => {
                payment.approved = Some(approval.id);
                payment.card = card;
                payment.held = held;
                self.highest.insert(token, highest.map_or(counter, |highest| counter.max(highest)));
                if let Some((_, node)) = told {
                    let at = self.highest_at.entry((node, token)).or_insert(counter);
                    *at = counter.max(*at);
                }
                self.approved.insert(approval.id, approval);
                return Ok(Approved { token, alone: promise.map(|(_, told)| told) });
            }
        };
        Err(Objection(format!("{wrong}: {amount} on card {card}, counter {counter}")))
    }

    /// A node alone has answered. Gives what it has approved with that.
    ///
    /// # Errors
    /// It may not have.
    pub(super) fn promised(
        &mut self,
        (step, node): (Step, usize),
        letter: &Letter,
        answer: &Answer,
        told: &Standings,
        store: &dyn Storage,
    ) -> Result<Option<Authorization>, Objection> {
        let is_approved = text(answer, "outcome").as_deref() == Some("approved");
        let id = text(answer, "id").and_then(|id| id.parse().ok());
        let id = id.filter(|id| !self.promised.contains_key(id) && !self.told.contains_key(id));
        let (Some(id), Order::Authorize { .. }, true) = (id, &letter.order, is_approved) else {
            return Ok(None);
        };
        let found = store.authorization(id)?;
        let approval = found
            .ok_or_else(|| Objection::new("a node alone has told an approval that it has not"))?;
        let counter = approval.application_transaction_counter;
        if let Some(token) = approval.token
            && let Some(before) = self.highest_at.insert((node, token), counter)
            && before >= counter
        {
            return Err(Objection(format!(
                "a node alone has approved a payment with counter {counter} behind {before}"
            )));
        }
        let promise = Promise {
            node,
            step,
            approval: approval.clone(),
            told: told.clone(),
            is_booked: false,
        };
        self.promised.insert(id, promise);
        Ok(Some(approval))
    }

    /// A node says that everything is booked: then everybody knows of it.
    pub(super) fn has_booked(&mut self, node: usize) {
        for (id, promise) in self.promised.iter_mut().filter(|(_, promise)| promise.node == node) {
            promise.is_booked = true;
            self.told.entry(*id).or_insert((promise.step, node));
        }
        for payment in self.payments.values_mut().filter(|payment| payment.alone_at == Some(node)) {
            payment.alone_at = None;
        }
    }

    /// Whether all that was promised is booked.
    ///
    /// # Errors
    /// Something is not.
    pub(super) fn everything_is_booked(&self) -> Sound {
        match self.promised.values().all(|promise| promise.is_booked) {
            true => Ok(()),
            false => Err(Objection::new(
                "what a node approved alone is not booked although nothing is in the way any more",
            )),
        }
    }

    /// An issuer pays what a card lacks for what a node has approved alone, and no more.
    ///
    /// # Errors
    /// It has paid something else.
    pub(super) fn lost(
        &mut self,
        entry: &LedgerEntry,
        spendable: i64,
        store: &dyn Storage,
    ) -> Sound {
        let found = entry.cause.parse().ok().map(|id| store.authorization(id)).transpose()?;
        let approval = found.flatten().ok_or_else(|| {
            Objection::new("an issuer lost money for a payment that is not there")
        })?;
        let is_promised = self.promised.contains_key(&approval.id)
            || self.payment(&approval.payment_intent.to_string())?.maybe_promised.is_some();
        let missing = approval.amount.minor.saturating_sub(spendable.max(0));
        if !is_promised || entry.change.minor != missing {
            return Err(Objection(format!(
                "an issuer lost {} where {missing} were missing (minor units), of a payment that {}",
                entry.change.minor,
                if is_promised { "a node approved alone" } else { "no node approved alone" }
            )));
        }
        self.once(&entry.cause, "a loss")?;
        self.losses = self.losses.saturating_add(missing);
        Ok(())
    }

    /// What issuers have lost.
    pub(super) const fn losses(&self) -> i64 {
        self.losses
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
        for (id, payment) in self.payments.iter().filter(|(_, one)| one.alone_at.is_none()) {
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
            alone_at: None,
            maybe_promised: None,
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
