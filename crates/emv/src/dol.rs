//! Data object lists: tags and lengths without values (Book 3, 5.4).
//!
//! The list comes from a card that may be hostile, and it decides how many bytes the terminal sends.
//! A list that asks for more than a short command can carry is refused as a whole.

use alloc::vec::Vec;

use crate::tags::{self, Format};
use crate::tlv::{Tag, TlvError};

/// The longest list: what a data object of one length byte pair (`81 FF`) holds.
pub const MAXIMUM_LIST_LENGTH: usize = 255;
/// The most bytes of values a list may ask for: the data field of a short command.
pub const MAXIMUM_VALUE_LENGTH: usize = 255;

/// One data object that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DolEntry {
    /// Which one.
    pub tag: Tag,
    /// In how many bytes, 0 to 255.
    pub length: usize,
}

/// A list that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataObjectList {
    entries: Vec<DolEntry>,
}

/// Why bytes are not a data object list. Offsets count from the start of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DolError {
    /// The list ends inside a tag or before its length.
    #[error("the data object list ends inside the entry at offset {offset}")]
    Truncated {
        /// Where the entry starts.
        offset: usize,
    },
    /// More than four bytes of tag.
    #[error("the tag at offset {offset} has more than four bytes, which no EMV tag has")]
    TagTooLong {
        /// Where the tag starts.
        offset: usize,
    },
    /// The list itself is too long.
    #[error("the data object list has {0} bytes, at most {MAXIMUM_LIST_LENGTH} are allowed")]
    ListTooLong(usize),
    /// The values would not fit a short command.
    #[error(
        "the data object list asks for {0} bytes of values, a short command carries at most \
         {MAXIMUM_VALUE_LENGTH}"
    )]
    ValuesTooLong(usize),
}

/// Reads the tag at the start of `bytes`, which start at `offset` of the list.
fn read_tag(bytes: &[u8], offset: usize) -> Result<(Tag, &[u8]), DolError> {
    Tag::read(bytes, offset).map_err(|error| match error {
        TlvError::TagTooLong { offset } => DolError::TagTooLong { offset },
        _ => DolError::Truncated { offset },
    })
}

/// Reads tags without lengths, such as the Extended SDA Tag List `9F810A`.
///
/// # Errors
/// As [`DataObjectList::parse`], lengths aside.
pub fn parse_tag_list(bytes: &[u8]) -> Result<Vec<Tag>, DolError> {
    if bytes.len() > MAXIMUM_LIST_LENGTH {
        return Err(DolError::ListTooLong(bytes.len()));
    }
    let mut tags = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (tag, behind) = read_tag(rest, bytes.len().saturating_sub(rest.len()))?;
        tags.push(tag);
        rest = behind;
    }
    Ok(tags)
}

impl DataObjectList {
    /// Reads pairs of a tag and one byte of length.
    ///
    /// # Errors
    /// The first entry that is broken, or that the list or its values are too long.
    pub fn parse(bytes: &[u8]) -> Result<Self, DolError> {
        if bytes.len() > MAXIMUM_LIST_LENGTH {
            return Err(DolError::ListTooLong(bytes.len()));
        }
        let mut entries = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let offset = bytes.len().saturating_sub(rest.len());
            let (tag, behind_tag) = read_tag(rest, offset)?;
            let (length, behind) =
                behind_tag.split_first().ok_or(DolError::Truncated { offset })?;
            entries.push(DolEntry { tag, length: usize::from(*length) });
            rest = behind;
        }
        let list = Self { entries };
        match list.value_length() {
            too_long if too_long > MAXIMUM_VALUE_LENGTH => Err(DolError::ValuesTooLong(too_long)),
            _ => Ok(list),
        }
    }

    /// What is asked for, in order.
    #[must_use]
    pub fn entries(&self) -> &[DolEntry] {
        &self.entries
    }

    /// Sum of the lengths.
    #[must_use]
    pub fn value_length(&self) -> usize {
        self.entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.length))
    }

    /// Whether a tag is asked for.
    #[must_use]
    pub fn contains(&self, tag: Tag) -> bool {
        self.entries.iter().any(|entry| entry.tag == tag)
    }

    /// Concatenates values in the order of the list. A missing value is zeros, and so is a template
    /// (Book 3, 5.4 rules 1 and 2a); a value of another length is cut or filled by its format:
    /// numeric on the left with zeros, compressed numeric on the right with FF, all else on the right
    /// with zeros. A tag that the dictionary does not know counts as binary.
    pub fn build<'v>(&self, mut lookup: impl FnMut(Tag) -> Option<&'v [u8]>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.value_length());
        for entry in &self.entries {
            let format = tags::describe(entry.tag).map_or(Format::Binary, |row| row.format);
            let value = if entry.tag.is_constructed() { None } else { lookup(entry.tag) };
            append_fitted(&mut out, value.unwrap_or_default(), entry.length, format);
        }
        out
    }

    /// Takes values apart again: the pieces of `values` by tag, in order; None if the length differs
    /// from [`Self::value_length`].
    #[must_use]
    pub fn split<'v>(&self, values: &'v [u8]) -> Option<Vec<(Tag, &'v [u8])>> {
        let mut rest = values;
        let mut pieces = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let (piece, behind) = rest.split_at_checked(entry.length)?;
            pieces.push((entry.tag, piece));
            rest = behind;
        }
        rest.is_empty().then_some(pieces)
    }
}

