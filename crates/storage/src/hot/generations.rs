//! A map that keeps what was used lately and forgets the rest.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Two generations: what is used moves to the young one; when that is full, the old one is forgotten and it becomes
/// the old one. So the least that is kept is what was used last, and the most is twice as much.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    pub(crate) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// What is kept under a key, to be changed; it counts as used.
    pub(crate) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.young.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Everything that is kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Whether the old generation is due to be forgotten.
    pub(crate) fn is_full(&self) -> bool {
        self.young.len() >= self.most
    }

    /// Forgets the old generation.
    pub(crate) fn grow_old(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }
}

#[cfg(test)]
mod tests {
    use super::Generations;

    #[test]
    fn what_is_used_stays() {
        let mut kept = Generations::new(2);
        kept.insert(1, "one");
        assert!(!kept.is_full());
        kept.insert(2, "two");
        assert!(kept.is_full());
        kept.grow_old();
        assert_eq!(kept.get(&1), Some(&"one"));
        *kept.get_mut(&1).unwrap() = "uno";
        kept.insert(3, "three");
        kept.grow_old();
        assert_eq!(
            [1, 2, 3].map(|key| kept.get(&key).copied()),
            [Some("uno"), None, Some("three")]
        );
        kept.remove(&1);
        assert_eq!(kept.get(&1), None);
        kept.insert(3, "drei");
        kept.remove(&3);
        assert_eq!(kept.get(&3), None, "in no generation");
    }
}
