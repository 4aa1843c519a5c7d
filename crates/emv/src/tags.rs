//! Tags of Kernel 8 and of the entry point, by their names in the data dictionaries, and what they mean.
use crate::tlv::Tag;
/// Format of a value (Book 3, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format { Binary, Numeric, CompressedNumeric, Alphabetic, Template, DataObjectList, Date, Time, Track2 }
/// A row of the data dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagDescription { pub tag: Tag, pub name: &'static str, pub format: Format, /** holds card data that must not be logged */ pub sensitive: bool }
pub fn describe(tag: Tag) -> Option<&'static TagDescription> { todo!() }
pub const AMOUNT_AUTHORIZED: Tag = Tag::new(0x9F02);
// ... all others of kernel-8.md, names spelled out as in the specification, e.g. AMOUNT_OTHER, APPLICATION_CRYPTOGRAM,
// APPLICATION_INTERCHANGE_PROFILE, APPLICATION_FILE_LOCATOR, CARD_QUALIFIER, KERNEL_QUALIFIER, KERNEL_KEY_DATA, CARD_KEY_DATA,
// CARDHOLDER_VERIFICATION_DECISION, EDA_MAC, IAD_MAC, ISSUER_APPLICATION_DATA, ...
