//! A sale: from the wish to be paid to what the merchant thinks better of later.

use tapfer_server::in_process::Answer;

use crate::letter::{LetterNumber, Order, text};
use crate::node::Node;
use crate::story::euros;
use crate::till::{self, Tapped, signed};
use crate::world::{Event, Goes, World};

/// A sale's place among all that were begun.
pub(crate) type SaleNumber = usize;

/// What is wrong with a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    /// Nothing.
    None,
    /// The till asks the phone for less than the merchant wants.
    SmallerAmount,
    /// A thief sends in what he recorded at another till.
    Recorded,
    /// The same, with a counter that the phone has not used yet.
    Forged,
}

/// Phones that come often.
pub(crate) const REGULARS: [usize; 2] = [0, 2];

/// A sale that begins.
struct Wanted {
    till: usize,
    phone: usize,
    amount: i64,
    manual: bool,
    trick: Trick,
    /// What a thief has recorded.
    stolen: Option<Vec<u8>>,
}

/// One sale.
#[derive(Debug)]
pub(crate) struct Sale {
    till: usize,
    phone: usize,
    amount: i64,
    manual: bool,
    trick: Trick,
    intent: Option<String>,
    approved: Option<String>,
    /// The last question, and what was tapped for it.
    asked: Option<(LetterNumber, Vec<u8>)>,
    taps: u8,
    is_over: bool,
}