/// Appends exactly `length` bytes: `value`, cut or filled (Book 3, 5.4 rules 2b to 2d).
fn append_fitted(out: &mut Vec<u8>, value: &[u8], length: usize, format: Format) {
    let missing = length.saturating_sub(value.len());
    let surplus = value.len().saturating_sub(length);
    let kept = if format.is_numeric() {
        value.get(surplus..)
    } else {
        value.get(..length.min(value.len()))
    };
    let fill = if format == Format::CompressedNumeric && !value.is_empty() { 0xFF } else { 0x00 };
    let filling = core::iter::repeat_n(fill, missing);
    if format.is_numeric() {
        out.extend(filling);
        out.extend_from_slice(kept.unwrap_or_default());
    } else {
        out.extend_from_slice(kept.unwrap_or_default());
        out.extend(filling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::{
        AMOUNT_AUTHORIZED, APPLICATION_PAN, FCI_TEMPLATE, TERMINAL_RISK_MANAGEMENT_DATA,
        UNPREDICTABLE_NUMBER,
    };
    use proptest::prelude::*;

    fn built(list: &[u8], tag: Tag, value: &[u8]) -> Vec<u8> {
        let list = DataObjectList::parse(list).unwrap();
        list.build(|asked| (asked == tag).then_some(value))
    }

    #[test]
    fn values_are_cut_and_filled_by_their_format() {
        let amount = [0, 0, 0, 0, 0x12, 0x34];
        assert_eq!(built(&[0x9F, 0x02, 6], AMOUNT_AUTHORIZED, &amount), amount);
        assert_eq!(built(&[0x9F, 0x02, 2], AMOUNT_AUTHORIZED, &amount), [0x12, 0x34]);
        assert_eq!(
            built(&[0x9F, 0x02, 7], AMOUNT_AUTHORIZED, &amount),
            [0, 0, 0, 0, 0, 0x12, 0x34]
        );
        assert_eq!(built(&[0x5A, 3], APPLICATION_PAN, &[0x12, 0x3F]), [0x12, 0x3F, 0xFF]);
        assert_eq!(built(&[0x5A, 1], APPLICATION_PAN, &[0x12, 0x3F]), [0x12]);
        assert_eq!(built(&[0x9F, 0x37, 5], UNPREDICTABLE_NUMBER, &[1, 2, 3, 4]), [1, 2, 3, 4, 0]);
        assert_eq!(built(&[0x9F, 0x37, 2], UNPREDICTABLE_NUMBER, &[1, 2, 3, 4]), [1, 2]);
    }

    #[test]
    fn what_is_missing_is_zeros() {
        let list = [0x9F, 0x1D, 8, 0x6F, 2, 0x5A, 2];
        assert_eq!(built(&list, FCI_TEMPLATE, &[9, 9]), [0; 12]);
        assert_eq!(built(&list, TERMINAL_RISK_MANAGEMENT_DATA, &[]), [0; 12]);
    }

    #[test]
    fn hostile_lists_are_refused() {
        let parse = |bytes: &[u8]| DataObjectList::parse(bytes).unwrap_err();
        assert_eq!(parse(&[0x9F]), DolError::Truncated { offset: 0 });
        assert_eq!(parse(&[0x9C, 1, 0x9F, 0x02]), DolError::Truncated { offset: 2 });
        assert_eq!(parse(&[0x9F, 0x81, 0x82, 0x83, 0x01, 1]), DolError::TagTooLong { offset: 0 });
        assert_eq!(parse(&[0x9C; 256]), DolError::ListTooLong(256));
        assert_eq!(parse(&[0x9C, 0xFF, 0x9A, 1]), DolError::ValuesTooLong(256));
        assert!(DataObjectList::parse(&[0x9C, 0xFF]).is_ok());
        assert_eq!(DataObjectList::parse(&[]).unwrap().entries(), []);
    }

    #[test]
    fn tag_lists() {
        let list = [0x9F, 0x06, 0x9F, 0x38, 0x9F, 0x2C, 0x8C];
        let numbers = [0x9F06, 0x9F38, 0x9F2C, 0x8C].map(Tag::new);
        assert_eq!(parse_tag_list(&list).unwrap(), numbers);
        assert_eq!(parse_tag_list(&[0x8C, 0x9F]), Err(DolError::Truncated { offset: 1 }));
    }

    proptest! {
        #[test]
        fn what_is_built_can_be_taken_apart(bytes in prop::collection::vec(any::<u8>(), 0..60), value in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(list) = DataObjectList::parse(&bytes) {
                let values = list.build(|_| Some(&value));
                prop_assert_eq!(values.len(), list.value_length());
                let pieces = list.split(&values).unwrap();
                prop_assert_eq!(pieces.len(), list.entries().len());
                prop_assert_eq!(pieces.iter().flat_map(|(_, piece)| piece.to_vec()).collect::<Vec<_>>(), values.clone());
                prop_assert!(list.split(&[values.as_slice(), &[0]].concat()).is_none());
            }
        }
    }
}
