//! BER-TLV as EMV uses it (Book 3 annex B): definite lengths, tags of up to four bytes.
//!
//! Everything read here may come from a hostile card, so the reader neither panics nor allocates,
//! and it takes no decision that a second reader could take differently:
//!
//! - Zero bytes before, between and after data objects are padding and skipped (Book 3 annex B:
//!   "'00' bytes without any meaning may occur").
//! - Lengths that are not encoded in the fewest bytes (`81 05`) are accepted: BER allows them and
//!   cards in the field send them. Whoever hashes or MACs a data object therefore uses
//!   [`Tlv::raw`], the bytes as they came, and never encodes it again.
//! - Length fields of more than four bytes behind `8x`, the indefinite length `80` and tags of more
//!   than four bytes are refused: nothing in EMV is that long.
//! - A tag that occurs twice at one level is an ambiguity an attacker can use. [`find`] refuses it
//!   for the tag that is looked for, [`parse_unique`] for all of them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

/// How many levels of templates [`check_nesting`] goes down. EMV's deepest template, the one of the
/// entry point (`6F` > `A5` > `BF0C` > `61`), has four.
pub const MAXIMUM_DEPTH: usize = 8;

/// A tag, its bytes read as a big-endian number: `0x9F26`, `0xBF8102`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u32);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Tag {
    /// A tag known at compile time.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The tag's bytes as a big-endian number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether the value holds further TLVs (bit 6 of the first byte).
    #[must_use]
    pub fn is_constructed(self) -> bool {
        self.significant_bytes().next().is_some_and(|first| first & 0x20 != 0)
    }

    /// The tag's bytes as they are sent, one to four.
    pub fn significant_bytes(self) -> impl Iterator<Item = u8> {
        let bytes = self.0.to_be_bytes();
        let leading_zeros = bytes.iter().take(3).take_while(|byte| **byte == 0).count();
        bytes.into_iter().skip(leading_zeros)
    }

    /// Reads the tag at the start of `bytes`. Gives the tag and what follows it.
    ///
    /// # Errors
    /// [`TlvError::Truncated`] or [`TlvError::TagTooLong`]; `offset` is where `bytes` starts in the
    /// input, for the error.
    pub fn read(bytes: &[u8], offset: usize) -> Result<(Self, &[u8]), TlvError> {
        let (&first, mut rest) = bytes.split_first().ok_or(TlvError::Truncated { offset })?;
        let mut number = u32::from(first);
        // Book 3 annex B1: five low bits set means that more bytes follow, and bit 8 of each of
        // these says whether another one does.
        let mut more = first & 0x1F == 0x1F;
        while more {
            let (&next, behind) = rest.split_first().ok_or(TlvError::Truncated { offset })?;
            if number > 0x00FF_FFFF {
                return Err(TlvError::TagTooLong { offset });
            }
            number = number.wrapping_shl(8) | u32::from(next);
            more = next & 0x80 != 0;
            rest = behind;
        }
        Ok((Self(number), rest))
    }
}

/// One data object, borrowed from the bytes it was read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The tag.
    pub tag: Tag,
    /// The value, without tag and length.
    pub value: &'a [u8],
    /// Tag, length and value as they stood in the input.
    pub raw: &'a [u8],
    /// Where `raw` starts in the input.
    pub offset: usize,
}

impl Tlv<'_> {
    /// Where the value starts in the input.
    #[must_use]
    pub const fn value_offset(&self) -> usize {
        self.offset.saturating_add(self.raw.len().saturating_sub(self.value.len()))
    }
}

/// Shows tag and length only: a value may be card data.
impl fmt::Debug for Tlv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tlv({}, {} bytes)", self.tag, self.value.len())
    }
}

