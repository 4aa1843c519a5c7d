//! The data objects of one transaction (Book C-8 4.1: the TLV database).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;

use tapfer_emv::tlv::{self, Reader, Tag, Tlv};
use zeroize::Zeroize;

use super::dictionary::{self, Origin};

/// What kernel and card have told each other so far. Wiped on drop: card data is in it.
#[derive(Default, Clone)]
pub struct DataStore {
    objects: BTreeMap<Tag, Vec<u8>>,
}

/// An answer of the card that breaks a rule of the TLV database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardDataError {
    /// Not one well-formed template.
    #[error("the answer is not one well-formed template")]
    Malformed,
    /// The card sends what only the terminal may set.
    #[error("the card sends {0:?}, which only the terminal may set")]
    NotForCards(Tag),
    /// A value is shorter or longer than the dictionary allows.
    #[error("{0:?} has a length that the data dictionary does not allow")]
    Length(Tag),
    /// The card contradicts itself.
    #[error("the card sends {0:?} a second time with another value")]
    Contradiction(Tag),
}

impl DataStore {
    /// Sets or replaces a value. For terminal and kernel; the card's data goes through
    /// [`store_card_answer`](Self::store_card_answer).
    pub fn set(&mut self, tag: Tag, value: &[u8]) {
        if let Some(mut old) = self.objects.insert(tag, value.to_vec()) {
            old.zeroize();
        }
    }

    /// Sets or replaces every value that `other` has.
    pub fn append(&mut self, other: &Self) {
        other.iter().for_each(|(tag, value)| self.set(tag, value));
    }

    /// A value that is present and not empty (Book C-8 4.1.3, `IsNotEmpty` and `GetValue`).
    #[must_use]
    pub fn get(&self, tag: Tag) -> Option<&[u8]> {
        self.objects.get(&tag).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// Lends a value for changing it in place.
    pub fn get_mut(&mut self, tag: Tag) -> Option<&mut Vec<u8>> {
        self.objects.get_mut(&tag)
    }

    /// A value of exactly `N` bytes.
    #[must_use]
    pub fn array<const N: usize>(&self, tag: Tag) -> Option<[u8; N]> {
        self.get(tag)?.try_into().ok()
    }

    /// The one byte of a one-byte data object.
    #[must_use]
    pub fn byte(&self, tag: Tag) -> Option<u8> {
        self.array::<1>(tag).map(|[byte]| byte)
    }

    /// Every tag with its value, in the order of the tags.
    pub fn iter(&self) -> impl Iterator<Item = (Tag, &[u8])> {
        self.objects.iter().map(|(tag, value)| (*tag, value.as_slice()))
    }

    /// Takes in everything the dictionary knows from a template, however deep it stands
    /// (Book C-8 4.1.3, `ParseAndStoreCardResponse`).
    ///
    /// A card may repeat a value, and may fill in one that was empty. It may not change one, and
    /// not set what belongs to the terminal: either makes the whole answer wrong.
    ///
    /// # Errors
    /// [`CardDataError`]; some values may have been stored before, so the transaction must end.
    pub fn store_card_answer(&mut self, answer: &[u8]) -> Result<(), CardDataError> {
        let template = tlv::parse_one(answer).map_err(|_| CardDataError::Malformed)?;
        if !template.tag.is_constructed() {
            return Err(CardDataError::Malformed);
        }
        self.store_template_value(template.value)
    }

    /// As [`store_card_answer`](Self::store_card_answer), for the value of a template.
    ///
    /// # Errors
    /// [`CardDataError`].
    pub fn store_template_value(&mut self, value: &[u8]) -> Result<(), CardDataError> {
        let mut objects = Vec::new();
        // A list of work instead of recursion: the depth is the card's choice. What stands deeper
        // comes later, and nothing is stored of what is malformed anywhere.
        let mut templates: VecDeque<&[u8]> = VecDeque::from([value]);
        while let Some(template) = templates.pop_front() {
            for object in Reader::new(template) {
                let object = object.map_err(|_| CardDataError::Malformed)?;
                if object.tag.is_constructed() {
                    templates.push_back(object.value);
                } else {
                    objects.push(object);
                }
            }
        }
        objects.iter().try_for_each(|object| self.store_card_object(object))
    }

    /// Takes in one data object that the card sent on its own: a data envelope.
    ///
    /// # Errors
    /// [`CardDataError`]; [`CardDataError::Malformed`] unless it is exactly one, of this tag.
    pub fn store_single_object(&mut self, tag: Tag, bytes: &[u8]) -> Result<(), CardDataError> {
        match tlv::parse_one(bytes) {
            Ok(object) if object.tag == tag => self.store_card_object(&object),
            _ => Err(CardDataError::Malformed),
        }
    }

    fn store_card_object(&mut self, object: &Tlv<'_>) -> Result<(), CardDataError> {
        let Some(known) = dictionary::lookup(object.tag) else {
            return Ok(());
        };
        if self.get(object.tag).is_some_and(|present| present != object.value) {
            return Err(CardDataError::Contradiction(object.tag));
        }
        if known.origin != Origin::Card {
            return Err(CardDataError::NotForCards(object.tag));
        }
        if !known.allows_length(object.value.len()) {
            return Err(CardDataError::Length(object.tag));
        }
        self.set(object.tag, object.value);
        Ok(())
    }
}

impl Drop for DataStore {
    fn drop(&mut self) {
        self.objects.values_mut().for_each(Zeroize::zeroize);
    }
}

/// Tags only: a value may be card data.
impl fmt::Debug for DataStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.objects.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{CardDataError, DataStore, Tag};

