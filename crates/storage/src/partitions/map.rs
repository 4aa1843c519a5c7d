//! The partition map: how many partitions there are, and at which place each is.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use tapfer_payment_types::messages::HexBytes;
use tapfer_payment_types::{RealmId, Timestamp};

use crate::postgres::{Found, Part, PlaceName};

const FORMAT: &str = "tapfer-partition-map-1";
/// There is a home, and at least one other; a number is a byte.
const COUNTS: RangeInclusive<usize> = 2..=256;

/// At which place each partition is. A document that the platform signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionMap {
    format: String,
    /// Whose.
    pub realm: RealmId,
    /// Counts up.
    pub version: u32,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// By number: how often it was moved, and one.
    pub places: Vec<u32>,
    /// By number: the name of its place, if it was moved there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Option<HexBytes>>,
}

impl PartitionMap {
    /// Reads a map, of which nothing is proven yet; `None` for what is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let map: Self = serde_json::from_str(text).ok()?;
        let is_whole = map.format == FORMAT
            && map.version >= 1
            && COUNTS.contains(&map.places.len())
            && map.places.iter().all(|place| *place >= 1)
            && (map.names.is_empty() || map.names.len() == map.places.len())
            && map.names.iter().flatten().all(|name| name.0.len() == size_of::<PlaceName>());
        is_whole.then_some(map)
    }

    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// That of a new realm: each partition is where it was made.
    #[must_use]
    pub fn first(realm: RealmId, partitions: usize, version: u32, now: Timestamp) -> Self {
        let (format, places) = (FORMAT.to_owned(), vec![1; partitions]);
        Self { format, realm, version, signed_at: now, places, names: Vec::new() }
    }

    /// A later version, which says the same.
    #[must_use]
    pub fn again(&self, version: u32, now: Timestamp) -> Self {
        Self { version, signed_at: now, ..self.clone() }
    }

    /// A later version, where a partition is at its next place, of this name; `None` if there is no such partition.
    #[must_use]
    pub fn moved(&self, number: u8, name: PlaceName, version: u32, now: Timestamp) -> Option<Self> {
        let mut next = self.again(version, now);
        let place = next.places.get_mut(usize::from(number))?;
        *place = place.checked_add(1)?;
        next.names.resize(next.places.len(), None);
        *next.names.get_mut(usize::from(number))? = Some(HexBytes(name.to_vec()));
        Some(next)
    }

    /// What the place of a partition calls itself; `None` if it is where it was made.
    #[must_use]
    pub fn name(&self, number: usize) -> Option<PlaceName> {
        self.names.get(number)?.as_ref()?.0.as_slice().try_into().ok()
    }

    /// Whether a database is where the map says.
    #[must_use]
    pub fn is_at(&self, found: &Found) -> bool {
        let number = usize::from(found.part.number);
        self.part(number) == Some(found.part)
            && self.name(number).is_none_or(|name| name == found.name)
    }

    /// Where a partition is.
    #[must_use]
    pub fn part(&self, number: usize) -> Option<Part> {
        let place = *self.places.get(number)?;
        let partitions = u16::try_from(self.places.len()).ok()?;
        Some(Part { number: u8::try_from(number).ok()?, partitions, place })
    }
}

#[cfg(test)]
mod tests {
    use super::{HexBytes, PartitionMap};
    use crate::postgres::Found;
    use proptest::prelude::*;
    use tapfer_payment_types::{RealmId, Timestamp};

    fn map(partitions: usize) -> PartitionMap {
        let now = Timestamp::from_unix_millis(1_000);
        PartitionMap::first(RealmId::new(now, [1; 10]), partitions, 1, now)
    }

    #[test]
    fn a_map_goes_forward() {
        let first = map(3);
        let moved = first.moved(2, [7; 16], 2, first.signed_at).unwrap();
        assert_eq!((moved.version, moved.places.as_slice()), (2, [1, 1, 2].as_slice()));
        assert_eq!(moved.part(2).unwrap().place, 2);
        assert_eq!((moved.moved(3, [7; 16], 3, first.signed_at), moved.part(3)), (None, None));
        assert_eq!((moved.name(1), moved.name(2), first.name(2)), (None, Some([7; 16]), None));
        assert_eq!(PartitionMap::parse(&moved.to_text()), Some(moved.clone()));
        let part = moved.part(2).unwrap();
        let at = |name| Found { part, name, is_closed: false };
        assert!(
            moved.is_at(&at([7; 16])) && !moved.is_at(&at([8; 16])) && !first.is_at(&at([7; 16]))
        );
        assert_eq!(moved.again(3, first.signed_at).places, moved.places);
    }

    #[test]
    fn what_is_no_map_is_not_read() {
        let whole = map(2);
        assert_eq!(PartitionMap::parse(&whole.to_text()), Some(whole.clone()));
        for broken in [
            PartitionMap { places: vec![1], ..whole.clone() },
            PartitionMap { places: vec![1; 257], ..whole.clone() },
            PartitionMap { places: vec![1, 0], ..whole.clone() },
            PartitionMap { version: 0, ..whole.clone() },
            PartitionMap { names: vec![None], ..whole.clone() },
            PartitionMap { names: vec![None, Some(HexBytes(vec![7; 15]))], ..whole.clone() },
            PartitionMap { format: "tapfer-partition-map-2".into(), ..whole.clone() },
        ] {
            assert_eq!(PartitionMap::parse(&broken.to_text()), None, "{broken:?}");
        }
        assert_eq!(PartitionMap::parse(&whole.to_text().replace('{', "{\"more\":1,")), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_says_where_all_are(
            places in proptest::collection::vec(any::<u32>(), 0..300),
            version in any::<u32>(),
            other in ".*",
        ) {
            prop_assert_eq!(PartitionMap::parse(&other), None);
            let said = PartitionMap { places, version, ..map(2) };
            if let Some(read) = PartitionMap::parse(&said.to_text()) {
                prop_assert_eq!(&read, &said);
                for number in 0..read.places.len() {
                    let part = read.part(number).unwrap();
                    prop_assert!(usize::from(part.number) == number && part.place >= 1);
                    prop_assert_eq!(usize::from(part.partitions), read.places.len());
                }
            }
        }
    }
}
