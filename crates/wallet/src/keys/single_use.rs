//! Single-use session keys: one block for each transaction counter, erased with it.
//!
//! Class `01`: the block is the session key. Class `02`: the session key under the person's key. The
//! lists look alike, and so does every block, whatever is in it.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tapfer_emv::keys::KeyIndex;
use tapfer_payment_types::Timestamp;
use tapfer_payment_types::messages::SingleUseKeys;

use super::{KeyGrantError, MAXIMUM_KEYS, index_digits};
use crate::secret_bytes::SecretBytes;

/// More blocks than this in one row is not a grant but a mistake.
const MAXIMUM_BLOCKS: usize = 256;

/// Blocks of consecutive counters, all of one limited-use key. The first belongs to `first_counter`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(with = "index_digits")]
    index: KeyIndex,
    derivation_key_index: u8,
    expires_at: Timestamp,
    first_counter: u16,
    blocks: Vec<SecretBytes<16>>,
}

impl Row {
    fn from_grant(
        grant: &SingleUseKeys,
        derivation_key_index: u8,
        now: Timestamp,
    ) -> Result<Self, KeyGrantError> {
        let count = u16::try_from(grant.blocks.len()).map_err(|_| KeyGrantError::TooMany)?;
        if grant.blocks.len() > MAXIMUM_BLOCKS {
            return Err(KeyGrantError::TooMany);
        }
        let last = count.checked_sub(1).ok_or(KeyGrantError::Useless)?;
        if grant.first_counter == 0 || grant.first_counter.checked_add(last).is_none() {
            return Err(KeyGrantError::Counter);
        }
        if now > grant.expires_at {
            return Err(KeyGrantError::Useless);
        }
        let block = |secret: &[u8]| secret.try_into().map(SecretBytes::new);
        let blocks = grant.blocks.iter().map(|secret| block(secret.expose()));
        Ok(Self {
            index: grant.key_index.parse().map_err(|_| KeyGrantError::Index)?,
            derivation_key_index,
            expires_at: grant.expires_at,
            first_counter: grant.first_counter,
            blocks: blocks.collect::<Result<_, _>>().map_err(|_| KeyGrantError::Length)?,
        })
    }

    fn block(&self, counter: u16) -> Option<&SecretBytes<16>> {
        self.blocks.get(usize::from(counter.checked_sub(self.first_counter)?))
    }

    /// How many blocks are left for counters after this one.
    fn left_after(&self, counter: u16, now: Timestamp) -> u32 {
        if now > self.expires_at {
            return 0;
        }
        let used = usize::from(counter.saturating_add(1).saturating_sub(self.first_counter));
        u32::try_from(self.blocks.len().saturating_sub(used)).unwrap_or(u32::MAX)
    }

    /// Erases the blocks of all counters up to this one.
    fn erase_to(&mut self, counter: u16) {
        let Some(last) = counter.checked_sub(self.first_counter) else { return };
        let count = usize::from(last).saturating_add(1).min(self.blocks.len());
        self.blocks.drain(..count);
        self.first_counter = counter.saturating_add(1);
    }
}

/// A block taken for one cryptogram.
pub(crate) struct DrawnBlock {
    pub(crate) block: SecretBytes<16>,
    pub(crate) index: KeyIndex,
    pub(crate) derivation_key_index: u8,
}

/// All single-use keys of one class.
#[derive(Serialize, Deserialize, Default)]
#[serde(transparent)]
pub(crate) struct SessionKeys(Vec<Row>);

impl SessionKeys {
    /// Checks what the platform grants.
    pub(crate) fn granted(
        grants: &[SingleUseKeys],
        derivation_key_index: u8,
        now: Timestamp,
    ) -> Result<Self, KeyGrantError> {
        if grants.len() > MAXIMUM_KEYS {
            return Err(KeyGrantError::TooMany);
        }
        let row = |grant| Row::from_grant(grant, derivation_key_index, now);
        grants.iter().map(row).collect::<Result<_, _>>().map(Self)
    }

    /// Indices of the keys that the blocks come from.
    pub(crate) fn indices(&self) -> impl Iterator<Item = KeyIndex> {
        self.0.iter().map(|row| row.index)
    }

    /// When the keys end, whether blocks are left of them or not.
    pub(crate) fn ends(&self) -> impl Iterator<Item = Timestamp> {
        self.0.iter().map(|row| row.expires_at)
    }

    /// Whether there is a key for this counter.
    pub(crate) fn can_pay(&self, counter: u16, now: Timestamp) -> bool {
        self.usable(counter, now).is_some()
    }

    /// Index of the key for this counter.
    pub(crate) fn index_at(&self, counter: u16, now: Timestamp) -> Option<KeyIndex> {
        self.usable(counter, now).map(|row| row.index)
    }

    /// Takes the block of this counter out of the row that ends first.
    pub(crate) fn draw(&mut self, counter: u16, now: Timestamp) -> Option<DrawnBlock> {
        let row = self.usable(counter, now)?;
        let block = SecretBytes::new(*row.block(counter)?.expose());
        let (index, derivation_key_index) = (row.index, row.derivation_key_index);
        self.erase_to(counter);
        Some(DrawnBlock { block, index, derivation_key_index })
    }

    fn usable(&self, counter: u16, now: Timestamp) -> Option<&Row> {
        let rows = self.0.iter().filter(|row| now <= row.expires_at);
        rows.filter(|row| row.block(counter).is_some()).min_by_key(|row| row.expires_at)
    }

    /// Erases every block of this counter and the ones before: they were used, or never will be.
    pub(crate) fn erase_to(&mut self, counter: u16) {
        self.0.iter_mut().for_each(|row| row.erase_to(counter));
    }

    /// How many payments are left after this counter.
    pub(crate) fn left_after(&self, counter: u16, now: Timestamp) -> u32 {
        self.0.iter().fold(0, |sum, row| sum.saturating_add(row.left_after(counter, now)))
    }

    /// When the last row that is usable after this counter ends.
    pub(crate) fn expire_at(&self, counter: u16, now: Timestamp) -> Option<Timestamp> {
        let usable = self.0.iter().filter(|row| row.left_after(counter, now) > 0);
        usable.map(|row| row.expires_at).max()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::SessionKeys;
    use tapfer_payment_types::Timestamp;
    use tapfer_payment_types::messages::{HexSecret, SingleUseKeys};

    /// Bytes that move leave a copy behind, which would outlive the payment they are for.
    #[test]
    fn what_is_left_stays_where_it_is_when_used_blocks_are_wiped() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let grant = |key_index: &str| SingleUseKeys {
            key_index: key_index.into(),
            expires_at: now.plus_seconds(60),
            first_counter: 1,
            blocks: (1..=4).map(|block| HexSecret::new(vec![block; 16])).collect(),
        };
        let grants = [grant("6780001"), grant("6780002")];
        let mut keys = SessionKeys::granted(&grants, 1, now).unwrap();
        let places = |keys: &SessionKeys| -> Vec<*const [u8; 16]> {
            let left = [3, 4].map(|counter| keys.0.iter().map(move |row| row.block(counter)));
            left.into_iter()
                .flatten()
                .map(|block| core::ptr::from_ref(block.unwrap().expose()))
                .collect()
        };
        let before = places(&keys);
        assert_eq!(keys.draw(1, now).unwrap().block.expose(), &[1; 16]);
        keys.erase_to(2);
        assert_eq!(places(&keys), before);
        assert_eq!(keys.draw(3, now).unwrap().block.expose(), &[3; 16]);
    }
}