    const PSN: Tag = Tag::new(0x5F34);
    const LABEL: Tag = Tag::new(0x50);

    fn store(answers: &[&[u8]]) -> Result<DataStore, CardDataError> {
        let mut data = DataStore::default();
        answers.iter().try_for_each(|answer| data.store_card_answer(answer))?;
        Ok(data)
    }

    #[test]
    fn takes_known_objects_from_any_depth() {
        let data =
            store(&[&[0x70, 0x09, 0xA5, 0x04, 0x5F, 0x34, 0x01, 0x07, 0x50, 0x01, b'A']]).unwrap();
        assert_eq!(data.byte(PSN), Some(7));
        assert_eq!(data.get(LABEL), Some(&b"A"[..]));
    }

    #[test]
    fn a_card_may_repeat_but_not_change() {
        let first: &[u8] = &[0x70, 0x04, 0x5F, 0x34, 0x01, 0x07];
        let other: &[u8] = &[0x70, 0x04, 0x5F, 0x34, 0x01, 0x08];
        assert!(store(&[first, first]).is_ok());
        assert_eq!(store(&[first, other]).unwrap_err(), CardDataError::Contradiction(PSN));
        let empty_label: &[u8] = &[0x70, 0x02, 0x50, 0x00];
        assert!(store(&[empty_label, &[0x70, 0x03, 0x50, 0x01, b'A']]).is_ok());
    }

    #[test]
    fn refuses_what_is_not_the_cards() {
        let amount: &[u8] = &[0x70, 0x09, 0x9F, 0x02, 0x06, 0, 0, 0, 0, 0, 1];
        assert_eq!(store(&[amount]).unwrap_err(), CardDataError::NotForCards(Tag::new(0x9F02)));
        let long: &[u8] = &[0x70, 0x05, 0x5F, 0x34, 0x02, 0, 1];
        assert_eq!(store(&[long]).unwrap_err(), CardDataError::Length(PSN));
        for malformed in [
            &[][..],
            &[0x70],
            &[0x70, 0x01, 0x5F],
            &[0x5A, 0x01, 0x00],
            &[0x70, 0x01, 0x50, 0x70, 0x00],
        ] {
            assert_eq!(
                store(&[malformed]).unwrap_err(),
                CardDataError::Malformed,
                "{malformed:02X?}"
            );
        }
    }

    #[test]
    fn prints_no_values() {
        let data = store(&[&[0x70, 0x04, 0x5F, 0x34, 0x01, 0x63]]).unwrap();
        assert_eq!(format!("{data:?}"), "[5F34]");
    }
}
