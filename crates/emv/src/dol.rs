//! Data object lists: tags and lengths without values (Book 3, 5.4).
use alloc::vec::Vec;
use crate::tlv::Tag;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DolEntry { pub tag: Tag, pub length: usize }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataObjectList { entries: Vec<DolEntry> }
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DolError { /* truncated, too long */ }
impl DataObjectList {
    pub fn parse(bytes: &[u8]) -> Result<Self, DolError> { todo!() }
    pub fn entries(&self) -> &[DolEntry] { todo!() }
    /// Sum of the lengths.
    pub fn value_length(&self) -> usize { todo!() }
    /// Whether a tag is asked for.
    pub fn contains(&self, tag: Tag) -> bool { todo!() }
    /// Concatenates values in the order of the list. A missing value is zeros; a value of another
    /// length is cut or filled by its format (Book 3, 5.4): numeric on the left with zeros, compressed numeric on
    /// the right with FF, all else on the right with zeros.
    pub fn build<'v>(&self, lookup: impl FnMut(Tag) -> Option<&'v [u8]>) -> Vec<u8> { todo!() }
    /// Takes values apart again: the pieces of `values` by tag; None if the length differs from `value_length`.
    pub fn split<'v>(&self, values: &'v [u8]) -> Option<Vec<(Tag, &'v [u8])>> { todo!() }
}
