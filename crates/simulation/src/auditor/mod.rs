//! The auditor: knows what was ordered, what went in at the platform's door and came out, and what phones have signed;
//! keeps books of its own in whole numbers; and compares them with what anybody may read in the store.
//!
//! It knows no rule of the platform but what must be true of any:
//!
//! - what was said once is said again, word for word, whoever asks again under the same name;
//! - an approval that was there stays, and is there once for a tap and once for a payment;
//! - a tap is approved for the amount that a phone has signed and a merchant has asked for, at a till that waits for it;
//! - the counters of approvals rise, and so do those that a phone signs with;
//! - nothing is approved on a blocked card or with a suspended token, from the answer to the block on;
//! - what a node has approved alone, while its database was away, is as much as it may; of phones that the database has let pay through
//!   it lately; on nothing that it was told is blocked; and booked, once, as it was told;
//! - every booking has an order behind it, one for each, and balances are the sum of the bookings.

mod alone;
mod approvals;
mod books;
mod door;

use std::collections::BTreeMap;

use tapfer_payment_types::{AuthorizationId, Currency, IssuerId, MerchantId, Timestamp, TokenId};
use tapfer_payments::ledger::{Account, TransferKind};
use tapfer_server::in_process::Answer;
use tapfer_storage::{Storage, StorageError};

use self::alone::Alone;
use self::approvals::{Approvals, Approved};
use self::books::CardBook;
use self::door::{Door, Effect};
use crate::letter::{Letter, LetterNumber, text};
use crate::prepared::{Prepared, opening};
use crate::till::Signed;

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Objection(String);

impl Objection {
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

impl From<StorageError> for Objection {
    fn from(error: StorageError) -> Self {
        Self(format!("the store cannot be read: {error}"))
    }
}

type Sound = Result<(), Objection>;

/// A step of the world; what happens in one has no order.
type Step = u64;

/// What a blocked card or a suspended token is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may pay.
    Good,
    /// It may not, and whoever ordered that was told so.
    Stopped,
    /// An order is on its way, or its answer was lost.
    Open,
}

/// What is known of all cards and phones.
#[derive(Debug, Clone)]
struct Standings {
    cards: Vec<Standing>,
    phones: Vec<Standing>,
}

impl Standings {
    /// What an order may have changed.
    fn takes_note(&mut self, letter: &Letter, effect: Effect) {
        use crate::letter::Order::{Block, Resume, Suspend, Unblock};
        let (standing, then) = match &letter.order {
            Block { card, .. } => (self.cards.get_mut(*card), Standing::Stopped),
            Unblock { card, .. } => (self.cards.get_mut(*card), Standing::Good),
            Suspend { phone, .. } => (self.phones.get_mut(*phone), Standing::Stopped),
            Resume { phone, .. } => (self.phones.get_mut(*phone), Standing::Good),
            _ => return,
        };
        let Some(standing) = standing else { return };
        match effect {
            Effect::Done => *standing = then,
            Effect::Open if *standing != then => *standing = Standing::Open,
            Effect::Open | Effect::None => {}
        }
    }
}

/// Who decides, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    /// Which node.
    pub(crate) node: usize,
    /// In which life: what it has seen in one it does not know in the next.
    pub(crate) life: u64,
    /// Whether it does so alone.
    pub(crate) is_alone: bool,
    /// What its clock shows.
    pub(crate) time: Timestamp,
}

/// Which decision an answer tells, if it does.
fn decision(letter: &Letter, answer: Option<&Answer>) -> Option<AuthorizationId> {
    let answer = answer.filter(|_| letter.order.is_payment())?;
    text(answer, "outcome").and_then(|_| text(answer, "id"))?.parse().ok()
}

/// The auditor of one world.
pub(crate) struct Auditor {
    step: Step,
    door: Door,
    approvals: Approvals,
    books: Vec<CardBook>,
    issuer: IssuerId,
    merchants: Vec<MerchantId>,
    standings: Standings,
    nodes: Vec<Alone>,
    /// What the database has decided for nodes, whose tokens are not looked up yet.
    decided: Vec<(Voice, AuthorizationId)>,
    /// The phone with each token, and its card.
    tokens: BTreeMap<TokenId, (usize, usize)>,
    highest_signed: Vec<Option<u16>>,
}