/// Why bytes are not a TLV list. Offsets count from the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// The input ends inside a tag or a length.
    #[error("the data ends inside the tag or length of the object at offset {offset}")]
    Truncated {
        /// Where the object starts.
        offset: usize,
    },
    /// The input ends inside a value.
    #[error(
        "object {tag} at offset {offset} announces {announced} bytes, but only {available} follow"
    )]
    ValueTruncated {
        /// Which object.
        tag: Tag,
        /// Where the object starts.
        offset: usize,
        /// Its length as it says.
        announced: u64,
        /// What is there.
        available: usize,
    },
    /// More than four bytes of tag.
    #[error("the tag at offset {offset} has more than four bytes, which no EMV tag has")]
    TagTooLong {
        /// Where the tag starts.
        offset: usize,
    },
    /// Length `80`.
    #[error(
        "the object at offset {offset} has an indefinite length (80), which EMV does not allow"
    )]
    IndefiniteLength {
        /// Where the object starts.
        offset: usize,
    },
    /// More than four bytes of length.
    #[error("the length of the object at offset {offset} has more than four bytes")]
    LengthTooLong {
        /// Where the object starts.
        offset: usize,
    },
    /// Templates inside templates beyond [`MAXIMUM_DEPTH`].
    #[error("the object at offset {offset} is nested more than {MAXIMUM_DEPTH} levels deep")]
    NestedTooDeep {
        /// Where the object starts.
        offset: usize,
    },
    /// A tag occurs twice among siblings.
    #[error("object {tag} at offset {offset} occurs a second time at its level")]
    Duplicate {
        /// Which tag.
        tag: Tag,
        /// Where it stands the second time.
        offset: usize,
    },
    /// One object was expected and there is none.
    #[error("there is no data object in the data")]
    Empty,
    /// One object was expected and there are more.
    #[error("more data follows at offset {offset}, behind the only object that belongs here")]
    TrailingData {
        /// Where it starts.
        offset: usize,
    },
}

/// Reads siblings one after another. Never panics, never allocates, ends after the first error.
#[derive(Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// Reads the objects inside a template; offsets still count from the start of its input.
    #[must_use]
    pub const fn inside(template: &Tlv<'a>) -> Self {
        Self { rest: template.value, offset: template.value_offset() }
    }

    fn skip_padding(&mut self) {
        let padding = self.rest.iter().take_while(|byte| **byte == 0).count();
        self.rest = self.rest.get(padding..).unwrap_or_default();
        self.offset = self.offset.saturating_add(padding);
    }

    fn read(&mut self) -> Result<Tlv<'a>, TlvError> {
        let (start, offset) = (self.rest, self.offset);
        let (tag, behind_tag) = Tag::read(start, offset)?;
        let (announced, behind_length) = read_length(behind_tag, offset)?;
        let (value, rest) = usize::try_from(announced)
            .ok()
            .and_then(|length| behind_length.split_at_checked(length))
            .ok_or(TlvError::ValueTruncated {
                tag,
                offset,
                announced,
                available: behind_length.len(),
            })?;
        let consumed = start.len().saturating_sub(rest.len());
        self.rest = rest;
        self.offset = offset.saturating_add(consumed);
        Ok(Tlv { tag, value, raw: start.get(..consumed).unwrap_or_default(), offset })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Tlv<'a>, TlvError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_padding();
        if self.rest.is_empty() {
            return None;
        }
        let object = self.read();
        if object.is_err() {
            self.rest = &[];
        }
        Some(object)
    }
}

/// Book 3 annex B2: one byte below `80`, or `81` to `84` and that many bytes.
fn read_length(bytes: &[u8], offset: usize) -> Result<(u64, &[u8]), TlvError> {
    let (&first, rest) = bytes.split_first().ok_or(TlvError::Truncated { offset })?;
    match first {
        0..0x80 => Ok((u64::from(first), rest)),
        0x80 => Err(TlvError::IndefiniteLength { offset }),
        0x81..=0x84 => {
            let (length, behind) = rest
                .split_at_checked(usize::from(first & 0x7F))
                .ok_or(TlvError::Truncated { offset })?;
            let number =
                length.iter().fold(0_u64, |number, byte| number.wrapping_shl(8) | u64::from(*byte));
            Ok((number, behind))
        }
        0x85.. => Err(TlvError::LengthTooLong { offset }),
    }
}

