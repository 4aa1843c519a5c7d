//! Another day at several nodes, in which those who come often come back late: what nodes have seen of them is too old to go by when the
//! database goes. It follows some stories, and changes nothing in them.

use crate::chance::Chance;
use crate::letter::Order;
use crate::node::LIMITS;
use crate::sale::REGULARS;
use crate::trouble::Trouble;
use crate::world::{Event, Goes, World};

/// So many of a hundred stories have one, which is drawn apart from all else.
const OF_HUNDRED: u64 = 10;
const DRAWN_AS: u64 = 200;
/// So many things happen then.
const STEPS: u32 = 80;
/// One with a card of its own that does not come often.
const SELDOM: usize = 3;
/// Loaded onto each card, minor units.
const LOADED: i64 = 2_000;

impl World<'_> {
    pub(crate) fn has_another_day(&self) -> bool {
        self.has_two_nodes() && Chance::new(self.seed, DRAWN_AS).percent(OF_HUNDRED)
    }

    pub(crate) fn another_day(&mut self) -> Goes {
        self.comes_to_rest()?;
        self.tell("another day begins");
        self.issuer_lets_all_pay();
        self.all_comes_to_pass()?;
        for phone in REGULARS {
            self.pays_everywhere(phone)?;
        }
        let minutes = i64::from(LIMITS.known_minutes);
        let away = minutes.saturating_mul(60_000).saturating_add(self.chance.between(1, 60_000));
        self.tell(format!("those who come often stay away for {away} ms"));
        self.now = self.now.plus_millis(away);
        // Tills are known: somebody has just paid there.
        self.pays_everywhere(SELDOM)?;
        self.is_calm = false;
        self.nobody_reaches_database();
        self.after(20_000, 40_000, Event::TroubleEnds(Trouble::Failover));
        for till in 0..self.prepared.tills.len() {
            self.after(4_000, 9_000, Event::SaleBegins(till));
        }
        for _ in 0..STEPS {
            self.next()?;
        }
        Ok(())
    }

    fn issuer_lets_all_pay(&mut self) {
        let (cards, phones) = (&self.prepared.cards, &self.prepared.phones);
        let loaded = cards.iter().enumerate().map(|(card, id)| {
            let (id, reference) = (id.to_string(), format!("another day of card {card}"));
            Order::TopUp { card, id, amount: LOADED, reference }
        });
        let stopped = cards.iter().enumerate().filter(|(card, _)| self.last_of_card(*card).1);
        let unblocked = stopped.map(|(card, id)| Order::Unblock { card, id: id.to_string() });
        let stopped = phones.iter().enumerate().filter(|(phone, _)| self.last_of_phone(*phone).1);
        let resumed =
            stopped.map(|(phone, of)| Order::Resume { phone, token: of.token.to_string() });
        let orders: Vec<_> = loaded.chain(unblocked).chain(resumed).collect();
        let key = self.prepared.issuer_key.clone();
        for order in orders {
            self.write("the issuer".to_owned(), &key, order, None);
        }
    }
}