impl Auditor {
    /// One who has seen how the world was set up.
    pub(crate) fn new(world: &Prepared, nodes: usize) -> Self {
        let standings = Standings {
            cards: vec![Standing::Good; world.cards.len()],
            phones: vec![Standing::Good; world.phones.len()],
        };
        let phones = world.phones.iter().enumerate();
        let tokens = phones.map(|(number, phone)| (phone.token, (number, phone.card))).collect();
        let books = world.cards.iter().enumerate();
        Self {
            step: 0,
            door: Door::default(),
            approvals: Approvals::default(),
            books: books.map(|(number, card)| CardBook::opened(*card, &opening(number))).collect(),
            issuer: world.issuer,
            merchants: world.merchants.iter().map(|merchant| merchant.id).collect(),
            nodes: (0..nodes).map(|_| Alone::knowing(standings.clone())).collect(),
            standings,
            decided: Vec::new(),
            tokens,
            highest_signed: vec![None; world.phones.len()],
        }
    }

    /// A step of the world begins.
    pub(crate) const fn next_step(&mut self) {
        self.step = self.step.saturating_add(1);
    }

    /// A phone has signed, and everybody at the reader has heard it.
    ///
    /// # Errors
    /// With a counter that is not above all before.
    pub(crate) fn phone_signed(&mut self, phone: usize, token: TokenId, signed: Signed) -> Sound {
        self.approvals.signed(token, signed);
        let Some(highest) = self.highest_signed.get_mut(phone) else { return Ok(()) };
        let before = highest.replace(signed.counter);
        match before {
            Some(before) if signed.counter <= before => Err(Objection(format!(
                "phone {phone} signed with counter {} behind {before}: counters rise",
                signed.counter
            ))),
            _ => Ok(()),
        }
    }

    /// Letters came in at the platform's door together, and answers went out: none if the machine died meanwhile.
    ///
    /// # Errors
    /// An answer is not what one under the same name was before.
    pub(crate) fn at_the_door(
        &mut self,
        letters: &[(LetterNumber, &Letter)],
        answers: Option<&[Answer]>,
        by: Voice,
    ) -> Sound {
        let has_others = self.nodes.len() > 1;
        let Some(node) = self.nodes.get_mut(by.node) else { return Ok(()) };
        for (place, (number, letter)) in letters.iter().enumerate() {
            let answer = answers.and_then(|answers| answers.get(place));
            let effect = self.door.passes(*number, letter, answer, by)?;
            self.standings.takes_note(letter, effect);
            // What goes through a node it knows, whether it hears of others or not.
            node.told.takes_note(letter, effect);
            if let (true, false, Some(id)) = (has_others, by.is_alone, decision(letter, answer)) {
                self.decided.push((by, id));
            }
            let alone = by.is_alone.then_some(&node.told);
            self.approvals.at_the_door(self.step, letter, answer, (effect, by.node), alone);
        }
        Ok(())
    }