/// Reads a list of siblings that must fill the input to its last byte.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(bytes: &[u8]) -> Result<Vec<Tlv<'_>>, TlvError> {
    Reader::new(bytes).collect()
}

/// Like [`parse`], and no tag may occur twice.
///
/// # Errors
/// The first thing that is wrong; [`TlvError::Duplicate`] for a repeated tag.
pub fn parse_unique(bytes: &[u8]) -> Result<Vec<Tlv<'_>>, TlvError> {
    let siblings = parse(bytes)?;
    let mut seen = BTreeSet::new();
    match siblings.iter().find(|sibling| !seen.insert(sibling.tag)) {
        Some(again) => Err(TlvError::Duplicate { tag: again.tag, offset: again.offset }),
        None => Ok(siblings),
    }
}

/// Reads exactly one TLV that must fill the input, padding aside.
///
/// # Errors
/// What is wrong with it; [`TlvError::Empty`] or [`TlvError::TrailingData`] if it is not exactly one.
pub fn parse_one(bytes: &[u8]) -> Result<Tlv<'_>, TlvError> {
    let mut reader = Reader::new(bytes);
    let only = reader.next().ok_or(TlvError::Empty)??;
    reader.skip_padding();
    if reader.rest.is_empty() {
        Ok(only)
    } else {
        Err(TlvError::TrailingData { offset: reader.offset })
    }
}

/// Looks for a tag among siblings (not below them); the whole list must be well formed.
///
/// # Errors
/// The first thing that is wrong with the list; [`TlvError::Duplicate`] if the tag is there twice.
pub fn find(bytes: &[u8], tag: Tag) -> Result<Option<&[u8]>, TlvError> {
    let mut found = None;
    for object in Reader::new(bytes) {
        let object = object?;
        if object.tag == tag && found.replace(object.value).is_some() {
            return Err(TlvError::Duplicate { tag, offset: object.offset });
        }
    }
    Ok(found)
}

/// Looks for a data object below nested templates: `find_path(answer, &[FCI_TEMPLATE, DF_NAME])`.
///
/// # Errors
/// As [`find`], for each level that was entered; offsets count from the start of that level.
pub fn find_path<'a>(bytes: &'a [u8], path: &[Tag]) -> Result<Option<&'a [u8]>, TlvError> {
    let mut level = bytes;
    for tag in path {
        match find(level, *tag)? {
            Some(value) => level = value,
            None => return Ok(None),
        }
    }
    Ok(Some(level))
}

/// Checks a list of siblings and everything below its templates, to [`MAXIMUM_DEPTH`] levels.
///
/// # Errors
/// The first thing that is wrong at any level; [`TlvError::NestedTooDeep`] beyond the last.
pub fn check_nesting(bytes: &[u8]) -> Result<(), TlvError> {
    check_level(Reader::new(bytes), MAXIMUM_DEPTH)
}

fn check_level(level: Reader<'_>, levels_left: usize) -> Result<(), TlvError> {
    for object in level {
        let object = object?;
        let deeper = levels_left.checked_sub(1);
        let deeper = deeper.ok_or(TlvError::NestedTooDeep { offset: object.offset })?;
        if object.tag.is_constructed() {
            check_level(Reader::inside(&object), deeper)?;
        }
    }
    Ok(())
}

/// Appends one TLV with the shortest length encoding.
pub fn write(out: &mut Vec<u8>, tag: Tag, value: &[u8]) {
    out.extend(tag.significant_bytes());
    write_length(out, value.len());
    out.extend_from_slice(value);
}

