//! The issuer, and phones that want keys.

use tapfer_server::in_process::Answer;

use crate::letter::Order;
use crate::world::{Event, Goes, World};

impl World<'_> {
    /// The issuer loads money, blocks, and lets pay again: one order for a card or a phone at a time.
    pub(crate) fn issuer_acts(&mut self) -> Goes {
        if self.is_calm {
            return Ok(());
        }
        self.after(800, 4_000, Event::IssuerActs);
        let (card, phone) =
            (self.chance.index(self.prepared.cards.len()), self.chance.index(self.phones.len()));
        let Some(id) = self.prepared.cards.get(card).map(ToString::to_string) else {
            return Ok(());
        };
        let token = self.prepared.phones.get(phone).map(|phone| phone.token.to_string());
        let Some(token) = token else { return Ok(()) };
        let order = match self.chance.below(100) {
            fate if fate < 20 => {
                let amount = self.chance.between(500, 2_500);
                let reference = format!("top-up {}", self.letters.len());
                Order::TopUp { card, id, amount, reference }
            }
            fate if fate < 50 => match self.last_of_card(card) {
                (false, stops) if stops => Order::Unblock { card, id },
                (false, _) if self.chance.percent(30) => Order::Block { card, id },
                _ => return Ok(()),
            },
            fate if fate < 80 => match self.last_of_phone(phone) {
                (false, stops) if stops => Order::Resume { phone, token },
                (false, _) if self.chance.percent(30) => Order::Suspend { phone, token },
                _ => return Ok(()),
            },
            _ => {
                self.after(0, 1_000, Event::WantsKeys(phone));
                return Ok(());
            }
        };
        let key = self.prepared.issuer_key.clone();
        self.write("the issuer".to_owned(), &key, order, None);
        Ok(())
    }

    /// The issuer stops a phone that nodes have seen, or its card.
    pub(crate) fn issuer_stops_a_regular(&mut self) {
        let phone = self.regular();
        let Some(set_up) = self.prepared.phones.get(phone) else { return };
        let (card, token) = (set_up.card, set_up.token.to_string());
        let Some(id) = self.prepared.cards.get(card).map(ToString::to_string) else { return };
        let order = match self.chance.percent(50) {
            true => Order::Block { card, id },
            false => Order::Suspend { phone, token },
        };
        let key = self.prepared.issuer_key.clone();
        self.write("the issuer".to_owned(), &key, order, None);
    }

    /// The last order about a card: whether it has no answer yet, and whether it stops the card.
    pub(crate) fn last_of_card(&self, of: usize) -> (bool, bool) {
        self.last(|order| match order {
            Order::Block { card, .. } if *card == of => Some(true),
            Order::Unblock { card, .. } if *card == of => Some(false),
            _ => None,
        })
    }

    /// The same about a phone.
    pub(crate) fn last_of_phone(&self, of: usize) -> (bool, bool) {
        self.last(|order| match order {
            Order::Suspend { phone, .. } if *phone == of => Some(true),
            Order::Resume { phone, .. } if *phone == of => Some(false),
            _ => None,
        })
    }

    fn last(&self, stops: impl Fn(&Order) -> Option<bool>) -> (bool, bool) {
        let last = self.letters.iter().rev();
        let last = last.filter_map(|letter| Some((letter.heard.is_none(), stops(&letter.order)?)));
        last.take(1).next().unwrap_or((false, false))
    }

    /// A phone asks for keys.
    pub(crate) fn wants_keys(&mut self, phone: usize) -> Goes {
        let Some(set_up) = self.prepared.phones.get(phone) else { return Ok(()) };
        let Some(held) = self.phones.get_mut(phone) else { return Ok(()) };
        if let (false, Some(request)) = (self.is_calm, held.wants_keys(set_up.token)?) {
            let order = Order::Replenish { token: set_up.token.to_string(), request };
            self.write(format!("phone {phone}"), &set_up.key, order, None);
        }
        Ok(())
    }

    /// A phone is given keys.
    pub(crate) fn has_keys(&mut self, token: &str, answer: &Answer) {
        let [_, _, ahead, _] = self.ahead;
        let now = self.now.plus_millis(ahead);
        let of_token = |set_up: &crate::prepared::PhoneSetUp| set_up.token.to_string() == token;
        let Some(number) = self.prepared.phones.iter().position(of_token) else { return };
        let Some(id) = self.prepared.phones.get(number).map(|phone| phone.token) else { return };
        let Some(phone) = self.phones.get_mut(number) else { return };
        let took = phone.takes_keys(id, &answer.body, now);
        let words = if took { "has new keys" } else { "does not want these keys any more" };
        self.tell(format!("phone {number} {words}"));
    }
}
