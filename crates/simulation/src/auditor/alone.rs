//! What a node may approve alone: as much as its settings say, of phones that it has seen pay lately, and on cards and of phones that
//! it was not told are stopped.

use std::collections::BTreeMap;

use tapfer_payment_types::{Timestamp, TokenId};
use tapfer_payments::authorization::Authorization;

use super::{Objection, Sound, Standings, Voice};
use crate::node::LIMITS;

/// One node.
#[derive(Debug)]
pub(super) struct Alone {
    /// What it was told of cards and phones when it last heard of them.
    pub(super) told: Standings,
    life: u64,
    /// Since when it is alone, by its clock.
    since: Option<Timestamp>,
    /// When it last was.
    last: Option<Timestamp>,
    /// What it has approved, in breaks that come too fast behind one another to be several.
    promised: Vec<(TokenId, i64)>,
    /// When the database has decided payments of a token for it, in which life.
    seen: BTreeMap<(u64, TokenId), Vec<Timestamp>>,
}

impl Alone {
    pub(super) const fn knowing(told: Standings) -> Self {
        Self { told, life: 0, since: None, last: None, promised: Vec::new(), seen: BTreeMap::new() }
    }

    /// The database has decided a payment of this token for it.
    pub(super) fn sees(&mut self, by: Voice, token: TokenId) {
        self.seen.entry((by.life, token)).or_default().push(by.time);
    }

    /// A clock that was set back makes nothing known.
    fn has_seen_lately(&self, by: Voice, token: TokenId) -> bool {
        let lately = 0..=i64::from(LIMITS.known_minutes).saturating_mul(60_000);
        let seen = self.seen.get(&(by.life, token));
        let mut ages = seen.into_iter().flatten().map(|seen| by.time.millis_since(*seen));
        ages.any(|age| lately.contains(&age))
    }

    /// How it stands now.
    pub(super) fn stands(&mut self, by: Voice) {
        let is_another = self.last.is_none_or(|last| by.time.millis_since(last) > minutes());
        if by.life != self.life || (by.is_alone && self.since.is_none() && is_another) {
            self.promised.clear();
        }
        self.life = by.life;
        match by.is_alone {
            false => self.since = None,
            true => {
                self.since = self.since.or(Some(by.time));
                self.last = Some(by.time);
            }
        }
    }

    /// It has approved a payment.
    ///
    /// # Errors
    /// It may not any more.
    pub(super) fn promises(&mut self, by: Voice, approval: &Authorization) -> Sound {
        let Some(token) = approval.token else {
            return Err(Objection::new("a node alone has approved a payment without a token"));
        };
        if !self.has_seen_lately(by, token) {
            return Err(Objection::new(
                "a node alone has approved a payment of a phone that it has not seen pay lately",
            ));
        }
        self.promised.push((token, approval.amount.minor));
        let sum = |of: &dyn Fn(&TokenId) -> bool| {
            let of_these = self.promised.iter().filter(|(token, _)| of(token));
            of_these.fold((0_u32, 0_i64), |(count, sum), (_, minor)| {
                (count.saturating_add(1), sum.saturating_add(*minor))
            })
        };
        let (of_node, of_token) = (sum(&|_| true), sum(&|other| *other == token));
        let waited = by.time.millis_since(self.since.unwrap_or(by.time));
        let above = match () {
            () if approval.amount.minor > LIMITS.payment_minor => "for one payment",
            () if of_token.0 > LIMITS.token_payments => "of one phone, by number",
            () if of_token.1 > LIMITS.token_minor => "of one phone",
            () if of_node.0 > LIMITS.node_payments => "of one node, by number",
            () if of_node.1 > LIMITS.node_minor => "of one node",
            () if !(0..=minutes()).contains(&waited) => "by time",
            () => return Ok(()),
        };
        Err(Objection(format!("a node has approved more alone than it may {above}")))
    }
}

/// How long it may be alone and decide, in milliseconds; and how long it must not be, to count as alone anew.
fn minutes() -> i64 {
    i64::from(LIMITS.minutes).saturating_mul(60_000)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use tapfer_payment_types::{Timestamp, TokenId};

    use super::{Alone, LIMITS, Standings, Voice};

    fn at(life: u64, millis: i64) -> Voice {
        Voice { node: 0, life, is_alone: false, time: Timestamp::from_unix_millis(millis) }
    }

    #[test]
    fn what_was_seen_is_known_for_so_long_in_that_life() {
        let lately = i64::from(LIMITS.known_minutes) * 60_000;
        let [seen, other] =
            [1, 2].map(|token| TokenId::new(Timestamp::from_unix_millis(1), [token; 10]));
        let mut node = Alone::knowing(Standings { cards: Vec::new(), phones: Vec::new() });
        node.sees(at(1, 1_000), seen);
        for (by, is_known) in [
            (at(1, 1_000), true),
            (at(1, 1_000 + lately), true),
            (at(1, 1_001 + lately), false),
            (at(1, 999), false),
            (at(2, 1_000), false),
        ] {
            assert_eq!(node.has_seen_lately(by, seen), is_known, "{by:?}");
            assert!(!node.has_seen_lately(by, other));
        }
    }
}
