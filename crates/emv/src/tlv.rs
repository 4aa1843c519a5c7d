//! BER-TLV as EMV uses it (Book 3 annex B): definite lengths, tags of up to four bytes.

use alloc::vec::Vec;

/// A tag, its bytes read as a big-endian number: `0x9F26`, `0xBF8102`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u32);
impl core::fmt::Debug for Tag { fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result { write!(f, "{:X}", self.0) } }

impl Tag {
    /// A tag known at compile time.
    #[must_use]
    pub const fn new(number: u32) -> Self { Self(number) }
    /// The tag's bytes as a big-endian number.
    #[must_use]
    pub const fn number(self) -> u32 { self.0 }
    /// Whether the value holds further TLVs (bit 6 of the first byte).
    #[must_use]
    pub fn is_constructed(self) -> bool { todo!() }
}

/// One data object, borrowed from the bytes it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlv<'a> {
    /// The tag.
    pub tag: Tag,
    /// The value, without tag and length.
    pub value: &'a [u8],
    /// Tag, length and value as they stood in the input.
    pub raw: &'a [u8],
}

/// Why bytes are not a TLV list. Offsets count from the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlvError { /* truncated, tag too long, indefinite length, length too long, nested too deep, duplicate */ }

/// Reads siblings one after another. Never panics, never allocates, ends after the first error.
pub struct Reader<'a> { rest: &'a [u8] }
impl<'a> Reader<'a> { pub const fn new(bytes: &'a [u8]) -> Self { Self { rest: bytes } } }
impl<'a> Iterator for Reader<'a> { type Item = Result<Tlv<'a>, TlvError>; fn next(&mut self) -> Option<Self::Item> { todo!() } }

/// Reads a list of siblings that must fill the input to its last byte.
pub fn parse(bytes: &[u8]) -> Result<Vec<Tlv<'_>>, TlvError> { todo!() }
/// Reads exactly one TLV that must fill the input.
pub fn parse_one(bytes: &[u8]) -> Result<Tlv<'_>, TlvError> { todo!() }
/// Looks for a tag among siblings (not below them); the whole list must be well formed.
pub fn find(bytes: &[u8], tag: Tag) -> Result<Option<&[u8]>, TlvError> { todo!() }
/// Appends one TLV with the shortest length encoding.
pub fn write(out: &mut Vec<u8>, tag: Tag, value: &[u8]) { todo!() }
/// One TLV as bytes.
pub fn encode(tag: Tag, value: &[u8]) -> Vec<u8> { todo!() }