    /// A node has answered alone: what it has approved it may have approved.
    ///
    /// # Errors
    /// [`Objection`].
    pub(crate) fn promised<'a>(
        &mut self,
        by: Voice,
        told: impl Iterator<Item = (&'a Letter, &'a Answer)>,
        store: &dyn Storage,
    ) -> Sound {
        let Some(node) = self.nodes.get_mut(by.node) else { return Ok(()) };
        node.stands(by);
        for (letter, answer) in told {
            let promise =
                self.approvals.promised((self.step, by.node), letter, answer, &node.told, store)?;
            promise.map_or(Ok(()), |approval| node.promises(by, &approval))?;
        }
        Ok(())
    }

    /// How a node stands now.
    pub(crate) fn stands(&mut self, by: Voice) {
        if let Some(node) = self.nodes.get_mut(by.node) {
            node.stands(by);
        }
    }

    /// A node hears what others take out of service, and has asked what it has not heard.
    pub(crate) fn is_told(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.told = self.standings.clone();
        }
    }

    /// A node says that everything is booked that it has done alone.
    pub(crate) fn has_booked(&mut self, node: usize) {
        self.approvals.has_booked(node);
        self.door.has_booked(node);
    }

    /// The faults are over: whatever a node has approved alone is booked.
    ///
    /// # Errors
    /// Something is not.
    pub(crate) fn everything_is_booked(&self) -> Sound {
        self.approvals.everything_is_booked()
    }

    /// Compares the books with what the store says now.
    ///
    /// # Errors
    /// [`Objection`].
    pub(crate) fn compare(&mut self, letters: &[Letter], store: &dyn Storage) -> Sound {
        for (by, id) in core::mem::take(&mut self.decided) {
            let decided = store.authorization(id)?;
            if let (Some(node), Some(token)) =
                (self.nodes.get_mut(by.node), decided.and_then(|decided| decided.token))
            {
                node.sees(by, token);
            }
        }
        for card in 0..self.books.len() {
            self.read_bookings(card, letters, store)?;
        }
        self.approvals.compare_answers(store)
    }

    fn read_bookings(&mut self, card: usize, letters: &[Letter], store: &dyn Storage) -> Sound {
        let Some(book) = self.books.get_mut(card) else { return Ok(()) };
        let new = book.new_entries(store)?;
        let mut spendable = book.spendable();
        for entry in &new {
            if entry.kind == TransferKind::Loss {
                self.approvals.lost(entry, spendable, store)?;
            } else if let Some(approved) =
                self.approvals.explain(self.step, entry, card, &self.door, letters, store)?
            {
                self.may_pay(&approved, card)?;
            }
            spendable = spendable.saturating_add(entry.change.minor);
        }
        let Some(book) = self.books.get_mut(card) else { return Ok(()) };
        book.takes(new);
        book.balances(card, self.approvals.held_on(card), store)
    }

    /// Whether an approval that is new may be there.
    fn may_pay(&self, approved: &Approved, card: usize) -> Sound {
        let Some((phone, its_card)) = self.tokens.get(&approved.token) else {
            return Err(Objection::new("a payment was approved with a token that no phone has"));
        };
        if *its_card != card {
            return Err(Objection(format!(
                "phone {phone} has paid with card {card}, which is not its own"
            )));
        }
        // A node alone goes by what it was told.
        let known = approved.alone.as_ref().unwrap_or(&self.standings);
        if known.cards.get(card) == Some(&Standing::Stopped) {
            return Err(Objection(format!(
                "a payment was approved on card {card}, which was blocked before"
            )));
        }
        if known.phones.get(*phone) == Some(&Standing::Stopped) {
            return Err(Objection(format!(
                "a payment was approved of phone {phone}, which was suspended before"
            )));
        }
        Ok(())
    }

    /// Looks at everything there is, and not only at what is new.
    ///
    /// # Errors
    /// [`Objection`].
    pub(crate) fn inspect(&mut self, letters: &[Letter], store: &dyn Storage) -> Sound {
        for book in &mut self.books {
            book.everything_is_there(store)?;
        }
        self.compare(letters, store)?;
        self.approvals.everything_is_there(store)?;
        self.money_is_conserved(store)?;
        let report = store.verify_audit()?;
        match report.fault {
            None => Ok(()),
            Some(fault) => Err(Objection(format!("the audit log is not sound: {fault}"))),
        }
    }

    /// The faults are over: every letter has an answer that is final.
    ///
    /// # Errors
    /// One has none.
    pub(crate) fn everybody_was_answered(&self, letters: &[Letter]) -> Sound {
        self.door.everybody_was_answered(letters)
    }

    /// How many payments were approved.
    pub(crate) fn approved(&self) -> usize {
        self.approvals.count()
    }

    /// How many of them by a node alone, which has told it.
    pub(crate) fn approved_alone(&self) -> usize {
        self.approvals.count_alone()
    }

    /// Each merchant is owed what its payments have brought it, and the issuer has given what was loaded onto its cards.
    /// Cards are compared with every look; together no money was made, and none is lost.
    fn money_is_conserved(&self, store: &dyn Storage) -> Sound {
        let loaded: i64 = self.books.iter().map(CardBook::loaded).sum();
        let given = [
            (Account::IssuerFunding(self.issuer), loaded.saturating_neg()),
            (Account::IssuerLoss(self.issuer), self.approvals.losses().saturating_neg()),
        ];
        let merchants = self.merchants.iter().enumerate();
        let owed = merchants.map(|(number, merchant)| {
            (Account::MerchantPayable(*merchant), self.approvals.owed_to(number))
        });
        for (account, own) in owed.chain(given) {
            let said = store.account_balance(account, Currency::EUR)?.minor;
            if said != own {
                return Err(Objection(format!(
                    "{account:?} should have {own}; the store says {said} (minor units)"
                )));
            }
        }
        Ok(())
    }

    /// The faults are over: from here on an answer that says "not now" has no excuse.
    pub(crate) const fn nothing_is_in_the_way(&mut self) {
        self.door.nothing_is_in_the_way();
    }
}