/// Appends a length in as few bytes as it needs.
fn write_length(out: &mut Vec<u8>, length: usize) {
    if let Some(short) = u8::try_from(length).ok().filter(|short| *short < 0x80) {
        out.push(short);
        return;
    }
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().skip_while(|byte| **byte == 0);
    // A `usize` has at most eight bytes, so the count always fits the seven bits of `8x`.
    out.push(0x80 | u8::try_from(significant.clone().count()).unwrap_or(0));
    out.extend(significant);
}

/// One TLV as bytes.
#[must_use]
pub fn encode(tag: Tag, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len().saturating_add(8));
    write(&mut out, tag, value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DF_NAME: Tag = Tag::new(0x84);

    #[test]
    fn reads_tags_of_one_to_four_bytes() {
        let input =
            [0x5A, 1, 0xAA, 0x9F, 0x26, 0, 0xBF, 0x81, 0x02, 1, 0xBB, 0xDF, 0x81, 0x81, 0x01, 0];
        let tags: Vec<u32> = parse(&input).unwrap().iter().map(|tlv| tlv.tag.number()).collect();
        assert_eq!(tags, [0x5A, 0x9F26, 0xBF_8102, 0xDF81_8101]);
    }

    #[test]
    fn hostile_input_is_named() {
        let cases: &[(&[u8], TlvError)] = &[
            (&[0x5A], TlvError::Truncated { offset: 0 }),
            (&[0x9F], TlvError::Truncated { offset: 0 }),
            (&[0x00, 0x5A, 0x82, 0x01], TlvError::Truncated { offset: 1 }),
            (&[0x5A, 0x80, 0, 0], TlvError::IndefiniteLength { offset: 0 }),
            (&[0x5A, 0x85, 0, 0, 0, 0, 0], TlvError::LengthTooLong { offset: 0 }),
            (&[0x5A, 0xFF], TlvError::LengthTooLong { offset: 0 }),
            (&[0x5A, 0, 0xDF, 0x81, 0x82, 0x83, 0x04, 0], TlvError::TagTooLong { offset: 2 }),
            (
                &[0x5A, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                TlvError::ValueTruncated {
                    tag: Tag::new(0x5A),
                    offset: 0,
                    announced: 0xFFFF_FFFF,
                    available: 1,
                },
            ),
        ];
        for (input, error) in cases {
            assert_eq!(parse(input), Err(*error), "{input:02X?}");
            assert_eq!(Reader::new(input).filter(Result::is_err).count(), 1);
        }
    }

    #[test]
    fn padding_and_long_lengths_are_accepted() {
        let input = [0, 0, 0x84, 0x81, 0x02, 0xA0, 0x00, 0, 0x50, 0x83, 0, 0, 1, 0x41, 0];
        let list = parse(&input).unwrap();
        assert_eq!(list[0].value, [0xA0, 0x00]);
        assert_eq!(list[0].raw, [0x84, 0x81, 0x02, 0xA0, 0x00]);
        assert_eq!((list[0].offset, list[0].value_offset()), (2, 5));
        assert_eq!(list[1].value, b"A");
        assert_eq!(parse(&[0, 0, 0]), Ok(Vec::new()));
    }

    #[test]
    fn one_object_means_one() {
        assert_eq!(parse_one(&[0x84, 1, 7]).unwrap().value, [7]);
        assert_eq!(parse_one(&[0x84, 1, 7, 0]).unwrap().value, [7]);
        assert_eq!(parse_one(&[]), Err(TlvError::Empty));
        assert_eq!(parse_one(&[0x84, 0, 0x84, 0]), Err(TlvError::TrailingData { offset: 2 }));
        assert_eq!(parse_one(&[0x84, 0, 0xFF]), Err(TlvError::TrailingData { offset: 2 }));
    }

    #[test]
    fn a_tag_that_stands_twice_is_refused() {
        let input = [0x84, 1, 1, 0x50, 0, 0x84, 1, 2];
        let twice = TlvError::Duplicate { tag: DF_NAME, offset: 5 };
        assert_eq!(find(&input, DF_NAME), Err(twice));
        assert_eq!(parse_unique(&input), Err(twice));
        assert_eq!(find(&input, Tag::new(0x50)), Ok(Some([].as_slice())));
        assert_eq!(find(&input, Tag::new(0x51)), Ok(None));
    }

    #[test]
    fn a_list_with_a_broken_end_gives_nothing() {
        assert_eq!(find(&[0x84, 0, 0x5A], DF_NAME), Err(TlvError::Truncated { offset: 2 }));
    }

    #[test]
    fn nested_objects_are_found_and_checked() {
        let answer = encode(Tag::new(0x6F), &encode(Tag::new(0xA5), &encode(DF_NAME, &[1, 2])));
        let path = [Tag::new(0x6F), Tag::new(0xA5), DF_NAME];
        assert_eq!(find_path(&answer, &path), Ok(Some([1, 2].as_slice())));
        assert_eq!(find_path(&answer, &[DF_NAME]), Ok(None));
        assert_eq!(check_nesting(&answer), Ok(()));
        assert_eq!(
            check_nesting(&[0xE0, 2, 0x5A, 1]),
            Err(TlvError::ValueTruncated {
                tag: Tag::new(0x5A),
                offset: 2,
                announced: 1,
                available: 0,
            })
        );
    }

    #[test]
    fn depth_is_limited() {
        let nested =
            |levels: usize| (0..levels).fold(Vec::new(), |inner, _| encode(Tag::new(0xE0), &inner));
        assert_eq!(check_nesting(&nested(MAXIMUM_DEPTH)), Ok(()));
        let error = check_nesting(&nested(MAXIMUM_DEPTH + 1)).unwrap_err();
        assert!(matches!(error, TlvError::NestedTooDeep { .. }));
        assert!(check_nesting(&nested(10_000)).is_err());
    }

    #[test]
    fn debug_shows_no_value() {
        let object = parse_one(&[0x5A, 2, 0x41, 0x11]).map(|tlv| std::format!("{tlv:?}"));
        assert_eq!(object.unwrap(), "Tlv(5A, 2 bytes)");
    }

    fn any_tag() -> impl Strategy<Value = Tag> {
        prop_oneof![
            (1_u32..=0xFF).prop_filter("one byte", |first| first & 0x1F != 0x1F),
            (0_u32..8, 0_u32..0x80).prop_map(|(class, last)| (class << 13) | 0x1F00 | last),
            (0_u32..0x80, 0_u32..0x80).prop_map(|(a, b)| 0x9F_8000 | a << 8 | b),
            (0_u32..0x80, 0_u32..0x80).prop_map(|(a, b)| 0xDF81_8000 | a << 8 | b),
        ]
        .prop_map(Tag::new)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            objects in prop::collection::vec((any_tag(), prop::collection::vec(any::<u8>(), 0..400)), 0..6)
        ) {
            let mut bytes = Vec::new();
            for (tag, value) in &objects {
                write(&mut bytes, *tag, value);
            }
            let read = parse(&bytes).unwrap();
            prop_assert_eq!(read.len(), objects.len());
            for (object, (tag, value)) in read.iter().zip(&objects) {
                prop_assert_eq!(object.tag, *tag);
                prop_assert_eq!(object.value, value.as_slice());
                prop_assert_eq!(object.raw.to_vec(), encode(*tag, value));
            }
        }

        #[test]
        fn any_input_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for object in Reader::new(&bytes).flatten() {
                let end = object.offset.saturating_add(object.raw.len());
                prop_assert_eq!(object.raw, &bytes[object.offset..end]);
                prop_assert_eq!(object.value, &bytes[object.value_offset()..end]);
            }
            let _ = check_nesting(&bytes);
            let _ = parse_unique(&bytes);
        }
    }
}