impl World<'_> {
    pub(crate) fn sale_begins(&mut self, till: usize) -> Goes {
        if self.is_calm {
            return Ok(());
        }
        let phone = self.customer(till);
        let trick = match self.chance.below(100) {
            fate if fate < 5 => Trick::SmallerAmount,
            fate if fate < 11 && !self.recorded.is_empty() => Trick::Recorded,
            fate if fate < 16 && !self.recorded.is_empty() => Trick::Forged,
            _ => Trick::None,
        };
        let stolen = self.recorded.get(self.chance.index(self.recorded.len())).cloned();
        let stolen = stolen.filter(|_| matches!(trick, Trick::Recorded | Trick::Forged));
        let amount = match stolen.as_deref().and_then(signed) {
            Some(signed) => signed.amount,
            None if self.is_at_node_alone(till) && self.chance.percent(85) => {
                self.chance.between(100, 800)
            }
            None => self.chance.between(100, 2_400),
        };
        let manual = self.chance.percent(25);
        self.begin_sale(Wanted { till, phone, amount, manual, trick, stolen });
        Ok(())
    }

    fn begin_sale(&mut self, wanted: Wanted) {
        let Wanted { till, phone, amount, manual, trick, stolen } = wanted;
        let number = self.sales.len();
        let asked = stolen.map(|chip_data| (0, chip_data));
        let (intent, approved) = (None, None);
        let sale = Sale {
            till,
            phone,
            amount,
            manual,
            trick,
            intent,
            approved,
            asked,
            taps: 0,
            is_over: false,
        };
        self.sales.push(sale);
        let merchant = self.prepared.tills.get(till).map_or(0, |till| till.merchant);
        self.of_merchant(number, Order::Intent { merchant, amount, manual });
    }

    /// The day begins at several nodes: each sees those pay who come often, and nothing goes wrong.
    pub(crate) fn regulars_pay(&mut self) -> Goes {
        self.is_calm = true;
        for phone in REGULARS {
            self.pays_everywhere(phone)?;
        }
        if self.chance.percent(35) {
            self.issuer_stops_a_regular();
        }
        self.all_comes_to_pass()?;
        self.is_calm = false;
        Ok(())
    }

    /// At every till, and nothing goes wrong.
    pub(crate) fn pays_everywhere(&mut self, phone: usize) -> Goes {
        for till in 0..self.prepared.tills.len() {
            let amount = self.chance.between(100, 300);
            let (manual, trick, stolen) = (false, Trick::None, None);
            self.begin_sale(Wanted { till, phone, amount, manual, trick, stolen });
        }
        self.all_comes_to_pass()
    }

    /// Whose phone. At several nodes two of them come often, so that nodes know them when they are alone.
    fn customer(&mut self, till: usize) -> usize {
        let of_hundred = if self.is_at_node_alone(till) { 90 } else { 60 };
        match self.has_two_nodes() && self.chance.percent(of_hundred) {
            true => self.regular(),
            false => self.chance.index(self.phones.len()),
        }
    }

    /// One who comes often.
    pub(crate) fn regular(&mut self) -> usize {
        REGULARS.get(self.chance.index(REGULARS.len())).copied().unwrap_or(0)
    }

    fn is_at_node_alone(&self, till: usize) -> bool {
        let node = till.checked_rem(self.nodes.len()).unwrap_or(0);
        self.nodes.get(node).is_some_and(Node::is_alone)
    }

    /// A node that is alone does not do this. The till begins another sale, and asks about this one until it hears.
    pub(crate) fn begins_another(&mut self, letter: LetterNumber) {
        if let Some(sale) = self.letters.get(letter).and_then(|letter| letter.sale) {
            self.ends(sale);
        }
    }

    /// The next customer at this till.
    fn ends(&mut self, number: SaleNumber) {
        let Some(sale) = self.sales.get_mut(number) else { return };
        if !core::mem::replace(&mut sale.is_over, true) {
            let till = sale.till;
            self.after(500, 4_000, Event::SaleBegins(till));
        }
    }

    fn of_merchant(&mut self, number: SaleNumber, order: Order) {
        let Some(sale) = self.sales.get(number) else { return };
        let Some(till) = self.prepared.tills.get(sale.till) else { return };
        let Some(merchant) = self.prepared.merchants.get(till.merchant) else { return };
        let sender = format!("merchant {}, sale {number},", till.merchant);
        self.write(sender, &merchant.key, order, Some(number));
    }

    /// A sender hears an answer that is final.
    pub(crate) fn hears(&mut self, letter: LetterNumber, answer: &Answer) -> Goes {
        let Some(found) = self.letters.get(letter) else { return Ok(()) };
        let is_yes = answer.status < 300;
        match (&found.order, found.sale) {
            (Order::Intent { .. }, Some(sale)) if is_yes => self.is_to_be_paid(sale, answer),
            (Order::Arm { .. }, Some(sale)) if is_yes => self.after(300, 3_000, Event::Tap(sale)),
            (Order::Intent { .. } | Order::Arm { .. }, Some(sale)) => self.ends(sale),
            (Order::Authorize { .. }, Some(sale)) => self.is_decided(sale, letter, answer),
            (Order::Replenish { token, .. }, _) if is_yes => {
                let token = token.clone();
                self.has_keys(&token, answer);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_to_be_paid(&mut self, number: SaleNumber, answer: &Answer) {
        let Some(sale) = self.sales.get_mut(number) else { return };
        sale.intent = text(answer, "id");
        self.arms(number);
    }

    fn arms(&mut self, number: SaleNumber) {
        let Some(sale) = self.sales.get(number) else { return };
        let Some(till) = self.prepared.tills.get(sale.till) else { return };
        if let Some(intent) = sale.intent.clone() {
            self.of_merchant(number, Order::Arm { intent, terminal: till.id });
        }
    }

    /// Which node alone knows its payment, if one does.
    pub(crate) fn known_alone_at(&self, number: SaleNumber) -> Option<usize> {
        let intent = self.sales.get(number)?.intent.as_ref()?;
        self.born_alone.get(intent).copied()
    }

    /// At which till.
    pub(crate) fn till_of(&self, number: SaleNumber) -> usize {
        self.sales.get(number).map_or(0, |sale| sale.till)
    }

    /// A phone is held to the till, or somebody says so.
    pub(crate) fn tap(&mut self, number: SaleNumber) -> Goes {
        let Some(sale) = self.sales.get_mut(number) else { return Ok(()) };
        sale.taps = sale.taps.saturating_add(1);
        let (phone, trick) = (sale.phone, sale.trick);
        let stolen = sale.asked.as_ref().map(|(_, chip_data)| chip_data.clone());
        let chip_data = match (trick, stolen) {
            (Trick::Recorded, Some(stolen)) => Some(stolen),
            (Trick::Forged, Some(stolen)) => till::forged(&stolen),
            _ => self.is_tapped(number, phone)?,
        };
        match chip_data {
            Some(chip_data) => {
                if trick != Trick::None {
                    self.tell(format!("sale {number} is not honest: {trick:?}"));
                }
                self.asks_whether_good(number, chip_data);
            }
            None if self.chance.percent(60) => self.after(500, 2_000, Event::Tap(number)),
            None => self.gives_up(number),
        }
        Ok(())
    }

    /// A real tap. Gives what the phone has signed.
    fn is_tapped(
        &mut self,
        number: SaleNumber,
        phone: usize,
    ) -> Result<Option<Vec<u8>>, crate::world::Ending> {
        let [_, tills, phones, _] = self.ahead;
        let Some(sale) = self.sales.get(number) else { return Ok(None) };
        let Some(intent) = &sale.intent else { return Ok(None) };
        let amount = if sale.trick == Trick::SmallerAmount {
            sale.amount.div_euclid(10).max(1)
        } else {
            sale.amount
        };
        let is_torn = !self.is_calm && self.chance.percent(8);
        let torn_at = is_torn.then(|| u32::try_from(self.chance.below(12)).unwrap_or(0));
        let asked = till::Asked {
            intent,
            amount,
            till_time: self.now.plus_millis(tills),
            phone_time: self.now.plus_millis(phones),
            torn_at,
        };
        let Some(held) = self.phones.get_mut(phone) else { return Ok(None) };
        if !self.is_calm && self.chance.percent(8) {
            held.will_die(u32::try_from(self.chance.below(16)).unwrap_or(0));
        }
        let tapped = till::tap(&self.prepared.till, held, &asked, &mut self.chance)?;
        let Tapped::Signed(chip_data) = tapped else {
            self.tell(format!("phone {phone} at sale {number}: {tapped:?}"));
            return Ok(None);
        };
        let Some(signed) = signed(&chip_data) else { return Ok(None) };
        self.tell(format!(
            "phone {phone} signs {} with counter {} (sale {number})",
            euros(signed.amount),
            signed.counter
        ));
        let token = self.prepared.phones.get(phone).map(|phone| phone.token);
        if let Some(token) = token {
            self.auditor.phone_signed(phone, token, signed)?;
        }
        self.recorded.push(chip_data.clone());
        Ok(Some(chip_data))
    }

    fn asks_whether_good(&mut self, number: SaleNumber, chip_data: Vec<u8>) {
        let Some(sale) = self.sales.get(number) else { return };
        let Some(till) = self.prepared.tills.get(sale.till) else { return };
        let Some(intent) = sale.intent.clone() else { return };
        let sender = format!("till {}, sale {number},", sale.till);
        let order = Order::Authorize { intent, terminal: till.id, chip_data: chip_data.clone() };
        let letter = self.write(sender, &till.key, order, Some(number));
        if let Some(sale) = self.sales.get_mut(number) {
            sale.asked = Some((letter, chip_data));
        }
    }

    fn is_decided(&mut self, number: SaleNumber, letter: LetterNumber, answer: &Answer) {
        let Some(sale) = self.sales.get_mut(number) else { return };
        if sale.asked.as_ref().is_none_or(|(asked, _)| *asked != letter) {
            return;
        }
        if text(answer, "outcome").as_deref() == Some("approved") {
            sale.approved = text(answer, "id");
            self.ends(number);
            self.after(500, 6_000, Event::AfterSale(number));
            return;
        }
        let has_no_money = text(answer, "reason").as_deref() == Some("insufficient_funds");
        if sale.taps > 3 || sale.trick != Trick::None {
            self.gives_up(number);
        } else if has_no_money && self.chance.percent(60) {
            // "Try another phone", and nobody tells the till to wait again.
            let another = self.chance.index(self.phones.len());
            if let Some(sale) = self.sales.get_mut(number) {
                sale.phone = another;
            }
            self.after(300, 2_000, Event::Tap(number));
        } else if self.chance.percent(50) {
            self.arms(number);
        } else {
            self.gives_up(number);
        }
    }

    fn gives_up(&mut self, number: SaleNumber) {
        let intent = self.sales.get(number).and_then(|sale| sale.intent.clone());
        if let Some(intent) = intent {
            self.of_merchant(number, Order::Cancel { intent });
        }
        self.ends(number);
    }

    /// The merchant takes the money, gives some back, or undoes it all; or one behind the other.
    pub(crate) fn after_sale(&mut self, number: SaleNumber) -> Goes {
        let Some(sale) = self.sales.get(number) else { return Ok(()) };
        let (Some(intent), Some(authorization)) = (sale.intent.clone(), sale.approved.clone())
        else {
            return Ok(());
        };
        let part = self.chance.between(1, sale.amount);
        let order = match (sale.manual, self.chance.below(100)) {
            (true, fate) if fate < 40 => Order::Capture { intent, amount: Some(part) },
            (true, fate) if fate < 70 => Order::Capture { intent, amount: None },
            (true, fate) if fate < 80 => Order::Cancel { intent },
            (_, fate) if fate < 35 => Order::Refund { intent, amount: part },
            (_, fate) if fate < 55 => Order::Reverse { authorization },
            _ => return Ok(()),
        };
        self.of_merchant(number, order);
        if !self.is_calm && self.chance.percent(60) {
            self.after(1_000, 9_000, Event::AfterSale(number));
        }
        Ok(())
    }

    /// A till dies in the middle of a sale. It knows from its memory what was tapped, but not under which name it has
    /// asked: it asks about the same tap under another.
    pub(crate) fn till_dies(&mut self, till: usize) {
        let open = self.sales.iter().rposition(|sale| sale.till == till && !sale.is_over);
        let Some(number) = open else { return };
        let asked = self.sales.get(number).and_then(|sale| sale.asked.clone());
        let Some((letter, chip_data)) = asked else { return };
        let Some(found) = self.letters.get_mut(letter) else { return };
        if found.heard.is_some() || !found.order.is_payment() || found.sale != Some(number) {
            return;
        }
        found.is_forgotten = true;
        self.tell(format!(
            "till {till} dies, and asks about the tap of sale {number} under another name"
        ));
        self.asks_whether_good(number, chip_data);
    }
}
