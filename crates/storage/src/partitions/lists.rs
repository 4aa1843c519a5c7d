//! Lists over all partitions.

use tapfer_payment_types::{Currency, Money};
use tapfer_payments::ledger::Account;

use super::PartitionedStorage;
use crate::postgres::PostgresStorage;
use crate::relational::Result;
use crate::store::LedgerStore;
use crate::{Page, Slice};

impl PartitionedStorage {
    /// One part of a list, newest first. A list without what one partition has would be a wrong one, and is none.
    pub(super) fn listed<T, C: Ord + Copy>(
        &self,
        page: Page<C>,
        cursor: fn(&T) -> C,
        list: impl Fn(&PostgresStorage, Page<C>) -> Result<Slice<T, C>>,
    ) -> Result<Slice<T, C>> {
        let limit = usize::from(page.clamped_limit());
        let (mut items, mut is_more) = (Vec::new(), false);
        for partition in 0..self.count() {
            let slice = self.ask(partition, |store| list(store, page))?;
            is_more |= slice.next.is_some();
            items.extend(slice.items);
        }
        items.sort_by_key(|item| std::cmp::Reverse(cursor(item)));
        is_more |= items.len() > limit;
        items.truncate(limit);
        let next = if is_more { items.last().map(cursor) } else { None };
        Ok(Slice { items, next })
    }
}

impl LedgerStore for PartitionedStorage {
    /// The sum: each partition books what was paid with its cards.
    fn account_balance(&self, account: Account, currency: Currency) -> Result<Money> {
        let mut sum = Money::zero(currency);
        for partition in 0..self.count() {
            let own = self.ask(partition, |store| store.account_balance(account, currency))?;
            sum = sum.checked_add(own)?;
        }
        Ok(sum)
    }
}
